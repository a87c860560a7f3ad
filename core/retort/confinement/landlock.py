"""Restrict a process to files by Landlock, Linux's own unprivileged sandbox."""

from __future__ import annotations

import ctypes
import os
import stat
from collections.abc import Iterable
from pathlib import Path

from retort.confinement import kernel

_CREATE, _ADD, _RESTRICT = 444, 445, 446
"""Numbers of the calls, the same on every machine."""
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1, 2, 4, 8
_ALL_BY_VERSION = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}
_MAKE_CHAR, _MAKE_BLOCK, _TRUNCATE, _IOCTL_DEV = 1 << 6, 1 << 11, 1 << 14, 1 << 15
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV
READ = _EXECUTE | _READ_FILE | _READ_DIR
DEVICE = _READ_FILE | _READ_DIR | _WRITE_FILE | _IOCTL_DEV
_SCOPES = 0b11
"""Abstract Unix sockets and signals stay inside."""
_WITH_SCOPES = 6


def version() -> int:
    """Return the version of Landlock that the kernel has.

    Raises:
        OSError: it has none, or it is switched off.

    """
    return kernel.call(_CREATE, 0, 0, 1)


def restrict(read: Iterable[Path], write: Iterable[Path], devices: Iterable[Path], *, scoped: bool) -> int:
    """Let this process and its children see only these files.

    Landlock's version comes back. Paths that do not exist are left out. *scoped* keeps signals and abstract sockets
    inside too, where the kernel can.

    Raises:
        OSError: the kernel refuses it.

    """
    found = version()
    everything = max(rights for since, rights in _ALL_BY_VERSION.items() if since <= found)
    scopes = _SCOPES if scoped and found >= _WITH_SCOPES else 0
    words = (everything, 0, scopes) if found >= _WITH_SCOPES else (everything,)
    attributes = (ctypes.c_uint64 * len(words))(*words)
    rules = kernel.call(_CREATE, ctypes.byref(attributes), ctypes.sizeof(attributes), 0)
    try:
        for paths, rights in (
            (read, READ),
            (write, everything & ~(_MAKE_CHAR | _MAKE_BLOCK | _IOCTL_DEV)),
            (devices, DEVICE),
        ):
            for path in paths:
                _allow(rules, path, rights & everything)
        kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
        kernel.call(_RESTRICT, rules, 0)
    finally:
        os.close(rules)
    return found


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("rights", ctypes.c_uint64), ("folder", ctypes.c_int32))


def _allow(rules: int, path: Path, rights: int) -> None:
    try:
        opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not stat.S_ISDIR(os.fstat(opened).st_mode):
            rights &= _OF_FILES
        beneath = _Beneath(rights, opened)
        kernel.call(_ADD, rules, 1, ctypes.byref(beneath), 0)
    finally:
        os.close(opened)
