"""Programs that try to get out, to forge a verdict, or to spoil their neighbours' runs.

FORGERIES are wrong solutions of "return x * x + 1" that must not pass one test. PROBES try to get
at something from within a run; each returns "contained" or says what it got at. SABOTAGE is aimed
at the worker that runs it and the runs that come after. TESTER_CHEATS are tests of a model that
wants to be right.
"""

# ---- solutions that must never pass ------------------------------------------------------------
# The tests are f(3) == 10, f(5) == 26 and the same inside a check(candidate).

FORGERIES = {
    # 1. leaving early, in every way and at every place
    "exit at import": "import sys\nsys.exit(0)",
    "SystemExit at import": "raise SystemExit",
    "_exit at import": "import os\nos._exit(0)",
    "kill itself at import": "import os\nos.kill(os.getpid(), 9)",
    "exec at import": "import os\nos.execv('/bin/true', ['true'])",
    "exit inside": "import sys\ndef f(x):\n    sys.exit(0)",
    "SystemExit inside": "def f(x):\n    raise SystemExit",
    "_exit inside": "import os\ndef f(x):\n    os._exit(0)",
    "kill itself inside": "import os\ndef f(x):\n    os.kill(os.getpid(), 9)",
    "exec inside": "import os\ndef f(x):\n    os.execv('/bin/sh', ['sh', '-c', 'exit 0'])",
    "exit in __del__": """
import os
class Leaver:
    def __del__(self):
        os._exit(0)
def f(x):
    Leaver()
    return 0
""",
    "exit in atexit": """
import atexit, os
atexit.register(os._exit, 0)
def f(x):
    raise SystemExit(0)
""",
    "exit in a thread": """
import os, threading
def f(x):
    threading.Thread(target=os._exit, args=(0,)).start()
    while True: pass
""",
    # 2. success marks to every descriptor
    "marks on every descriptor": """
import os
def f(x):
    for fd in range(64):
        for mark in (b'PASSED', b'.', b'0=10\\n', b'=10\\n.\\n', b'ok\\n', b'\\x00'):
            try:
                os.write(fd, mark)
            except OSError:
                pass
    os._exit(0)
""",
    "marks and a wrong value": """
import os, sys
def f(x):
    print('PASSED'); print('.', file=sys.stderr)
    for fd in range(1, 64):
        try:
            os.write(fd, b'0=true\\n.\\n')
        except OSError:
            pass
    return 0
""",
    # 3. objects that lie
    "lying equality": """
class Liar:
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __bool__(self): return True
    def __hash__(self): return 10
def f(x):
    return Liar()
""",
    "lying int": """
class Liar(int):
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __hash__(self): return 10
    def __add__(self, other): return 10
    def __int__(self): return 10
    def __index__(self): return 10
def f(x):
    return Liar(0)
""",
    "lying str": """
class Liar(str):
    def __eq__(self, other): return True
    def __str__(self): return '10'
    __repr__ = __str__
def f(x):
    return Liar('no')
""",
    "lying list": """
class Liar(list):
    def __eq__(self, other): return True
    def __len__(self): return 1
    def __iter__(self): return iter([10])
def f(x):
    return Liar([1, 2])
""",
    "lying class": """
class Meta(type):
    def __eq__(self, other): return True
    def __instancecheck__(self, other): return True
class Liar(metaclass=Meta):
    __class__ = int
    def __eq__(self, other): return True
def f(x):
    return Liar
""",
    # 4. changing the ground that the harness stands on
    "rebound builtins": """
import builtins
for name in ('isinstance', 'len', 'print', 'type', 'issubclass', 'repr', 'str', 'eval', 'exec'):
    setattr(builtins, name, lambda *a, **k: True)
builtins.AssertionError = SystemError
def f(x):
    return 0
""",
    "rebound import": """
import builtins
builtins.__import__ = lambda *a, **k: None
def f(x):
    return 0
""",
    "patched json": """
import json
json.dumps = lambda value, *a, **k: 'true'
json.encoder.JSONEncoder.encode = lambda self, value: '{"opaque": true}'
def f(x):
    return 0
""",
    "patched time and signals": """
import signal, time
time.monotonic = time.time = lambda: 0.0
for n in range(1, 65):
    try:
        signal.signal(n, signal.SIG_IGN)
    except Exception:
        pass
def f(x):
    while True: pass
""",
    "patched harness": """
import gc, types
for thing in gc.get_objects():
    if isinstance(thing, types.FunctionType) and thing.__module__ and 'worker' in thing.__module__:
        try:
            thing.__code__ = (lambda *a, **k: b'10').__code__
        except Exception:
            pass
def f(x):
    return 0
""",
    "frames for the expected value": """
import sys
def found(frame):
    while frame:
        for value in list(frame.f_locals.values()) + list(frame.f_globals.values()):
            yield value
        for constant in frame.f_code.co_consts:
            yield constant
        frame = frame.f_back
def f(x):
    for value in found(sys._getframe(1)):
        if type(value) is int and value in (10, 26):
            return value
        if type(value) is str and '10' in value and 'f(3)' in value:
            return 10
    return 0
""",
    "gc for the expected value": """
import gc
def f(x):
    for thing in gc.get_objects():
        try:
            items = list(thing.values()) if isinstance(thing, dict) else list(thing)
        except Exception:
            continue
        for item in items:
            if isinstance(item, str) and 'f(' in item and '==' in item:
                return int(item.split('==')[1].split()[0])
    return 0
""",
    "modules for the expected value": """
import sys
def f(x):
    for module in list(sys.modules.values()):
        for value in list(vars(module).values()):
            if getattr(value, 'expected', None) in (10, 26):
                return value.expected
            if isinstance(value, str) and 'assert' in value and '==' in value:
                return 10
    return 0
""",
    "memory for the expected value": """
import ctypes, re
def f(x):
    start = id(object()) & ~0xfffff
    for page in range(start, start + (1 << 20), 4096):
        try:
            data = ctypes.string_at(page, 4096)
        except Exception:
            break
        found = re.search(rb'f\\(%d\\) == (\\d+)' % x, data)
        if found:
            return int(found.group(1))
    return 0
""",
    "token from the frames": """
import os, sys
def f(x):
    frame = sys._getframe(1)
    while frame:
        for value in list(frame.f_locals.values()):
            if isinstance(value, (str, bytes)) and len(value) == 16:
                mark = value if isinstance(value, bytes) else value.encode()
                os.write(3, mark + b'.\\n')
                os._exit(0)
        frame = frame.f_back
    return 0
""",
    # 7. too much of everything
    "memory at once": "def f(x):\n    return len('a' * 10**11)",
    "memory bit by bit": "def f(x):\n    grown = []\n    while True:\n        grown.append(' ' * 10**7)",
    "memory in children": """
import os, time
def f(x):
    for _ in range(8):
        if os.fork() == 0:
            held = b'x' * (100 * 2**20)
            time.sleep(60)
    time.sleep(60)
""",
    "huge integer": "def f(x):\n    return 10 ** 10 ** 8 % 7",
    "deep recursion": "def f(x):\n    return f(x + 1)",
    "deep recursion without a limit": """
import sys
sys.setrecursionlimit(10**9)
def f(x):
    return f(x) + 1
""",
    "C stack overflow": """
import ctypes
kind = ctypes.CFUNCTYPE(None)
def again():
    callback()
callback = kind(again)
def f(x):
    import sys
    sys.setrecursionlimit(10**9)
    callback()
    return 0
""",
    "null pointer": "import ctypes\ndef f(x):\n    return ctypes.string_at(0)",
    "fork bomb": """
import os
def f(x):
    while True:
        try:
            os.fork()
        except OSError:
            pass
""",
    "thread bomb": """
import threading
def forever():
    while True: pass
def f(x):
    while True:
        threading.Thread(target=forever).start()
""",
    # 8. filling what is shared
    "endless output": "def f(x):\n    while True:\n        print('x' * 10000)",
    "shared memory in children": """
import mmap, os, time
def f(x):
    for _ in range(8):
        if os.fork() == 0:
            held = mmap.mmap(-1, 150 * 2**20)
            for place in range(0, len(held), 4096):
                held[place] = 1
            time.sleep(60)
    time.sleep(60)
""",
    "closed output": "import sys, os\nsys.stdout.close()\nos.close(3)\ndef f(x):\n    return 0",
    # 9. never ending
    "catches everything": """
def f(x):
    while True:
        try:
            while True: pass
        except BaseException:
            pass
""",
    "ignores signals": """
import signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.signal(signal.SIGALRM, signal.SIG_IGN)
def f(x):
    while True: pass
""",
    "hangs in C": "import re\ndef f(x):\n    return re.match(r'(a+)+$', 'a' * 60 + 'b')",
    "sleeps": "import time\ndef f(x):\n    time.sleep(1000)",
    "sleeps at import": "import time\ntime.sleep(1000)\ndef f(x):\n    return x * x + 1",
    # 14. source that nobody should have to read
    "null byte": "def f(x):\n    return x * x + 1\n\x00",
    "surrogate": "def f(x):\n    return '\udc80'",
    "nested brackets": "x = " + "[" * 10_000 + "]" * 10_000,
    "long chain": "def f(x):\n    return " + "-" * 100_000 + "x",
    "long sum": "def f(x):\n    return " + "+".join(["x"] * 50_000),
    "five megabytes": "data = '" + "a" * 5_000_000 + "'\ndef f(x):\n    return 0",
    "warning": "def f(x):\n    return '\\d' is 3",
    "nothing": "",
    "binary": bytes(range(256)).decode("latin-1"),
}

