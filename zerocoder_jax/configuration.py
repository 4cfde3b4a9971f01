"""Loading a config file, with a named experiment and single fields from the command line.

Everything a person can get wrong here ends in one line that names the field.
"""

import math
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from zerocoder_jax.errors import UserError

# Fields that take one of a few words.
CHOICES: dict[str, tuple[str, ...]] = {
    "prompt.style": ("one_shot", "zero_shot", "begun_reply"),
    "policy.compute_dtype": ("bfloat16", "float32"),
    "policy.reference_dtype": ("bfloat16", "float32"),
    "policy.attention": ("auto", "xla", "cudnn", "splash"),
    "rollout.dtype": ("bfloat16", "float32", "int8"),
    "rollout.importance_level": ("token", "sequence"),
    "execution.backend": ("local", "ray"),
    "execution.min_isolation": ("namespaces", "landlock", "rlimits"),
    "selector.name": ("max_pass", "codet", "b4"),
    "selector.codet_weight": ("sqrt", "identity"),
    "supervision": ("none", "calibration", "oracle"),
    "method": ("coevolution", "offline", "online"),
    "reward.tester_form": ("additive", "convex"),
    "reward.copied_tests": ("paid", "unpaid"),
    "grpo.ratio": ("token", "sequence"),
    "grpo.kl_estimator": ("k1", "k2", "k3", "k3_straight"),
    "grpo.aggregation": ("token_mean", "sequence_mean", "constant_length"),
    "grpo.truncated": ("keep", "mask", "penalize"),
    "optimizer.name": ("adamw", "adafactor"),
    "optimizer.schedule": ("constant", "linear", "cosine"),
    "optimizer.first_moment_dtype": ("float32", "bfloat16"),
    "training.remat": ("full", "minimal", "none"),
    "distributed.mode": ("none", "auto", "explicit"),
}
# Fields with a smallest and a largest value, both allowed; None: no bound.
RANGES: dict[str, tuple[float | None, float | None]] = {
    "seed": (0, 2**31 - 1),
    "steps": (1, None),
    "problems.limit": (0, None),
    "problems.per_step": (1, None),
    "prompt.asserts_per_test": (1, None),
    "prefilter.delta": (0, None),
    "policy.lora.rank": (0, None),
    "policy.lora.alpha": (0, None),
    "rollout.solutions": (1, None),
    "rollout.tests": (0, None),
    "rollout.temperature": (0, None),
    "rollout.top_p": (0, 1),
    "rollout.top_k": (0, None),
    "rollout.max_new_tokens": (1, None),
    "rollout.max_prompt_tokens": (1, None),
    "rollout.rows": (1, None),
    "rollout.window": (1, None),
    "rollout.draft_tokens": (0, 31),
    "rollout.importance_cap": (0, None),
    "execution.workers": (0, None),
    "execution.seconds": (0.01, None),
    "execution.memory_mb": (16, None),
    "execution.output_kb": (1, None),
    "execution.processes": (1, None),
    "mutation.limit": (0, None),
    "selector.beta0": (0, None),
    "selector.alpha_xy": (0, None),
    "selector.min_confidence": (0, 1),
    "selector.calibration.problems": (1, None),
    "reward.format_penalty": (None, 0),
    "reward.curriculum_low": (0, None),
    "reward.curriculum_high": (0, None),
    "grpo.clip_low": (0, 1),
    "grpo.clip_high": (0, None),
    "grpo.kl_coefficient": (0, None),
    "grpo.entropy_coefficient": (0, None),
    "grpo.overlong_share": (0, 1),
    "grpo.minibatches": (1, None),
    "grpo.epochs": (1, None),
    "optimizer.learning_rate": (0, 1),
    "optimizer.warmup_steps": (0, None),
    "optimizer.beta1": (0, 1),
    "optimizer.beta2": (0, 1),
    "optimizer.epsilon": (0, None),
    "optimizer.weight_decay": (0, None),
    "optimizer.gradient_clip": (0, None),
    "training.micro_batch_tokens": (1, None),
    "training.log_prob_chunk": (1, None),
    "health.skipped_updates": (0, None),
    "health.nothing_parsed": (0, None),
    "health.only_errors": (0, None),
    "health.no_gradient": (0, None),
    "distributed.timeout": (1, None),
    "checkpoint.every": (1, None),
    "checkpoint.keep": (1, None),
    "evaluation.every": (0, None),
    "evaluation.limit": (0, None),
    "evaluation.max_new_tokens": (1, None),
    "logging.report_every": (0, None),
}
# Of these ranges the ends themselves do not belong to them.
ABOVE_SMALLEST = (
    "policy.lora.alpha",
    "rollout.top_p",
    "selector.beta0",
    "selector.alpha_xy",
    "grpo.overlong_share",
    "optimizer.epsilon",
)
BELOW_LARGEST = ("optimizer.beta1", "optimizer.beta2")
# Fields that hold several whole numbers, in increasing order, and the smallest one allowed.
INCREASING: dict[str, int | None] = {
    "selector.calibration.beta0_exponents": None,
    "selector.calibration.alpha_xy_exponents": None,
    "training.length_buckets": 1,
}


