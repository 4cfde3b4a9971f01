"""One process of the pool, seen from the pool: messages out, messages in, its end."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from zerocoder_jax.execution.worker.frames import Incoming, pack

_HERE = Path(__file__).parent
# Without site and user directories, without the current directory; the environment is empty but
# for the hash seed, which makes the order of sets the same in every worker and every run.
_FLAGS = ("-S", "-s", "-P", "-X", "utf8", "-W", "ignore")
_ENVIRONMENT = {"PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8", "HOME": "/tmp", "TMPDIR": "/tmp"}
_START_WORKER = "import sys; sys.path.insert(0, {path!r}); from worker.main import main; main()"


class PoolProcess:
    """A process that was started by exec and talks over pipes; never forked from this one.

    Attributes:
      done: it has ended, or has closed its end.
    """

    def __init__(self, command: Sequence[str], environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            cwd="/",
            close_fds=True,
            start_new_session=True,
            bufsize=0,
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._input, self._output = self._process.stdin, self._process.stdout
        os.set_blocking(self._input.fileno(), False)
        os.set_blocking(self._output.fileno(), False)
        self._incoming = Incoming()
        self._unsent = bytearray()
        self.done = False

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def readable(self) -> int:
        """The descriptor to wait on for messages."""
        return self._output.fileno()

    @property
    def writable(self) -> int:
        """The descriptor to wait on while ``has_unsent``."""
        return self._input.fileno()

    @property
    def has_unsent(self) -> bool:
        return bool(self._unsent) and not self.done

    def send(self, message: Any) -> None:
        """Queues a message and writes what the pipe takes; ``flush`` writes the rest."""
        self._unsent += pack(message)
        self.flush()

    def flush(self) -> None:
        try:
            while self._unsent:
                count = os.write(self._input.fileno(), self._unsent[: 1 << 16])
                del self._unsent[:count]
        except BlockingIOError:
            pass
        except OSError:
            self.done = True

    def messages(self) -> list[Any]:
        """What has arrived. An unreadable message counts as the process's end."""
        try:
            data = os.read(self._output.fileno(), 1 << 16)
        except BlockingIOError:
            return []
        except OSError:
            data = b""
        if not data:
            self.done = True
            return []
        try:
            return self._incoming.feed(data)
        except ValueError:
            self.done = True
            return []

    def kill(self) -> None:
        """Ends it, and with it the sandbox that dies with it. Waits until it is gone."""
        self.done = True
        self._process.kill()
        self._input.close()
        self._output.close()
        self._process.wait()


def start_worker(settings: dict[str, Any]) -> PoolProcess:
    """A judge with its sandbox; its first message is ``{"level"}`` or ``{"missing"}``."""
    # The base interpreter, not a virtual environment's link to it.
    executable = getattr(sys, "_base_executable", "") or sys.executable
    start = _START_WORKER.format(path=str(_HERE))
    process = PoolProcess([executable, *_FLAGS, "-c", start], _ENVIRONMENT)
    process.send(settings)
    return process


def start_mutant_maker() -> PoolProcess:
    """A process that finds mutants; see ``mutant_maker.py``."""
    environment = {**_ENVIRONMENT, "PATH": os.defpath}
    module = "zerocoder_jax.execution.mutant_maker"
    return PoolProcess([sys.executable, "-m", module], environment | _import_path())


def _import_path() -> dict[str, str]:
    """How the maker finds this package and mutmut, wherever they were installed."""
    return {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
