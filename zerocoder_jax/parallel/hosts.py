"""Several hosts, one run: how they find each other, and how small things are passed around.

Arrays travel between devices inside compiled programs. What the hosts themselves have to agree on
(samples, rewards, lengths) is small and goes through the coordination service, which, unlike a
collective, can say whom everybody is waiting for.
"""

import atexit
import contextlib
import dataclasses
import itertools
import os
import pickle
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import jax

from zerocoder_jax.errors import RESTART, Restartable, UserError

Value = TypeVar("Value")

# The coordination service takes messages of a few MB; larger values are sent in pieces.
_PIECE = 1 << 20
_calls = itertools.count()
# A process says that it is alive from a thread of its own, whatever else it does.
_ALIVE_EVERY = 2.0
_SILENT_FOR = 30.0
# The sign of a process that ended by itself.
_LEFT = "left"


@dataclasses.dataclass
class _Hosts:
    """How long they wait for one another, their names by process, and which process this is; set
    by ``start_hosts``. JAX cannot be asked for it any more at the interpreter's end."""

    timeout: float = 900.0
    names: list[str] = dataclasses.field(default_factory=list)
    process: int = 0

    def name(self, process: int) -> str:
        known = process < len(self.names)
        return f"process {process} on host {self.names[process] if known else '(not seen yet)'}"


_hosts = _Hosts()


class HostLost(Restartable):
    """A host did not answer in time. The run stops everywhere and can be resumed."""

    leaves_at_once = True


def folder_of_host(workdir: Path) -> Path:
    """Where this host writes what every host makes: what people read is the first one's."""
    host = jax.process_index()
    return workdir if host == 0 else workdir / "hosts" / str(host)


def start_hosts(distributed: Any) -> None:
    """Join the other processes of the run, as ``config.distributed`` says; once, before any array.

    "none" does nothing. "auto" asks SLURM, GKE or the Cloud TPU metadata who the others are.
    "explicit" takes ``coordinator`` (host:port of process 0), ``processes`` and ``process``. A
    process that has its host for itself drives all devices there.

    Says on stderr which process runs where. From then on every process watches the others: one that
    dies is named by those that are left, which end with ``errors.RESTART``, before a collective or
    JAX itself ends them with pages of text. Only where process 0 dies, which hosts the coordination
    service, JAX is faster and aborts the others (exit code 134).
    """
    _hosts.timeout = float(distributed.timeout)
    if distributed.mode == "none":
        return
    arguments: dict[str, Any] = {}
    if distributed.mode == "explicit":
        if ":" not in distributed.coordinator:
            raise UserError(
                f"config.distributed.coordinator is {distributed.coordinator!r}: "
                "give HOST:PORT of process 0"
            )
        if not 0 <= distributed.process < distributed.processes:
            raise UserError(
                f"config.distributed.process is {distributed.process}: "
                f"it counts from 0 to processes - 1 = {distributed.processes - 1}"
            )
        arguments = {
            "coordinator_address": distributed.coordinator,
            "num_processes": distributed.processes,
            "process_id": distributed.process,
        }
    elif distributed.mode != "auto":
        raise UserError(
            f"config.distributed.mode is {distributed.mode!r}: choose none, auto or explicit"
        )
    try:
        jax.distributed.initialize(
            **arguments,
            local_device_ids=_local_devices(os.environ),
            initialization_timeout=distributed.timeout,
        )
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"config.distributed: the hosts of the run could not meet ({error}); start the same "
            "command on every host and check that they reach the coordinator"
        ) from error
    _client().key_value_set(f"zerocoder/host/{jax.process_index()}", socket.gethostname())
    _hosts.names, _hosts.process = [], jax.process_index()
    for process in range(jax.process_count()):
        _hosts.names.append(_wait_for(process, f"zerocoder/host/{process}"))
    named = ", ".join(f"{process} on {name}" for process, name in enumerate(_hosts.names))
    print(f"processes of this run: {named}", file=sys.stderr, flush=True)
    if jax.process_count() > 1:
        atexit.register(_say_that_it_leaves)
        threading.Thread(target=_watch_the_others, daemon=True).start()


def _local_devices(environment: Mapping[str, str]) -> list[int] | None:
    """What JAX is to be told of this process's devices: an empty list is all, None its own choice.

    Left alone, JAX gives every process under Slurm one device, whether it shares its host or not.
    """
    tasks, nodes = environment.get("SLURM_NTASKS"), environment.get("SLURM_STEP_NUM_NODES")
    alone = tasks is not None and tasks == nodes
    return [] if alone and "JAX_LOCAL_DEVICE_IDS" not in environment else None


