"""A seccomp filter: the system calls that a solution may make, everything else refused.

An allow-list, written as classic BPF by hand because the standard library has no binding and the
worker may import nothing else. Calls that a harmless program may try (``socket``, ``execve``)
fail with EPERM; calls that only an attack makes (``ptrace``, ``mount``, ``bpf``) kill with SIGSYS.
"""

import ctypes
import errno
import resource
import signal
import struct

from .syscalls import MACHINE, SECCOMP, syscall
from .system_calls import (
    AFFINITY,
    ALLOWED,
    CLONE,
    CLONE3,
    DEADLY,
    FCNTL,
    FUTEX,
    IOCTL,
    PIDFD_SEND_SIGNAL,
    PRCTL,
    PRETENDED,
    PRLIMIT,
    REFUSED,
    SETRLIMIT,
    SIGNALS,
    SIGNALS_TO_THREADS,
    SOCKETPAIR,
    number,
    numbers,
)

_SET_MODE_FILTER = 1
# Without this flag old kernels switch speculation off for the process: several times slower, and
# of no use here, since nothing secret shares an address space with a solution.
_SPEC_ALLOW = 4

_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_KILL = 0x80000000
_ALLOW = 0x7FFF0000
_ERRNO = 0x00050000

_EPERM = _ERRNO | errno.EPERM
_PRETEND = _ERRNO  # of no error: the call returns 0 and is not made

# Classic BPF: load a word of seccomp_data, mask it, compare, return.
_LOAD, _AND, _RETURN = 0x20, 0x54, 0x06
_JUMP_EQUAL, _JUMP_GREATER_EQUAL, _JUMP_BITS = 0x15, 0x35, 0x45
_NUMBER, _ARCHITECTURE, _ARGUMENT_0, _ARGUMENT_1, _ARGUMENT_2 = 0, 4, 16, 24, 32

# Every flag of clone that makes a new namespace.
_CLONE_NEW_ANY = 0x7E020080
# The signal that the end of a child sends to its parent; 0: none.
_CLONE_SIGNAL, _CLONE_SIGNALS_ALLOWED = 0xFF, (0, signal.SIGCHLD)
_AF_UNIX = 1
# prctl: naming a thread and reading settings; what changes the sandbox is refused.
_PRCTL_ALLOWED = (2, 3, 15, 16, 38, 39)
# ioctl: terminal attributes, window size, close-on-exec, bytes ready, non-blocking.
_IOCTL_ALLOWED = (0x5401, 0x5413, 0x5450, 0x5451, 0x541B, 0x5421)
# fcntl: F_SETOWN, F_SETSIG and F_SETOWN_EX make the kernel send signals to any process; F_SETLEASE
# and F_NOTIFY reach those who use the same file; F_SETPIPE_SZ takes from the user's share.
_FCNTL_REFUSED = (8, 10, 15, 1024, 1026, 1031)
# F_SETLK, F_SETLKW and the same of an open file: see PRETENDED.
_FCNTL_PRETENDED = (6, 7, 37, 38)
# futex: waking and moving waiters (3, 4, 1, 5, 10, 12) and locks with priorities only in private
# memory: a page of a shared library is one for all sandboxes. A thread's end is waited for as if
# in shared memory (0, 9).
_FUTEX_PRIVATE, _FUTEX_WAITS, _FUTEX_OPERATION = 128, (0, 9), 0x7F
# Numbers of the runner's own pidfds begin here, where a run cannot open any: SIGKILL comes from the
# runner or from the machine (out of memory), and never from a run.
FIRST_PIDFD = 64


def _instruction(code: int, jump_true: int, jump_false: int, value: int) -> bytes:
    return struct.pack("=HBBI", code, jump_true, jump_false, value)


def _when_number(value: int, then: list[bytes]) -> list[bytes]:
    """``then`` must end in a return; otherwise the next instruction follows."""
    return [_instruction(_JUMP_EQUAL, 0, len(then), value), *then]


def _answer(action: int) -> list[bytes]:
    return [_instruction(_RETURN, 0, 0, action)]


def _argument_in(offset: int, values: tuple[int, ...], then: int, otherwise: int) -> list[bytes]:
    """``then`` where the low word of an argument is one of these."""
    program = [_instruction(_LOAD, 0, 0, offset)]
    for value in values:
        program += [_instruction(_JUMP_EQUAL, 0, 1, value), *_answer(then)]
    return program + _answer(otherwise)


def _clone() -> list[bytes]:
    return [
        _instruction(_LOAD, 0, 0, _ARGUMENT_0),
        _instruction(_JUMP_BITS, 0, 1, _CLONE_NEW_ANY),
        *_answer(_EPERM),
        _instruction(_AND, 0, 0, _CLONE_SIGNAL),
        *_argument_in(_ARGUMENT_0, _CLONE_SIGNALS_ALLOWED, _ALLOW, _EPERM)[1:],
    ]


def _fcntl() -> list[bytes]:
    refused = _argument_in(_ARGUMENT_1, _FCNTL_REFUSED, _EPERM, _ALLOW)[:-1]
    return refused + _argument_in(_ARGUMENT_1, _FCNTL_PRETENDED, _PRETEND, _ALLOW)[1:]


