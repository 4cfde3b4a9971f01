"""Several hosts, one run: how they find each other, and how small things are passed around.

Arrays travel between devices inside compiled programs. What the hosts themselves have to agree on
(samples, rewards, lengths) is small and goes through the coordination service, which, unlike a
collective, can say whom everybody is waiting for.
"""

import dataclasses
import itertools
import pickle
import socket
from typing import Any, TypeVar

import jax

from zerocoder_jax.errors import UserError

Value = TypeVar("Value")

# The coordination service takes messages of a few MB; larger values are sent in pieces.
_PIECE = 1 << 20
_calls = itertools.count()


@dataclasses.dataclass
class _Waiting:
    """How long hosts wait for one another; set by ``start_hosts``."""

    seconds: float = 900.0


_waiting = _Waiting()


class HostLost(UserError):
    """A host did not answer in time. The run stops everywhere and can be resumed."""

    leaves_at_once = True


def start_hosts(distributed: Any) -> None:
    """Join the other processes of the run, as ``config.distributed`` says; once, before any array.

    "none" does nothing. "auto" asks SLURM, GKE or the Cloud TPU metadata who the others are.
    "explicit" takes ``coordinator`` (host:port of process 0), ``processes`` and ``process``.
    """
    _waiting.seconds = float(distributed.timeout)
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
        jax.distributed.initialize(**arguments, initialization_timeout=distributed.timeout)
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"config.distributed: the hosts of the run could not meet ({error}); start the same "
            "command on every host and check that they reach the coordinator"
        ) from error
    # Whoever goes missing later is named by its host name, which it announces here.
    _client().key_value_set(f"zerocoder/host/{jax.process_index()}", socket.gethostname())


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


def _wait_for(process: int, key: str) -> str:
    try:
        return _client().blocking_key_value_get(key, _milliseconds())
    except jax.errors.JaxRuntimeError as error:
        raise HostLost(
            f"process {process} on host {_host_name(process)} did not answer within "
            f"{_waiting.seconds:.0f} s (config.distributed.timeout); this host stops too: look at "
            "that one's log, then start the same command again to resume"
        ) from error


def _host_name(process: int) -> str:
    try:
        return _client().blocking_key_value_get(f"zerocoder/host/{process}", 1000)
    except jax.errors.JaxRuntimeError:
        return "(unknown)"


def _milliseconds() -> int:
    return int(_waiting.seconds * 1000)


def _client() -> Any:
    from jax._src import distributed

    client = distributed.global_state.client
    if client is None:
        raise UserError("several processes but no coordination service: set config.distributed")
    return client
