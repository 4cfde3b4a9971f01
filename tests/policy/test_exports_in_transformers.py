"""Every export loads in transformers 4 and 5, computes the same there, and keeps how to sample.

Each version runs in a process of its own, which loads all exports. `make parity` installs
transformers 4 (requirements-transformers4.txt) beside the environment's own 5.
"""

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import jax.numpy as jnp
import numpy as np
import pytest

from zerocoder_jax.policy import Policy, forward, save_policy, vocabulary_logits

pytestmark = pytest.mark.parity

TRANSFORMERS_4 = Path(os.environ.get("TRANSFORMERS_4") or Path(sys.prefix) / "transformers4")

MESSAGES = [{"role": "user", "content": "f(1)+a"}]
SAMPLING = {
    "do_sample": True, "temperature": 0.7, "top_p": 0.8, "top_k": 20, "repetition_penalty": 1.1,
    "transformers_version": "4.37.0",
}  # fmt: skip

PROGRAM = """
import json, sys
import torch, transformers
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

tokens, messages = json.loads(sys.argv[1])
found = {"version": transformers.__version__}
for directory in sys.argv[2:]:
    model, loading = AutoModelForCausalLM.from_pretrained(
        directory, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )
    tokenizer = AutoTokenizer.from_pretrained(directory)
    torch.manual_seed(0)
    reply = model.eval().generate(
        torch.tensor(tokens[:1]), attention_mask=torch.ones(1, len(tokens[0])), max_new_tokens=4
    )
    found[directory] = {
        "logits": model(torch.tensor(tokens)).logits.tolist(),
        "reply": reply.shape[1] - len(tokens[0]),
        "problems": {name: sorted(map(str, keys)) for name, keys in loading.items() if keys},
        "chat": tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=True, return_dict=False
        ),
        "eos": tokenizer.eos_token,
        "limit": tokenizer.model_max_length,
        "generation": GenerationConfig.from_pretrained(directory).to_diff_dict(),
    }
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def exported(
    make_goldens: ModuleType,
    tiny_policy: Callable[[str], Policy],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[Path, Policy]:
    """Directory -> policy: every tiny model, one of them in parts and with sampling defaults."""
    root = tmp_path_factory.mktemp("exports")
    policies = {root / name: tiny_policy(name) for name in make_goldens.tiny_names()}
    for directory, policy in policies.items():
        save_policy(policy, directory)
    sampled = dataclasses.replace(tiny_policy("qwen2_untied"), generation_config=SAMPLING)
    save_policy(sampled, root / "sampled", max_shard_bytes=8_000)
    return policies | {root / "sampled": sampled}


@pytest.mark.parametrize("major", [4, 5])
def test_every_export_loads_and_computes_the_same(major: int, exported: dict[Path, Policy]) -> None:
    if major == 4 and not TRANSFORMERS_4.is_dir():
        pytest.skip(f"no transformers 4 in {TRANSFORMERS_4}: `make parity` installs it")
    paths = [str(TRANSFORMERS_4)] if major == 4 else []
    tokens = np.random.default_rng(0).integers(0, 47, (3, 9))
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps([tokens.tolist(), MESSAGES])]
        + [str(directory) for directory in exported],
        capture_output=True, text=True, timeout=600,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths), "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["version"].startswith("4.57." if major == 4 else "5.")
    positions = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
    mask = np.ones(tokens.shape, bool)
    for directory, policy in exported.items():
        theirs = found[str(directory)]
        hidden = forward(policy.graphdef, policy.params, tokens, positions, mask)
        logits = np.asarray(vocabulary_logits(policy.params, hidden))
        error = np.abs(np.array(theirs["logits"]) - logits).max() / np.abs(logits).max()
        assert error < 1e-5, directory
        assert not theirs["problems"] and 1 <= theirs["reply"] <= 4, directory
        assert policy.tokenizer is not None
        assert theirs["chat"] == policy.tokenizer.chat_tokens(MESSAGES)
        assert theirs["eos"] == "<|im_end|>" and theirs["limit"] == policy.config.context
        generation = theirs["generation"]
        assert generation["eos_token_id"] == list(policy.stop_token_ids)
        assert generation["pad_token_id"] == policy.pad_token_id
        sampling = {"do_sample", "temperature", "top_p", "top_k", "repetition_penalty"}
        wanted = SAMPLING if directory.name == "sampled" else {}
        assert {n: v for n, v in generation.items() if n in sampling} == {
            name: value for name, value in wanted.items() if name in sampling
        }
