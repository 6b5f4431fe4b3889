"""A seccomp filter for child processes: the kernel refuses what no decoder or network needs (seccomp(2)).

Refused with EPERM: sockets, other programs, new processes, tracing and signals of other processes, mounts, namespaces,
kernel modules, BPF, keys, io_uring, changes of owners and modes. Threads, files and memory stay as they are.
"""

import ctypes
import errno
import os
import platform
import struct

_SET_MODE_FILTER = 1
_FLAG_TSYNC = 1
_ALLOW = 0x7FFF0000
_KILL_PROCESS = 0x80000000
_ERRNO = 0x00050000
_CLONE_THREAD = 0x00010000
_X32 = 0x40000000
_ARCHITECTURES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}  # AUDIT_ARCH_*, column of the tables below

_NUMBER, _ARCH, _FIRST_ARGUMENT = 0, 4, 16  # offsets in struct seccomp_data; arguments are little-endian 64-bit
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06

# Numbers on x86-64 and on aarch64 (asm/unistd_64.h, asm-generic/unistd.h); 0 where there is none.
_REFUSED: dict[str, tuple[int, int]] = {
    "accept": (43, 202), "accept4": (288, 242), "bind": (49, 200), "connect": (42, 203), "listen": (50, 201),
    "socket": (41, 198), "socketpair": (53, 199),
    "execve": (59, 221), "execveat": (322, 281), "fork": (57, 0), "vfork": (58, 0),
    "kcmp": (312, 272), "pidfd_getfd": (438, 438), "pidfd_open": (434, 434), "pidfd_send_signal": (424, 424),
    "process_madvise": (440, 440), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "ptrace": (101, 117), "setpriority": (141, 140), "tkill": (200, 130),
    "chroot": (161, 51), "fsconfig": (431, 431), "fsmount": (432, 432), "fsopen": (430, 430), "fspick": (433, 433),
    "mount": (165, 40), "mount_setattr": (442, 442), "move_mount": (429, 429), "open_tree": (428, 428),
    "pivot_root": (155, 41), "quotactl": (179, 60), "setns": (308, 268), "swapoff": (168, 225), "swapon": (167, 224),
    "umount2": (166, 39), "unshare": (272, 97),
    "acct": (163, 89), "adjtimex": (159, 171), "bpf": (321, 280), "clock_adjtime": (305, 266),
    "clock_settime": (227, 112), "delete_module": (176, 106), "fanotify_init": (300, 262),
    "finit_module": (313, 273), "init_module": (175, 105), "ioperm": (173, 0), "iopl": (172, 0),
    "kexec_file_load": (320, 294), "kexec_load": (246, 104), "modify_ldt": (154, 0), "perf_event_open": (298, 241),
    "personality": (135, 92), "reboot": (169, 142), "setdomainname": (171, 162), "sethostname": (170, 161),
    "settimeofday": (164, 170), "syslog": (103, 116), "userfaultfd": (323, 282), "vhangup": (153, 58),
    "add_key": (248, 217), "keyctl": (250, 219), "request_key": (249, 218),
    "io_uring_enter": (426, 426), "io_uring_register": (427, 427), "io_uring_setup": (425, 425),
    "mq_open": (240, 180), "msgget": (68, 186), "semget": (64, 190), "shmget": (29, 194),
    "capset": (126, 91), "setfsgid": (123, 152), "setfsuid": (122, 151), "setgid": (106, 144),
    "setgroups": (116, 159), "setregid": (114, 143), "setresgid": (119, 149), "setresuid": (117, 147),
    "setreuid": (113, 145), "setuid": (105, 146),
    "chmod": (90, 0), "chown": (92, 0), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452),
    "fchown": (93, 55), "fchownat": (260, 54), "fremovexattr": (199, 16), "fsetxattr": (190, 7), "lchown": (94, 0),
    "lremovexattr": (198, 15), "lsetxattr": (189, 6), "mknod": (133, 0), "mknodat": (259, 33),
    "name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265), "removexattr": (197, 14), "setxattr": (188, 5),
}  # fmt: skip
_OWN_PROCESS_ONLY: dict[str, tuple[int, int]] = {
    "kill": (62, 129), "prlimit64": (302, 261), "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240),
    "tgkill": (234, 131),
}  # fmt: skip
_CLONE, _CLONE3, _SECCOMP = (56, 220), (435, 435), (317, 277)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def is_supported() -> bool:
    """Whether this kernel and processor have a filter of ours."""
    if platform.machine() not in _ARCHITECTURES or not hasattr(os, "fork"):
        return False
    action = ctypes.c_uint32(_ERRNO)
    return _seccomp(2, 0, ctypes.byref(action)) == 0  # SECCOMP_GET_ACTION_AVAIL


def install() -> bool:
    """Filter the calls of all threads of this process from now on; whether it worked. Needs no_new_privs."""
    if platform.machine() not in _ARCHITECTURES:
        return False
    code = program(platform.machine(), os.getpid())
    compiled = _Program(len(code) // 8, code)
    return _seccomp(_SET_MODE_FILTER, _FLAG_TSYNC, ctypes.byref(compiled)) == 0


def program(machine: str, pid: int) -> bytes:
    """The filter as BPF code, for the process ``pid``."""
    arch, column = _ARCHITECTURES[machine]
    code = [
        _step(_LOAD, _ARCH),
        _step(_EQUAL, arch, when_true=1),
        _step(_RETURN, _KILL_PROCESS),
        _step(_LOAD, _NUMBER),
    ]
    if machine == "x86_64":
        code += [_step(_AT_LEAST, _X32, when_false=1), _refuse(errno.EPERM)]
    for numbers in _REFUSED.values():
        if number := numbers[column]:
            code += [_step(_EQUAL, number, when_false=1), _refuse(errno.EPERM)]
    # Its flags are in memory, which a filter cannot read; the C library then uses clone.
    code += [_step(_EQUAL, _CLONE3[column], when_false=1), _refuse(errno.ENOSYS)]
    code += [
        _step(_EQUAL, _CLONE[column], when_false=4),
        _step(_LOAD, _FIRST_ARGUMENT),
        _step(_ANY_BIT, _CLONE_THREAD, when_false=1),
        _step(_RETURN, _ALLOW),
        _refuse(errno.EPERM),
    ]
    for name, numbers in _OWN_PROCESS_ONLY.items():
        also_zero = name == "prlimit64"  # there it means the own process
        code += [
            _step(_EQUAL, numbers[column], when_false=5 if also_zero else 4),
            _step(_LOAD, _FIRST_ARGUMENT),
            *([_step(_EQUAL, 0, when_true=1)] if also_zero else []),
            _step(_EQUAL, pid, when_false=1),
            _step(_RETURN, _ALLOW),
            _refuse(errno.EPERM),
        ]
    code.append(_step(_RETURN, _ALLOW))
    return b"".join(code)


def _step(operation: int, value: int, *, when_true: int = 0, when_false: int = 0) -> bytes:
    """One instruction (struct sock_filter); ``when_*``: how many instructions a jump skips."""
    return struct.pack("<HBBI", operation, when_true, when_false, value)


def _refuse(code: int) -> bytes:
    return _step(_RETURN, _ERRNO | code)


def _seccomp(operation: int, flags: int, argument: object) -> int:
    number = _SECCOMP[_ARCHITECTURES[platform.machine()][1]]
    return int(ctypes.CDLL(None, use_errno=True).syscall(number, operation, flags, argument))
