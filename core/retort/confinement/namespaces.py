"""Enter new namespaces: users, mounts, process numbers, network."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import socket
import struct
from collections.abc import Callable, Sequence
from pathlib import Path

from retort.confinement import kernel

FLAGS = {
    "mounts": kernel.CLONE_NEWNS,
    "processes": kernel.CLONE_NEWPID | kernel.CLONE_NEWIPC,
    "network": kernel.CLONE_NEWNET,
}
"""Namespaces by the names of the parts that they give."""
_CAP_SYS_ADMIN = 21
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1
_FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


def enter(wanted: Sequence[str]) -> list[str]:
    """Leave this process's namespaces for new ones.

    The parts that this gives come back. A privileged process needs no new namespace of users, and keeps its rights to
    files of others.

    Raises:
        OSError: the kernel refuses it.

    """
    flags = sum(FLAGS[name] for name in wanted)
    gained = list(wanted)
    if not _privileged():
        uid, gid = os.getuid(), os.getgid()
        kernel.unshare(kernel.CLONE_NEWUSER | flags)
        for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
            Path("/proc/self", name).write_text(text)
        gained.append("users")
    else:
        kernel.unshare(flags)
    if "mounts" in wanted:
        kernel.mount(None, "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
    if "network" in wanted:
        _start_loopback()
    return gained


def possible(wanted: Sequence[str]) -> str | None:
    """Try the namespaces in a child; return why they cannot be had, or None."""
    ours, theirs = os.pipe()
    child = os.fork()
    if not child:
        _answer(theirs, lambda: _try(wanted))
    os.close(theirs)
    with os.fdopen(ours, "rb") as file:
        told = file.read().decode()
    os.waitpid(child, 0)
    return None if told == "ok" else told or "the kernel ended the process that tried"


def _answer(pipe: int, work: Callable[[], None]) -> None:
    """Do *work* in this child, tell how it went, and end."""
    try:
        work()
        told = "ok"
    except OSError as error:
        told = os.strerror(error.errno or 0)
    except BaseException as error:  # noqa: BLE001 - a forked child must end here whatever happens
        told = type(error).__name__
    os.write(pipe, told.encode())
    os._exit(0)


def _try(wanted: Sequence[str]) -> None:
    enter(wanted)
    if "processes" in wanted:
        child = os.fork()
        if not child:
            with contextlib.suppress(BaseException):
                mount_proc()
                os._exit(0)
            os._exit(1)
        if os.waitpid(child, 0)[1]:
            raise OSError(1, "mounting /proc")


def mount_proc() -> None:
    """Mount a /proc of this namespace's processes, with read-only switches.

    Raises:
        OSError: the kernel refuses it, as in containers that hide parts of theirs.

    """
    flags = kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC
    kernel.mount("proc", "/proc", "proc", flags)
    for switches in ("/proc/sys", "/proc/sysrq-trigger"):
        if os.path.exists(switches):  # noqa: PTH110 - the start is to be quick
            kernel.mount(switches, switches, None, kernel.MS_BIND | kernel.MS_REC)
            kernel.mount(None, switches, None, kernel.MS_REMOUNT | kernel.MS_BIND | kernel.MS_RDONLY | flags)


def cover(folder: Path, target: Path) -> None:
    """Show *folder* in the place of *target*.

    Raises:
        OSError: the kernel refuses it.

    """
    kernel.mount(str(folder), str(target), None, kernel.MS_BIND)


def cover_run() -> None:
    """Hide the sockets of the machine's services below /run, but for NVIDIA's.

    Raises:
        OSError: the kernel refuses it.

    """
    run = Path("/run")
    if not run.is_dir():
        return
    kept = [path for path in run.iterdir() if path.name.startswith("nvidia") and path.is_dir()]
    opened = {path: os.open(path, os.O_PATH | os.O_CLOEXEC) for path in kept}
    flags = kernel.MS_NOSUID | kernel.MS_NODEV
    kernel.mount("tmpfs", str(run), "tmpfs", flags, "size=1m,mode=755")
    for path, number in opened.items():
        path.mkdir()
        kernel.mount(f"/proc/self/fd/{number}", str(path), None, kernel.MS_BIND | kernel.MS_REC)
        os.close(number)


def cover_shared_memory() -> None:
    """Mount a new /dev/shm, as large as the machine's.

    Raises:
        OSError: the kernel refuses it.

    """
    about = os.statvfs("/dev/shm")  # noqa: S108 - it is looked at only
    size = about.f_blocks * about.f_frsize
    kernel.mount("tmpfs", "/dev/shm", "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, f"size={size},mode=1777")  # noqa: S108


def first_process(work: Callable[[], None], pipe: int) -> None:
    """Be the first process of a namespace; never return.

    *work* is run in a child, and ends with another program, or not at all; others are reaped, and signals forwarded.
    The child's end is written to *pipe*, as ``waitpid`` tells it.
    """
    _block()
    child = os.fork()
    if not child:
        _unblock()
        with contextlib.suppress(BaseException):
            os.setsid()  # a group that it can see
            work()
        os._exit(71)
    code = _attend(child)
    os.write(pipe, struct.pack("=i", code))
    os._exit(0)


def beside(first: Callable[[int], None]) -> int:
    """Run *first* in a child, and forward signals to it.

    The end that it wrote comes back, as ``waitpid`` tells it.
    """
    ours, theirs = os.pipe()
    _block()
    child = os.fork()
    if not child:
        os.close(ours)
        kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
        first(theirs)
        os._exit(71)
    os.close(theirs)
    code = _attend(child)
    _unblock()
    told = os.read(ours, 4)
    return struct.unpack("=i", told)[0] if len(told) == 4 else code


def end_as(code: int) -> None:
    """End this process as another has ended, by *code* of ``waitpid``."""
    if os.WIFSIGNALED(code):
        number = os.WTERMSIG(code)
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    os._exit(os.waitstatus_to_exitcode(code) if os.WIFEXITED(code) else 70)


def _attend(child: int) -> int:
    """Wait for *child*, and meanwhile reap others and forward signals."""
    while True:
        number = signal.sigwait({signal.SIGCHLD, *_FORWARDED})
        if number != signal.SIGCHLD:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, number)
            continue
        while True:
            try:
                ended, code = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if ended == child:
                return code
            if not ended:
                break


def _block() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD, *_FORWARDED})


def _unblock() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD, *_FORWARDED})


def _privileged() -> bool:
    return bool(kernel.held_capabilities() >> _CAP_SYS_ADMIN & 1)


def _start_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        asked = struct.pack("16sH14s", b"lo", 0, b"")
        flags = struct.unpack("16sH14s", fcntl.ioctl(sock, _SIOCGIFFLAGS, asked))[1]
        fcntl.ioctl(sock, _SIOCSIFFLAGS, struct.pack("16sH14s", b"lo", flags | _IFF_UP, b""))
