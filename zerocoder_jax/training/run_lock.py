"""One process at a time writes a run: a lock on its directory, and a lease that other hosts see.

``flock`` ends with the process that holds it, however that ends, but on some network disks only the
host that took it sees it. The lease in the same file is for those: its number grows while the
holder lives, so that another host can watch whether it does, without comparing two clocks.
"""

import contextlib
import fcntl
import json
import os
import platform
import sys
import threading
import time
from pathlib import Path
from typing import Any, Self

from zerocoder_jax.errors import UserError
from zerocoder_jax.parallel.hosts import decided_by_first_host

FILE_NAME = "run.lock"
_RENEWED_EVERY = 5.0
# How long a lease of another host is watched for a sign of life.
_WATCHED_FOR = 20.0


class RunLock:
    """Holds a run directory while the context lasts; of several hosts the first one holds it.

    Args:
        workdir: an existing folder.

    Raises:
        UserError: (on entering) another process writes this run.
    """

    def __init__(self, workdir: Path):
        self._workdir = workdir
        self._path = workdir / FILE_NAME
        self._file = -1
        self._renewals = 0
        self._ending = threading.Event()
        self._renewer = threading.Thread(target=self._keep_renewing, daemon=True)
        self._owner = {"host": platform.node(), "process": os.getpid()}

    def __enter__(self) -> Self:
        decided_by_first_host(self._acquire)
        return self

    def __exit__(self, *_: object) -> None:
        if self._file < 0:
            return
        self._ending.set()
        self._renewer.join()
        with contextlib.suppress(OSError):
            # An empty lease: the next process need not watch it.
            os.truncate(self._file, 0)
        os.close(self._file)
        self._file = -1

    def check(self) -> None:
        """Make sure, before something is written, that this process still holds the run.

        Raises:
            UserError: the directory was removed or replaced, or another process has taken it.
        """
        if self._file < 0:
            return
        try:
            here = os.stat(self._path)
        except OSError as error:
            raise UserError(
                f"{self._workdir} is gone ({error.strerror}): the run stops and writes no more"
            ) from error
        if not os.path.samestat(here, os.fstat(self._file)):
            raise UserError(f"{self._workdir} was replaced by another directory: the run stops")
        owner = self._lease()
        if owner and any(owner.get(name) != value for name, value in self._owner.items()):
            raise UserError(f"{self._workdir} was taken over by {_named(owner)}: this run stops")

    def _acquire(self) -> None:
        try:
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise UserError(
                f"--workdir={self._workdir} cannot be written: {error.strerror}"
            ) from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._refuse(self._lease(), error)
        except OSError:
            pass  # a disk without locks: the lease alone decides
        self._watch_lease_of_another_host()
        self._renew()
        self._renewer.start()

    def _watch_lease_of_another_host(self) -> None:
        """A lease of this host is of a process that has ended: the lock is free."""
        before = self._lease()
        if not before or before.get("host") == self._owner["host"]:
            return
        print(
            f"{self._workdir} was last written by {_named(before)}: "
            f"waiting {_WATCHED_FOR:.0f} s for a sign of life",
            file=sys.stderr,
            flush=True,
        )
        deadline = time.monotonic() + _WATCHED_FOR
        while time.monotonic() < deadline:
            time.sleep(0.5)
            if (now := self._lease()) != before:
                if now:
                    self._refuse(now, None)
                return

    def _refuse(self, owner: dict[str, Any], cause: Exception | None) -> None:
        os.close(self._file)
        self._file = -1
        raise UserError(
            f"{self._workdir} is being written by {_named(owner)}: stop that one first, or choose "
            "another --workdir"
        ) from cause

    def _lease(self) -> dict[str, Any]:
        try:
            lease = json.loads(os.pread(self._file, 4096, 0))
        except (OSError, ValueError):
            return {}
        return lease if isinstance(lease, dict) else {}

    def _renew(self) -> None:
        self._renewals += 1
        line = json.dumps(self._owner | {"renewed": self._renewals}) + "\n"
        with contextlib.suppress(OSError):  # a full disk: the lock itself still holds
            os.pwrite(self._file, line.encode(), 0)
            os.ftruncate(self._file, len(line))

    def _keep_renewing(self) -> None:
        while not self._ending.wait(_RENEWED_EVERY):
            owner = self._lease()
            if not owner or all(owner.get(name) == value for name, value in self._owner.items()):
                self._renew()


def _named(owner: dict[str, Any]) -> str:
    return f"process {owner.get('process', '?')} on host {owner.get('host', '?')}"