def load_config(file_and_experiment: str, overrides: Sequence[str] = ()) -> ConfigDict:
    """Load ``FILE.py`` or ``FILE.py:EXPERIMENT`` and apply ``--config.field=value`` arguments.

    Returns:
      A locked config: fields that do not exist can neither be read nor set.

    Raises:
      UserError: no such file, an unknown experiment or field, a value of another type or out of
        range.
    """
    file = Path(file_and_experiment.split(":")[0])
    if not file.is_file():
        raise UserError(f"--config: there is no file {file}")
    # Config files import their base as `configs.base`, wherever the command was started.
    folder = str(file.resolve().parent.parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    arguments = ["launch", f"--config={file_and_experiment}", *overrides]
    values = flags.FlagValues()
    try:
        config_flags.DEFINE_config_file(
            "config", flag_values=values, lock_config=True, sys_argv=arguments
        )
        unknown = values(arguments)[1:]
        config = values.config
    except SyntaxError as error:
        raise UserError(f"--config={file} is no Python: {error}") from error
    except (AttributeError, KeyError, TypeError, ValueError, OSError, flags.Error) as error:
        raise UserError(_explain(error, file_and_experiment, overrides)) from error
    if unknown:
        raise UserError(f"unknown argument {unknown[0]}")
    check_config(config)
    return config


def check_config(config: ConfigDict) -> None:
    """Refuse a value outside ``CHOICES`` and ``RANGES``, and fields that contradict each other."""
    for name, choices in CHOICES.items():
        if field(config, name) not in choices:
            raise UserError(
                f"config.{name} is {field(config, name)!r}; it takes one of {', '.join(choices)}"
            )
    for name, (smallest, largest) in RANGES.items():
        value = field(config, name)
        if not math.isfinite(value):
            raise UserError(f"config.{name} is {value}; it must be a number")
        if smallest is not None and (
            value < smallest or (value == smallest and name in ABOVE_SMALLEST)
        ):
            least = "greater than" if name in ABOVE_SMALLEST else "at least"
            raise UserError(f"config.{name} is {value}; it must be {least} {smallest}")
        if largest is not None and (
            value > largest or (value == largest and name in BELOW_LARGEST)
        ):
            most = "less than" if name in BELOW_LARGEST else "at most"
            raise UserError(f"config.{name} is {value}; it must be {most} {largest}")
    for name, least_entry in INCREASING.items():
        values = list(field(config, name))
        if not values or values != sorted(set(values)):
            raise UserError(
                f"config.{name} is {tuple(values)}; it must hold numbers in increasing order"
            )
        if least_entry is not None and values[0] < least_entry:
            raise UserError(
                f"config.{name} is {tuple(values)}; its numbers must be at least {least_entry}"
            )
    _refuse_contradictions(config)


def _refuse_contradictions(config: ConfigDict) -> None:
    if config.rollout.tests == 0 and config.method != "offline":
        raise UserError("config.rollout.tests is 0; only config.method = 'offline' needs no tests")
    if config.selector.calibration.enabled and config.selector.name != "b4":
        raise UserError(
            f"config.selector.name is {config.selector.name!r}, but calibration chooses the priors"
            " of 'b4': set config.selector.calibration.enabled to false, or the name to 'b4'"
        )
    labels = config.selector.calibration
    labelled = labels.enabled or config.supervision == "calibration"
    if labelled and labels.within_step and labels.problems >= config.problems.per_step:
        raise UserError(
            f"config.selector.calibration.problems is {labels.problems} and these are to be counted"
            f" among the {config.problems.per_step} of config.problems.per_step (within_step):"
            " leave room for at least one other"
        )
    highest = max(config.reward.curriculum_low, config.reward.curriculum_high)
    if config.reward.tester_form == "convex" and highest > 1:
        raise UserError(
            f"config.reward.tester_form is 'convex', but the curriculum's weight reaches {highest}:"
            " the form needs config.reward.curriculum_low and _high of at most 1"
        )


def check_trainable(config: ConfigDict) -> list[str]:
    """Refuse what can train nothing; returns warnings about what trains badly, one line each.

    Raises:
      UserError: every advantage or every update would be 0.
    """
    roles = ("solutions", "tests") if config.method == "coevolution" else ("solutions",)
    for name in roles:
        if config.rollout[name] < 2:
            raise UserError(
                f"config.rollout.{name} is {config.rollout[name]}: a sample is rewarded relative"
                " to the others of its problem, so nothing would be learned; sample at least 2"
            )
    if config.rollout.temperature == 0:
        raise UserError(
            "config.rollout.temperature is 0: all samples of a problem would be the same and"
            " nothing would be learned; launch/evaluate.py measures greedy replies"
        )
    if config.optimizer.learning_rate == 0:
        raise UserError(
            "config.optimizer.learning_rate is 0: no update would change the policy;"
            " launch/evaluate.py measures a policy without training it"
        )
    warnings = []
    if config.rollout.dtype == "int8" and config.rollout.importance_cap == 0:
        warnings.append(
            "config.rollout.dtype is 'int8' and config.rollout.importance_cap is 0: the sampler is"
            " not quite the policy that is trained, and nothing corrects it; set a cap, such as 2"
        )
    return warnings


def field(config: ConfigDict, name: str) -> Any:
    """The value of a dotted field name."""
    for part in name.split("."):
        config = config[part]
    return config


def _explain(error: Exception, file_and_experiment: str, overrides: Sequence[str]) -> str:
    """One line for what config_flags or the config file raised."""
    if isinstance(error, AttributeError):
        missing = re.findall(r"\w+", str(error))[0]
        given = [o for o in overrides if missing in o.split("=")[0].split(".")]
        name = given[0].split("=")[0] if given else f"config.{missing}"
        return f"{name}: there is no such field; configs/base.py lists them all"
    if isinstance(error, flags.UnrecognizedFlagError):
        return f"unknown argument --{error.flagname}"
    # The file's own exception is the last line of the traceback that config_flags quotes.
    reason = [line for line in str(error).splitlines() if line.strip()][-1].strip()
    reason = reason.removeprefix("ValueError: ")
    return reason if reason.startswith("flag --") else f"--config={file_and_experiment}: {reason}"