def exchange(value: Value) -> list[Value]:
    """Every host's value, in the order of the processes; all hosts call it together.

    Raises:
        HostLost: a host, named in the message, gave nothing within ``config.distributed.timeout``.
    """
    count = jax.process_count()
    if count == 1:
        return [value]
    client, call = _client(), next(_calls)
    place = f"zerocoder/exchange/{call}"
    data = pickle.dumps(value)
    pieces = [data[i : i + _PIECE] for i in range(0, len(data), _PIECE)]
    mine = f"{place}/{jax.process_index()}"
    for i, piece in enumerate(pieces):
        client.key_value_set_bytes(f"{mine}/{i}", piece)
    client.key_value_set(f"{mine}/pieces", str(len(pieces)))

    values = []
    for process in range(count):
        theirs = f"{place}/{process}"
        number = int(_wait_for(process, f"{theirs}/pieces"))
        data = b"".join(
            client.blocking_key_value_get_bytes(f"{theirs}/{i}", _milliseconds())
            for i in range(number)
        )
        values.append(pickle.loads(data))
    # A host that has come to the next call has read everything of the one before the last.
    client.key_value_delete(f"zerocoder/exchange/{call - 2}/{jax.process_index()}")
    return values


def decided_by_first_host(decide: Callable[[], Value]) -> Value:
    """What ``decide`` gives on the first host; where it raises ``UserError``, every host does."""
    decision: Any = None
    if jax.process_index() == 0:
        try:
            decision = decide()
        except UserError as error:
            decision = error
    decision = exchange(decision)[0]
    if isinstance(decision, UserError):
        raise decision
    return decision


def own_share(items: Sequence[Value]) -> list[Value]:
    """This host's part of the items: every n-th, so that shares differ by one at most."""
    return list(items[jax.process_index() :: jax.process_count()])


@contextlib.contextmanager
def lost_host_named() -> Iterator[None]:
    """Around collectives: where one fails because a host is gone, the line that names it comes
    instead of the error, as soon as that is certain."""
    try:
        yield
    except (jax.errors.JaxRuntimeError, ValueError):  # Gloo's are ValueErrors
        if jax.process_count() > 1:
            # The thread that watches the others ends this process if one is gone.
            time.sleep(_SILENT_FOR + 3 * _ALIVE_EVERY)
        raise


def _watch_the_others() -> None:
    """End this process, with one line, when another one has given no sign of life for a while."""
    others = [process for process in range(len(_hosts.names)) if process != _hosts.process]
    last_sign = {process: ("", time.monotonic()) for process in others}
    for beat in itertools.count():
        time.sleep(_ALIVE_EVERY)
        try:
            _say_alive(str(beat))
            signs = {process: _last_sign(process) for process in others}
        except (jax.errors.JaxRuntimeError, UserError):
            return  # process 0 is gone, or this process is at its end
        for process, sign in signs.items():
            before, since = last_sign[process]
            if sign != before:
                last_sign[process] = sign, time.monotonic()
            elif sign != _LEFT and time.monotonic() - since > _SILENT_FOR:
                print(
                    f"error: {_hosts.name(process)} has given no sign of life for "
                    f"{_SILENT_FOR:.0f} s: it is gone, and this host stops too; look at that one's "
                    "log, then start the same command again to resume",
                    file=sys.stderr,
                    flush=True,
                )
                os._exit(RESTART)


def _say_that_it_leaves() -> None:
    with contextlib.suppress(jax.errors.JaxRuntimeError, UserError):  # process 0 may have left
        _say_alive(_LEFT)


def _say_alive(sign: str) -> None:
    _client().key_value_set(f"zerocoder/alive/{_hosts.process}", sign, allow_overwrite=True)


def _last_sign(process: int) -> str:
    try:
        sign: str = _client().key_value_try_get(f"zerocoder/alive/{process}")
    except jax.errors.JaxRuntimeError as error:
        if "NOT_FOUND" not in str(error):
            raise
        return ""
    return sign


def _wait_for(process: int, key: str) -> str:
    try:
        return _client().blocking_key_value_get(key, _milliseconds())
    except jax.errors.JaxRuntimeError as error:
        raise HostLost(
            f"{_hosts.name(process)} did not answer within "
            f"{_hosts.timeout:.0f} s (config.distributed.timeout); this host stops too: look at "
            "that one's log, then start the same command again to resume"
        ) from error


def _milliseconds() -> int:
    return int(_hosts.timeout * 1000)


def _client() -> Any:
    from jax._src import distributed

    client = distributed.global_state.client
    if client is None:
        raise UserError("several processes but no coordination service: set config.distributed")
    return client
