"""Every field means something and has a range; nonsense is refused before anything starts."""

import re
from pathlib import Path

import pytest

from configs.base import get_config
from zerocoder_jax.configuration import (
    CHOICES,
    INCREASING,
    RANGES,
    check_config,
    check_trainable,
    field,
    load_config,
)
from zerocoder_jax.errors import UserError

# Checked by ``make_mesh`` and ``start_hosts``, which know the devices and the other processes.
ELSEWHERE = {
    *("mesh.data", "mesh.fsdp", "mesh.tensor"),
    *("distributed.processes", "distributed.process"),
}


def fields_of(config, prefix: str = "") -> dict[str, object]:
    leaves: dict[str, object] = {}
    for name, value in config.items():
        if hasattr(value, "items"):
            leaves |= fields_of(value, f"{prefix}{name}.")
        else:
            leaves[prefix + name] = value
    return leaves


def changed(**changes) -> None:
    config = get_config()
    config.update_from_flattened_dict({k.replace("__", "."): v for k, v in changes.items()})
    check_config(config)


def test_every_number_has_a_range() -> None:
    numbers = {
        name
        for name, value in fields_of(get_config()).items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    assert numbers - ELSEWHERE == set(RANGES)
    check_config(get_config())


@pytest.mark.parametrize("name", sorted(RANGES))
def test_a_number_outside_its_range_is_refused_by_name(name: str) -> None:
    smallest, largest = RANGES[name]
    below = [] if smallest is None else [smallest - 1]
    above = [] if largest is None else [largest + 1]
    assert below or above
    for value in below + above:
        with pytest.raises(UserError, match=rf"config\.{re.escape(name)} is "):
            changed(**{name: type(field(get_config(), name))(value)})


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("optimizer.learning_rate", float("nan"), "it must be a number"),
        ("selector.beta0", float("inf"), "it must be a number"),
        ("selector.alpha_xy", 0.0, "greater than 0"),
        ("rollout.top_p", 0.0, "greater than 0"),
        ("optimizer.beta2", 1.0, "less than 1"),
        ("selector.calibration.beta0_exponents", (), "increasing order"),
        ("selector.calibration.alpha_xy_exponents", (2, 1), "increasing order"),
        ("training.length_buckets", (0, 512), "at least 1"),
    ],
)
def test_what_no_range_can_say_is_refused_too(name: str, value: object, words: str) -> None:
    with pytest.raises(UserError, match=rf"config\.{re.escape(name)} is .*{words}"):
        changed(**{name: value})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rollout.tests": 0}, "only config.method = 'offline'"),
        (
            {"selector.name": "codet", "selector.calibration.enabled": True},
            "calibration chooses the priors of 'b4'",
        ),
        (
            {"reward.tester_form": "convex", "reward.curriculum_high": 2.0},
            "the curriculum's weight reaches 2.0",
        ),
        (
            {
                "supervision": "calibration",
                "selector.calibration.within_step": True,
                "problems.per_step": 10,
            },
            "config.selector.calibration.problems is 10",
        ),
    ],
)
def test_fields_that_contradict_each_other_are_refused(changes: dict, words: str) -> None:
    with pytest.raises(UserError, match=re.escape(words)):
        changed(**changes)


@pytest.mark.parametrize("split", ["valid", "evaluation", "2024-10..2025-02", "my words"])
def test_every_split_that_a_data_set_may_have_can_be_asked_for(split: str) -> None:
    config = get_config()
    config.problems.split = split
    check_config(config)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("rollout.solutions", 1),
        ("rollout.tests", 1),
        ("rollout.temperature", 0.0),
        ("optimizer.learning_rate", 0.0),
    ],
)
def test_a_run_that_could_learn_nothing_is_refused_by_field(name: str, value: float) -> None:
    config = get_config()
    assert check_trainable(config) == []
    config.update_from_flattened_dict({name: value})
    check_config(config)
    with pytest.raises(UserError, match=rf"^config\.{re.escape(name)} is "):
        check_trainable(config)


def test_baselines_need_no_second_test() -> None:
    config = get_config()
    config.method, config.rollout.tests = "offline", 0
    assert check_trainable(config) == []


def test_a_sampler_of_lower_precision_without_correction_is_warned_of() -> None:
    config = get_config()
    config.rollout.dtype = "int8"
    [warning] = check_trainable(config)
    assert warning.startswith("config.rollout.dtype is 'int8'")
    config.rollout.importance_cap = 2.0
    assert check_trainable(config) == []


def test_every_config_of_the_repository_is_a_valid_one(repository: Path) -> None:
    files = sorted(
        set((repository / "configs").glob("*.py"))
        - {repository / "configs" / name for name in ("__init__.py", "base.py", "experiments.py")}
    )
    assert len(files) >= 5
    for file in files:
        load_config(str(file))


def test_every_field_is_read_somewhere(repository: Path) -> None:
    """By its own name, outside of the file that checks it."""
    source = "\n".join(
        path.read_text()
        for folder in ("zerocoder_jax", "launch")
        for path in (repository / folder).rglob("*.py")
        if path.name != "configuration.py"
    )
    for name in fields_of(get_config()):
        if name.startswith("mesh."):
            continue  # read in a loop over the axes' names
        last = name.rpartition(".")[2]
        # ``config.grpo.ratio``, or ``settings.ratio`` of what was handed on.
        assert re.search(rf"[\w\])]\.{last}\b", source), name


def test_tables_of_choices_and_ranges_name_fields_that_exist() -> None:
    known = fields_of(get_config()).keys()
    assert {*CHOICES, *RANGES, *INCREASING} <= known
