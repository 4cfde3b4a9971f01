"""Entering the sandbox, at the strongest of three levels that the host allows.

``namespaces``: own user, PID, network, IPC, mount, UTS and cgroup namespaces; a file system that
holds Python's standard library, the system's shared libraries, ``/dev/null`` and one small tmpfs;
no capabilities; a seccomp filter; and Landlock where the kernel has it. Paid once per worker.

``landlock``: no namespaces; Landlock keeps files and TCP away, seccomp the rest (signals too), and
what a run leaves behind is found as a descendant of the worker. Paid by every run.

``rlimits``: resource limits and seccomp only; a program can read what the user can read.

Started by root, a worker first becomes an ordinary user: the kernel exempts root from the limit
on processes.
"""

import contextlib
import errno
import fcntl
import os
import re
import resource
import signal
from collections.abc import Callable

from . import landlock, seccomp
from .syscalls import (
    CAP_CHECKPOINT_RESTORE,
    CLONE_NEWNS,
    MS_BIND,
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    MS_PRIVATE,
    MS_RDONLY,
    MS_REC,
    MS_REMOUNT,
    NEW_NAMESPACES,
    PR_SET_CHILD_SUBREAPER,
    PR_SET_DUMPABLE,
    PR_SET_KEEPCAPS,
    PR_SET_NO_NEW_PRIVS,
    PR_SET_PDEATHSIG,
    drop_bounding_set,
    keep_capabilities,
    mount,
    one_arena_for_all_threads,
    pivot_root,
    prctl,
    unmount,
    unshare,
)

LEVELS = ("namespaces", "landlock", "rlimits")
NOBODY = 65534
# Descriptors of the sandbox's own begin here; those below are a run's.
FIRST_PRIVATE = 16
SCRATCH = "/tmp"
SCRATCH_MB = 32
SCRATCH_FILES = 1024
_SIGNALS_PENDING = 256
_FEWEST_DESCRIPTORS = 128
# Read-only: shared libraries, and the time zones of ``zoneinfo``.
_SYSTEM_FILES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/share/zoneinfo")


class Sandbox:
    """What the processes of a worker need to know about where they are.

    Attributes:
      level: one of ``LEVELS``.
      scratch: the only writable directory.
      library: the directory of Python's standard library.
      packages: importable packages that were asked for: name to directory.
      proc: descriptor of a /proc of this namespace, or -1.
      last_pid: descriptor of the file in it by which process ids can be set back, or -1.
      user: the id, inside, of the ordinary user that the worker becomes.
      has_own_user: what the kernel counts for a user it counts for this worker alone.
      only_runner_kills: no run can send SIGKILL.
      restrict_run: what every run has to do before it sees any of the solution.
    """

    def __init__(self, level: str, scratch: str, packages: dict[str, str]) -> None:
        self.level = level
        self.scratch = scratch
        self.library = os.path.dirname(os.__file__)
        self.packages = packages
        self.proc = -1
        self.last_pid = -1
        self.user = os.geteuid()
        self.has_own_user = False
        self.only_runner_kills = True
        self.restrict_run: Callable[[], None] = lambda: None

    def count_processes_anew(self) -> None:
        """The next processes are 2, 3, and so on, as they were in the run before."""
        if self.last_pid >= 0:
            os.pwrite(self.last_pid, b"1", 0)

    def lacks(self) -> list[str]:
        """What this host withholds from the level, in words."""
        missing = {
            "a /proc of its own": self.proc < 0,
            "equal process ids in every run": self.last_pid < 0,
            "a user id for each worker": not self.has_own_user,
        }
        return [name for name, is_missing in missing.items() if is_missing]


def be_first_when_memory_ends() -> None:
    """A host out of memory ends workers and runs before the process that they work for."""
    with contextlib.suppress(OSError):
        _write("/proc/self/oom_score_adj", "900")


