"""Text and chat messages to tokens and back, exactly as the model was trained to see them.

The tokenizer of a Hugging Face directory is read as it is; that of a GGUF file is rebuilt from the
token list and merges in its metadata. Conversations are rendered by the model's own template.
"""

import functools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import tokenizers
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import decoders, models, normalizers, pre_tokenizers

from zerocoder_jax.errors import UserError

Message = Mapping[str, str]

# How Qwen2 cuts text into words before merging bytes: contractions, letters with one leading other
# character, single digits, punctuation, line ends, spaces. From the published tokenizer.json.
_QWEN2_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

# Tokens that end a reply whatever a configuration lists: the end of a turn and of a text.
_ALWAYS_STOP = ("<|im_end|>", "<|endoftext|>")
# Private-use characters around a message that must be encoded without control tokens.
_MARK = "\ue000\ue001"

# What templates write as control tokens; some models have full-width bars.
_CONTROL_TOKEN = re.compile(r"<([|\uff5c])[^|\uff5c<>\s]+\1>")

# Fields of tokenizer_config.json that an export keeps as they are.
_KEPT_SETTINGS = (
    "model_max_length", "padding_side", "unk_token", "additional_special_tokens", "add_bos_token",
    "add_prefix_space", "errors", "split_special_tokens",
)  # fmt: skip
# transformers writes 1e30 for a tokenizer without a limit.
_NO_LIMIT = 10**9


