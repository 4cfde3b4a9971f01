"""Does to runs what machines and people do to them, and writes down how each was answered.

    python tests/faults.py                  every fault; exit code 1 where one was not answered well
    python tests/faults.py --only=SIGTERM   those whose name holds the word
    python tests/faults.py --write          and the table in docs/operations.md

Each fault is real: signals, mounted disks that are full, flipped bits, other users, limits. A run
answers well when it ends as it would have without the fault, or is refused in one line with an exit
code that is right for a supervisor; and when nothing that it had finished is lost. Faults that need
root (mounting a disk, another user) are left out without it, and the table says so.
"""

import argparse
import contextlib
import dataclasses
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
DOCUMENT = REPOSITORY / "docs" / "operations.md"
BEGIN, END = "<!-- faults: made by tests/faults.py -->\n", "<!-- end of faults -->\n"
STEPS = 3
SMALL = (
    "--config=configs/toy.py",
    f"--config.steps={STEPS}",
    "--config.problems.per_step=2",
    "--config.rollout.solutions=2",
    "--config.rollout.tests=2",
    "--config.rollout.max_new_tokens=16",
    "--config.rollout.rows=4",
    "--config.training.length_buckets=(80,)",
    "--config.mutation.limit=2",
    "--config.checkpoint.every=1",
    "--config.evaluation.benchmarks=",
    "--config.execution.workers=1",
    "--config.logging.report_every=0",
)
PATIENCE = 420.0
MISTAKE, RESTART = 2, 75


@dataclasses.dataclass
class Ended:
    """How a command ended."""

    code: int
    output: str

    def line(self, word: str = "error:") -> str:
        """The only line with this word; a traceback is no answer."""
        assert "Traceback" not in self.output, self.output[-2000:]
        lines = [line for line in self.output.splitlines() if word in line]
        assert len(lines) == 1, self.output[-2000:]
        return lines[0]


