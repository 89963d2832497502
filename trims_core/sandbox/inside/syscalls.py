"""The system calls that a sandboxed process may not make, as a seccomp filter that nothing lifts again.

Covered: starting processes and programs, reaching into or signalling another process, sockets, memory outside
a process' own limit (System V, message queues), mounts and namespaces, identities, and whole parts of the
kernel that Python programs have no use for. Threads are allowed. Calls newer than this table do not exist.
Not covered: calls that Python itself needs; the namespaces and limits around have to hold those.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct

TYPE_CHECKING = False  # importing typing would take as long as Python's start
if TYPE_CHECKING:
    from typing import Final

_REFUSED: Final[dict[str, tuple[int, int]]] = {
    # name: number on x86_64 and on aarch64; -1 where there is none
    "fork": (57, -1),
    "vfork": (58, -1),
    "execve": (59, 221),
    "execveat": (322, 281),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "process_mrelease": (448, 448),
    "kcmp": (312, 272),
    "move_pages": (279, 239),
    "migrate_pages": (256, 238),
    "kill": (62, 129),
    "tkill": (200, 130),
    "tgkill": (234, 131),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438),
    "pidfd_send_signal": (424, 424),
    "socket": (41, 198),
    "shmget": (29, 194),
    "shmat": (30, 196),
    "msgget": (68, 186),
    "semget": (64, 190),
    "mq_open": (240, 180),
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "open_by_handle_at": (304, 265),
    "setuid": (105, 146),
    "setgid": (106, 144),
    "setreuid": (113, 145),
    "setregid": (114, 143),
    "setresuid": (117, 147),
    "setresgid": (119, 149),
    "setgroups": (116, 159),
    "capset": (126, 91),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "personality": (135, 92),
    "fanotify_init": (300, 262),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "kexec_load": (246, 104),
}
_MACHINES: Final = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
_CLONE: Final = (56, 220)
_CLONE_THREAD: Final = 0x10000
_CLONE3: Final = 435
_PRLIMIT64: Final = (302, 261)
_FIRST_UNKNOWN: Final = 451

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER_AT, _MACHINE_AT, _ARGUMENT_AT = 0, 4, 16
_ALLOW, _ERROR, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 38, 22, 2


class NoFilterError(Exception):
    """This machine or its kernel has no such filter."""


def filter_calls() -> None:
    """From here on this process, its threads included, gets an error from each refused call.

    Raises:
        NoFilterError: the processor's numbers are not known here, or the kernel takes no filter.
    """
    program = _program()
    code = ctypes.create_string_buffer(program, len(program))
    head = struct.pack("@HxxxxxxP", len(program) // 8, ctypes.addressof(code))
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    long = ctypes.c_ulong
    none = (long(0), long(0))
    if prctl(_PR_SET_NO_NEW_PRIVS, long(1), long(0), *none):
        raise NoFilterError(f"no_new_privs: {errno.errorcode.get(ctypes.get_errno())}")
    if prctl(_PR_SET_SECCOMP, long(_SECCOMP_MODE_FILTER), ctypes.c_char_p(head), *none):
        raise NoFilterError(f"the kernel takes no filter: {errno.errorcode.get(ctypes.get_errno())}")


def _program() -> bytes:
    """The filter's instructions, 8 bytes each."""
    machine = os.uname().machine
    if machine not in _MACHINES:
        raise NoFilterError(f"the system calls of {machine!r} are not known; known: {', '.join(_MACHINES)}")
    which, audit = _MACHINES[machine]
    refuse = _step(_RETURN, _ERROR | errno.EPERM)
    steps = [_step(_LOAD, _MACHINE_AT), _step(_EQUAL, audit, 1, 0), _step(_RETURN, _KILL)]
    steps += [_step(_LOAD, _NUMBER_AT)]
    # also those of x32, whose numbers start at 0x40000000
    steps += [_step(_AT_LEAST, _FIRST_UNKNOWN, 0, 1), _step(_RETURN, _ERROR | errno.ENOSYS)]
    # the C library then asks for clone, whose flags can be seen
    steps += [_step(_EQUAL, _CLONE3, 0, 1), _step(_RETURN, _ERROR | errno.ENOSYS)]
    for numbers in _REFUSED.values():
        if numbers[which] >= 0:
            steps += [_step(_EQUAL, numbers[which], 0, 1), refuse]
    steps += [_step(_EQUAL, _CLONE[which], 0, 4), _step(_LOAD, _ARGUMENT_AT)]
    steps += [_step(_ANY_BIT, _CLONE_THREAD, 0, 1), _step(_RETURN, _ALLOW), refuse]
    # limits of its own process only, which it names 0
    steps += [_step(_EQUAL, _PRLIMIT64[which], 0, 3), _step(_LOAD, _ARGUMENT_AT), _step(_EQUAL, 0, 1, 0)]
    steps += [refuse, _step(_RETURN, _ALLOW)]
    return b"".join(steps)


def _step(code: int, value: int, if_so: int = 0, if_not: int = 0) -> bytes:
    """One instruction; the jumps say how many are left out."""
    return struct.pack("=HBBI", code, if_so, if_not, value)
