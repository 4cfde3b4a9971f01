"""Write a policy as a Hugging Face directory: of a run's checkpoint, or of any source."""

from pathlib import Path
from typing import Any

from zerocoder_jax.command_line import checkpoint_step, command_parser, read_config_json, require
from zerocoder_jax.errors import UserError, run_command

EXAMPLES = """examples:
  python launch/export.py --policy=RUN --output=exported
  python launch/export.py --policy=RUN --step=100 --dtype=bfloat16 --output=exported
  python launch/export.py --policy=RUN --adapter --output=adapter
  python launch/export.py --policy=RUN --adapter --base=exported --output=adapter
  python launch/export.py --policy=gguf:FILE --output=exported

The directory holds what transformers loads: config.json, generation_config.json, the tokenizer and
safetensors, and README.md, a model card with the run's settings, data and figures. A run that
trained adapters is exported with them merged into the weights, of which
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
        help="of a run: the checkpoint after N steps, or 'best'; default: the newest",
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
    parser.add_argument(
        "--base",
        metavar="ID|DIRECTORY",
        default="",
        help="with --adapter: the model they belong to, where the run began with a GGUF file",
    )
    arguments = parser.parse_args()
    source = require(arguments.policy, "--policy")
    output = Path(require(arguments.output, "--output"))
    if output.exists():
        raise UserError(f"{output} exists already; remove it or choose another --output")

    # JAX starts here, not before: mistakes above are answered at once.
    from ml_collections import ConfigDict

    from zerocoder_jax.evaluation.evaluated_policy import is_run, load_evaluated_policy
    from zerocoder_jax.parallel import make_mesh
    from zerocoder_jax.policy import save_policy
    from zerocoder_jax.policy.loading import base_model
    from zerocoder_jax.report.model_card import model_card

    run = is_run(source)
    base, revision = base_model(read_config_json(Path(source)).policy.source if run else source)
    if arguments.base:
        base, revision = arguments.base, None
    if arguments.adapter and run and not base:
        raise UserError(
            f"{source} began with a GGUF file, which adapters cannot name as their base: export it "
            "(--policy=gguf:FILE --output=DIRECTORY) and give --base=DIRECTORY, or a hub id"
        )

    # All devices of this machine share the weights.
    mesh = make_mesh(ConfigDict({"data": 1, "fsdp": -1, "tensor": 1}))
    if arguments.adapter:
        step = export_adapter(Path(source), output, mesh, arguments.step, base, revision)
    else:
        whole = load_evaluated_policy(source, mesh, step=arguments.step, merged=True)
        save_policy(whole.policy, output, dtype=arguments.dtype)
        step = whole.step
    dtype = "float32" if arguments.adapter else arguments.dtype
    card = model_card(source, base=base, dtype=dtype, step=step, adapter=arguments.adapter)
    (output / "README.md").write_text(card, encoding="utf-8")
    size = sum(file.stat().st_size for file in output.iterdir())
    trained = "" if step is None else f" after {step} steps"
    print(f"{output}: {source}{trained}, {size / 1e6:.1f} MB")


def export_adapter(
    run: Path, output: Path, mesh: Any, step: int | str | None, base: str, revision: str | None
) -> int:
    """Write the adapters of a run's checkpoint; returns the steps it has behind it."""
    from zerocoder_jax.evaluation.evaluated_policy import load_adapters
    from zerocoder_jax.policy import lora_settings, save_lora

    config = read_config_json(run)
    settings = lora_settings(config.policy.lora)
    if settings is None:
        raise UserError(f"{run} trained all weights (config.policy.lora.rank is 0): no --adapter")
    adapters, done = load_adapters(run, config, mesh, step)
    save_lora(adapters, settings, output, base_model=base, revision=revision)
    return done


if __name__ == "__main__":
    run_command(main)