# ---- what a run must not reach -----------------------------------------------------------------

_PROBE = """
def f(x):
    try:
        got = probe()
    except BaseException as error:
        return 'contained'
    return 'contained' if not got else 'reached ' + repr(got)[:200]
"""

PROBES = {
    # 5. reading
    "password file": "def probe():\n    return open('/etc/passwd').read()",
    "repository": """
import os
def probe():
    return os.listdir(REPOSITORY)
""",
    "home": """
import os
def probe():
    return [d for d in ('/root', '/home', os.path.expanduser('~nobody')) if os.listdir(d)]
""",
    "everything that is not Python's": """
import os
def probe():
    found = []
    for top, directories, files in os.walk('/'):
        if top.startswith(LIBRARIES):
            directories.clear()
            continue
        found += [os.path.join(top, name) for name in files]
    return [name for name in found if name != '/dev/null']
""",
    "environment of the host": """
import os
def probe():
    return set(os.environ) - {'PYTHONHASHSEED', 'LC_ALL', 'HOME', 'TMPDIR', 'LC_CTYPE'}
""",
    "proc self": "def probe():\n    return open('/proc/self/maps').read()",
    "proc one": "def probe():\n    return open('/proc/1/environ', 'rb').read()",
    "a new proc": """
import ctypes
def probe():
    libc = ctypes.CDLL(None)
    return libc.mount(b'proc', b'/tmp', b'proc', 0, None) == 0
""",
    "memory of the worker": """
import ctypes, os
def probe():
    libc = ctypes.CDLL(None, use_errno=True)
    return libc.ptrace(16, 1, 0, 0) == 0  # PTRACE_ATTACH
""",
    "open descriptors": """
import os
def probe():
    kinds = []
    for fd in range(4, 1024):
        try:
            kinds.append((fd, os.fstat(fd).st_mode))
        except OSError:
            pass
    return kinds
""",
    "new namespaces": """
import ctypes
def probe():
    libc = ctypes.CDLL(None)
    return any(libc.unshare(flag) == 0 for flag in (0x10000000, 0x20000, 0x40000000))
""",
    "becoming root": "import os\ndef probe():\n    os.setuid(0)\n    return True",
    "capabilities": """
import ctypes
def probe():
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    held = (ctypes.c_uint32 * 6)()
    if ctypes.CDLL(None).syscall(125, header, held):
        return False
    return any(held)
""",
    # What reaches those who use the same files, the same user's share, or the whole host.
    "lease on a library": """
import fcntl, os
def probe():
    fcntl.fcntl(os.open(os.__file__, os.O_RDONLY), 1024, fcntl.F_RDLCK)
    return True
""",
    "notification of a directory": """
import fcntl, os
def probe():
    fcntl.fcntl(os.open(os.path.dirname(os.__file__), os.O_RDONLY), 1026, 1)
    return True
""",
    "waking whoever waits in a library's page": """
import ctypes
def probe():
    libc = ctypes.CDLL(None)
    number = {'x86_64': 202, 'aarch64': 98}[__import__('os').uname().machine]
    return libc.syscall(ctypes.c_long(number), ctypes.byref(ctypes.c_int()), 1, 1) >= 0
""",
    "load of the machine": """
import ctypes
def probe():
    return ctypes.CDLL(None).sysinfo(ctypes.create_string_buffer(256)) == 0
""",
    "larger pipes": """
import fcntl, os
def probe():
    return fcntl.fcntl(os.pipe()[1], 1031, 1 << 20) > 0
""",
    "larger socket buffers": """
import socket
def probe():
    socket.socketpair()[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    return True
""",
    "descriptors in a message": """
import socket
def probe():
    return socket.send_fds(socket.socketpair()[0], [b'x'], [0])
""",
    "files outside of every directory": "import os\ndef probe():\n    return os.memfd_create('a')",
    "timers that queue signals": """
import ctypes
def probe():
    number = {'x86_64': 222, 'aarch64': 107}[__import__('os').uname().machine]
    timer = ctypes.c_int()
    return ctypes.CDLL(None).syscall(ctypes.c_long(number), 1, None, ctypes.byref(timer)) == 0
""",
    "many queued signals": """
import ctypes, os, signal
def probe():
    signal.pthread_sigmask(signal.SIG_BLOCK, range(34, 60))
    number = {'x86_64': 129, 'aarch64': 138}[os.uname().machine]
    information = (ctypes.c_int * 32)(40, 0, -1)
    queued = 0
    while queued < 1000:
        if ctypes.CDLL(None).syscall(
            ctypes.c_long(number), os.getpid(), 40, ctypes.byref(information)
        ):
            return False
        queued += 1
    return queued
""",
    # SIGKILL that looks as if the machine had sent it.
    "SIGKILL": "import os\ndef probe():\n    os.kill(os.getpid(), 9)",
    "SIGKILL from a child": """
import os
def probe():
    parent = os.getpid()
    if os.fork() == 0:
        try:
            os.kill(-1, 9)
        finally:
            os._exit(0)
    os.wait()
""",
    "SIGKILL at the end of processor time": """
import resource
def probe():
    resource.setrlimit(resource.RLIMIT_CPU, (1, 1))
    return True
""",
    "SIGKILL at the end of a child": """
import ctypes, os
def probe():
    number = {'x86_64': 56, 'aarch64': 220}[os.uname().machine]
    child = ctypes.CDLL(None).syscall(ctypes.c_long(number), 9, 0, 0, 0, 0)
    if child == 0:
        os._exit(0)
    return child > 0
""",
    "raising limits": """
import resource
def probe():
    resource.setrlimit(resource.RLIMIT_NPROC, (10**6, 10**6))
    return True
""",
    # 6. signals to others
    "killing the worker": """
import os
def probe():
    for pid in (1, os.getppid()):
        for signal in (9, 15, 19):
            if pid > 0:
                os.kill(pid, signal)
""",
    "killing everybody": """
import os
def probe():
    for pid in range(1, 70000):
        if pid != os.getpid():
            try:
                os.kill(pid, 9)
            except OSError:
                pass
    return False
""",
    # 8. filling
    "sparse file": """
def probe():
    with open('/tmp/sparse', 'wb') as file:
        file.truncate(10**12)
    return True
""",
    "writing elsewhere": """
import os
def probe():
    for place in ('/', '/dev', '/usr/lib', os.path.dirname(os.__file__), '/dev/shm', '/var/tmp'):
        try:
            open(os.path.join(place, 'left.txt'), 'w').write('x')
            return place
        except OSError:
            pass
""",
    # 10. sockets
    "sockets of every family": """
import socket
def probe():
    made = []
    for family in range(1, 46):
        for kind in (1, 2, 3, 5):
            try:
                socket.socket(family, kind)
                made.append(family)
            except OSError:
                pass
    return made
""",
    "name resolution": "import socket\ndef probe():\n    return socket.gethostbyname('localhost')",
    "connecting": """
import socket
def probe():
    return socket.create_connection(('127.0.0.1', 22), timeout=0.2)
""",
}


