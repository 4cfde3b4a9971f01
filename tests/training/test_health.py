"""A run that cannot learn stops by a named rule, after as many steps in a row as its field says."""

import pytest

from configs.base import get_config
from zerocoder_jax.training.health import RULES, Health, Unhealthy

HEALTHY = {
    "policy/updates": 2.0,
    "policy/skipped_updates": 1.0,
    "parse/coder": 0.01,
    "parse/tester": 1.0,
    "status/error": 0.99,
    "status/passed": 0.01,
    "signal/sequences": 1.0,
}
SICK = {
    "skipped_updates": {"policy/skipped_updates": 2.0},
    "nothing_parsed": {"parse/tester": 0.0},
    "only_errors": {"status/error": 0.75, "status/unavailable": 0.25},
    "no_gradient": {"signal/sequences": 0.0},
}


def observe(health: Health, steps: list[dict[str, float]]) -> None:
    for step, changes in enumerate(steps):
        health.observe(step, HEALTHY | changes)


def limits(**changes: int):
    config = get_config().health
    config.update(dict.fromkeys((rule.name for rule in RULES), 0) | changes)
    return config


def test_every_rule_has_a_field_and_every_field_a_rule() -> None:
    assert {rule.name for rule in RULES} == set(get_config().health) == set(SICK)


@pytest.mark.parametrize("rule", SICK)
def test_a_rule_stops_the_run_after_its_steps_in_a_row_and_names_itself(rule: str) -> None:
    sick = SICK[rule]
    observe(Health(limits(**{rule: 3})), [sick, sick, {}, sick, sick, {}] * 3)
    with pytest.raises(
        Unhealthy, match=rf"after step 4: for 3 .*\(config\.health\.{rule}\)"
    ) as raised:
        observe(Health(limits(**{rule: 3})), [{}, {}, sick, sick, sick])
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("rule", SICK)
def test_a_rule_of_zero_steps_never_stops_a_run(rule: str) -> None:
    observe(Health(limits()), [SICK[rule]] * 100)
