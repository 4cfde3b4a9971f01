"""Tokenizers and chat templates, on the published pairs and on what models were trained to see."""

import gzip
import json
import shutil
from pathlib import Path

import pytest

from zerocoder_jax.errors import UserError
from zerocoder_jax.policy import ChatTokenizer, cut_thought
from zerocoder_jax.policy.tokenizer import gguf_tokenizer, read_directory_tokenizer

QUESTION = [{"role": "user", "content": "What is 6 * 7?"}]


@pytest.fixture(scope="module", params=["qwen2.5", "qwen3"])
def published(
    request: pytest.FixtureRequest, shared_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> ChatTokenizer:
    """A published tokenizer: Qwen2.5 as vocabulary and merges, Qwen3 as one tokenizer.json."""
    directory = tmp_path_factory.mktemp(request.param)
    for file in (shared_data / "tokenizers" / request.param).iterdir():
        if file.suffix == ".gz":
            (directory / file.stem).write_bytes(gzip.decompress(file.read_bytes()))
        else:
            shutil.copyfile(file, directory / file.name)
    return read_directory_tokenizer(directory)


def test_published_pairs_of_text_and_tokens_hold(
    published: ChatTokenizer, shared_data: Path
) -> None:
    lines = (shared_data / "tokenizers" / "goldens.jsonl").read_text().splitlines()
    assert len(lines) == 42
    for line in lines:
        pair = json.loads(line)
        assert published.encode(pair["text"]) == pair["ids"]
        assert published.decode(pair["ids"]) == pair["text"]


def test_a_reply_ends_at_the_end_of_a_turn_or_of_the_text(published: ChatTokenizer) -> None:
    assert published.stop_token_ids == (151645, 151643)
    assert published.pad_token_id == 151643


def test_a_saved_tokenizer_is_the_same(published: ChatTokenizer, tmp_path: Path) -> None:
    published.save(tmp_path)
    again = read_directory_tokenizer(tmp_path)
    assert again.vocab_size == published.vocab_size
    assert again.stop_token_ids == published.stop_token_ids
    assert again.pad_token_id == published.pad_token_id
    text = "<|im_start|>user\ndef f(x):\n\treturn x**2  # ² naïve<|im_end|>"
    assert again.encode(text) == published.encode(text)
    assert again.chat_text(QUESTION) == published.chat_text(QUESTION)


def test_a_conversation_ends_where_the_model_is_to_speak(published: ChatTokenizer) -> None:
    text = published.chat_text(QUESTION)
    assert "<|im_start|>user\nWhat is 6 * 7?<|im_end|>\n<|im_start|>assistant\n" in text
    begun = published.chat_text([*QUESTION, {"role": "assistant", "content": "```python\n"}])
    assert begun == text + "```python\n"


def test_thinking_is_off_unless_asked_for(published: ChatTokenizer) -> None:
    empty_thought = "<|im_start|>assistant\n<think>\n\n</think>\n\n"
    thinks = "enable_thinking" in (published.template or "")
    assert published.chat_text(QUESTION).endswith(empty_thought) == thinks
    asked = published.chat_text(QUESTION, thinking=True)
    assert asked.endswith("<|im_start|>assistant\n")


def test_special_tokens_are_recognized_and_left_out(published: ChatTokenizer) -> None:
    ids = published.chat_tokens(QUESTION)
    assert ids[0] == 151644 and ids.count(151645) == published.chat_text(QUESTION).count("im_end")
    assert "im_start" not in published.decode(ids)
    assert published.decode(ids, skip_special_tokens=False) == published.chat_text(QUESTION)


def test_ids_beyond_the_vocabulary_have_no_text(published: ChatTokenizer) -> None:
    assert published.decode([*published.encode("ab"), 151_900]) == "ab"


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        ("<think>\nLet me see\n</think>\n\nanswer", "answer"),
        ("thought begun in the prompt\n</think>\n\nanswer", "answer"),
        ("<think>\nnever ends", ""),
        ("just an answer", "just an answer"),
    ],
)
def test_a_thought_is_cut_off(reply: str, said: str) -> None:
    assert cut_thought(reply) == said


def gguf_metadata(**changes: object) -> dict[str, object]:
    fields = {
        "model": "gpt2",
        "pre": "qwen2",
        "tokens": ["a", "b", "ab", "<|im_end|>", "[PAD4]"],
        "token_type": [1, 1, 1, 3, 5],
        "merges": ["a b"],
        "eos_token_id": 3,
    }
    return {f"tokenizer.ggml.{name}": value for name, value in (fields | changes).items()}


def test_a_gguf_vocabulary_is_rebuilt_without_its_padding() -> None:
    tokenizer = gguf_tokenizer(gguf_metadata(), "model.gguf")
    assert tokenizer.encode("aba<|im_end|>") == [2, 0, 3]
    assert tokenizer.vocab_size == 4


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"pre": "deepseek-v3"}, "pre-tokenizer 'deepseek-v3' is not supported"),
        ({"merges": None}, "tokenizer.ggml.merges is missing"),
        ({"merges": ["a x"]}, "merge 'a' 'x' has no token"),
        ({"token_type": [3, 1, 1, 1, 1], "merges": []}, "does not follow the vocabulary"),
    ],
)
def test_a_defective_gguf_tokenizer_is_refused(changes: dict[str, object], said: str) -> None:
    with pytest.raises(UserError, match=said):
        gguf_tokenizer(gguf_metadata(**changes), "model.gguf")


def test_what_a_directory_lacks_is_named(tmp_path: Path, tiny_tokenizer: ChatTokenizer) -> None:
    with pytest.raises(UserError, match=r"neither tokenizer\.json nor vocab\.json"):
        read_directory_tokenizer(tmp_path)
    tiny_tokenizer.save(tmp_path)
    (tmp_path / "chat_template.jinja").write_text("{% for %}")
    broken = read_directory_tokenizer(tmp_path)
    with pytest.raises(UserError, match="the chat template is malformed"):
        broken.chat_text(QUESTION)
    (tmp_path / "tokenizer.json").write_text('{"version": "1.0"')
    with pytest.raises(UserError, match="the tokenizer cannot be read"):
        read_directory_tokenizer(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text("{")
    with pytest.raises(UserError, match=r"tokenizer_config\.json: malformed JSON"):
        read_directory_tokenizer(tmp_path)


def test_a_model_without_a_chat_template_is_refused_when_it_is_to_chat(tmp_path: Path) -> None:
    tokenizer = gguf_tokenizer(gguf_metadata(), "model.gguf")
    with pytest.raises(UserError, match="there is no chat template"):
        tokenizer.chat_tokens(QUESTION)