def die_with_parent(parent: int) -> None:
    """SIGKILL for this process when its parent ends; at once if it already has."""
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def become_ordinary_user(user: int) -> None:
    """Root gives up its user id for good. Nothing to do for anybody else."""
    if os.geteuid() == 0 and user != 0:
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)


def own_id() -> int | None:
    """A user id of the host's that belongs to this process alone; None where there is none.

    What the kernel counts for a user (pages of pipes, processes, signals on their way) is then
    counted for one worker. Ids from 0x70000000 on are those that no convention gives to anything;
    where fewer are mapped, as in a container, the last ones of those.
    """
    with open("/proc/self/uid_map") as file:
        ranges = [tuple(map(int, line.split())) for line in file]
    first, end = max(((start, start + count) for start, _, count in ranges), key=lambda r: r[1])
    lowest, end = (0x70000000, 0x7FFFFFFE) if end > 0x7FFFFFFE else (end - 4096, end - 1)
    if lowest <= max(first, 1000):
        return NOBODY if first <= NOBODY < end else None
    return lowest + os.getpid() % (end - lowest)


def enter_namespaces(sandbox: Sandbox) -> None:
    """Enters all of them; the next child is process 1 of the PID namespace.

    Root keeps its id until the file system stands (the way to the standard library may lead
    through a directory that only root can pass), with a second id mapped to change to: inside it
    is NOBODY, outside it is this worker's own.

    Raises ``OSError`` where the host forbids it.
    """
    user, group, process = os.geteuid(), os.getegid(), os.getpid()
    outside = own_id() if user == 0 else None
    if outside is None:  # not root, or root where no second id is mapped
        unshare(NEW_NAMESPACES)
        _write(f"/proc/{process}/setgroups", "deny")
        _write_maps(process, {user: user}, {group: group})
        return
    os.setgroups([])
    unshared, tell = os.pipe()
    helper = os.fork()
    if helper == 0:  # only a process outside may map more than one id
        try:
            os.close(tell)
            os.read(unshared, 1)
            _write_maps(process, {user: user, NOBODY: outside}, {group: group, NOBODY: outside})
            os._exit(0)
        finally:
            os._exit(1)
    os.close(unshared)
    try:
        unshare(NEW_NAMESPACES)
    finally:
        os.close(tell)
        _, status = os.waitpid(helper, 0)
    if status:
        raise OSError(errno.EPERM, "mapping user ids is not permitted")
    sandbox.user, sandbox.has_own_user = NOBODY, True


def give_up_privileges(sandbox: Sandbox) -> None:
    """What process 1 needed to build the file system, it must not have when it forks runs.

    It keeps one capability over its own PID namespace, to set process ids back, and the runs give
    it up: no run finds in its process id how many others there were before.
    """
    drop_bounding_set()
    prctl(PR_SET_KEEPCAPS, 1)
    become_ordinary_user(sandbox.user)
    with contextlib.suppress(OSError):
        keep_capabilities(CAP_CHECKPOINT_RESTORE)
        name = "sys/kernel/ns_last_pid"
        sandbox.last_pid = put_aside(os.open(name, os.O_WRONLY, dir_fd=sandbox.proc))
        sandbox.count_processes_anew()
    if sandbox.last_pid < 0:
        keep_capabilities()


def leave_to_ordinary_user(sandbox: Sandbox) -> None:
    """Without namespaces: root hands over the scratch directory and becomes an ordinary user."""
    if os.geteuid() == 0:
        outside = own_id()
        sandbox.has_own_user = outside is not None
        sandbox.user = NOBODY if outside is None else outside
        os.chown(sandbox.scratch, sandbox.user, sandbox.user)
        os.setgroups([])
        become_ordinary_user(sandbox.user)
    library = os.path.dirname(os.__file__)
    if not os.access(library, os.R_OK | os.X_OK):
        raise OSError(errno.EACCES, f"an ordinary user cannot read {library}")


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)


