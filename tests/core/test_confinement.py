"""A confined program: what it cannot reach, and that it is told as it is."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from retort.confinement import UNCONFINED, Facts, Policy, confined, landlock, namespaces, seccomp
from support.worker_harness import eventually

_TRIES = """
import ctypes, json, os, socket, sys
def tried(work):
    try:
        return repr(work())
    except OSError as error:
        return f"refused {error.errno}"
libc = ctypes.CDLL(None, use_errno=True)
def call(number, *arguments):
    if libc.syscall(number, *arguments) < 0:
        raise OSError(ctypes.get_errno(), "")
secret, folder, outer = sys.argv[1:4]
tries = {
    "secret": lambda: open(secret).read(),
    "environment": lambda: open(f"/proc/{outer}/environ").read(),
    "memory": lambda: open(f"/proc/{outer}/mem", "rb"),
    "signal": lambda: os.kill(int(outer), 0),
    "write": lambda: open(os.path.join(os.path.dirname(secret), "new"), "w"),
    "own": lambda: open(os.path.join(folder, "own"), "w").write("mine"),
    "shared memory": lambda: open("/dev/shm/retort-test", "w").write("mine"),
    "internet": lambda: socket.create_connection(("192.0.2.1", 80), 1),
    "loopback": lambda: socket.create_connection(("127.0.0.1", int(sys.argv[4])), 1),
    "packets": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW),
    "host of a machine": lambda: socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM),
    "unix": lambda: socket.socketpair() and 1,
    "ptrace": lambda: call(101 if os.uname().machine == "x86_64" else 117, 0, 0, 0, 0),
    "unshare": lambda: call(272 if os.uname().machine == "x86_64" else 97, 0x10000000),
    "kernel": lambda: open("/proc/sys/kernel/core_pattern", "w").write("|/bin/sh"),
}
print(json.dumps({name: tried(work) for name, work in tries.items()}))
"""


def result_of(command: list[str], policy: Policy, **more: Any) -> tuple[subprocess.CompletedProcess[str], Facts | None]:
    """Run the command confined; return it with what its starter told."""
    ours, theirs = os.pipe()
    told = Policy.decode(policy.encode())
    told = Policy(**{**{name: getattr(told, name) for name in Policy.__slots__}, "facts": theirs})
    done = subprocess.run(
        confined(command, told), pass_fds=(theirs,), capture_output=True, text=True, check=False, timeout=60, **more
    )
    os.close(theirs)
    with os.fdopen(ours, "rb") as file:
        return done, Facts.decode(file.read())


@pytest.fixture(scope="module")
def tried(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, str], Facts]:
    """What a confined program got from each try, and the facts that were told of it."""
    outside, folder = tmp_path_factory.mktemp("outside"), tmp_path_factory.mktemp("folder")
    (outside / "secret").write_text("the key")
    policy = Policy(write=(str(folder),), tmp=str(folder))
    arguments = [str(outside / "secret"), str(folder), str(os.getpid()), "9"]
    done, facts = result_of([sys.executable, "-c", _TRIES, *_relative(arguments, folder)], policy, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert facts is not None
    return json.loads(done.stdout), facts


def _relative(arguments: list[str], folder: Path) -> list[str]:
    """Name the files relatively: what a command names absolutely, it may read."""
    return [os.path.relpath(one, folder) if one.startswith("/") else one for one in arguments]


def needs(part: str, facts: Facts) -> None:
    """Skip the test where the host refuses that part; what is told must then say why."""
    if part not in facts.in_force:
        assert facts.missing[part]
        pytest.skip(f"this host refuses {part}: {facts.missing[part]}")


def test_a_confined_program_reads_and_writes_nothing_but_what_it_was_given(tried: tuple[dict[str, str], Facts]):
    got, facts = tried
    needs("files", facts)
    refused = {name: got[name] for name in ("secret", "write", "kernel")}
    assert all(answer.startswith("refused") for answer in refused.values()), refused
    assert (got["own"], got["shared memory"]) == ("4", "4")


def test_a_confined_program_cannot_read_the_environment_of_the_one_that_started_it(
    tried: tuple[dict[str, str], Facts],
):
    """Same user: /proc showed the worker's keys to whatever a checkpoint made a run do."""
    got, facts = tried
    if "files" not in facts.in_force:
        needs("processes", facts)
    refused = {name: got[name] for name in ("environment", "memory", "signal")}
    assert all(answer.startswith("refused") for answer in refused.values()), refused


