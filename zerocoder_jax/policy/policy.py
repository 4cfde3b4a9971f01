"""A policy: a decoder's shape, its weights, and the tokenizer that goes with them."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from zerocoder_jax.policy.config import PolicyConfig
from zerocoder_jax.policy.decoder import Params, decoder_graphdef, init_params
from zerocoder_jax.policy.tokenizer import ChatTokenizer


@dataclasses.dataclass(frozen=True)
class Policy:
    """What is sampled from and trained. The weights are a plain pytree beside the static rest."""

    config: PolicyConfig
    graphdef: nnx.GraphDef
    params: Params
    # None only for randomly initialized policies.
    tokenizer: ChatTokenizer | None = None
    # Any of these ends a reply.
    stop_token_ids: tuple[int, ...] = ()
    pad_token_id: int = 0
    # The fields of its source's generation_config.json: sampling defaults for those who run it.
    generation_config: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def vocabulary(self) -> int:
        """Tokens that can be decoded; ids from here on are padding of the embedding table."""
        return self.tokenizer.vocab_size if self.tokenizer else self.config.vocab_size

    def with_params(self, params: Params) -> "Policy":
        """The same policy with other weights."""
        return dataclasses.replace(self, params=params)


def init_policy(config: PolicyConfig, key: jax.Array, dtype: DTypeLike = jnp.float32) -> Policy:
    """A policy with random weights and without a tokenizer, for tests, plans and benchmarks."""
    return Policy(config, decoder_graphdef(config), init_params(config, key, dtype))