def _write_maps(process: int, users: dict[int, int], groups: dict[int, int]) -> None:
    """Ids inside of the new user namespace to those outside."""
    for name, ids in (("uid_map", users), ("gid_map", groups)):
        lines = (f"{inside} {outside} 1\n" for inside, outside in ids.items())
        _write(f"/proc/{process}/{name}", "".join(lines))


def build_file_system(sandbox: Sandbox) -> None:
    """Makes a new root of a few read-only directories and moves there. Process 1 only."""
    unshare(CLONE_NEWNS)  # its own: the judge keeps the host's
    mount("none", "/", None, MS_REC | MS_PRIVATE)
    root = "/tmp"  # covered by the new root, in this namespace only
    mount("tmpfs", root, "tmpfs", MS_NOSUID | MS_NODEV, "size=1m,nr_inodes=256,mode=755")
    for path in (sandbox.library, *sandbox.packages.values(), *_SYSTEM_FILES):
        if os.path.islink(path):
            os.symlink(os.readlink(path), root + path)
        elif os.path.isdir(path):
            os.makedirs(root + path, exist_ok=True)
            _bind_read_only(path, root + path)
    for name in ("site-packages", "dist-packages"):  # only what was asked for is importable
        if os.path.isdir(f"{root}{sandbox.library}/{name}"):
            mount("tmpfs", f"{root}{sandbox.library}/{name}", "tmpfs", MS_RDONLY, "size=4k")
    os.mkdir(f"{root}/dev")
    os.close(os.open(f"{root}/dev/null", os.O_CREAT | os.O_WRONLY))
    mount("/dev/null", f"{root}/dev/null", None, MS_BIND)
    os.makedirs(root + sandbox.scratch)
    options = f"size={SCRATCH_MB}m,nr_inodes={SCRATCH_FILES},mode=700"
    mount("tmpfs", root + sandbox.scratch, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, options)
    if os.geteuid() == 0:
        os.chown(root + sandbox.scratch, sandbox.user, sandbox.user)
    os.makedirs(f"{root}/old")
    os.makedirs(f"{root}/proc")
    sandbox.proc = _open_hidden_proc(f"{root}/proc")
    pivot_root(root, f"{root}/old")
    os.chdir("/")
    unmount("/old")
    os.rmdir("/old")
    os.rmdir("/proc")
    mount("none", "/", None, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV)


def _bind_read_only(source: str, target: str) -> None:
    mount(source, target, None, MS_BIND | MS_REC)
    # Flags that the host has set on this mount must stay; these have the same bits in both calls.
    kept = os.statvfs(target).f_flag & (MS_NOSUID | MS_NODEV | MS_NOEXEC | 1024 | 2048)
    flags = MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | kept
    mount("none", target, None, flags)


def _open_hidden_proc(target: str) -> int:
    """A /proc that only holders of the descriptor can reach; -1 where the host forbids it."""
    try:
        mount("proc", target, "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    except OSError:
        return -1
    descriptor = open_aside(target)
    unmount(target)
    return descriptor


def open_aside(directory: str) -> int:
    """A directory's descriptor, with a number that no run uses."""
    return put_aside(os.open(directory, os.O_RDONLY | os.O_DIRECTORY))


def put_aside(descriptor: int) -> int:
    """The same open file under a number that no run uses."""
    aside = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, FIRST_PRIVATE)
    os.close(descriptor)
    return aside


def _readable(sandbox: Sandbox) -> list[str | int]:
    paths = (sandbox.library, *sandbox.packages.values(), *_SYSTEM_FILES)
    found: list[str | int] = [path for path in paths if os.path.isdir(path)]
    if sandbox.proc >= 0:
        found.append(sandbox.proc)  # for the runner alone: a run does not inherit the descriptor
    return found