def test_a_confined_program_has_no_network(tried: tuple[dict[str, str], Facts]):
    got, facts = tried
    needs("network", facts)
    refused = {name: got[name] for name in ("internet", "loopback")}
    assert all(answer.startswith("refused") for answer in refused.values()), refused


def test_calls_that_no_training_makes_are_refused_and_its_own_are_not(tried: tuple[dict[str, str], Facts]):
    got, facts = tried
    needs("calls", facts)
    refused = {name: got[name] for name in ("ptrace", "unshare", "packets", "host of a machine")}
    assert all(answer.startswith("refused") for answer in refused.values()), refused
    assert got["unix"] == "1"
    assert {"keyctl", "mount", "bpf", "kexec_load", "open_by_handle_at", "process_vm_readv"} <= seccomp.refused_calls()


def test_processes_of_one_run_meet_over_loopback_where_no_other_network_is(tmp_path: Path):
    meet = (
        "import socket; server = socket.create_server(('127.0.0.1', 0)); "
        "client = socket.create_connection(server.getsockname()); print('met'); "
        "socket.create_connection(('192.0.2.1', 80), 2)"
    )
    done, facts = result_of([sys.executable, "-c", meet], Policy(write=(str(tmp_path),), network="loopback"))
    assert done.stdout == "met\n"
    assert facts is not None
    needs("network", facts)
    assert "Network is unreachable" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM])
def test_a_confined_program_ends_as_it_would_have_ended_alone(number: signal.Signals, tmp_path: Path):
    code = f"import os; os.kill(os.getpid(), {number.value})"
    assert result_of([sys.executable, "-c", code], Policy(write=(str(tmp_path),)))[0].returncode == -number
    assert result_of([sys.executable, "-c", "raise SystemExit(7)"], Policy())[0].returncode == 7


def test_a_signal_reaches_the_program_and_killing_its_group_leaves_nothing(tmp_path: Path):
    code = (
        "import os, signal, subprocess, sys; signal.signal(signal.SIGTERM, lambda *_: print('told', flush=True)); "
        "subprocess.Popen(['sleep', '3600'], start_new_session=True); print('begun', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        confined([sys.executable, "-c", code], Policy(write=(str(tmp_path),))),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True, cwd=tmp_path,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        children = _below(process.pid)
        process.terminate()
        assert process.stdout.readline() == "told\n"
        os.killpg(process.pid, signal.SIGKILL)
        assert process.wait(60) == -signal.SIGKILL
    if namespaces.possible(["mounts", "processes"]) is None:
        eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children))


def _below(pid: int) -> list[int]:
    found = [int(one) for file in Path(f"/proc/{pid}/task").glob("*/children") for one in file.read_text().split()]
    return [*found, *(further for one in found for further in _below(one))]


def test_the_limits_of_a_converter_hold(tmp_path: Path):
    policy = Policy(write=(str(tmp_path),), memory_bytes=1 << 30, file_bytes=1 << 20)
    assert "MemoryError" in result_of([sys.executable, "-c", "bytearray(2 << 30)"], policy)[0].stderr
    write = f"open({str(tmp_path / 'large')!r}, 'wb').write(bytes(2 << 20))"
    assert "File too large" in result_of([sys.executable, "-c", write], policy)[0].stderr