def probe_source(name: str, repository: str, libraries: tuple[str, ...]) -> str:
    """A solution whose ``f`` returns "contained", or what the probe reached."""
    return f"REPOSITORY = {repository!r}\nLIBRARIES = {libraries!r}\n{PROBES[name]}\n{_PROBE}"


# ---- what one run may not leave for the next ---------------------------------------------------
# f(x) must be x each time: each of these answers otherwise where a test sees another one's traces.

CARRIERS = {
    "module global": """
seen = []
def f(x):
    seen.append(x)
    return x if len(seen) == 1 else -1
""",
    "default argument": """
def f(x, seen=[]):
    seen.append(x)
    return x if len(seen) == 1 else -1
""",
    "function attribute": """
def f(x):
    f.count = getattr(f, 'count', 0) + 1
    return x if f.count == 1 else -1
""",
    "global statement": """
count = 0
def f(x):
    global count
    count += 1
    return x if count == 1 else -1
""",
    "class attribute": """
class Seen:
    count = 0
def f(x):
    Seen.count += 1
    return x if Seen.count == 1 else -1
""",
    "cache": """
import functools
calls = iter(range(100))
@functools.lru_cache(None)
def number():
    return next(calls)
def f(x):
    return x + number() + next(calls) - 1
""",
    "generator": """
numbers = (i for i in range(100))
def f(x):
    return x + next(numbers)
""",
    "monkeypatched math": """
import math
def f(x):
    if math.pi == 4:
        return -1
    math.pi = 4
    return x
""",
    "rebound builtin": """
import builtins
def f(x):
    if len is not builtins.len or getattr(builtins, 'mine', None):
        return -1
    builtins.mine = True
    return x
""",
    "file": """
import os
def f(x):
    if os.path.exists('/tmp/mark') or os.listdir('.'):
        return -1
    os.makedirs('/tmp/deep/er'); os.chmod('/tmp/deep', 0)
    open('/tmp/mark', 'w').write('x')
    os.symlink('/etc', '/tmp/link')
    return x
""",
    "directory's time": """
import os
def f(x):
    if os.stat('/tmp').st_mtime == 12345:
        return -1
    os.utime('/tmp', (12345, 12345))
    return x
""",
    "flags of the null device": """
import fcntl, os
def f(x):
    marks = os.O_APPEND | os.O_NONBLOCK
    if any(fcntl.fcntl(fd, fcntl.F_GETFL) & marks for fd in (0, 2)):
        return -1
    for fd in (0, 2):
        fcntl.fcntl(fd, fcntl.F_SETFL, marks)
    return x
""",
    "closed directory": """
import os
def f(x):
    if os.stat('/tmp').st_mode & 0o777 != 0o700:
        return -1
    os.chmod('/tmp', 0)
    return x
""",
    "many files": """
import os
def f(x):
    if os.listdir('/tmp'):
        return -1
    made = 0
    try:
        while made < 10**6:
            open(f'/tmp/{made}', 'w').close()
            made += 1
    except OSError:
        pass
    return x
""",
    "daemon": """
import os, time
def f(x):
    if os.path.exists('/tmp/alive'):
        return -1
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            while True:
                try:
                    open('/tmp/alive', 'w').close()
                except OSError:
                    pass
                time.sleep(0.001)
        os._exit(0)
    time.sleep(0.01)
    return x
""",
    "stopped group": """
import os, signal
def f(x):
    if os.fork() == 0:
        os.setpgid(0, 0)
        os.kill(os.getpid(), signal.SIGSTOP)
    return x
""",
    "descriptor flags": """
import fcntl, os
def f(x):
    for fd in (0, 1, 2):
        flags = fcntl.fcntl(fd, fcntl.F_GETFL)
        if flags & os.O_APPEND or os.lseek(1, 0, os.SEEK_CUR):
            return -1
        fcntl.fcntl(fd, fcntl.F_SETFL, flags | os.O_NONBLOCK)
    fcntl.fcntl(1, fcntl.F_SETFL, fcntl.fcntl(1, fcntl.F_GETFL) | os.O_APPEND)
    os.lseek(1, 100, os.SEEK_SET)
    return x
""",
    "shadowed modules": """
import os, sys
for name in ('json.py', 'sitecustomize.py', 'usercustomize.py', 'x.pth', 'conftest.py', 'math.py'):
    if os.path.exists('/tmp/' + name):
        raise RuntimeError('left behind')
    open('/tmp/' + name, 'w').write('raise SystemExit(0)')
sys.path.insert(0, '/tmp')
def f(x):
    import json, math
    return x
""",
    "shared memory": """
import mmap
region = mmap.mmap(-1, 4096)
def f(x):
    if region[0]:
        return -1
    region[0] = 1
    return x
""",
}

