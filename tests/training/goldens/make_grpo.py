"""GRPO losses and gradients by PyTorch in float64, from the papers' formulas, one token at a time.

``python tests/training/goldens/make_grpo.py`` records ``grpo.npz``, with which the JAX loss is
compared where there is no torch. ``make parity`` makes the numbers again.
"""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

GOLDENS = Path(__file__).parent / "grpo.npz"
SEQUENCES, TOKENS, VOCABULARY = 5, 6, 7
LENGTHS = (6, 3, 1, 0, 5)  # the fourth sample is masked as a whole
MAX_NEW_TOKENS = 9

BASE: dict[str, Any] = {
    "clip_low": 0.2,
    "clip_high": 0.2,
    "ratio": "token",
    "kl_coefficient": 0.0,
    "kl_estimator": "k3",
    "aggregation": "token_mean",
    "entropy_coefficient": 0.0,
    "importance_cap": 0.0,
    "old": True,
}
# Fields that differ from ``BASE``; "old": False leaves the old log-probs out.
CASES: dict[str, dict[str, Any]] = {
    "clip": {},
    "first_update": {"old": False, "kl_coefficient": 0.001},
    "k1": {"kl_coefficient": 0.1, "kl_estimator": "k1"},
    "k2": {"kl_coefficient": 0.1, "kl_estimator": "k2"},
    "k3": {"kl_coefficient": 0.1},
    "sequence_mean": {"aggregation": "sequence_mean", "kl_coefficient": 0.1},
    "entropy": {"entropy_coefficient": 0.05},
    "importance": {"importance_cap": 1.1},
    "importance_first_update": {"importance_cap": 1.1, "old": False},
    "dr_grpo": {"aggregation": "constant_length"},
    "dapo": {"clip_high": 0.28},
    "gspo": {
        "ratio": "sequence",
        "clip_low": 3e-4,
        "clip_high": 4e-4,
        "aggregation": "sequence_mean",
    },
    "gspo_wide": {"ratio": "sequence", "aggregation": "sequence_mean"},
    "everything": {
        "clip_low": 0.1,
        "clip_high": 0.3,
        "kl_coefficient": 0.03,
        "kl_estimator": "k2",
        "aggregation": "constant_length",
        "entropy_coefficient": 0.01,
        "importance_cap": 1.5,
    },
}


def settings_of(case: str) -> SimpleNamespace:
    """``config.grpo`` of a case."""
    return SimpleNamespace(**(BASE | CASES[case]))


def make_inputs(seed: int) -> dict[str, np.ndarray]:
    """A policy's logits [B, T, V] and what three other policies said of the same tokens."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(SEQUENCES, TOKENS, VOCABULARY)) * 1.5
    targets = rng.integers(0, VOCABULARY, (SEQUENCES, TOKENS))

    def of_another_policy(distance: float) -> np.ndarray:
        other = logits + distance * rng.normal(size=logits.shape)
        log_probs = other - np.log(np.sum(np.exp(other), axis=-1, keepdims=True))
        return np.take_along_axis(log_probs, targets[..., None], axis=-1)[..., 0]

    return {
        "logits": logits,
        "targets": targets,
        "old": of_another_policy(0.3),
        "reference": of_another_policy(0.5),
        "rollout": of_another_policy(0.2),
        "advantages": np.array([1.2, -0.7, 0.4, 3.0, -1.1]),
        "mask": np.arange(TOKENS) < np.array(LENGTHS)[:, None],
    }


def torch_loss_and_gradient(inputs: dict[str, np.ndarray], case: str) -> tuple[float, np.ndarray]:
    """The loss of one case and its gradient with respect to the logits."""
    import torch

    settings = settings_of(case)
    logits = torch.tensor(inputs["logits"], dtype=torch.float64, requires_grad=True)
    per_sequence = []  # (per-token losses, length)
    for i in range(SEQUENCES):
        length = int(inputs["mask"][i].sum())
        if length == 0:
            continue
        advantage = float(inputs["advantages"][i])
        distributions = [torch.log_softmax(logits[i, t], dim=-1) for t in range(length)]
        current = [distributions[t][int(inputs["targets"][i, t])] for t in range(length)]
        given = {
            name: torch.tensor(inputs[name][i, :length], dtype=torch.float64).unbind()
            for name in ("old", "reference", "rollout")
        }
        old = given["old"] if settings.old else [value.detach() for value in current]
        if settings.ratio == "sequence":
            # GSPO, equation 7: the length-normalised ratio of the whole sequence.
            whole = torch.exp((sum(current) - sum(old)) / length)
            ratios = [whole] * length
        else:
            ratios = [torch.exp(new - before) for new, before in zip(current, old)]
        losses = []
        for t in range(length):
            clipped = torch.clamp(ratios[t], 1 - settings.clip_low, 1 + settings.clip_high)
            objective = torch.minimum(ratios[t] * advantage, clipped * advantage)
            if settings.importance_cap:
                weight = torch.exp(old[t] - given["rollout"][t]).detach()
                objective = objective * torch.clamp(weight, max=settings.importance_cap)
            difference = given["reference"][t] - current[t]
            divergence = {
                "k1": -difference,
                "k2": difference**2 / 2,
                "k3": torch.exp(difference) - difference - 1,
            }[settings.kl_estimator]
            entropy = -torch.sum(torch.exp(distributions[t]) * distributions[t])
            losses.append(
                -objective
                + settings.kl_coefficient * divergence
                - settings.entropy_coefficient * entropy
            )
        per_sequence.append((losses, length))

    if settings.aggregation == "token_mean":
        total = sum(length for _, length in per_sequence)
        loss = sum(sum(losses) for losses, _ in per_sequence) / total
    elif settings.aggregation == "sequence_mean":
        loss = sum(sum(losses) / length for losses, length in per_sequence) / len(per_sequence)
    else:
        constant = len(per_sequence) * MAX_NEW_TOKENS
        loss = sum(sum(losses) for losses, _ in per_sequence) / constant
    loss.backward()
    return loss.item(), logits.grad.numpy()


def main() -> None:
    inputs = make_inputs(seed=20)
    results = {}
    for case in CASES:
        loss, gradient = torch_loss_and_gradient(inputs, case)
        results |= {f"{case}/loss": np.float64(loss), f"{case}/gradient": gradient}
    np.savez_compressed(GOLDENS, **results)


if __name__ == "__main__":
    main()
