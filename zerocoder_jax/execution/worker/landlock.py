"""Landlock: the kernel refuses files and TCP ports outside a list, whoever asks.

The second lock behind the mount namespace, and the only one for files where namespaces are
forbidden. https://docs.kernel.org/userspace-api/landlock.html
"""

import ctypes
import os
import stat
from collections.abc import Iterable

from .syscalls import (
    LANDLOCK_ADD_RULE,
    LANDLOCK_CREATE_RULESET,
    LANDLOCK_RESTRICT_SELF,
    syscall,
)

_WRITE_FILE = 1 << 1
_READ_FILE = 1 << 2
_READ_DIR = 1 << 3
_REMOVE_DIR = 1 << 4
_REMOVE_FILE = 1 << 5
_MAKE_DIR = 1 << 7
_MAKE_REGULAR = 1 << 8
_MAKE_SYMLINK = 1 << 12
_REFER = 1 << 13
_TRUNCATE = 1 << 14

_READ = _READ_FILE | _READ_DIR
_WRITE = (
    _READ
    | _WRITE_FILE
    | _REMOVE_DIR
    | _REMOVE_FILE
    | _MAKE_DIR
    | _MAKE_REGULAR
    | _MAKE_SYMLINK
    | _REFER
    | _TRUNCATE
)
# What applies to a file, not to a directory: the kernel refuses other rights on a file.
_ON_FILES = _READ_FILE | _WRITE_FILE | _TRUNCATE

_NET_TCP = 0b11  # bind and connect, from version 4
_SCOPES = 0b11  # abstract unix sockets and signals, from version 6
_VERSION_FLAG = 1
_PATH_BENEATH = 1


class _Ruleset(ctypes.Structure):
    _fields_ = (
        ("handled_access_fs", ctypes.c_uint64),
        ("handled_access_net", ctypes.c_uint64),
        ("scoped", ctypes.c_uint64),
    )


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


def version() -> int:
    """The kernel's Landlock version; raises ``OSError`` where there is none."""
    return syscall("landlock", LANDLOCK_CREATE_RULESET, None, 0, _VERSION_FLAG)


def _handled(abi: int) -> int:
    """Every file right that this version knows: all are refused unless a rule allows them."""
    bits = 13 + (abi >= 2) + (abi >= 3) + (abi >= 5)  # refer, truncate, device ioctl
    return (1 << bits) - 1


def create_ruleset(readable: Iterable[str | int], writable: Iterable[str]) -> int:
    """A ruleset, as a descriptor: nothing but these directories and files, no TCP.

    An open directory, given by its descriptor, stays readable for those who hold it.
    """
    abi = version()
    handled = _handled(abi)
    attributes = _Ruleset(handled, _NET_TCP if abi >= 4 else 0, _SCOPES if abi >= 6 else 0)
    # Older kernels refuse a structure that is longer than the one they know.
    size = 8 if abi < 4 else 16 if abi < 6 else 24
    ruleset = syscall("landlock", LANDLOCK_CREATE_RULESET, ctypes.byref(attributes), size, 0)
    for paths, access in ((readable, _READ), (writable, _WRITE)):
        for path in paths:
            if isinstance(path, int):
                descriptor = os.dup(path)
            else:
                descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
            is_directory = stat.S_ISDIR(os.fstat(descriptor).st_mode)
            allowed = access & handled & (~0 if is_directory else _ON_FILES)
            rule = _PathBeneath(allowed, descriptor)
            syscall(
                "landlock rule", LANDLOCK_ADD_RULE, ruleset, _PATH_BENEATH, ctypes.byref(rule), 0
            )
            os.close(descriptor)
    return ruleset


def restrict_self(ruleset: int) -> None:
    """From here on, for this process and all it starts. Needs no-new-privileges."""
    syscall("landlock restrict", LANDLOCK_RESTRICT_SELF, ruleset, 0)
