"""Linux system calls by name, with their numbers on x86_64 and aarch64 (``-``: not there).

From the kernel's ``asm/unistd_64.h`` and ``asm-generic/unistd.h``. Calls in none of these lists
are answered "not implemented", which is what a C library expects of a kernel that is older than
itself.
"""

# Harmless inside the namespaces, the private file system and the resource limits.
ALLOWED = """
    brk:12:214 mmap:9:222 munmap:11:215 mprotect:10:226 mremap:25:216 madvise:28:233
    mincore:27:232 msync:26:227 mlock:149:228 munlock:150:229 mlock2:325:284
    mlockall:151:230 munlockall:152:231 membarrier:324:283
    read:0:63 write:1:64 readv:19:65 writev:20:66 pread64:17:67 pwrite64:18:68 preadv:295:69
    pwritev:296:70 preadv2:327:286 pwritev2:328:287 open:2:- openat:257:56 openat2:437:437
    creat:85:- close:3:57 close_range:436:436 lseek:8:62 stat:4:- fstat:5:80 lstat:6:-
    newfstatat:262:79 statx:332:291 access:21:- faccessat:269:48 faccessat2:439:439
    readlink:89:- readlinkat:267:78 getdents:78:- getdents64:217:61 getcwd:79:17 chdir:80:49
    fchdir:81:50 rename:82:- renameat:264:38 renameat2:316:276 mkdir:83:- mkdirat:258:34
    rmdir:84:- unlink:87:- unlinkat:263:35 link:86:- linkat:265:37 symlink:88:-
    symlinkat:266:36 truncate:76:45 ftruncate:77:46 fallocate:285:47 fsync:74:82
    fdatasync:75:83 sync_file_range:277:84 fadvise64:221:223 dup:32:23 dup2:33:- dup3:292:24
    pipe:22:- pipe2:293:59 sendfile:40:71 splice:275:76 tee:276:77
    copy_file_range:326:285 statfs:137:43 fstatfs:138:44 chmod:90:- fchmod:91:52
    fchmodat:268:53 umask:95:166 utime:132:- utimes:235:- utimensat:280:88 futimesat:261:-
    poll:7:- ppoll:271:73 select:23:- pselect6:270:72 epoll_create:213:-
    epoll_create1:291:20 epoll_ctl:233:21 epoll_wait:232:- epoll_pwait:281:22
    epoll_pwait2:441:441 eventfd:284:- eventfd2:290:19 timerfd_create:283:85
    timerfd_settime:286:86 timerfd_gettime:287:87 signalfd:282:- signalfd4:289:74 pause:34:-
    nanosleep:35:101 clock_nanosleep:230:115
    recvfrom:45:207 recvmsg:47:212 sendto:44:206 shutdown:48:210
    getsockopt:55:209 getsockname:51:204 getpeername:52:205
    fork:57:- vfork:58:- wait4:61:260 waitid:247:95 exit:60:93 exit_group:231:94
    set_tid_address:218:96 set_robust_list:273:99 get_robust_list:274:100
    pidfd_open:434:434 rseq:334:293 sched_yield:24:124 sched_getaffinity:204:123
    sched_getparam:143:121 sched_getscheduler:145:120
    sched_get_priority_max:146:125 sched_get_priority_min:147:126 getpriority:140:141
    arch_prctl:158:- setsid:112:157 setpgid:109:154 getpgid:121:155
    getpgrp:111:- getsid:124:156 getpid:39:172 getppid:110:173 gettid:186:178 getuid:102:174
    geteuid:107:175 getgid:104:176 getegid:108:177 getgroups:115:158 getresuid:118:148
    getresgid:120:150 getrusage:98:165 getrlimit:97:163
    getcpu:309:168 times:100:153 uname:63:160 capget:125:90 capset:126:91
    rt_sigaction:13:134 rt_sigprocmask:14:135 rt_sigreturn:15:139 rt_sigpending:127:136
    rt_sigsuspend:130:133 rt_sigtimedwait:128:137 sigaltstack:131:132 alarm:37:-
    setitimer:38:103 getitimer:36:102 restart_syscall:219:128
    clock_gettime:228:113 clock_getres:229:114 gettimeofday:96:169 time:201:-
    getrandom:318:278
"""