def test_who_demands_all_gets_all_or_nothing(tmp_path: Path):
    done, facts = result_of(["/bin/echo", "ran"], Policy(mode="strict", write=(str(tmp_path),)))
    assert facts is not None
    assert (done.returncode, done.stdout) == ((UNCONFINED, "") if facts.missing else (0, "ran\n"))
    # In there nothing more can be given up: neither a namespace nor a mount is to be had.
    inner = confined(["/bin/echo", "ran"], Policy(mode="strict", write=(str(tmp_path),)))
    done, facts = result_of(inner, Policy(write=(str(tmp_path),)))
    assert facts is not None
    needs("calls", facts)
    assert (done.returncode, done.stdout) == (UNCONFINED, "")
    assert "mounts: Operation not permitted" in done.stderr
    kinder = confined(["/bin/echo", "ran"], Policy(mode="best", write=(str(tmp_path),)))
    assert result_of(kinder, Policy(write=(str(tmp_path),)))[0].stdout == "ran\n"


def test_parts_that_the_operator_leaves_out_are_told_as_left_out(tmp_path: Path):
    done, facts = result_of(["/bin/echo", "ran"], Policy(without=("processes", "files"), write=(str(tmp_path),)))
    assert done.stdout == "ran\n"
    assert facts is not None
    assert "left out" in facts.missing["processes"]
    assert not {"processes", "files"} & set(facts.in_force)
    assert "processes: left out" in facts.sentence
    assert confined(["/bin/echo"], Policy(mode="off")) == ["/bin/echo"]
    assert Facts.decode(b"nothing of it") is None


_HIDES = """
import sys
from retort.confinement import hide_environment, kernel
kernel.keep_capabilities(frozenset())
if sys.argv[1:] == ["hide"]:
    hide_environment()
print(flush=True)
sys.stdin.read()
"""
_PEEKS = """
import sys
from retort.confinement import kernel
kernel.keep_capabilities(frozenset())
print(open(f"/proc/{sys.argv[1]}/environ").read())
"""


@pytest.mark.parametrize(("how", "seen"), [("hide", False), ("show", True)])
def test_a_process_that_hides_its_environment_shows_it_to_no_other_of_its_user(how: str, seen: bool):
    """Where a host allows no confinement at all, this alone keeps a run from the keys of its worker."""
    environment = {**os.environ, "THE_KEY": "of the worker"}
    with subprocess.Popen(
        [sys.executable, "-c", _HIDES, how], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as worker:
        assert worker.stdout is not None
        worker.stdout.readline()
        peek = [sys.executable, "-c", _PEEKS, str(worker.pid)]
        told = subprocess.run(peek, capture_output=True, text=True, check=False)
        worker.kill()
    assert ("THE_KEY=of the worker" in told.stdout) is seen
    assert ("PermissionError" in told.stderr) is not seen


def test_landlock_is_there_wherever_it_is_told_to_be(tried: tuple[dict[str, str], Facts]):
    try:
        assert landlock.version() >= 1
    except OSError:
        assert "files" in tried[1].missing
    else:
        assert "files" in tried[1].in_force


def test_the_memory_of_a_run_is_limited_or_it_is_told_that_it_is_not(tmp_path: Path):
    take = [sys.executable, "-c", "taken = bytearray(3 << 30); print(len(taken))"]
    policy = Policy(write=(str(tmp_path),), data_bytes=2 << 30)
    done, facts = result_of(take, policy)
    assert facts is not None
    needs("limits", facts)
    assert "MemoryError" in done.stderr
    assert "memory" not in facts.missing

    done, facts = result_of(["/bin/echo", "ran"], replace(policy, gpus=True))
    assert done.stdout == "ran\n"
    assert facts is not None
    assert "memory: not limited with a GPU" in facts.sentence
    done, facts = result_of(["/bin/echo", "ran"], replace(policy, gpus=True, mode="strict"))
    assert (done.returncode, done.stdout) == (UNCONFINED, "")
