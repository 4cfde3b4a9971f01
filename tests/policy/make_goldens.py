"""Record what PyTorch computes, so that parity is tested on machines without it.

    python tests/policy/make_goldens.py             tiny random models, into goldens/*.npz
    python tests/policy/make_goldens.py --real FILE greedy tokens and logits of the real GGUF file

Each tiny model's file holds its weights (by Hugging Face name), a batch with padding on either
side, the float32 logits, and the gradient of every weight. Needs torch and transformers.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

GOLDENS = Path(__file__).parent / "goldens"

# What all tiny models share: sizes that are multiples of nothing in common.
BASE = {
    "vocab_size": 53,
    "hidden_size": 12,
    "intermediate_size": 20,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 6,
    "max_position_embeddings": 1024,
    "rms_norm_eps": 1e-6,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
    "attention_bias": False,
}

REAL_PROMPTS = [
    "Write a Python function that returns the longest common prefix of a list of strings.",
    "Was ist die Quadratwurzel von 1764? Antworte mit einem Satz.",
    "def fibonacci(n):\n    # continue this function",
]
REAL_TOKENS = 64
# Of generate. No stop tokens: after the end of a reply the continuation is as good a test.
GREEDY = {"do_sample": False, "repetition_penalty": 1.0, "eos_token_id": None, "pad_token_id": 0}


def tiny_fields(name: str) -> dict[str, Any]:
    """The fields of a tiny model's ``config.json``."""
    return BASE | json.loads((GOLDENS / "tiny_models.json").read_text())[name]


def tiny_names() -> list[str]:
    return list(json.loads((GOLDENS / "tiny_models.json").read_text()))


def batch(vocab_size: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Five rows of 11: one whole, two padded on the left, two on the right."""
    random = np.random.default_rng(seed)
    # Some rows start late, so that far positions are seen as well.
    starts = np.array([[0], [5], [0], [700], [0]])
    rows, length = 5, 11
    mask = np.ones((rows, length), bool)
    mask[1, :3] = mask[2, :7] = mask[3, -1:] = mask[4, -6:] = False
    return {
        "tokens": random.integers(0, vocab_size, (rows, length)).astype(np.int32),
        "mask": mask,
        "positions": (np.maximum(np.cumsum(mask, 1) - 1, 0) + starts).astype(np.int32),
        # The loss is the logits' product with these, so that every gradient is exercised.
        "cotangent": (random.normal(size=(rows, length, vocab_size)) * mask[..., None]).astype(
            np.float32
        ),
    }


def torch_model(fields: dict[str, Any], weights: dict[str, np.ndarray] | None = None) -> Any:
    """transformers' model of ``fields`` in float32, its weights random unless given."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(**fields)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").float().eval()
    random = np.random.default_rng(1)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            if weights is not None:
                values = weights[name]
            else:
                # Far from initialization: sharp attention, biases and norms that matter.
                values = random.normal(size=parameter.shape) * (0.3 if parameter.ndim > 1 else 0.2)
                values = values + ("norm" in name)
            parameter.copy_(torch.tensor(np.asarray(values, np.float32)))
    return model


def torch_results(model: Any, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Logits at real tokens (zero elsewhere), and ``gradient/NAME`` of every weight."""
    import torch

    model.zero_grad()
    logits = model(
        input_ids=torch.tensor(inputs["tokens"]).long(),
        attention_mask=torch.tensor(inputs["mask"]).long(),
        position_ids=torch.tensor(inputs["positions"]).long(),
    ).logits
    (logits.float() * torch.tensor(inputs["cotangent"])).sum().backward()
    gradients = {
        f"gradient/{name}": parameter.grad.float().numpy()
        for name, parameter in model.named_parameters()
    }
    return {
        "logits": logits.detach().float().numpy() * inputs["mask"][..., None],
        **gradients,
    }


def tiny_golden(name: str) -> dict[str, np.ndarray]:
    """Everything that a tiny model's file holds."""
    fields = tiny_fields(name)
    model = torch_model(fields)
    inputs = batch(fields["vocab_size"])
    weights = {f"weight/{n}": p.detach().numpy().copy() for n, p in model.named_parameters()}
    return {**inputs, **weights, **torch_results(model, inputs)}


def real_golden(file: Path) -> dict[str, np.ndarray]:
    """Greedy continuations by transformers, and its logits after each prompt's last token."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    location = {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name}
    tokenizer = AutoTokenizer.from_pretrained(**location)
    model = AutoModelForCausalLM.from_pretrained(
        **location, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    golden: dict[str, np.ndarray] = {}
    for index, prompt in enumerate(REAL_PROMPTS):
        ids = tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}],
            add_generation_prompt=True,
            return_tensors="pt",
            return_dict=False,
        )
        with torch.no_grad():
            logits = model(ids).logits[0, -1]
            tokens = model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=REAL_TOKENS,
                **GREEDY,
            )[0]
        golden[f"{index}/prompt"] = ids[0].numpy().astype(np.int32)
        golden[f"{index}/reply"] = tokens[ids.shape[1] :].numpy().astype(np.int32)
        # Every 37th logit: a fair sample at a fraction of the size.
        golden[f"{index}/logits"] = logits[::37].numpy()
    return golden


def main() -> None:
    if sys.argv[1:2] == ["--real"]:
        np.savez_compressed(GOLDENS / "real.npz", **real_golden(Path(sys.argv[2]).resolve()))
        return
    for name in tiny_names():
        np.savez_compressed(GOLDENS / f"{name}.npz", **tiny_golden(name))


if __name__ == "__main__":
    main()