# Answered with success and not done: a run has no other run to lock a file against, and the files
# that it shares with the host must stay unlocked. Commands of fcntl are in seccomp.py.
PRETENDED = "flock:73:32"

# Sending signals: harmless where the PID namespace ends the reach, refused elsewhere. In the second
# list the signal is the third argument instead of the second.
SIGNALS = "kill:62:129 tkill:200:130 rt_sigqueueinfo:129:138"
SIGNALS_TO_THREADS = "tgkill:234:131 rt_tgsigqueueinfo:297:240"

# What a program may try without being hostile; it is told that it may not (EPERM).
REFUSED = """
    socket:41:198 connect:42:203 bind:49:200 listen:50:201 accept:43:202 accept4:288:242
    sendmmsg:307:269 recvmmsg:299:243 execve:59:221 execveat:322:281 chown:92:- fchown:93:55
    lchown:94:- fchownat:260:54 mknod:133:- mknodat:259:33 chroot:161:51 setuid:105:146
    setgid:106:144 setreuid:113:145 setregid:114:143 setresuid:117:147 setresgid:119:149
    setgroups:116:159 setns:308:268 unshare:272:97 sched_setscheduler:144:119
    setpriority:141:140 sched_setparam:142:118 inotify_init1:294:26 fanotify_init:300:262
    shmget:29:194 semget:64:190 msgget:68:186 mq_open:240:180 clock_settime:227:112
    settimeofday:164:170
    memfd_create:319:279 setsockopt:54:208 sendmsg:46:211 sysinfo:99:179
    timer_create:222:107
    syslog:103:116 quotactl:179:60 sethostname:170:161 setdomainname:171:162
"""

# What no solution of a programming problem calls; the process ends at once (SIGSYS).
DEADLY = """
    ptrace:101:117 process_vm_readv:310:270 process_vm_writev:311:271 pidfd_getfd:438:438
    kcmp:312:272 mount:165:40 umount2:166:39 pivot_root:155:41 move_mount:429:429
    open_tree:428:428 fsopen:430:430 fsconfig:431:431 fsmount:432:432 fspick:433:433
    mount_setattr:442:442 bpf:321:280 perf_event_open:298:241 userfaultfd:323:282
    keyctl:250:219 add_key:248:217 request_key:249:218 init_module:175:105
    finit_module:313:273 delete_module:176:106 kexec_load:246:104 kexec_file_load:320:294
    reboot:169:142 swapon:167:224 swapoff:168:225 io_uring_setup:425:425
    io_uring_enter:426:426 io_uring_register:427:427 iopl:172:- ioperm:173:- acct:163:89
    open_by_handle_at:304:265 name_to_handle_at:303:264
"""

# Decided by their arguments in seccomp.py.
CLONE, CLONE3, FCNTL, FUTEX, IOCTL, PIDFD_SEND_SIGNAL, PRCTL, PRLIMIT, SETRLIMIT, SOCKETPAIR = (
    "clone:56:220",
    "clone3:435:435",
    "fcntl:72:25",
    "futex:202:98",
    "ioctl:16:29",
    "pidfd_send_signal:424:424",
    "prctl:157:167",
    "prlimit64:302:261",
    "setrlimit:160:164",
    "socketpair:53:199",
)
# Its first argument is a process: what a run may change of itself it must not of the worker.
AFFINITY = "sched_setaffinity:203:122"


def number(entry: str, machine: str) -> int | None:
    """The number of one ``name:x86_64:aarch64`` entry on this machine, if it has one."""
    _, x86_64, aarch64 = entry.split(":")
    text = x86_64 if machine == "x86_64" else aarch64
    return None if text == "-" else int(text)


def numbers(group: str, machine: str) -> list[int]:
    """The numbers of a whole list above."""
    found = (number(entry, machine) for entry in group.split())
    return sorted(n for n in found if n is not None)
