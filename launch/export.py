"""Write a policy as a Hugging Face directory: of a run's checkpoint, or of any source."""

from pathlib import Path
from typing import Any

from zerocoder_jax.command_line import checkpoint_step, command_parser, read_config_json, require
from zerocoder_jax.errors import UserError, run_command

EXAMPLES = """examples:
  python launch/export.py --policy=RUN --output=exported
  python launch/export.py --policy=RUN --step=100 --dtype=bfloat16 --output=exported
  python launch/export.py --policy=RUN --adapter --output=adapter
  python launch/export.py --policy=gguf:FILE --output=exported

The directory holds what transformers loads: config.json, generation_config.json, the tokenizer and
safetensors. A run that trained adapters is exported with them merged into the weights, of which
16 bits keep only a part; --adapter writes the adapters alone, in PEFT's layout. The output
directory must not exist yet."""


def main() -> None:
    parser = command_parser(__doc__, EXAMPLES)
    parser.add_argument(
        "--policy",
        metavar="SOURCE|RUN",
        default="",
        help="a run directory, hf:ID_OR_DIRECTORY, gguf:FILE or toy",
    )
    parser.add_argument(
        "--step",
        type=checkpoint_step,
        help="of a run: the checkpoint after so many steps, or best; default: the newest",
    )
    parser.add_argument("--output", metavar="DIR", default="", help="the directory to make")
    parser.add_argument(
        "--dtype",
        choices=("float32", "bfloat16", "float16"),
        default="float32",
        help="of the stored weights; default: %(default)s",
    )
    parser.add_argument(
        "--adapter", action="store_true", help="of a run with adapters: these alone, float32"
    )
    arguments = parser.parse_args()
    source = require(arguments.policy, "--policy")
    output = Path(require(arguments.output, "--output"))
    if output.exists():
        raise UserError(f"{output} exists already; remove it or choose another --output")

    # JAX starts here, not before: mistakes above are answered at once.
    from ml_collections import ConfigDict

    from zerocoder_jax.evaluation.evaluated_policy import load_evaluated_policy
    from zerocoder_jax.parallel import make_mesh
    from zerocoder_jax.policy import save_policy

    # All devices of this machine share the weights.
    mesh = make_mesh(ConfigDict({"data": 1, "fsdp": -1, "tensor": 1}))
    if arguments.adapter:
        step = export_adapter(Path(source), output, mesh, arguments.step)
    else:
        whole = load_evaluated_policy(source, mesh, step=arguments.step, merged=True)
        save_policy(whole.policy, output, dtype=arguments.dtype)
        step = whole.step
    size = sum(file.stat().st_size for file in output.iterdir())
    trained = "" if step is None else f" after {step} steps"
    print(f"{output}: {source}{trained}, {size / 1e6:.1f} MB")


def export_adapter(run: Path, output: Path, mesh: Any, step: int | str | None) -> int:
    """Write the adapters of a run's checkpoint; returns the steps it has behind it."""
    from zerocoder_jax.evaluation.evaluated_policy import load_adapters
    from zerocoder_jax.policy import lora_settings, save_lora

    config = read_config_json(run)
    settings = lora_settings(config.policy.lora)
    if settings is None:
        raise UserError(f"{run} trained all weights (config.policy.lora.rank is 0): no --adapter")
    adapters, done = load_adapters(run, config, mesh, step)
    kind, _, location = config.policy.source.partition(":")
    save_lora(adapters, settings, output, base_model=location if kind == "hf" else "")
    return done


if __name__ == "__main__":
    run_command(main)