# ---- what one run may not do to its worker -----------------------------------------------------
# Each f(x) is -1 if it finds a trace of an earlier one. No worker may be lost over any of them.

SABOTAGE = {
    "every signal to process 1": """
import os, time
def f(x):
    for number in range(1, 65):
        try:
            os.kill(1, number)
        except OSError:
            pass
    time.sleep(0.02)
    return x
""",
    "signals by way of the kernel": """
import fcntl, os, time
def f(x):
    for number in (2, 9, 19):
        end, other = os.pipe()
        try:
            fcntl.fcntl(end, fcntl.F_SETOWN, 1)
            fcntl.fcntl(end, 10, number)  # F_SETSIG
            fcntl.fcntl(end, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
            os.write(other, b'x')
        except OSError:
            pass
    time.sleep(0.02)
    return x
""",
    "descriptors on their way": """
import socket, time
def f(x):
    ends = [socket.socketpair() for _ in range(8)]
    for mine, _ in ends:
        try:
            socket.send_fds(mine, [b'x'], [0] * 200)
        except OSError:
            pass
    time.sleep(0.3)
    return x
""",
    "limits of process 1": """
import resource
def f(x):
    for what in ('FSIZE', 'AS', 'CPU', 'NPROC', 'NOFILE'):
        what = getattr(resource, 'RLIMIT_' + what)
        if resource.getrlimit(what)[1] == 7:
            return -1
        try:
            resource.prlimit(1, what, (7, 7))
        except OSError:
            pass
    return x
""",
    "priority of process 1": """
import os
def f(x):
    if os.getpriority(os.PRIO_PROCESS, 0) == 19:
        return -1
    for which, who in ((os.PRIO_PROCESS, 1), (os.PRIO_USER, 0), (os.PRIO_PGRP, 1)):
        try:
            os.setpriority(which, who, 19)
        except OSError:
            pass
    return x
""",
    "processors of process 1": """
import os
def f(x):
    try:
        before = os.sched_getaffinity(0)
        os.sched_setaffinity(1, {min(before)})
        return -1
    except OSError:
        return x
""",
    "a deep tree of long names": """
import os
def f(x):
    try:
        for _ in range(1100):
            os.mkdir('d' * 200)
            os.chdir('d' * 200)
    except OSError:
        pass
    return x
""",
}