class Run:
    """One run of the toy policy in a directory of its own."""

    def __init__(self, folder: Path):
        self.workdir = folder / "run"

    def start(
        self,
        *arguments: str,
        wrap: tuple[str, ...] = (),
        environment: dict[str, str] | None = None,
        output: int | None = None,
    ) -> subprocess.Popen[str]:
        command = [sys.executable, "launch/train.py", *SMALL, f"--workdir={self.workdir}"]
        return subprocess.Popen(
            [*wrap, *command, *arguments],
            cwd=REPOSITORY,
            stdout=output or subprocess.PIPE,
            stderr=subprocess.STDOUT if output is None else subprocess.PIPE,
            text=True,
            env=os.environ | {"JAX_PLATFORMS": "cpu"} | (environment or {}),
            start_new_session=True,
        )

    def ended(self, process: subprocess.Popen[str]) -> Ended:
        try:
            output, errors = process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise AssertionError(f"still running after {PATIENCE:.0f} s") from None
        return Ended(process.returncode, (output or "") + (errors or ""))

    def train(self, *arguments: str, **how: object) -> Ended:
        return self.ended(self.start(*arguments, **how))  # type: ignore[arg-type]

    def finish(self, *arguments: str, **how: object) -> Ended:
        """The same command, until the end; every step must be there."""
        ended = self.train(*arguments, **how)
        assert ended.code == 0, ended.output[-2000:]
        assert "Traceback" not in ended.output, ended.output[-2000:]
        assert self.steps() == list(range(STEPS)), self.steps()
        return ended

    def steps(self) -> list[int]:
        """Of metrics.jsonl; each has its rollouts."""
        path = self.workdir / "metrics.jsonl"
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        for line in lines:
            assert (self.workdir / "rollouts" / f"step_{line['step']:06d}.jsonl").exists()
        return [line["step"] for line in lines]

    def phase(self, process: subprocess.Popen[str], name: str, step: int = 0) -> None:
        """Wait until the run is there."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and process.poll() is None:
            with contextlib.suppress(OSError, ValueError):
                beat = json.loads((self.workdir / "heartbeat.json").read_text())
                if beat["phase"] == name and beat["step"] >= step:
                    return
            time.sleep(0.002)
        raise AssertionError(f"never came to {name}: {process.communicate()[0]}")

    def newest(self) -> Path:
        """The newest checkpoint."""
        numbers = [p for p in (self.workdir / "checkpoints").iterdir() if p.name.isdecimal()]
        return max(numbers, key=lambda path: int(path.name))


Fault = Callable[[Run], str]
FAULTS: dict[str, Fault] = {}


def fault(name: str) -> Callable[[Fault], Fault]:
    def add(function: Fault) -> Fault:
        FAULTS[name] = function
        return function

    return add


# ---- signals -----------------------------------------------------------------------------------

PHASES = {
    "while programs are compiled": ("compilation", 0),
    "in a rollout": ("rollout", 1),
    "while programs run": ("execution", 1),
    "in the selection": ("selection", 1),
    "while rewards are made": ("mutation", 1),
    "in the update": ("training", 1),
    "while a checkpoint is saved": ("saving", 1),
}


def signalled(phase: str, step: int, number: int, *arguments: str) -> Fault:
    def check(run: Run) -> str:
        process = run.start(*arguments)
        run.phase(process, phase, step)
        process.send_signal(number)
        ended = run.ended(process)
        if ended.code == 0:  # it came in the last step
            assert run.steps()[:STEPS] == list(range(STEPS))
            return "the run had just ended"
        assert ended.code == 128 + number, ended.output[-2000:]
        said = ended.line("stopped by")
        saved = int(said.split("steps are")[0].split()[-1])
        assert saved >= step
        if saved:
            assert run.steps() == list(range(saved)) and run.newest().name == str(saved)
        return said

    return check


for _where, (_phase, _step) in PHASES.items():
    FAULTS[f"SIGTERM {_where}"] = signalled(_phase, _step, signal.SIGTERM)
FAULTS["SIGTERM in an evaluation"] = signalled(
    *("evaluation", 1, signal.SIGTERM, "--config.evaluation.benchmarks=toy:test"),
    *("--config.evaluation.limit=64", "--config.evaluation.every=2"),
)
FAULTS["Ctrl-C in a rollout"] = signalled("rollout", 1, signal.SIGINT)
FAULTS["Ctrl-C in the update"] = signalled("training", 1, signal.SIGINT)
FAULTS["the terminal is closed (SIGHUP) in a rollout"] = signalled("rollout", 1, signal.SIGHUP)


@fault("SIGTERM at the start, while weights are loaded")
def sigterm_at_start(run: Run) -> str:
    process = run.start()
    while not (run.workdir / "run.lock").exists():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    ended = run.ended(process)
    assert ended.code in (143, -15) and "Traceback" not in ended.output, ended.output[-2000:]
    run.finish()
    return "nothing was begun; the same command starts the run"


@fault("Ctrl-C twice")
def ctrl_c_twice(run: Run) -> str:
    process = run.start()
    run.phase(process, "training", 1)
    process.send_signal(signal.SIGINT)
    time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    ended = run.ended(process)
    assert ended.code in (130, 0) and "Traceback" not in ended.output, ended.output[-2000:]
    run.finish()
    return "ends at once; the same command makes the step again"


@fault("SIGHUP under nohup")
def sighup_under_nohup(run: Run) -> str:
    process = run.start(wrap=("nohup",))
    run.phase(process, "rollout", 1)
    process.send_signal(signal.SIGHUP)
    assert run.ended(process).code == 0 and run.steps() == list(range(STEPS))
    return "ignored: the run ends as it would have"


def killed(phase: str) -> Fault:
    def check(run: Run) -> str:
        process = run.start()
        run.phase(process, phase, 1)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        run.finish()
        return "the same command makes the unsaved step again"

    return check


FAULTS["SIGKILL in the update"] = killed("training")
FAULTS["SIGKILL while a checkpoint is saved"] = killed("saving")


# ---- disks -------------------------------------------------------------------------------------


@contextlib.contextmanager
def disk(folder: Path, kilobytes: int) -> Iterator[None]:
    """A disk of its own, of this size."""
    needs_root()
    folder.mkdir(parents=True)
    size = f"size={kilobytes}k"
    subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path) -> None:
    """Write until nothing more goes in."""
    with contextlib.suppress(OSError), (folder / "filler").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(1 << 12))


@fault("the disk is full at the start")
def full_at_start(run: Run) -> str:
    with disk(run.workdir, 64):
        fill(run.workdir)
        ended = run.train()
        assert ended.code in (MISTAKE, RESTART), ended.output[-2000:]
        return ended.line()


@fault("the disk fills up during the run, and is emptied")
def fills_up(run: Run) -> str:
    with disk(run.workdir, 60_000):
        process = run.start()
        run.phase(process, "training", 1)
        fill(run.workdir)
        ended = run.ended(process)
        assert ended.code == RESTART, ended.output[-2000:]
        said = ended.line()
        (run.workdir / "filler").unlink()
        run.finish()
        return said


@fault("the disk is full for a moment")
def full_for_a_moment(run: Run) -> str:
    with disk(run.workdir, 60_000):
        process = run.start()
        run.phase(process, "training", 1)
        fill(run.workdir)
        time.sleep(3)
        (run.workdir / "filler").unlink()
        ended = run.ended(process)
        assert ended.code == 0 and run.steps() == list(range(STEPS)), ended.output[-2000:]
        return "written again; the run ends as it would have"


@fault("no room for checkpoints")
def no_room_for_checkpoints(run: Run) -> str:
    with disk(run.workdir / "checkpoints", 512):
        ended = run.train()
        assert ended.code == RESTART, ended.output[-2000:]
        assert run.steps()[:2] == [0, 1]
        return ended.line()


def in_the_way(name: str) -> Fault:
    def check(run: Run) -> str:
        (run.workdir / name).mkdir(parents=True)
        return run.finish().line("warning:")

    return check


FAULTS["the report cannot be written"] = in_the_way("report.html")
FAULTS["the event log cannot be written"] = in_the_way("events.jsonl")
FAULTS["the heartbeat cannot be written"] = in_the_way("heartbeat.json")


@fault("TensorBoard's folder cannot be written")
def no_tensorboard(run: Run) -> str:
    run.workdir.mkdir()
    (run.workdir / "tensorboard").write_text("a file")
    return run.finish().line("warning:")


@fault("the run directory is removed during the run")
def directory_removed(run: Run) -> str:
    process = run.start()
    run.phase(process, "training", 1)
    run.workdir.rename(run.workdir.with_name("moved"))
    ended = run.ended(process)
    assert ended.code == MISTAKE, ended.output[-2000:]
    return ended.line()


@fault("the run directory is replaced during the run")
def directory_replaced(run: Run) -> str:
    process = run.start()
    run.phase(process, "training", 1)
    run.workdir.rename(run.workdir.with_name("moved"))
    run.workdir.mkdir()
    (run.workdir / "run.lock").write_text("")
    ended = run.ended(process)
    assert ended.code == MISTAKE, ended.output[-2000:]
    return ended.line()


@fault("the run directory is on a disk mounted read-only")
def read_only(run: Run) -> str:
    with disk(run.workdir, 1000):
        subprocess.run(["mount", "-o", "remount,ro", str(run.workdir)], check=True)
        ended = run.train()
        assert ended.code == MISTAKE, ended.output[-2000:]
        return ended.line()


@fault("--workdir is a file")
def workdir_is_a_file(run: Run) -> str:
    run.workdir.write_text("a file")
    ended = run.train()
    assert ended.code == MISTAKE, ended.output[-2000:]
    return ended.line()


@fault("--workdir is a bucket")
def workdir_is_a_bucket(run: Run) -> str:
    ended = run.train("--workdir=gs://bucket/run")
    assert ended.code == MISTAKE and not (REPOSITORY / "gs:").exists()
    return ended.line()


# ---- damaged files -----------------------------------------------------------------------------


def damaged(damage: Callable[[Path], None]) -> Fault:
    def check(run: Run) -> str:
        run.train("--config.steps=2")
        damage(run.newest())
        return run.finish().line("is damaged")

    return check


def largest(checkpoint: Path) -> Path:
    files = [path for path in checkpoint.glob("state/**/*") if path.is_file()]
    return max(files, key=lambda path: path.stat().st_size)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[random.Random(0).randrange(len(data))] ^= 1 << 6
    path.write_bytes(data)


FAULTS["one bit of the newest checkpoint's weights is flipped"] = damaged(
    lambda checkpoint: flip(largest(checkpoint))
)
FAULTS["one bit of the newest checkpoint's step is flipped"] = damaged(
    lambda checkpoint: flip(checkpoint / "meta" / "metadata")
)
FAULTS["the newest checkpoint is cut"] = damaged(
    lambda checkpoint: os.truncate(largest(checkpoint), 1000)
)
FAULTS["a file of the newest checkpoint is missing"] = damaged(
    lambda checkpoint: largest(checkpoint).unlink()
)


@fault("every checkpoint is damaged")
def all_damaged(run: Run) -> str:
    run.train("--config.steps=2")
    for path in (run.workdir / "checkpoints").iterdir():
        os.truncate(path / "checksums.json", 0)
    ended = run.train()
    assert ended.code == MISTAKE, ended.output[-2000:]
    return ended.line()


@fault("lines of metrics.jsonl and a rollout file are missing")
def steps_missing(run: Run) -> str:
    run.train("--config.steps=2")
    flip_free = (run.workdir / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run.workdir / "metrics.jsonl").write_text("".join(flip_free[1:]))
    ended = run.train()
    assert ended.code == 0 and "Traceback" not in ended.output, ended.output[-2000:]
    return ended.line("lacks")


@fault("config.json of a run to export is cut")
def config_cut(run: Run) -> str:
    run.train("--config.steps=1")
    os.truncate(run.workdir / "config.json", 100)
    command = [sys.executable, "launch/export.py", f"--policy={run.workdir}"]
    done = subprocess.run(
        [*command, f"--output={run.workdir}/exported"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert done.returncode == MISTAKE
    return Ended(done.returncode, done.stderr).line()


# ---- two at once -------------------------------------------------------------------------------


@fault("the same command is started twice")
def started_twice(run: Run) -> str:
    first = run.start("--config.steps=400")
    run.phase(first, "rollout", 0)
    second = run.train("--config.steps=400")
    assert second.code == MISTAKE, second.output[-2000:]
    first.send_signal(signal.SIGTERM)
    assert run.ended(first).code == 143
    assert run.steps() == list(range(int(run.newest().name)))
    return second.line()


@fault("a run in progress is exported while it replaces its checkpoints")
def exported_meanwhile(run: Run) -> str:
    process = run.start("--config.steps=400", "--config.checkpoint.keep=1")
    run.phase(process, "rollout", 2)
    exported = 0
    for number in range(2):
        command = [sys.executable, "launch/export.py", f"--policy={run.workdir}"]
        done = subprocess.run(
            [*command, f"--output={run.workdir}/exported_{number}"],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        exported += 1
    process.send_signal(signal.SIGTERM)
    assert run.ended(process).code == 143
    return f"{exported} exports, each of a whole checkpoint"


@fault("the directory was last written by another host")
def lease_of_another_host(run: Run) -> str:
    run.workdir.mkdir()
    lease = {"host": "elsewhere", "process": 7, "renewed": 3}
    (run.workdir / "run.lock").write_text(json.dumps(lease))
    return run.finish().line("sign of life")


# ---- limits, users, terminals ------------------------------------------------------------------


def limited(limit: str, *inside: str) -> Fault:
    def check(run: Run) -> str:
        ended = run.train(wrap=(*inside, "bash", "-c", f'{limit} && exec "$@"', "bash"))
        if ended.code == 0:
            assert run.steps() == list(range(STEPS))
            return "the run ends as it would have"
        assert ended.code in (MISTAKE, RESTART), ended.output[-2000:]
        return ended.line()

    return check


FAULTS["64 file descriptors"] = limited("ulimit -n 64")
FAULTS["24 file descriptors"] = limited("ulimit -n 24")
FAULTS["files of at most 100 kB"] = limited("ulimit -f 100")
# In a user namespace of its own, which may have none below it: the machine's limit stays.
FAULTS["no user namespaces"] = limited(
    "echo 0 > /proc/sys/user/max_user_namespaces", "unshare", "--user", "--map-root-user"
)


def needs_root() -> None:
    if os.geteuid() != 0:
        raise PermissionError("needs root")


def as_nobody(run: Run, limit: str = ":") -> Ended:
    needs_root()
    run.workdir.mkdir(parents=True)
    os.chown(run.workdir, 65534, 65534)
    for folder in (run.workdir, *run.workdir.parents):
        if folder.is_relative_to(tempfile.gettempdir()) and folder != Path(tempfile.gettempdir()):
            folder.chmod(0o755)
    # It may read everything, since the environment may lie in the home of root; and write nothing.
    reads = "-all,+dac_read_search"
    user = (
        *("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"),
        *(f"--inh-caps={reads}", f"--ambient-caps={reads}", f"--bounding-set={reads}"),
    )
    environment = {"HOME": "/nonexistent", "JAX_COMPILATION_CACHE_DIR": ""}
    wrap = (*user, "bash", "-c", f'{limit} && exec "$@"', "bash")
    return run.train(wrap=wrap, environment=environment)


@fault("an unprivileged user without a home")
def unprivileged(run: Run) -> str:
    ended = as_nobody(run)
    if ended.code == 0:
        assert run.steps() == list(range(STEPS)) and "Traceback" not in ended.output
        return "the run ends as it would have"
    assert ended.code == MISTAKE, ended.output[-2000:]
    return ended.line()


@fault("an unprivileged user with 16 processes")
def few_processes(run: Run) -> str:
    ended = as_nobody(run, "ulimit -u 16")
    if ended.code == 0:
        assert run.steps() == list(range(STEPS)) and "Traceback" not in ended.output
        return "the run ends as it would have"
    assert ended.code in (MISTAKE, RESTART), ended.output[-2000:]
    return ended.line()


def in_terminal(columns: int, rows: int) -> Fault:
    def check(run: Run) -> str:
        sized = f'stty cols {columns} rows {rows}; exec "$@"'
        run.workdir.mkdir()
        command = [sys.executable, "launch/train.py", *SMALL, f"--workdir={run.workdir}"]
        quoted = " ".join(f"'{word}'" for word in ["bash", "-c", sized, "bash", *command])
        done = subprocess.run(
            ["script", "--quiet", "--return", "--command", quoted, "/dev/null"],
            cwd=REPOSITORY,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PATIENCE,
            env=os.environ | {"JAX_PLATFORMS": "cpu", "TERM": "xterm"},
        )
        assert done.returncode == 0 and b"Traceback" not in done.stdout, done.stdout[-2000:]
        assert run.steps() == list(range(STEPS))
        return "the run ends as it would have"

    return check


FAULTS["a terminal of 20 columns and 3 rows"] = in_terminal(20, 3)
FAULTS["a terminal of 1 column"] = in_terminal(1, 1)


@fault("the C locale, without UTF-8")
def c_locale(run: Run) -> str:
    run.finish(environment={"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"})
    return "the run ends as it would have"


@fault("the reader of the output leaves (train.py | head -n 1)")
def reader_leaves(run: Run) -> str:
    reading, writing = os.pipe()
    process = run.start(output=writing)
    os.close(writing)
    os.close(reading)
    ended = run.ended(process)
    assert ended.code == 0 and run.steps() == list(range(STEPS)), ended.output[-2000:]
    return ended.line("warning:")


@fault("the log is on a full disk")
def log_on_full_disk(run: Run) -> str:
    with open("/dev/full", "w") as full:
        ended = run.ended(run.start(output=full.fileno()))
    assert ended.code == 0 and run.steps() == list(range(STEPS)), ended.output[-2000:]
    return ended.line("warning:")


@fault("standard output is closed")
def output_closed(run: Run) -> str:
    run.finish(wrap=("bash", "-c", 'exec "$@" >&-', "bash"))
    return "the run ends as it would have"


# ---- the table ---------------------------------------------------------------------------------


def answer(name: str) -> tuple[str, str]:
    """``("right" or "refused", what was said)`` or ``("WRONG", why)``."""
    began = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="zerocoder-fault-"))
    try:
        said = FAULTS[name](Run(folder)).replace(str(folder), "").replace(str(REPOSITORY), "")
        verdict = "refused" if said.startswith("error:") else "right"
        said = said.removeprefix("error: ").removeprefix("warning: ")
    except PermissionError as error:
        verdict, said = "left out", str(error)
    except (AssertionError, OSError, ValueError, subprocess.SubprocessError) as error:
        verdict, said = "WRONG", f"{type(error).__name__}: {error}"
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{verdict:<8} {time.monotonic() - began:5.0f} s  {name}: {said}", flush=True)
    return verdict, said


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="a word, or a regular expression, of the names")
    parser.add_argument("--write", action="store_true", help="write the table")
    parser.add_argument("--at-once", type=int, default=2, help="default: %(default)s")
    arguments = parser.parse_args()
    names = [name for name in FAULTS if re.search(arguments.only, name)]
    wrong = 0
    with ThreadPoolExecutor(arguments.at_once) as threads:
        for name, (verdict, said) in zip(names, threads.map(answer, names)):
            wrong += verdict == "WRONG"
            if arguments.write:
                write_row(name, verdict, said)
    print(f"{len(names)} faults, {wrong} not answered well")
    sys.exit(1 if wrong else 0)


def write_row(name: str, verdict: str, said: str) -> None:
    """Replace the row of a fault in the document; the others stay."""
    text = DOCUMENT.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    table, after = rest.split(END)
    rows = {
        cells[1].strip(): line for line in table.splitlines() if len(cells := line.split("|")) > 4
    }
    words = " ".join(said.split()).replace("|", "/")
    rows[name] = f"| {name} | {verdict} | {words} |"
    lines = ["| fault | answer | what it says or does |", "|---|---|---|"]
    lines += [rows[name] for name in FAULTS if name in rows]
    table = "".join(line + "\n" for line in lines)
    DOCUMENT.write_text(before + BEGIN + table + END + after, encoding="utf-8")


if __name__ == "__main__":
    main()
