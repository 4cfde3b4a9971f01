"""The numbers of the ZeroCoder paper (arXiv 2604.07864) that a run can be held against."""

from dataclasses import dataclass


@dataclass(frozen=True)
class PublishedRow:
    """One row of the paper's main table, in percent.

    Attributes:
      model: the paper's name of the policy.
      method: the row, named as ``run_results.method_name`` names a run.
      code: average of code generation (CAvg).
      tests: average of test generation (TAvg).
      average: of both (Avg), rounded by the paper.
    """

    model: str
    method: str
    code: float
    tests: float
    average: float


# The rows of the main table whose averages the public text gives.
_METHODS = (
    "base",
    "offline",
    "online",
    "MaxPass",
    "CodeT",
    "B4(4,3)",
    "B4(5,3)",
    "dynamic B4",
    "dynamic B4 without mutation",
    "oracle",
)

# Per model, in the order of _METHODS: CAvg, TAvg, Avg.
_AVERAGES = {
    "Qwen2.5-1.5B-Instruct": (
        (18.0, 17.6, 17.8),
        (17.1, 24.7, 20.9),
        (16.6, 28.7, 22.6),
        (18.8, 45.1, 31.9),
        (20.2, 45.0, 32.6),
        (19.5, 45.3, 32.4),
        (19.0, 45.8, 32.4),
        (21.1, 46.0, 33.5),
        (19.2, 44.8, 32.0),
        (21.6, 47.1, 34.3),
    ),
    "Qwen3-4B": (
        (30.4, 49.8, 40.1),
        (29.6, 35.5, 32.5),
        (30.3, 40.4, 35.3),
        (33.6, 49.9, 41.8),
        (34.6, 50.3, 42.5),
        (34.6, 50.0, 42.3),
        (33.5, 50.1, 41.8),
        (35.8, 51.3, 43.6),
        (33.3, 45.8, 39.6),
        (35.4, 50.8, 43.1),
    ),
    "Qwen2.5-Coder-7B-Instruct": (
        (34.7, 43.6, 39.1),
        (31.1, 44.7, 37.9),
        (32.9, 44.8, 38.9),
        (35.1, 50.6, 42.8),
        (36.3, 53.9, 45.1),
        (39.8, 50.3, 45.0),
        (36.3, 48.8, 42.5),
        (42.2, 54.1, 48.2),
        (35.3, 51.9, 43.6),
        (43.2, 55.0, 49.1),
    ),
}

PUBLISHED = tuple(
    PublishedRow(model, method, *averages)
    for model, rows in _AVERAGES.items()
    for method, averages in zip(_METHODS, rows, strict=True)
)

# The order in which methods are listed, by the labels they use: none, a few, all. The averages of
# fixed selectors with labels are in no public text that we know, so these rows have none.
METHODS = (
    *_METHODS[:7],
    *(f"{selector} with labels" for selector in ("MaxPass", "CodeT", "B4(4,3)", "B4(5,3)")),
    *_METHODS[7:],
)

# Seconds of one training step of Qwen2.5-Coder-7B on four A100s, by phase.
STEP_SECONDS = {
    "rollout": 32.1,
    "execution": 273.0,
    "mutation": 204.7,
    "calibration": 11.4,
    "training": 52.8,
    "total": 574.0,
}


def published_model(source: str) -> str | None:
    """The paper's name of the policy ``source``, or None for a policy that it does not have."""
    folded = source.lower().replace("_", "-")
    # The longest name first: nothing else tells Qwen2.5-Coder-7B from a name it might contain.
    for model in sorted(_AVERAGES, key=len, reverse=True):
        if model.lower() in folded:
            return model
    return None
