"""What each published variant of GRPO changes of ``config.grpo``, as plain data without JAX.

A config file applies one by ``config.grpo.update(VARIANTS["dapo"])``; the sources are named in
``grpo.py``.
"""

VARIANTS: dict[str, dict[str, object]] = {
    "grpo": {},
    # No length bias, no difficulty bias.
    "dr_grpo": {
        "aggregation": "constant_length",
        "normalize_std": False,
        "kl_coefficient": 0.0,
    },
    # Room for unlikely tokens to grow, no reference, no groups without a signal, and a penalty that
    # grows over the last fifth of the allowed length.
    "dapo": {
        "clip_low": 0.2,
        "clip_high": 0.28,
        "aggregation": "token_mean",
        "drop_equal_groups": True,
        "truncated": "penalize",
        "kl_coefficient": 0.0,
    },
    # A sequence's ratio is a geometric mean over its tokens, hence the narrow clip range.
    "gspo": {
        "ratio": "sequence",
        "clip_low": 3e-4,
        "clip_high": 4e-4,
        "aggregation": "sequence_mean",
        "kl_coefficient": 0.0,
    },
}
