"""Named rules by which a run stops that cannot learn any more, or never could."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from zerocoder_jax.errors import UserError
from zerocoder_jax.execution import Status
from zerocoder_jax.training.sampling import ROLES


class Unhealthy(UserError):
    """A rule of ``config.health`` stopped the run; starting it again as it is would not help."""


@dataclass(frozen=True)
class Rule:
    """One way in which a step can be useless.

    Attributes:
        name: the field of ``config.health`` that says how many such steps in a row stop the run.
        holds: whether a step's metrics show it.
        meaning: what was so in each of these steps, and what to look at.
    """

    name: str
    holds: Callable[[Mapping[str, Any]], bool]
    meaning: str


def _all_updates_skipped(metrics: Mapping[str, Any]) -> bool:
    return metrics.get("policy/skipped_updates", 0) >= metrics.get("policy/updates", 0) > 0


def _nothing_parsed(metrics: Mapping[str, Any]) -> bool:
    return any(metrics.get(f"parse/{role}") == 0 for role in ROLES)


def _only_errors(metrics: Mapping[str, Any]) -> bool:
    names = (f"status/{status.name.lower()}" for status in (Status.ERROR, Status.UNAVAILABLE))
    return sum(metrics.get(name, 0) for name in names) >= 1


def _no_gradient(metrics: Mapping[str, Any]) -> bool:
    return metrics.get("signal/sequences") == 0


RULES = (
    Rule(
        "skipped_updates",
        _all_updates_skipped,
        "every update was skipped, its gradient or its result not finite: lower"
        " config.optimizer.learning_rate, or look for the first such step in metrics.jsonl",
    ),
    Rule(
        "nothing_parsed",
        _nothing_parsed,
        "no reply of one role held a solution or a test: read the replies in rollouts/, and see"
        " config.prompt.style and config.rollout.max_new_tokens",
    ),
    Rule(
        "only_errors",
        _only_errors,
        "every solution ended in an error on every test or got no verdict: read the solutions in"
        " rollouts/, and see whether they need packages, memory or time that config.execution"
        " does not give",
    ),
    Rule(
        "no_gradient",
        _no_gradient,
        "all samples of each problem had the same reward, so nothing was learned: the problems may"
        " be too hard or too easy for this policy (config.prefilter.delta)",
    ),
)


class Health:
    """Counts, for each rule, the steps in a row in which it held.

    Args:
        config: ``config.health``.
    """

    def __init__(self, config: Any):
        self._limits = {
            "skipped_updates": config.skipped_updates,
            "nothing_parsed": config.nothing_parsed,
            "only_errors": config.only_errors,
            "no_gradient": config.no_gradient,
        }
        self._streaks = dict.fromkeys(self._limits, 0)

    def observe(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Take in a finished step.

        Raises:
            Unhealthy: a rule has held for as many steps in a row as its field allows.
        """
        for rule in RULES:
            self._streaks[rule.name] = self._streaks[rule.name] + 1 if rule.holds(metrics) else 0
            if 0 < self._limits[rule.name] <= self._streaks[rule.name]:
                raise Unhealthy(
                    f"stopped after step {step}: for {self._limits[rule.name]} steps in a row"
                    f" (config.health.{rule.name}) {rule.meaning}"
                )
