"""A seccomp filter: the system calls that a solution may make, everything else refused.

An allow-list, written as classic BPF by hand because the standard library has no binding and the
worker may import nothing else. Calls that a harmless program may try (``socket``, ``execve``)
fail with EPERM; calls that only an attack makes (``ptrace``, ``mount``, ``bpf``) kill with SIGSYS.
"""

import ctypes
import errno
import struct

from .syscalls import MACHINE, SECCOMP, syscall
from .system_calls import (
    ALLOWED,
    CLONE,
    CLONE3,
    DEADLY,
    FCNTL,
    IOCTL,
    OF_A_PROCESS,
    PRCTL,
    REFUSED,
    SIGNALS,
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

# Classic BPF: load a word of seccomp_data, compare, return.
_LOAD, _JUMP_EQUAL, _JUMP_GREATER_EQUAL, _JUMP_BITS, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCHITECTURE, _ARGUMENT_0, _ARGUMENT_1 = 0, 4, 16, 24

# Every flag of clone that makes a new namespace.
_CLONE_NEW_ANY = 0x7E020080
_AF_UNIX = 1
# prctl: naming a thread and reading settings; what changes the sandbox is refused.
_PRCTL_ALLOWED = (2, 3, 15, 16, 38, 39)
# ioctl: terminal attributes, window size, close-on-exec, bytes ready, non-blocking.
_IOCTL_ALLOWED = (0x5401, 0x5413, 0x5450, 0x5451, 0x541B, 0x5421)
# fcntl: F_SETOWN, F_SETSIG and F_SETOWN_EX make the kernel send signals to any process.
_FCNTL_REFUSED = (8, 10, 15)


def _instruction(code: int, jump_true: int, jump_false: int, value: int) -> bytes:
    return struct.pack("=HBBI", code, jump_true, jump_false, value)


def _when_number(value: int, then: list[bytes]) -> list[bytes]:
    """``then`` must end in a return; otherwise the next instruction follows."""
    return [_instruction(_JUMP_EQUAL, 0, len(then), value), *then]


def _answer(action: int) -> list[bytes]:
    return [_instruction(_RETURN, 0, 0, action)]


def _argument_not_in(offset: int, refused: tuple[int, ...]) -> list[bytes]:
    program = [_instruction(_LOAD, 0, 0, offset)]
    for value in refused:
        program += [_instruction(_JUMP_EQUAL, 0, 1, value), *_answer(_ERRNO | errno.EPERM)]
    return program + _answer(_ALLOW)


def _argument_in(offset: int, allowed: tuple[int, ...]) -> list[bytes]:
    program = [_instruction(_LOAD, 0, 0, offset)]
    for value in allowed:
        program += [_instruction(_JUMP_EQUAL, 0, 1, value), *_answer(_ALLOW)]
    return program + _answer(_ERRNO | errno.EPERM)


def build_filter(machine: str = MACHINE, may_signal: bool = True) -> bytes:
    """The BPF program for this architecture.

    Args:
      machine: ``x86_64`` or ``aarch64``.
      may_signal: allow ``kill`` and its relatives; only where a PID namespace ends their reach.
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
    program += decided_by(
        CLONE,
        [
            _instruction(_LOAD, 0, 0, _ARGUMENT_0),
            _instruction(_JUMP_BITS, 0, 1, _CLONE_NEW_ANY),
            *_answer(_ERRNO | errno.EPERM),
            *_answer(_ALLOW),
        ],
    )
    program += decided_by(SOCKETPAIR, _argument_in(_ARGUMENT_0, (_AF_UNIX,)))
    program += decided_by(PRCTL, _argument_in(_ARGUMENT_0, _PRCTL_ALLOWED))
    program += decided_by(IOCTL, _argument_in(_ARGUMENT_1, _IOCTL_ALLOWED))
    program += decided_by(FCNTL, _argument_not_in(_ARGUMENT_1, _FCNTL_REFUSED))
    for entry in OF_A_PROCESS:
        program += decided_by(entry, _argument_in(_ARGUMENT_0, (0,)))

    signals = _ALLOW if may_signal else _ERRNO | errno.EPERM
    for group, action in (
        (ALLOWED, _ALLOW),
        (SIGNALS, signals),
        (REFUSED, _ERRNO | errno.EPERM),
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