def restrict(sandbox: Sandbox, processor_seconds: int) -> None:
    """The locks that need no namespace: for this process, or as something each run does.

    Raises ``OSError`` where a lock that the level promises cannot be had.
    """
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    inside = sandbox.level == "namespaces"
    prctl(PR_SET_DUMPABLE, 0)  # no run reads its worker's memory
    ruleset = -1
    try:
        allowed = landlock.create_ruleset(_readable(sandbox), [sandbox.scratch, "/dev/null"])
        ruleset = put_aside(allowed)
    except OSError:
        if sandbox.level == "landlock":
            raise
    program = b""
    try:
        sandbox.only_runner_kills = not inside or (sandbox.proc >= 0 and _has_pidfds())
        program = seccomp.build_filter(may_signal=inside, may_kill=not sandbox.only_runner_kills)
    except KeyError:  # an architecture without a table
        if sandbox.level != "rlimits":
            raise OSError(0, f"no system call table for {os.uname().machine}") from None

    def lock() -> None:
        if ruleset >= 0 and sandbox.level != "rlimits":
            landlock.restrict_self(ruleset)
            os.close(ruleset)
        if program:
            seccomp.install(program)

    if inside:
        lock()
        if sandbox.last_pid >= 0:
            sandbox.restrict_run = keep_capabilities  # none
    else:
        prctl(PR_SET_CHILD_SUBREAPER, 1)  # what a run leaves behind becomes the worker's child
        sandbox.proc = open_aside("/proc")

        def lock_run() -> None:
            # Nothing else ends a run whose worker was killed. Beyond any wall-clock deadline.
            resource.setrlimit(resource.RLIMIT_CPU, (processor_seconds, processor_seconds))
            lock()

        sandbox.restrict_run = lock_run


def _has_pidfds() -> bool:
    """Since Linux 5.3: the way of the runner alone to send SIGKILL."""
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError:
        return False
    return True


def _processes_beside_a_run(sandbox: Sandbox) -> int:
    """What the limit on processes counts apart from a run's own.

    In a user namespace of its own (and since Linux 5.14) that is the judge, the runner and, of a
    dialogue, the test's process. Elsewhere the kernel counts everything that the user runs, so
    there is room for that and for workers to come, and the limit only ends a fork bomb.
    """
    version = tuple(int(part) for part in re.findall(r"\d+", os.uname().release)[:2])
    if sandbox.level == "namespaces" and version >= (5, 14):
        return 3
    total = 256
    for name in os.listdir("/proc") if os.path.isdir("/proc") else []:
        with contextlib.suppress(OSError):
            if name.isdigit() and os.stat(f"/proc/{name}").st_uid == os.geteuid():
                total += len(os.listdir(f"/proc/{name}/task"))
    return total


def allow_descriptors() -> None:
    """As many as the host allows, for judge and runner; a run has fewer (``run.begin``)."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < _FEWEST_DESCRIPTORS:
        raise OSError(
            errno.EMFILE, f"open files are limited to {hard}, {_FEWEST_DESCRIPTORS} are needed"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def limit_resources(sandbox: Sandbox, memory_mb: int, processes: int) -> None:
    """The limits that are the same for every run. Inherited; runs cannot raise them."""
    processes += _processes_beside_a_run(sandbox)
    megabyte = 1 << 20
    # The interpreter's own mappings and thread stacks come on top of what a program may use.
    memory = (memory_mb + 96) * megabyte
    one_arena_for_all_threads()
    for what, value in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_NPROC, processes),
        (resource.RLIMIT_STACK, min(64 * megabyte, memory)),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
        (resource.RLIMIT_SIGPENDING, _SIGNALS_PENDING),
        # Of every file: in the scratch directory, standard output, reports.
        (resource.RLIMIT_FSIZE, SCRATCH_MB * megabyte),
    ):
        _, hard = resource.getrlimit(what)
        if hard != resource.RLIM_INFINITY:
            value = min(value, hard)
        # Programs ask for a larger stack, which the address space bounds anyway.
        resource.setrlimit(what, (value, hard if what == resource.RLIMIT_STACK else value))
