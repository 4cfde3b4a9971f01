"""Every named experiment: what follows the colon in ``--config=FILE:NAME[,NAME...]``.

A name changes only the fields that its row shows, in the order the names are given, so that
``:dynamic_b4,no_mutation`` is the paper's ablation and ``:max_pass,calibration`` is MaxPass with
the supervision of ten labelled problems. ``launch/train.py --list`` prints this table.
"""

from ml_collections import ConfigDict

from zerocoder_jax.training.grpo_variants import VARIANTS

_LABELS = {"supervision": "calibration"}
_CALIBRATED_B4 = {"selector.name": "b4", "selector.calibration.enabled": True}
_DYNAMIC_B4 = _CALIBRATED_B4 | _LABELS


def _static(name: str, **priors: float) -> dict[str, object]:
    """A selector that stays as it is: combined with labels it does not calibrate on them."""
    fields = {"name": name, "calibration.enabled": False} | priors
    return {f"selector.{field}": value for field, value in fields.items()}


# name: (what it is, the fields that it changes)
EXPERIMENTS: dict[str, tuple[str, dict[str, object]]] = {
    # The paper's rows: selectors, without labels.
    "max_pass": ("MaxPass: the solutions that pass most tests", _static("max_pass")),
    "codet": ("CodeT: large groups that pass many tests", _static("codet")),
    "b4_4_3": (
        "B4 with beta0 = 1e4, alpha_xy = 1e3",
        _static("b4", beta0=1e4, alpha_xy=1e3),
    ),
    "b4_5_3": (
        "B4 with beta0 = 1e5, alpha_xy = 1e3",
        _static("b4", beta0=1e5, alpha_xy=1e3),
    ),
    # With a few labels.
    "calibration": ("ten labelled problems train with supervised rewards, any selector", _LABELS),
    "dynamic_b4": (
        "ten labelled problems train with supervised rewards and recalibrate B4 before each step",
        _DYNAMIC_B4,
    ),
    "dynamic_b4_unsupervised": (
        "ten labelled problems recalibrate B4 before each step, none is trained on",
        _CALIBRATED_B4 | {"supervision": "none"},
    ),
    "oracle": ("every reward from reference solutions and tests", {"supervision": "oracle"}),
    # Baselines: only the Coder trains.
    "offline": ("test-driven RL against tests made once beforehand", {"method": "offline"}),
    "online": ("test-driven RL against the step's own tests", {"method": "online"}),
    # Ablations.
    "no_mutation": ("without the mutation term of the Tester's reward", {"reward.mutation": False}),
    **{
        f"delta_{delta}": (
            f"trained on problems whose first matrix has rank {delta} or more",
            {"prefilter.delta": delta},
        )
        for delta in (0, 1, 2, 3)
    },
    **{
        f"calibration_{count}": (
            f"dynamic B4 with {count} labelled problems",
            _DYNAMIC_B4 | {"selector.calibration.problems": count},
        )
        for count in (5, 10, 20, 50, 100)
    },
    # Beyond the paper.
    "confident": (
        "advantages weighted by the selection's confidence",
        {"reward.confidence_weighted": True},
    ),
    **{
        name: (description, {f"grpo.{field}": value for field, value in VARIANTS[name].items()})
        for name, description in (
            ("dr_grpo", "Dr. GRPO: no division by the deviation, constant length, no KL"),
            (
                "dapo",
                "DAPO without refills: higher upper clip, no equal groups, overlong penalty, no KL",
            ),
            ("gspo", "GSPO: clipped ratios of whole sequences"),
        )
    },
    "lora": (
        "low-rank adapters on a frozen base (7B on one 80 GB GPU)",
        {"policy.lora.rank": 32, "optimizer.learning_rate": 1e-5},
    ),
}


def apply_experiments(config: ConfigDict, names: str) -> ConfigDict:
    """Change ``config`` as the comma-separated names say; an empty string changes nothing.

    Raises:
      ValueError: an unknown name.
    """
    for name in filter(None, names.split(",")):
        if name not in EXPERIMENTS:
            raise ValueError(f"unknown experiment {name!r}; there are {', '.join(EXPERIMENTS)}")
        config.update_from_flattened_dict(EXPERIMENTS[name][1])
    return config
