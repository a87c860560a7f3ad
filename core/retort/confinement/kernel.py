"""Call the kernel by number: the calls that Python's library lacks."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import sys

_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_CAPBSET_DROP = 1, 4, 24
PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL = 38, 47, 4
CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET, CLONE_NEWIPC = (
    0x00020000, 0x10000000, 0x20000000, 0x40000000, 0x08000000,
)  # fmt: skip
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = (
    1, 2, 4, 8, 32, 4096, 16384, 1 << 18,
)  # fmt: skip
_CAPSET = {"x86_64": 126, "aarch64": 91}
_CAPABILITY_VERSION = 0x20080522
_MOST_CAPABILITIES = 64


def machine() -> str:
    """Return the name of the machine's instruction set, as the kernel says it."""
    return platform.machine()


def call(number: int, *arguments: object) -> int:
    """Make the system call *number*.

    Raises:
        OSError: the kernel refuses it, or has no such call.

    """
    if _LIBC is None:
        raise OSError(errno.ENOSYS, "this is not Linux")
    return _checked(_LIBC.syscall(ctypes.c_long(number), *map(_argument, arguments)))


def prctl(option: int, *arguments: int) -> int:
    """Change a property of this process.

    Raises:
        OSError: the kernel refuses it.

    """
    if _LIBC is None:
        raise OSError(errno.ENOSYS, "this is not Linux")
    given = [*arguments, 0, 0, 0, 0][:4]
    return _checked(_LIBC.prctl(ctypes.c_int(option), *map(ctypes.c_ulong, given)))


def unshare(flags: int) -> None:
    """Leave the namespaces that *flags* name, for new ones.

    Raises:
        OSError: the kernel refuses it.

    """
    if _LIBC is None:
        raise OSError(errno.ENOSYS, "this is not Linux")
    _checked(_LIBC.unshare(ctypes.c_int(flags)))


def mount(source: str | None, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    """Mount a file system.

    Raises:
        OSError: the kernel refuses it.

    """
    if _LIBC is None:
        raise OSError(errno.ENOSYS, "this is not Linux")
    names = [None if name is None else os.fsencode(name) for name in (source, target, kind)]
    _checked(_LIBC.mount(*names, ctypes.c_ulong(flags), None if data is None else data.encode()))


def keep_capabilities(kept: frozenset[int]) -> None:
    """Give up all capabilities but those *kept*, for good.

    Raises:
        OSError: the kernel refuses it.

    """
    for number in range(_MOST_CAPABILITIES):
        if number not in kept:
            try:
                prctl(PR_CAPBSET_DROP, number)
            except OSError as error:
                if error.errno == errno.EINVAL:  # the kernel knows no further one
                    break
                if error.errno != errno.EPERM:  # EPERM: without CAP_SETPCAP there is nothing to give up
                    raise
    with_none = ctypes.create_string_buffer(b"".join(n.to_bytes(4, sys.byteorder) for n in (_CAPABILITY_VERSION, 0)))
    held = held_capabilities() & sum(1 << number for number in kept)
    low, high = held & 0xFFFFFFFF, held >> 32
    words = (low, low, 0, high, high, 0)
    data = ctypes.create_string_buffer(b"".join(word.to_bytes(4, sys.byteorder) for word in words))
    call(_CAPSET[machine()], with_none, data)
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)


def held_capabilities() -> int:
    """Return the capabilities that this process may use, as bits."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:  # noqa: PTH123 - the start is to be quick
        found = [line.split()[1] for line in file if line.startswith("CapPrm:")]
    return int(found[0], 16)


def _argument(value: object) -> object:
    return ctypes.c_long(value) if isinstance(value, int) else value


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