class ChatTokenizer:
    """Encodes text, decodes tokens and renders conversations for one model."""

    def __init__(
        self,
        tokenizer: tokenizers.Tokenizer,
        template: str | None,
        *,
        stop_token_ids: Sequence[int],
        pad_token_id: int | None,
        bos_token_id: int | None = None,
        settings: Mapping[str, Any] | None = None,
        origin: str,
    ):
        """``template`` is None for models without a chat; ``settings`` are the fields of
        tokenizer_config.json that an export keeps; ``origin`` names the file in errors.

        Raises:
            UserError: a stop, padding or beginning token is no token of the vocabulary; a stop
                token or one that the template writes is several tokens of it.
        """
        # The limits of a file are those of whoever saved it: prompts would be cut in silence.
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer = tokenizer
        # One more than the largest token id; a model's embedding is often padded beyond it.
        self.vocab_size = max(tokenizer.get_vocab(with_added_tokens=True).values()) + 1
        self._origin = origin
        self._compiled: jinja2.Template | None = None
        stop = [*stop_token_ids, *(tokenizer.token_to_id(token) for token in _ALWAYS_STOP)]
        self.stop_token_ids = tuple(
            dict.fromkeys(self._checked_id("a stop token", id) for id in stop if id is not None)
        )
        if not self.stop_token_ids:
            raise UserError(f"{origin}: no end-of-sequence token is named; replies would never end")
        pad = self.stop_token_ids[0] if pad_token_id is None else pad_token_id
        self.pad_token_id = self._checked_id("the padding token", pad)
        self.bos_token_id = bos_token_id
        if bos_token_id is not None:
            self._checked_id("the beginning token", bos_token_id)
        if template is not None and not isinstance(template, str):
            raise UserError(f"{origin}: the chat template is {template!r:.40}; no string")
        self.template = template
        self.settings = {
            name: value for name, value in (settings or {}).items() if name in _KEPT_SETTINGS
        }
        for id in self.stop_token_ids:
            self._check_whole(self.decode([id], skip_special_tokens=False), "a stop token")
        self._check_template_tokens()

    def encode(self, text: str) -> list[int]:
        """Token ids of ``text``; special tokens written out in it are recognized, none is added."""
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def decode(self, tokens: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """The text of ``tokens``; ids beyond the vocabulary have none. Ill-formed UTF-8 becomes
        U+FFFD."""
        return self._tokenizer.decode(
            [int(token) for token in tokens], skip_special_tokens=skip_special_tokens
        )

    def chat_text(self, messages: Sequence[Message], *, thinking: bool = False) -> str:
        """The conversation as text, up to where the model's next words belong.

        A last message of role ``assistant`` is a begun reply: the text ends with its words, so
        that the model continues them. Otherwise the text ends with the header of a new reply.
        ``thinking`` lets models that can (Qwen3) think first; by default they get an empty thought.
        """
        begun_reply = ""
        if messages and messages[-1]["role"] == "assistant":
            begun_reply, messages = messages[-1]["content"], messages[:-1]
        try:
            rendered = self._chat_template().render(
                messages=[dict(message) for message in messages],
                add_generation_prompt=True,
                enable_thinking=thinking,
                tools=None,
                documents=None,
                bos_token=self._token_text(self.bos_token_id),
                eos_token=self._token_text(self.stop_token_ids[0]),
            )
        except Exception as error:  # A template may evaluate anything, as 'a' + 1.
            raise UserError(f"{self._origin}: the chat template failed: {error}") from error
        return rendered + begun_reply

    def chat_tokens(self, messages: Sequence[Message], *, thinking: bool = False) -> list[int]:
        """Token ids of ``chat_text``; control tokens come from the template only.

        A message in which one is spelled out (``<|im_end|>`` would end its turn) is encoded as the
        plain text that it is.
        """
        mark = _MARK
        while any(mark in message["content"] for message in messages):
            mark = _MARK[0] + mark
        marked = [
            {**message, "content": f"{mark}{message['content']}{mark}"}
            if self._control_ids & set(self.encode(message["content"]))
            else message
            for message in messages
        ]
        pieces = self.chat_text(marked, thinking=thinking).split(mark)
        return [
            token
            for number, piece in enumerate(pieces)
            for token in (self._plain.encode(piece).ids if number % 2 else self.encode(piece))
        ]

    def opens_thought(self, messages: Sequence[Message], *, thinking: bool = False) -> bool:
        """Whether the template itself opens a thought, in which the reply then begins."""
        begun = messages[-1]["role"] == "assistant"
        text = self.chat_text(messages[:-1] if begun else messages, thinking=thinking)
        return text.rstrip().endswith("<think>")

    @functools.cached_property
    def _control_ids(self) -> set[int]:
        """Ids of the tokens that structure a text: the special ones and all like ``<think>``."""
        added = self._tokenizer.get_added_tokens_decoder().items()
        return {
            token_id
            for token_id, token in added
            if token.special or re.fullmatch(r"<\S+>", token.content)
        }

    @functools.cached_property
    def _plain(self) -> tokenizers.Tokenizer:
        """The same tokenizer without added tokens."""
        plain = tokenizers.Tokenizer(self._tokenizer.model)
        for part in ("normalizer", "pre_tokenizer"):
            if (value := getattr(self._tokenizer, part)) is not None:
                setattr(plain, part, value)
        return plain

    def save(self, directory: Path, *, model_max_length: int | None = None) -> None:
        """Write ``tokenizer.json``, ``tokenizer_config.json`` and ``chat_template.jinja``.

        ``model_max_length``: tokens of the longest text, where the tokenizer's source named none.
        """
        self._tokenizer.save(str(directory / "tokenizer.json"))
        limit = self.settings.get("model_max_length")
        if not isinstance(limit, int) or limit >= _NO_LIMIT:
            limit = model_max_length
        fields: dict[str, Any] = {
            **self.settings,
            "model_max_length": limit,
            "added_tokens_decoder": {
                str(id): _token_properties(token)
                for id, token in sorted(self._tokenizer.get_added_tokens_decoder().items())
            },
            # The class that takes tokenizer.json as it is, for every family.
            "tokenizer_class": "PreTrainedTokenizerFast",
            "eos_token": self._token_text(self.stop_token_ids[0]),
            "pad_token": self._token_text(self.pad_token_id),
            "bos_token": self._token_text(self.bos_token_id) or None,
            "clean_up_tokenization_spaces": False,
        }
        if limit is None:
            del fields["model_max_length"]
        if self.template is not None:
            fields["chat_template"] = self.template
            (directory / "chat_template.jinja").write_text(self.template, encoding="utf-8")
        text = json.dumps(fields, indent=2, ensure_ascii=False) + "\n"
        (directory / "tokenizer_config.json").write_text(text, encoding="utf-8")

    def _checked_id(self, what: str, id: Any) -> int:
        """``id``, which must be an integer inside the vocabulary."""
        whole = isinstance(id, int) and not isinstance(id, bool)
        if not whole or not 0 <= id < self.vocab_size or self._tokenizer.id_to_token(id) is None:
            raise UserError(
                f"{self._origin}: {what} has the id {id!r}, which is no id of the vocabulary "
                f"(0 to {self.vocab_size - 1}); correct the files of the tokenizer"
            )
        return id

    def _check_whole(self, token: str, what: str) -> None:
        """Refuse a vocabulary in which a control token falls into pieces."""
        pieces = len(self.encode(token))
        if pieces != 1:
            raise UserError(
                f"{self._origin}: {token!r}, {what}, is {pieces} tokens and not one; "
                "added_tokens_decoder in tokenizer_config.json or added_tokens in tokenizer.json "
                "lack it: download the tokenizer again"
            )

    def _check_template_tokens(self) -> None:
        """Refuse a template that writes control tokens which the vocabulary does not have."""
        if self.template is None:
            return
        try:
            text = self.chat_text([{"role": "user", "content": "x"}])
        except UserError:
            return  # A template that fails is refused where a conversation needs it.
        for token in dict.fromkeys(match[0] for match in _CONTROL_TOKEN.finditer(text)):
            self._check_whole(token, "which the chat template writes")

    def _token_text(self, token: int | None) -> str:
        return "" if token is None else self._tokenizer.id_to_token(token) or ""

    def _chat_template(self) -> jinja2.Template:
        if self._compiled is None:
            if self.template is None:
                raise UserError(
                    f"{self._origin}: there is no chat template; use an instruction-tuned model"
                )
            self._compiled = _compile_template(self.template, self._origin)
        return self._compiled


def read_directory_tokenizer(directory: Path) -> ChatTokenizer:
    """The tokenizer of a Hugging Face directory.

    Reads ``tokenizer.json``, or ``vocab.json`` and ``merges.txt`` as Qwen2's byte-level BPE. Stop
    tokens come from ``generation_config.json``, ``config.json`` and ``tokenizer_config.json``.
    """
    settings = read_json_object(directory / "tokenizer_config.json")
    tokenizer = _read_tokenizer_files(directory, settings)
    generation = read_json_object(directory / "generation_config.json")
    model = read_json_object(directory / "config.json")
    # The one that ends a turn of the chat comes first: an export names it as the eos_token.
    named = _named_token(tokenizer, settings.get("eos_token"))
    if named is None and settings.get("eos_token") is not None:
        raise UserError(
            f"{directory / 'tokenizer_config.json'}: eos_token {settings['eos_token']!r} is no "
            "token of the vocabulary; download the tokenizer again"
        )
    stop = [*_ids(named), *_ids(generation.get("eos_token_id")), *_ids(model.get("eos_token_id"))]
    pad = _named_token(tokenizer, settings.get("pad_token"))
    return ChatTokenizer(
        tokenizer,
        _directory_template(directory, settings),
        stop_token_ids=stop,
        pad_token_id=generation.get("pad_token_id") if pad is None else pad,
        bos_token_id=_named_token(tokenizer, settings.get("bos_token")),
        settings=settings,
        origin=str(directory),
    )


def gguf_tokenizer(metadata: Mapping[str, Any], origin: str) -> ChatTokenizer:
    """The tokenizer in a GGUF file's metadata (keys ``tokenizer.*``)."""

    def field(name: str) -> Any:
        return metadata.get(f"tokenizer.ggml.{name}")

    if field("model") != "gpt2" or field("pre") != "qwen2":
        raise UserError(
            f"{origin}: tokenizer {field('model')!r} with pre-tokenizer {field('pre')!r} is not "
            "supported in GGUF files; use the model's Hugging Face directory"
        )
    for name in ("tokens", "merges", "token_type", "eos_token_id"):
        if field(name) is None:
            raise UserError(f"{origin}: metadata field tokenizer.ggml.{name} is missing")
    for name, kind in (("tokens", str), ("merges", str), ("token_type", int)):
        values = field(name)
        if not isinstance(values, list) or not all(isinstance(one, kind) for one in values):
            raise UserError(f"{origin}: metadata field tokenizer.ggml.{name} is no list of "
                            f"{kind.__name__}; download the file again")  # fmt: skip
    if len(field("tokens")) != len(field("token_type")):
        raise UserError(
            f"{origin}: tokenizer.ggml.tokens and tokenizer.ggml.token_type differ in length; "
            "download the file again"
        )
    normal, control, user_defined = 1, 3, 4  # gguf.TokenType; unused tokens (5) have no text
    tokens = list(zip(field("tokens"), field("token_type"), strict=True))
    tokenizer = _qwen2_tokenizer(
        {text: index for index, (text, kind) in enumerate(tokens) if kind == normal},
        _split_merges(field("merges"), origin),
        [
            (index, tokenizers.AddedToken(text, special=kind == control, normalized=False))
            for index, (text, kind) in enumerate(tokens)
            if kind in (control, user_defined)
        ],
        origin,
    )
    return ChatTokenizer(
        tokenizer,
        metadata.get("tokenizer.chat_template"),
        stop_token_ids=[*_ids(field("eos_token_id")), *_ids(field("eot_token_id"))],
        pad_token_id=field("padding_token_id"),
        bos_token_id=field("bos_token_id") if field("add_bos_token") else None,
        origin=origin,
    )


def read_json_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file of a model's directory; an empty one where there is no file."""
    if not path.exists():
        return {}
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path}: malformed JSON: {error}; download the file again") from error
    if not isinstance(fields, dict):
        raise UserError(f"{path}: an object is expected; download the file again")
    return fields