def _futex() -> list[bytes]:
    return [
        _instruction(_LOAD, 0, 0, _ARGUMENT_1),
        _instruction(_JUMP_BITS, 0, 1, _FUTEX_PRIVATE),
        *_answer(_ALLOW),
        _instruction(_AND, 0, 0, _FUTEX_OPERATION),
        *_argument_in(_ARGUMENT_1, _FUTEX_WAITS, _ALLOW, _EPERM)[1:],
    ]


def _kill_by_descriptor() -> list[bytes]:
    return [
        _instruction(_LOAD, 0, 0, _ARGUMENT_0),
        _instruction(_JUMP_GREATER_EQUAL, 0, 1, FIRST_PIDFD),
        *_answer(_ALLOW),
        *_answer(_EPERM),
    ]


def _limits(process: int | None, resource_number: int, new_limit: int | None) -> list[bytes]:
    """Of itself alone; and no limit on processor time, whose end is a SIGKILL."""
    program = []
    if process is not None:
        program += [
            _instruction(_LOAD, 0, 0, process),
            _instruction(_JUMP_EQUAL, 1, 0, 0),
            *_answer(_EPERM),
        ]
    if new_limit is not None:  # a null pointer: it only asks
        program += [
            _instruction(_LOAD, 0, 0, new_limit),
            _instruction(_JUMP_EQUAL, 0, 3, 0),
            _instruction(_LOAD, 0, 0, new_limit + 4),
            _instruction(_JUMP_EQUAL, 0, 1, 0),
            *_answer(_ALLOW),
        ]
    return program + _argument_in(resource_number, (resource.RLIMIT_CPU,), _EPERM, _ALLOW)


def build_filter(machine: str = MACHINE, may_signal: bool = True, may_kill: bool = False) -> bytes:
    """The BPF program for this architecture.

    Args:
      machine: ``x86_64`` or ``aarch64``.
      may_signal: allow ``kill`` and its relatives; only where a PID namespace ends their reach.
      may_kill: allow SIGKILL too.
    """
    program = [
        _instruction(_LOAD, 0, 0, _ARCHITECTURE),
        _instruction(_JUMP_EQUAL, 1, 0, _AUDIT_ARCH[machine]),
        *_answer(_KILL),
        _instruction(_LOAD, 0, 0, _NUMBER),
    ]
    if machine == "x86_64":  # the x32 calls: the same kernel functions under other numbers
        program += [_instruction(_JUMP_GREATER_EQUAL, 0, 1, 0x40000000), *_answer(_KILL)]

    def decided_by(entry: str, then: list[bytes]) -> list[bytes]:
        value = number(entry, machine)
        return [] if value is None else _when_number(value, then)

    # glibc falls back from clone3, whose flags a filter cannot see, to clone, whose flags it can.
    program += decided_by(CLONE3, _answer(_ERRNO | errno.ENOSYS))
    program += decided_by(CLONE, _clone())
    program += decided_by(FCNTL, _fcntl())
    program += decided_by(FUTEX, _futex())
    program += decided_by(IOCTL, _argument_in(_ARGUMENT_1, _IOCTL_ALLOWED, _ALLOW, _EPERM))
    program += decided_by(PRCTL, _argument_in(_ARGUMENT_0, _PRCTL_ALLOWED, _ALLOW, _EPERM))
    program += decided_by(SOCKETPAIR, _argument_in(_ARGUMENT_0, (_AF_UNIX,), _ALLOW, _EPERM))
    program += decided_by(AFFINITY, _argument_in(_ARGUMENT_0, (0,), _ALLOW, _EPERM))
    program += decided_by(PRLIMIT, _limits(_ARGUMENT_0, _ARGUMENT_1, _ARGUMENT_2))
    program += decided_by(SETRLIMIT, _limits(None, _ARGUMENT_0, None))

    signals = _ALLOW if may_signal else _EPERM
    refused = () if may_kill else (signal.SIGKILL,)
    for group, argument in ((SIGNALS, _ARGUMENT_1), (SIGNALS_TO_THREADS, _ARGUMENT_2)):
        for value in numbers(group, machine):
            program += _when_number(value, _argument_in(argument, refused, _EPERM, signals))
    program += decided_by(
        PIDFD_SEND_SIGNAL, _kill_by_descriptor() if may_signal else _answer(_EPERM)
    )
    for group, action in (
        (ALLOWED, _ALLOW),
        (PRETENDED, _PRETEND),
        (REFUSED, _EPERM),
        (DEADLY, _KILL),
    ):
        for value in numbers(group, machine):
            program += _when_number(value, _answer(action))
    return b"".join(program + _answer(_ERRNO | errno.ENOSYS))


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def install(program: bytes) -> None:
    """From here on, for this process and all it starts. Needs no-new-privileges."""
    argument = _Program(len(program) // 8, program)
    try:
        syscall("seccomp", SECCOMP, _SET_MODE_FILTER, _SPEC_ALLOW, ctypes.byref(argument))
    except OSError as error:
        if error.errno != errno.EINVAL:  # EINVAL: a kernel before the flag
            raise
        syscall("seccomp", SECCOMP, _SET_MODE_FILTER, 0, ctypes.byref(argument))
