"""What the toy policy reads before it meets the co-evolution: its tokenizer and its corpus.

The corpus is endless and made on the fly: a problem of the training split in one of its wordings,
the prompt of one role as ``problems.prompts`` words it, and a reply of one of the ``Authors``.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from zerocoder_jax.policy.tokenizer import ChatTokenizer
from zerocoder_jax.problems.problem import Problem
from zerocoder_jax.problems.prompts import Message, Style, coder_prompt, tester_prompt
from zerocoder_jax.problems.toy.authors import Authors
from zerocoder_jax.problems.toy.grammar import ENTRY_POINT, Instance
from zerocoder_jax.problems.toy.reading import instances, split_wordings

# The only style that the toy policy knows.
PROMPT_STYLE: Style = "zero_shot"
VOCABULARY = 640
# Weight in the loss of a test's tokens before the expected value.
ARGUMENT_WEIGHT = 0.2

END, PADDING = "<|im_end|>", "<|endoftext|>"
_FENCE, _FENCE_END = "```python\n", "\n```"
_TEMPLATE = (
    "{% for message in messages %}"
    "<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# Letters of a value in quotes stand alone, so do digits and the comparison of an assert; a word
# takes the space before it along, and what lies between words is one piece.
_LETTERS = "|".join(rf"(?<='[A-Za-z]{{{n}}})[A-Za-z]" for n in range(13))
_PIECES = rf"{_LETTERS}| == | ?[A-Za-z_]+|[0-9]|(?:(?! == )[^A-Za-z0-9])+"


def train_tokenizer(texts: Iterator[str]) -> ChatTokenizer:
    """Byte-pair encoding of the corpus; whatever every prompt says is a single token each."""
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(tokenizers.Regex(_PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    special = [PADDING, "<|im_start|>", END]
    constant = [*_constant_texts(), _FENCE, _FENCE_END]
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=VOCABULARY - len(constant),
            special_tokens=special,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    tokenizer.add_tokens(
        [tokenizers.AddedToken(text, special=False, normalized=False) for text in constant]
    )
    return ChatTokenizer(
        tokenizer,
        _TEMPLATE,
        stop_token_ids=[token for token in [tokenizer.token_to_id(END)] if token is not None],
        pad_token_id=tokenizer.token_to_id(PADDING),
        origin="toy",
    )


def corpus_texts(count: int, seed: int) -> Iterator[str]:
    """Statements and replies to train the tokenizer on."""
    source, authors, of_training = random.Random(seed), Authors(), _instances()
    for _ in range(count):
        instance = source.choice(of_training)
        yield source.choice(instance.wordings())
        yield authors.coder_reply(instance, source).removeprefix(_FENCE).removesuffix(_FENCE_END)
        yield authors.tester_reply(instance, source).removeprefix(_FENCE).removesuffix(_FENCE_END)


@dataclass(frozen=True)
class Example:
    """One chat of the corpus.

    Attributes:
      tokens: prompt and reply, which ends with the stop token.
      weights: of each token in the loss; 0 in the prompt.
    """

    tokens: list[int]
    weights: list[float]


class Corpus:
    """An endless source of tokenized examples of both roles."""

    def __init__(self, tokenizer: ChatTokenizer, seed: int):
        self._tokenizer = tokenizer
        self._source = random.Random(seed)
        self._instances = _instances()

    def examples(self, authors: Authors, count: int, tester_share: float) -> list[Example]:
        """The next ``count`` examples; ``tester_share`` of them are the Tester's."""
        source, made = self._source, []
        for _ in range(count):
            instance = source.choice(self._instances)
            problem = _statement(instance, source.choice(split_wordings(instance, "train")))
            if source.random() < tester_share:
                reply = authors.tester_reply(instance, source)
                made.append(self._example(tester_prompt(problem, PROMPT_STYLE), reply))
            else:
                reply = authors.coder_reply(instance, source)
                made.append(self._example(coder_prompt(problem, PROMPT_STYLE), reply))
        return made

    def _example(self, messages: list[Message], reply: str) -> Example:
        prompt = self._tokenizer.chat_tokens(messages)
        tokens = self._tokenizer.encode(reply + END)
        # Nobody can foresee the arguments that a tester draws: their tokens are mostly noise.
        before_value = reply.partition(" == ")[0] if "assert" in reply else ""
        foreseeable = len(self._tokenizer.encode(before_value))
        weights = [ARGUMENT_WEIGHT] * foreseeable + [1.0] * (len(tokens) - foreseeable)
        return Example(prompt + tokens, [0.0] * len(prompt) + weights)


def batches(
    examples: list[Example], rows: int, padding: int, source: random.Random
) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Examples of similar length side by side, the batches in random order.

    Returns:
      tokens int32 [rows, T], padded on the right to T, a multiple of 8; their weights float32
      [rows, T]; and the lengths int32 [rows]. What does not fill a last batch is left out.
    """
    by_length: dict[int, list[Example]] = {}
    for example in examples:
        by_length.setdefault(-(-len(example.tokens) // 8) * 8, []).append(example)
    made: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    group: list[Example] = []
    for length in sorted(by_length):
        group = group[len(group) // rows * rows :] + by_length[length]  # the rest waits for longer
        for start in range(0, len(group) - rows + 1, rows):
            tokens = np.full((rows, length), padding, np.int32)
            weights = np.zeros((rows, length), np.float32)
            lengths = np.zeros(rows, np.int32)
            for row, example in enumerate(group[start : start + rows]):
                lengths[row] = count = len(example.tokens)
                tokens[row, :count] = example.tokens
                weights[row, :count] = example.weights
            made.append((tokens, weights, lengths))
    source.shuffle(made)
    return made


def _instances() -> list[Instance]:
    return [instance for instance, _ in instances("train")]


def _statement(instance: Instance, wording: str) -> Problem:
    return Problem("", wording, ENTRY_POINT, "function", instance.solution.signature)


def _constant_texts() -> list[str]:
    """What all chats of a role have in common: before, between and after what differs."""
    texts = []
    for prompt in (coder_prompt, tester_prompt):
        problem = Problem("", "STATEMENT", ENTRY_POINT, "function", "SIGNATURE")
        messages = prompt(problem, PROMPT_STYLE)
        chat = "".join(f"<|im_start|>{m['role']}\n{m['content']}{END}\n" for m in messages)
        before, _, rest = (chat + "<|im_start|>assistant\n").partition("STATEMENT")
        between, _, after = rest.partition("SIGNATURE")
        texts += [before, between, after]
    return list(dict.fromkeys(texts))