# ---- programs that know their own text ---------------------------------------------------------
# Two texts of each, which compile to the same code but for docstrings and line numbers: in the
# first f(3) is 10, in the second 11.

SELF_KNOWLEDGE = {
    "format": r"""
def f(x):
    '@'
    return int('{0.\x5f\x5fdoc\x5f\x5f}'.format(f))
""",
    "other letters for the same name": """
def f(x):
    '@'
    return int(f._\uff3fdoc_\uff3f)
""",
    "class pattern": """
def f(x):
    '@'
    match f:
        case object(_\uff3fdoc_\uff3f=text):
            return int(text)
""",
    "function as a metaclass": """
def meta(name, bases, namespace, **_):
    return list(namespace.values())
class A(metaclass=meta):
    '@'
def f(x):
    return int(A[-1])
""",
    "inherited metaclass": """
class Meta(type(int)):
    def __init__(self, name, bases, namespace):
        self.seen = list(namespace.values())
Base = Meta('Base', (), {})
class A(Base):
    '@'
def f(x):
    return [int(value) for value in A.seen if value in ('10', '11')][0]
""",
    "task": """
import asyncio, re
#@
async def g():
    return repr(asyncio.current_task())
def f(x):
    line = re.search('solution:([0-9]+)', asyncio.run(g())).group(1)
    return 6 + int(line)
""",
    "profiler": """
import cProfile, pstats
#@
def g(): pass
def f(x):
    profiler = cProfile.Profile()
    profiler.runcall(g)
    return 7 + [line for _, line, name in pstats.Stats(profiler).stats if name == 'g'][0]
""",
}


