"""Loading a config file, with a named experiment and single fields from the command line.

Everything a person can get wrong here ends in one line that names the field.
"""

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
    "problems.split": ("train", "test", "validation", "prompt", "all"),
    "prompt.style": ("one_shot", "zero_shot", "begun_reply"),
    "policy.compute_dtype": ("bfloat16", "float32"),
    "policy.reference_dtype": ("bfloat16", "float32"),
    "policy.attention": ("auto", "xla", "cudnn", "splash"),
    "rollout.dtype": ("bfloat16", "float32", "int8"),
    "execution.backend": ("local", "ray"),
    "execution.min_isolation": ("namespaces", "landlock", "rlimits"),
    "selector.name": ("max_pass", "codet", "b4"),
    "selector.codet_weight": ("sqrt", "identity"),
    "supervision": ("none", "calibration", "oracle"),
    "method": ("coevolution", "offline", "online"),
    "reward.tester_form": ("additive", "convex"),
    "grpo.ratio": ("token", "sequence"),
    "grpo.kl_estimator": ("k1", "k2", "k3"),
    "grpo.aggregation": ("token_mean", "sequence_mean", "constant_length"),
    "optimizer.name": ("adamw", "adafactor"),
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
    "rollout.solutions": (1, None),
    "rollout.tests": (0, None),
    "rollout.temperature": (0, None),
    "rollout.top_p": (0, 1),
    "rollout.top_k": (0, None),
    "rollout.max_new_tokens": (1, None),
    "rollout.rows": (1, None),
    "rollout.window": (1, None),
    "rollout.importance_cap": (0, None),
    "execution.workers": (0, None),
    "execution.seconds": (0.01, None),
    "execution.memory_mb": (16, None),
    "execution.output_kb": (1, None),
    "execution.processes": (1, None),
    "mutation.limit": (0, None),
    "selector.min_confidence": (0, 1),
    "selector.calibration.problems": (1, None),
    "grpo.clip_low": (0, 1),
    "grpo.clip_high": (0, None),
    "grpo.minibatches": (1, None),
    "grpo.epochs": (1, None),
    "optimizer.learning_rate": (0, None),
    "training.micro_batch_tokens": (1, None),
    "training.log_prob_chunk": (1, None),
    "checkpoint.every": (1, None),
    "checkpoint.keep": (1, None),
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
        if smallest is not None and value < smallest:
            raise UserError(f"config.{name} is {value}; it must be at least {smallest}")
        if largest is not None and value > largest:
            raise UserError(f"config.{name} is {value}; it must be at most {largest}")
    if config.rollout.tests == 0 and config.method != "offline":
        raise UserError("config.rollout.tests is 0; only config.method = 'offline' needs no tests")


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
