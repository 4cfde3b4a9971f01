"""What the scripts in ``launch/`` share: argument parsers that teach, and the run directory."""

import argparse
import json
import os
import re
import sys
from pathlib import Path

from ml_collections import ConfigDict

from zerocoder_jax import __version__
from zerocoder_jax.atomic_write import write_atomically
from zerocoder_jax.config_changes import with_defaults
from zerocoder_jax.errors import UserError

# The entry of config.json that is no field: which program wrote it, in which form.
WRITTEN_BY = "written_by"
SCHEMA = 1


def versions() -> dict[str, str | int]:
    """Of this program and of the files of a run directory."""
    return {"program": f"zerocoder_jax {__version__}", "schema": SCHEMA}


class _Parser(argparse.ArgumentParser):
    """Exits with one line and code 2, like every other mistake of a person."""

    def error(self, message: str) -> None:  # type: ignore[override]
        raise UserError(f"{message}; {self.prog} --help explains the arguments")


def command_parser(
    description: str | None, examples: str, *, config: bool = False, workdir: bool = False
) -> argparse.ArgumentParser:
    """A parser with the script's docstring, its examples, and the arguments that most scripts have.

    ``--config.field=value`` arguments are not declared: take them from ``parse_known_args`` and
    hand them to ``load_config``.
    """
    # Python puts the script's own folder on the path; configs/ lies beside it.
    repository = Path(sys.argv[0]).resolve().parent.parent
    if (repository / "configs").is_dir() and str(repository) not in sys.path:
        sys.path.insert(0, str(repository))
    parser = _Parser(
        description=description,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        # Otherwise --config.seed would be taken for an abbreviation.
        allow_abbrev=False,
    )
    if config:
        parser.add_argument(
            "--config",
            metavar="FILE[:EXPERIMENT,...]",
            default="",
            help="config file, with named experiments of configs/experiments.py after a colon;"
            " --config.FIELD=VALUE changes single fields",
        )
    if workdir:
        parser.add_argument(
            "--workdir",
            metavar="RUN",
            default="",
            help="run directory; one that holds a started run is continued",
        )
    return parser


def checkpoint_step(text: str) -> int | str:
    """The value of ``--step``: a number of steps, or "best"."""
    if text == "best":
        return text
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number of steps nor best")
    return int(text)


def require(value: str, name: str) -> str:
    """The value of an argument that must be there.

    Raises:
      UserError: it is not there, or names a directory by ``scheme://``.
    """
    if not value:
        raise UserError(f"{name} is missing; --help explains the arguments")
    if "://" in value:
        refuse_scheme(value, name)
    return value


def refuse_scheme(value: str | Path, name: str) -> None:
    """Refuse ``gs://bucket/run``, which every file of a run would take for a folder ``gs:``."""
    # Path("gs://bucket") has one slash left.
    if found := re.match(r"([A-Za-z][\w+.-]+):/", str(value)):
        raise UserError(
            f"{name}={value}: {found[1]}:// addresses cannot be written here; mount the bucket "
            "(gcsfuse, mountpoint-s3, rclone mount) and name the mounted folder"
        )


def write_config_json(workdir: Path, config: ConfigDict) -> None:
    """Keep a run's config in its directory. The hosts of a run may all do so, at the same time."""
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        fields = json.loads(config.to_json_best_effort()) | {WRITTEN_BY: versions()}
        write_atomically(workdir / "config.json", json.dumps(fields, indent=2) + "\n")
    except OSError as error:
        raise UserError(f"--workdir={workdir} cannot be written: {error.strerror}") from error


def make_folder(folder: Path, name: str) -> Path:
    """Make the folder that results are written to; ``name`` is the argument that names it."""
    refuse_scheme(folder, name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{name}={folder} cannot be written: {error.strerror}") from error
    if not os.access(folder, os.W_OK):
        raise UserError(f"{name}={folder} cannot be written: permission denied")
    return folder


def read_config_json(workdir: Path) -> ConfigDict:
    """The config of a started run; fields that it lacks have their defaults."""
    path = workdir / "config.json"
    if not path.is_file():
        raise UserError(f"{workdir} holds no run: there is no config.json in it")
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is no JSON: {error}") from error
    if not isinstance(fields, dict):
        raise UserError(f"{path} is no config: it must hold an object")
    fields.pop(WRITTEN_BY, None)
    return ConfigDict(with_defaults(fields)).lock()