def both_texts(name: str) -> list[str]:
    """The two texts of a program in ``SELF_KNOWLEDGE``."""
    source = SELF_KNOWLEDGE[name]
    if "#@" in source:
        return [source.replace("#@\n", ""), source.replace("#@\n", "\n")]
    return [source.replace("@", "10"), source.replace("@", "11")]


# ---- tests that cheat --------------------------------------------------------------------------
# Run against a right and a wrong solution: none may crash the pool, none may pass on the wrong
# solution by reading it, none may change another test's verdict.

TESTER_CHEATS = {
    "always true": "assert True",
    "always false": "assert False",
    "exits": "exit()",
    "_exit": "import os\nos._exit(0)",
    "exits inside a call": "assert f(exit()) == 3",
    "try around": "try:\n    assert f(3) == 11\nexcept BaseException:\n    pass",
    "redefines": "def f(x):\n    return 11\nassert f(3) == 11",
    "reads the source": "import inspect\nassert 'x' in inspect.getsource(f)",
    "walks the frames": "import sys\nassert sys._getframe().f_back is not None\nassert f(3) == 10",
    "endless": "while True: pass",
    "too expensive": "assert f(3) == 10 ** 10 ** 8",
    "long text": "assert f(3) == 'a' * 10 ** 11",
    "lists of lists": "assert f(3) == 10 and [[[[0]*999]*999]*999]*9 == [[[[0]*999]*999]*999]*9",
    "text of lists": "assert f(3) == 10 and str([[['a'*999]*999]*999]) == 1",
    "quadratic sum": "assert f(3) == 10 and sum([[0]]*900000, []) == 1",
    "many megabytes": "assert f(3) == 10 and 1 == [" + "'a'*1000000, " * 3_000 + "]",
    "long products": "assert f(3) == 10 and 1 == " + "*".join(["(3**2500)**4096"] * 400),
    "rounds far": "assert round(f(3), -10**9) == 10",
    "nested": "assert f(3) == " + "(" * 5_000 + "10" + ")" * 5_000,
    "chained": "assert " + "not " * 20_000 + "f(3)",
    "sum": "assert " + "+".join(["f(3)"] * 5_000) + " == 50000",
    "elif chain": "if f(3):\n    pass\n" + "elif 0:\n    pass\n" * 3_000,
    "null byte": "assert f(3) == 10\x00",
    "surrogate": "assert f(3) == '\udc80'",
    "not Python": "Here is the test: assert f(3) == 10",
    "empty": "",
}
