"""Find the GPUs of a worker that PyTorch can use, asked in child processes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import structlog
from retort import nvml
from retort.errors import printable
from retort.protocol.environment import allowed
from retort.settings import Settings, visible_gpus

from retort_worker.gpus import DevicePool

CHECK = (sys.executable, "-m", "retort.training.device_check")
"""The program that tries the first GPU that it sees, and prints why it cannot be used."""
_log = structlog.get_logger()
_HANGS = "PyTorch did not answer"
_DIES_S = 5.0
_AT_A_TIME = 4
"""Each takes some seconds, a core and 1 GB: they load PyTorch."""


Ask = Callable[[Sequence[str]], Mapping[str, str]]


def find(settings: Settings, *, ask: Ask | None = None) -> DevicePool:
    """Return the pool of this machine's usable GPUs; log the other ones."""
    pool = DevicePool(settings.slots, cpu_allowed=settings.cpu_fallback)
    look(pool, ask=ask)
    for device in pool.declared():
        if not device["refused"]:
            _log.info("runs get", **{name: value for name, value in device.items() if value is not None})
    if pool.refused() and pool.most_gpus is None:
        takes = "those that do not require a GPU" if pool.cpu_allowed else "those with resources.require_gpu: false"
        _log.error("no GPU can be used here", jobs_taken=f"{takes}, on the CPU")
    return pool


def look(pool: DevicePool, *, ask: Ask | None = None) -> None:
    """Add GPUs that have become usable to the pool, and log the refused ones.

    A refusal is logged once, until its reason changes. GPUs that runs get already are left alone, and so are those that
    hang: each try would leave a process that cannot be killed.
    """
    before, described = pool.refused(), nvml.describe(visible_gpus())
    settled = {*pool.usable(), *(name for name, why in before.items() if why.startswith(_HANGS))}
    new = [gpu.name for gpu in described if gpu.refused is None and gpu.name not in settled]
    refused = {gpu.name: gpu.refused for gpu in described if gpu.refused is not None} | dict((ask or unusable)(new))
    pool.renew(
        {gpu.name: gpu for gpu in described}, usable=[name for name in new if name not in refused], refused=refused
    )
    after = pool.refused()
    for name, why in after.items():
        if before.get(name) != why:
            _log.error("GPU cannot be used, and gets no runs", gpu=name, reason=why)
    for name in before.keys() - after.keys():
        _log.info("GPU can be used now", gpu=name)


def unusable(
    gpus: Sequence[str],
    *,
    environment: Mapping[str, str] = os.environ,
    command: Sequence[str] = CHECK,
    own: Mapping[str, str] | None = None,
    timeout_s: float = 180.0,
) -> dict[str, str]:
    """Return the GPUs that PyTorch cannot use, with the reasons.

    Each is tried as a run would see it, alone. The worker itself never loads PyTorch: a broken driver can then end, or
    hold up, no more than the one that asks. *own* are further variables of that one.
    """

    def why(gpu: str) -> str | None:
        seen = {**allowed(environment), **nvml.IN_ORDER, **(own or {}), "CUDA_VISIBLE_DEVICES": gpu}
        return _answer(command, seen, timeout_s)

    if not gpus:
        return {}
    with ThreadPoolExecutor(max_workers=_AT_A_TIME) as pool:
        answers = dict(zip(gpus, pool.map(why, gpus), strict=True))
    return {gpu: answer for gpu, answer in answers.items() if answer is not None}


def _answer(command: Sequence[str], environment: Mapping[str, str], timeout_s: float) -> str | None:
    try:
        process = subprocess.Popen(
            command, env=dict(environment), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, errors="replace", start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        return f"PyTorch could not be asked: {error}"
    try:
        told, complaint = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        _give_up(process)
        return f"{_HANGS} within {timeout_s:g} s: GPU or driver hang; restart the machine, and then this worker"
    return _reason(told, complaint, process.returncode)


def _give_up(process: subprocess.Popen[str]) -> None:
    """Kill it; one that waits inside the driver may not die, and is not waited for."""
    os.killpg(process.pid, signal.SIGKILL)
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_DIES_S)


def _reason(told: str, complaint: str, code: int) -> str | None:
    try:
        why = json.loads(told.strip().rpartition("\n")[2])["why"]
    except (ValueError, KeyError, TypeError):
        last = printable(complaint.strip().rpartition("\n")[2])[:400] or "without a word"
        ended = f"signal {-code}" if code < 0 else f"exit code {code}"
        return f"PyTorch ended with {ended} when it was asked: {last}"
    return None if why is None else str(why)
