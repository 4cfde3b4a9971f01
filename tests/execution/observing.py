"""What execution tests watch from outside: processes, descriptors, memory; and two problems."""

import os
import time
from collections.abc import Callable
from pathlib import Path

from zerocoder_jax.problems import Problem

SQUARE = Problem("test/square", "The square of x and one.", "f", "function")
PROGRAM = Problem("test/program", "Twice the number.", None, "stdio")
RIGHT = "def f(x):\n    return x * x + 1"
WRONG = "def f(x):\n    return x * x"


def processes_below(pid: int) -> set[int]:
    """Every living descendant of a process, however deep."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[0] != "Z":
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found: set[int] = set()
    pending = [pid]
    while pending:
        below = children.get(pending.pop(), [])
        found.update(below)
        pending += below
    return found


def alive(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def resident_kilobytes(pid: int) -> int:
    """Private memory of a process, 0 when it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    """Whether a condition came true in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return condition()


def own_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))