# ---- private ------------------------------------------------------------------------------------


def _qwen2_tokenizer(
    vocabulary: dict[str, int],
    merges: list[tuple[str, str]],
    added_tokens: list[tuple[int, tokenizers.AddedToken]],
    origin: str,
) -> tokenizers.Tokenizer:
    """Byte-level BPE over NFC-normalized text, the words cut as Qwen2 does."""
    for left, right in merges:
        # The library panics on what is checked here.
        if not {left, right, left + right} <= vocabulary.keys():
            raise UserError(f"{origin}: merge {left!r} {right!r} has no token in the vocabulary")
    tokenizer = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(tokenizers.Regex(_QWEN2_WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_tokens([token for _, token in sorted(added_tokens, key=lambda pair: pair[0])])
    for index, token in added_tokens:
        # The library numbers added tokens itself, from the end of the vocabulary.
        if tokenizer.token_to_id(token.content) != index:
            raise UserError(f"{origin}: token {token.content!r} does not follow the vocabulary")
    return tokenizer


def _read_tokenizer_files(directory: Path, settings: Mapping[str, Any]) -> tokenizers.Tokenizer:
    whole, vocabulary = directory / "tokenizer.json", directory / "vocab.json"
    try:
        if whole.exists():
            return tokenizers.Tokenizer.from_file(str(whole))
        if vocabulary.exists():
            lines = (directory / "merges.txt").read_text(encoding="utf-8").splitlines()
            whole_lines = (line for line in lines if line and line[:8] != "#version")
            merges = _split_merges(whole_lines, str(directory / "merges.txt"))
            added = [
                (int(index), tokenizers.AddedToken(**token))
                for index, token in settings.get("added_tokens_decoder", {}).items()
            ] or [
                # The layout before added_tokens_decoder.
                (index, tokenizers.AddedToken(text, special=special, normalized=False))
                for text, index in read_json_object(directory / "added_tokens.json").items()
                for special in [_CONTROL_TOKEN.fullmatch(text) is not None]
            ]
            words = json.loads(vocabulary.read_text(encoding="utf-8"))
            return _qwen2_tokenizer(words, merges, added, str(directory))
    except UserError:
        raise
    except Exception as error:  # the library raises bare exceptions on malformed files
        raise UserError(f"{directory}: the tokenizer cannot be read: {error}") from error
    raise UserError(f"{directory}: neither tokenizer.json nor vocab.json is there")


def _directory_template(directory: Path, settings: Mapping[str, Any]) -> str | None:
    file, template = directory / "chat_template.jinja", settings.get("chat_template")
    try:
        if file.exists():
            return file.read_text(encoding="utf-8")
        if isinstance(template, list):  # several, by name
            template = {entry["name"]: entry["template"] for entry in template}.get("default")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{directory}: the chat template cannot be read: {error!r}") from error
    return template


class _Generation(Extension):
    """``{% generation %}...{% endgeneration %}``: what it marks, for training on the assistant's
    words, is rendered like all else."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: jinja2.parser.Parser) -> jinja2.nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return jinja2.nodes.Scope(body, lineno=line)


def _compile_template(template: str, origin: str) -> jinja2.Template:
    def refuse(message: str) -> None:
        raise jinja2.TemplateError(message)

    # The environment that templates on the hub are written for.
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, _Generation]
    )
    environment.globals["raise_exception"] = refuse
    environment.filters["tojson"] = lambda value, ensure_ascii=False, **layout: json.dumps(
        value, ensure_ascii=ensure_ascii, **layout
    )
    try:
        return environment.from_string(template)
    except jinja2.TemplateError as error:
        raise UserError(f"{origin}: the chat template is malformed: {error}") from error


def _split_merges(lines: Iterable[str], origin: str) -> list[tuple[str, str]]:
    """Pairs of byte-level tokens; a space never occurs inside one."""
    pairs = []
    for line in lines:
        left, space, right = line.partition(" ")
        if not space or " " in right:
            raise UserError(f"{origin}: merge {line!r:.40} is not of two tokens")
        pairs.append((left, right))
    return pairs


def _ids(value: Any) -> list[Any]:
    """What a field of one id or of several holds; whether they are ids is checked later."""
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _token_properties(token: tokenizers.AddedToken) -> dict[str, Any]:
    """An added token as tokenizer_config.json lists it."""
    names = ("content", "lstrip", "normalized", "rstrip", "single_word", "special")
    return {name: getattr(token, name) for name in names}


def _named_token(tokenizer: tokenizers.Tokenizer, token: Any) -> int | None:
    """The id of a token named in tokenizer_config.json, as text or with its properties."""
    text = token.get("content") if isinstance(token, Mapping) else token
    return tokenizer.token_to_id(text) if isinstance(text, str) else None
