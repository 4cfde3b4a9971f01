"""Tiny models that tests of this room share; their sizes are those of the recorded goldens."""

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from zerocoder_jax.policy import (
    ChatTokenizer,
    Params,
    Policy,
    PolicyConfig,
    abstract_params,
    decoder_graphdef,
)
from zerocoder_jax.policy.config import config_from_hugging_face

HERE = Path(__file__).parent
TINY_NAMES = list(json.loads((HERE / "goldens" / "tiny_models.json").read_text()))

TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that asks for ``tiny_name`` runs once for each tiny model."""
    if "tiny_name" in metafunc.fixturenames:
        metafunc.parametrize("tiny_name", TINY_NAMES)


@pytest.fixture(scope="session")
def make_goldens() -> ModuleType:
    """The script that records goldens, as a module."""
    specification = importlib.util.spec_from_file_location("goldens", HERE / "make_goldens.py")
    assert specification and specification.loader
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def tiny_tokenizer() -> ChatTokenizer:
    """Bytes of ASCII letters and a few special tokens: 53 tokens, as many as the tiny models."""
    letters = [*"abcdefghijklmnopqrstuvwxyz0123456789().,:=+-*ĠĊ"][:50]
    tokenizer = tokenizers.Tokenizer(
        models.BPE(vocab={letter: i for i, letter in enumerate(letters)}, merges=[])
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    return ChatTokenizer(
        tokenizer,
        TEMPLATE,
        stop_token_ids=[tokenizer.token_to_id("<|im_end|>")],
        pad_token_id=tokenizer.token_to_id("<|endoftext|>"),
        origin="the tiny tokenizer",
    )


@pytest.fixture(scope="session")
def tiny_policy(make_goldens: ModuleType, tiny_tokenizer: ChatTokenizer) -> Callable[[str], Policy]:
    """The tiny model of a name, with random weights in which every term matters."""

    def make(name: str) -> Policy:
        config = config_from_hugging_face(make_goldens.tiny_fields(name), name)
        return Policy(
            config=config,
            graphdef=decoder_graphdef(config),
            params=_lively_params(config),
            tokenizer=tiny_tokenizer,
            stop_token_ids=tiny_tokenizer.stop_token_ids,
            pad_token_id=tiny_tokenizer.pad_token_id,
        )

    return make


def _lively_params(config: PolicyConfig) -> Params:
    """Weights far from their initialization: sharp attention, biases and norms that matter."""
    random = np.random.default_rng(0)

    def draw(path: tuple, leaf: jax.ShapeDtypeStruct) -> jax.Array:
        spread = {"kernel": 0.3, "table": 0.3, "bias": 0.2, "scale": 0.2}[path[-1].key]
        values = random.normal(size=leaf.shape) * spread + (path[-1].key == "scale")
        return jnp.asarray(values.astype(leaf.dtype))

    return jax.tree_util.tree_map_with_path(draw, abstract_params(config))
