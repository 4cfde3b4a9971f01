"""A run directory is written by one process at a time, and a vanished one is noticed."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from zerocoder_jax.errors import UserError
from zerocoder_jax.training import run_lock
from zerocoder_jax.training.run_lock import RunLock

HOLDS = """
import sys, time
from pathlib import Path
from zerocoder_jax.training.run_lock import RunLock
with RunLock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path: Path, repository: Path):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=repository,
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def lease_of(workdir: Path, **fields: object) -> None:
    (workdir / "run.lock").write_text(json.dumps(fields))


def test_a_run_that_another_process_writes_is_refused_and_free_once_that_one_is_killed(
    tmp_path: Path, holder
) -> None:
    with pytest.raises(UserError, match=f"written by process {holder.pid} on host"):
        RunLock(tmp_path).__enter__()
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with RunLock(tmp_path) as lock:
        lock.check()
    assert (tmp_path / "run.lock").read_text() == ""


def test_the_lease_of_another_host_is_watched_and_taken_only_without_a_sign_of_life(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(run_lock, "_WATCHED_FOR", 1.0)
    lease_of(tmp_path, host="elsewhere", process=7, renewed=4)
    with RunLock(tmp_path):
        assert "process 7 on host elsewhere" in capsys.readouterr().err

    lease_of(tmp_path, host="elsewhere", process=7, renewed=4)
    monkeypatch.setattr(
        run_lock.time, "sleep", lambda _: lease_of(tmp_path, host="elsewhere", process=7, renewed=5)
    )
    with pytest.raises(UserError, match="process 7 on host elsewhere"):
        RunLock(tmp_path).__enter__()


def test_a_holder_learns_that_it_was_replaced_or_its_directory_removed(tmp_path: Path) -> None:
    workdir = tmp_path / "run"
    workdir.mkdir()
    with RunLock(workdir) as lock:
        lock.check()
        lease_of(workdir, host="elsewhere", process=7, renewed=1)
        with pytest.raises(UserError, match="taken over by process 7 on host elsewhere"):
            lock.check()
        shutil.rmtree(workdir)
        with pytest.raises(UserError, match="is gone"):
            lock.check()
        workdir.mkdir()
        lease_of(workdir, host=os.uname().nodename, process=os.getpid(), renewed=1)
        with pytest.raises(UserError, match="replaced"):
            lock.check()


def test_the_lease_grows_while_its_holder_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_lock, "_RENEWED_EVERY", 0.01)
    with RunLock(tmp_path):
        while json.loads((tmp_path / "run.lock").read_text() or "{}").get("renewed", 0) < 5:
            pass
