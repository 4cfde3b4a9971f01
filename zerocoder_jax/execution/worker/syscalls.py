"""The few Linux calls that Python's ``os`` lacks, by ``ctypes``."""

import ctypes
import errno
import os

CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
NEW_NAMESPACES = (
    CLONE_NEWNS
    | CLONE_NEWCGROUP
    | CLONE_NEWUTS
    | CLONE_NEWIPC
    | CLONE_NEWUSER
    | CLONE_NEWPID
    | CLONE_NEWNET
)

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_REMOUNT = 32
MS_BIND = 4096
MS_REC = 16384
MS_PRIVATE = 1 << 18
MNT_DETACH = 2

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_KEEPCAPS = 8
PR_CAPBSET_DROP = 24
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38

CAP_CHECKPOINT_RESTORE = 40
_M_ARENA_MAX = -8

# Numbers of calls without a C library wrapper; the last three are the same on every architecture.
MACHINE = os.uname().machine
PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}.get(MACHINE, -1)
CAPSET = {"x86_64": 126, "aarch64": 91}.get(MACHINE, -1)
SECCOMP = {"x86_64": 317, "aarch64": 277}.get(MACHINE, -1)
LANDLOCK_CREATE_RULESET = 444
LANDLOCK_ADD_RULE = 445
LANDLOCK_RESTRICT_SELF = 446

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def syscall(what: str, number: int, *arguments: object) -> int:
    """The raw call; ``what`` names it in the ``OSError`` of a failure."""
    if number < 0:
        raise OSError(errno.ENOSYS, f"{what}: unknown on {MACHINE}")
    # Variadic C arguments are ints unless told otherwise; pointers and flags need all 64 bits.
    wide = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    return _checked(_libc.syscall(ctypes.c_long(number), *wide), what)


def unshare(flags: int) -> None:
    _checked(_libc.unshare(ctypes.c_int(flags)), "unshare")


def mount(source: str, target: str, kind: str | None, flags: int, options: str = "") -> None:
    result = _libc.mount(
        source.encode(),
        target.encode(),
        kind.encode() if kind else None,
        ctypes.c_ulong(flags),
        options.encode() if options else None,
    )
    _checked(result, f"mount {target}")


def unmount(target: str) -> None:
    _checked(_libc.umount2(target.encode(), MNT_DETACH), f"umount {target}")


def pivot_root(new_root: str, old_root: str) -> None:
    syscall("pivot_root", PIVOT_ROOT, new_root.encode(), old_root.encode())


def prctl(option: int, value: int) -> None:
    zero = ctypes.c_ulong(0)
    _checked(_libc.prctl(option, ctypes.c_ulong(value), zero, zero, zero), f"prctl {option}")


def drop_bounding_set() -> None:
    """No later program can gain a capability; those held now stay, see ``keep_capabilities``."""
    for capability in range(64):
        try:
            prctl(PR_CAPBSET_DROP, capability)
        except OSError as error:
            if error.errno == errno.EINVAL:  # past the last capability of this kernel
                return
            if error.errno != errno.EPERM:  # nothing to drop for an ordinary user
                raise


# _LINUX_CAPABILITY_VERSION_3 and "this thread"; effective, permitted and inheritable, twice.
_HEADER = (ctypes.c_uint32 * 2)(0x20080522, 0)
_NOTHING = (ctypes.c_uint32 * 6)()


def keep_capabilities(*kept: int) -> None:
    """Gives up every other capability of this process."""
    sets = (ctypes.c_uint32 * 6)(*_NOTHING)
    for capability in kept:
        for which in (0, 1):
            sets[3 * (capability // 32) + which] |= 1 << capability % 32
    syscall("capset", CAPSET, ctypes.byref(_HEADER), ctypes.byref(sets))


def one_arena_for_all_threads() -> None:
    """Each arena that the C library makes for a thread takes 64 MiB of address space."""
    _libc.mallopt(_M_ARENA_MAX, 1)
