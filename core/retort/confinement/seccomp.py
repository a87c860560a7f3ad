"""Refuse system calls that a training never makes, by a filter in the kernel."""

from __future__ import annotations

import ctypes
import errno
import struct

from retort.confinement import kernel

_PR_SET_SECCOMP, _FILTER = 22, 2
_LOAD, _EQUAL, _ABOVE_OR_EQUAL, _AND, _RETURN = 0x20, 0x15, 0x35, 0x54, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_NUMBER, _ARCH, _FIRST, _SECOND, _THIRD = 0, 4, 16, 24, 32
"""Offsets of the fields in the kernel's ``seccomp_data``; of arguments the lower halves."""
_X32 = 0x40000000
_NAMESPACES = 0x7E020080
"""CLONE_NEW*: mount, cgroup, UTS, IPC, user, PID, network, time."""
_AF_UNIX, _AF_INET, _AF_INET6, _AF_NETLINK = 1, 2, 10, 16
_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C

_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_REFUSED = {
    # name: x86_64, aarch64
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219),
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51),
    "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430), "fsconfig": (431, 431),
    "fsmount": (432, 432), "fspick": (433, 433), "mount_setattr": (442, 442),
    "unshare": (272, 97), "setns": (308, 268),
    "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "io_uring_register": (427, 427),
    "kexec_load": (246, 104), "kexec_file_load": (320, 294),
    "init_module": (175, 105), "finit_module": (313, 273), "delete_module": (176, 106),
    "open_by_handle_at": (304, 265),
    "acct": (163, 89), "quotactl": (179, 60), "quotactl_fd": (443, 443), "swapon": (167, 224), "swapoff": (168, 225),
    "reboot": (169, 142), "syslog": (103, 116), "sethostname": (170, 161), "setdomainname": (171, 162),
    "settimeofday": (164, 170), "clock_settime": (227, 112), "fanotify_init": (300, 262),
}  # fmt: skip
_ONLY_X86 = {"iopl": 172, "ioperm": 173, "modify_ldt": 154, "uselib": 134, "_sysctl": 156}
_CLONE, _CLONE3, _SOCKET, _IOCTL = (56, 220), (435, 435), (41, 198), (16, 29)


def install(*, internet: bool) -> None:
    """Filter the system calls of this process and its children from now on.

    *internet* leaves sockets of the internet's families to be made; a network namespace then bounds what they reach.

    Raises:
        OSError: the kernel refuses it, or the machine is one that the filter does not know.

    """
    program = _program(internet=internet)
    code = ctypes.create_string_buffer(b"".join(program), 8 * len(program))

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_void_p))

    about = Program(len(program), ctypes.cast(code, ctypes.c_void_p))
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    kernel.prctl(_PR_SET_SECCOMP, _FILTER, ctypes.addressof(about))


def refused_calls() -> frozenset[str]:
    """Return the names of the calls that are refused outright."""
    return frozenset((*_REFUSED, *_ONLY_X86))


def _program(*, internet: bool) -> list[bytes]:
    name = kernel.machine()
    if name not in _ARCHITECTURES:
        raise OSError(errno.ENOSYS, f"no filter is known for {name}")
    column = list(_ARCHITECTURES).index(name)
    numbers = [both[column] for both in _REFUSED.values()]
    numbers += list(_ONLY_X86.values()) if name == "x86_64" else []
    families = (_AF_UNIX, *((_AF_INET, _AF_INET6) if internet else ()))
    program = [
        _step(_LOAD, _ARCH), _step(_EQUAL, _ARCHITECTURES[name], yes=1), _refuse(errno.ENOSYS),
        _step(_LOAD, _NUMBER),
    ]  # fmt: skip
    if name == "x86_64":
        program += [_step(_ABOVE_OR_EQUAL, _X32, no=1), _refuse(errno.ENOSYS)]
    for number in numbers:
        program += [_step(_EQUAL, number, no=1), _refuse(errno.EPERM)]
    # The C library makes threads by clone where clone3, whose flags no filter can read, does not exist.
    program += [_step(_EQUAL, _CLONE3[column], no=1), _refuse(errno.ENOSYS)]
    program += _only_for(_CLONE[column], [
        _step(_LOAD, _FIRST), _step(_AND, _NAMESPACES), _step(_EQUAL, 0, yes=1), _refuse(errno.EPERM), _allow(),
    ])  # fmt: skip
    program += _only_for(_IOCTL[column], [
        _step(_LOAD, _SECOND),
        *(part for one in (_TIOCSTI, _TIOCLINUX) for part in (_step(_EQUAL, one, no=1), _refuse(errno.EPERM))),
        _allow(),
    ])  # fmt: skip
    program += _only_for(_SOCKET[column], [
        _step(_LOAD, _FIRST),
        *(part for family in families for part in (_step(_EQUAL, family, no=1), _allow())),
        _step(_EQUAL, _AF_NETLINK, yes=1), _refuse(errno.EACCES),
        _step(_LOAD, _THIRD), _step(_EQUAL, 0, yes=1), _refuse(errno.EACCES), _allow(),
    ])  # fmt: skip
    return [*program, _allow()]


def _only_for(number: int, then: list[bytes]) -> list[bytes]:
    return [_step(_EQUAL, number, no=len(then)), *then]


def _step(code: int, value: int, *, yes: int = 0, no: int = 0) -> bytes:
    return struct.pack("=HBBI", code, yes, no, value)


def _refuse(number: int) -> bytes:
    return _step(_RETURN, _ERRNO | number)


def _allow() -> bytes:
    return _step(_RETURN, _ALLOW)
