"""The real 0.5B weights against transformers, live: logits and greedy replies. By `make parity`."""

import dataclasses
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from zerocoder_jax.policy import Policy, forward, load_policy, vocabulary_logits
from zerocoder_jax.policy.gguf_checkpoint import _CheckedReader
from zerocoder_jax.rollout import EngineSettings, RolloutEngine, SamplingSettings, sample_key

pytestmark = [pytest.mark.parity, pytest.mark.real_weights]


@pytest.fixture(scope="module")
def real_torch(real_weights: Path) -> tuple[Any, Any]:
    """transformers' model and tokenizer of the real file, dequantized by transformers."""
    import gguf
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    location = {"pretrained_model_name_or_path": str(real_weights.parent)}
    location["gguf_file"] = real_weights.name
    with pytest.MonkeyPatch.context() as patch:
        # transformers opens the file three times; with the library's reader of metadata that takes
        # half a minute, and tests/policy/test_gguf_metadata.py says that ours reads the same.
        patch.setattr(gguf, "GGUFReader", _CheckedReader)
        model = AutoModelForCausalLM.from_pretrained(**location, dtype=torch.float32)
        return model.eval(), AutoTokenizer.from_pretrained(**location)


@pytest.fixture(scope="module")
def real_policy(real_weights: Path) -> Policy:
    return load_policy(f"gguf:{real_weights}")


@pytest.fixture(scope="module")
def mbpp_prompts(
    real_torch: tuple[Any, Any], real_policy: Policy, shared_data: Path
) -> list[list[int]]:
    """Twenty statements in the chat template, tokenized as transformers does."""
    assert real_policy.tokenizer is not None
    lines = (shared_data / "mbpp" / "mbpp.jsonl").read_text().splitlines()[600:620]
    prompts = []
    for line in lines:
        messages = [{"role": "user", "content": json.loads(line)["text"]}]
        prompts.append(list(real_policy.tokenizer.chat_tokens(messages)))
        assert prompts[-1] == real_torch[1].apply_chat_template(
            messages, add_generation_prompt=True, return_dict=False
        )
    return prompts


def test_real_logits_differ_from_pytorchs_by_less_than_a_thousandth(
    real_torch: tuple[Any, Any], real_policy: Policy, mbpp_prompts: list[list[int]]
) -> None:
    """On ten MBPP prompts, at every position."""
    import torch

    model, _ = real_torch
    prompts = mbpp_prompts[:10]
    lengths = np.array([len(prompt) for prompt in prompts])
    places = np.broadcast_to(np.arange(lengths.max()), (len(prompts), lengths.max()))
    mask = places < lengths[:, None]
    tokens = np.zeros(mask.shape, np.int32)
    tokens[mask] = np.concatenate(prompts)
    hidden = forward(
        real_policy.graphdef, real_policy.params, *map(jnp.asarray, (tokens, places, mask))
    )
    worst = 0.0
    for row, prompt in enumerate(prompts):
        found = np.asarray(vocabulary_logits(real_policy.params, hidden[row]))
        with torch.no_grad():
            (expected,) = model(torch.tensor([prompt])).logits.numpy()
        worst = max(worst, float(np.abs(found[: len(prompt)] - expected).max()))
    print(f"largest logit difference {worst:.2e}")
    assert worst < 1e-3


@pytest.mark.parametrize(
    "count, limit", [(10, 64), pytest.param(20, 128, marks=pytest.mark.endurance)]
)
def test_the_engine_decodes_real_weights_as_transformers_does(
    count: int,
    limit: int,
    real_torch: tuple[Any, Any],
    real_policy: Policy,
    mbpp_prompts: list[list[int]],
    make_goldens: ModuleType,
) -> None:
    """The same tokens, as probable: greedily, prompts of unequal lengths, ``limit`` tokens each,
    both by their own key-value caches."""
    import torch

    model, _ = real_torch
    prompts = mbpp_prompts[:count]
    longest = max(len(prompt) for prompt in prompts)
    # transformers decodes them as one batch, padded on the left: one by one takes ten minutes.
    tokens = np.zeros((count, longest), np.int64)
    mask = np.zeros((count, longest), np.int64)
    for row, prompt in enumerate(prompts):
        tokens[row, longest - len(prompt) :] = prompt
        mask[row, longest - len(prompt) :] = 1
    with torch.no_grad():
        generated = model.generate(
            torch.tensor(tokens),
            attention_mask=torch.tensor(mask),
            max_new_tokens=limit,
            **make_goldens.GREEDY,
            output_logits=True,
            return_dict_in_generate=True,
        )
    expected = generated.sequences[:, longest:].numpy()
    # Nothing stops a reply, so that each of its tokens is compared.
    endless = dataclasses.replace(real_policy, stop_token_ids=())
    greedy = SamplingSettings(temperature=0.0, max_new_tokens=limit)
    engine = RolloutEngine(
        endless, greedy, EngineSettings(rows=count, window=16, max_prompt_tokens=longest)
    )
    engine.load(endless.params)
    keys = np.array([sample_key(0, 0, index, 0, 0) for index in range(count)], np.uint32)
    replies = {
        rollout.prompt_index: rollout for rollout in engine.generate(prompts, [1] * count, keys)
    }
    log_probs = np.stack([logits.log_softmax(-1).amax(-1) for logits in generated.logits], axis=1)
    top = torch.stack(generated.logits, dim=1).topk(2).values  # [N, T, 2]
    margins = (top[..., 0] - top[..., 1]).numpy()
    print(f"smallest margin between the two most probable tokens {margins.min():.2e}")
    for index in range(count):
        assert len(replies[index].tokens) == limit
        differing = np.flatnonzero(replies[index].tokens != expected[index])
        assert not differing.size, (
            f"MBPP prompt {index} differs at token {differing[0]}, where the two most probable "
            f"tokens are {margins[index, differing[0]]:.2e} apart"
        )
    # The most probable token's: what a greedy reply is made of.
    differences = [np.abs(replies[i].log_probs - log_probs[i]).max() for i in range(count)]
    print(f"largest difference of a token's log-prob {max(differences):.2e}")
    assert max(differences) < 1e-4
