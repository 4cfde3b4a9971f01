"""The model: a Qwen2, Qwen3 or Llama-style decoder, its weights in and out, its tokenizer.

Knows nothing of problems, rewards or sampling: it turns tokens into hidden states and
log-probabilities, and files into parameters and back.
"""

from zerocoder_jax.policy.config import PolicyConfig, RopeScaling
from zerocoder_jax.policy.decoder import (
    ActivationSharding,
    Params,
    abstract_params,
    apply_rotary,
    decoder_graphdef,
    forward,
    init_params,
    logical_axes,
    rms_norm,
    rotary_tables,
    vocabulary_logits,
)
from zerocoder_jax.policy.loading import load_policy, load_policy_without_weights
from zerocoder_jax.policy.lora import (
    LoraSettings,
    abstract_lora,
    init_lora,
    load_lora,
    lora_logical_axes,
    lora_settings,
    merge_lora,
    save_lora,
)
from zerocoder_jax.policy.policy import Policy, init_policy
from zerocoder_jax.policy.saving import save_policy
from zerocoder_jax.policy.tokenizer import ChatTokenizer

__all__ = [
    "ActivationSharding",
    "ChatTokenizer",
    "LoraSettings",
    "Params",
    "Policy",
    "PolicyConfig",
    "RopeScaling",
    "abstract_lora",
    "abstract_params",
    "apply_rotary",
    "decoder_graphdef",
    "forward",
    "init_lora",
    "init_params",
    "init_policy",
    "load_lora",
    "load_policy",
    "load_policy_without_weights",
    "logical_axes",
    "lora_logical_axes",
    "lora_settings",
    "merge_lora",
    "rms_norm",
    "rotary_tables",
    "save_lora",
    "save_policy",
    "vocabulary_logits",
]
