"""Launch the ranks of a training, relay their messages, end them."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from retort.errors import RetortError, Stopped, TransientError, UserError
from retort.spec import DistillationSpec
from retort.training import environment
from retort.training.config import TrainCallback, TrainConfig, TrainResult
from retort.training.device import visible_gpus
from retort.training.distributed.messages import Receiver, forget, stopped
from retort.training.distributed.rank import RankConfig

_TICK_S = 0.05
_GRACE_S = 10.0
"""How long the launcher may take to end once its ranks are told to die."""


def fit(
    plan: TrainConfig,
    callback: TrainCallback,
    *,
    ranks: int,
    teacher: Path | None = None,
    distillation: DistillationSpec | None = None,
) -> TrainResult:
    """Train by *plan* on *ranks* devices, from the plan's device on.

    Otherwise it trains as ``trainer.fit`` does.

    Raises:
        UserError: there are fewer devices.
        TransientError: a rank was lost (``rank_lost``).
        RetortError: what a rank raised, see ``trainer.fit``.

    """
    number = visible_gpus()
    if plan.device != "cpu" and int(plan.device) + ranks > number:
        message = f"resources.gpus is {ranks}, but this run sees {number} GPU{'s' if number != 1 else ''}"
        raise UserError(message, hint="fewer gpus, or a worker with more of them", code="too_few_gpus")
    receiver = Receiver(plan.folder, callback)
    order, verdict = plan.folder / "order.json", plan.folder / "verdict.json"
    forget(plan.folder)
    verdict.unlink(missing_ok=True)
    device, seen = own_gpus(plan.device, ranks, environment.variables().get("CUDA_VISIBLE_DEVICES"))
    RankConfig(replace(plan, device=device), teacher, distillation).write(order)
    arguments = [str(order), str(ranks), str(verdict)]
    with _launched(arguments, seen) as process:
        _listen(process, receiver, ranks, plan.device)
    receiver.read()
    return _outcome(receiver, verdict, process.returncode)


def own_gpus(device: str, ranks: int, names: str | None) -> tuple[str, dict[str, str]]:
    """Return the ranks' first device, and the variables that show them their GPUs.

    They see no other GPU: upstream lets rank 0 meet the others on GPU 0, rank 1 on GPU 1, and where a run begins at
    GPU 2, those are another's. *names* are those of the GPUs that this process sees (CUDA_VISIBLE_DEVICES; None for
    all).
    """
    if device in {"cpu", "0"}:
        return device, {}
    first = int(device)
    shown = names.split(",") if names else [str(number) for number in range(first + ranks)]
    return "0", {"CUDA_VISIBLE_DEVICES": ",".join(shown[first : first + ranks])}


def _listen(process: subprocess.Popen[bytes], receiver: Receiver, ranks: int, device: str) -> None:
    """Pass on what the ranks say until they have ended or stopped."""
    asked = finishing = introduced = False
    while process.poll() is None and not stopped(receiver):
        receiver.read()
        if receiver.fitted is not None:  # everything is written; what is left to do is to leave the group
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_GRACE_S)
            return
        if not introduced and len(receiver.pids) == ranks:
            introduced = True
            where = "CPU processes, over gloo" if device == "cpu" else "GPUs, over NCCL"
            pids = [receiver.pids[rank] for rank in range(ranks)]
            receiver.callback.log(f"training on {ranks} {where}", ranks=ranks, pids=pids)
        if not asked and receiver.callback.stop_requested():
            asked = True
            receiver.ask_to_stop()
        if not finishing and receiver.callback.finish_requested():
            finishing = True
            receiver.ask_to_finish()
        time.sleep(_TICK_S)


@contextlib.contextmanager
def _launched(arguments: list[str], seen: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """Start the launcher in our process group; at the end, whatever the reason, its ranks are dead and it is too."""
    command = [sys.executable, "-m", "retort.training.distributed.launcher", *arguments]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, env=environment.variables(**seen))
    assert process.stdin is not None
    try:
        yield process
    finally:
        process.stdin.close()  # the ranks' order to die
        try:
            process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _outcome(receiver: Receiver, verdict: Path, code: int) -> TrainResult:
    """Judge: what a rank said in our words comes first, then a rank that was lost, then any other error.

    When one rank dies, the others fail over the broken connection, so their errors are but its echo.
    """
    if receiver.fitted is not None:
        return receiver.fitted
    if stopped(receiver) or receiver.callback.stop_requested():
        raise next((error for error in receiver.failures if isinstance(error, Stopped)), Stopped("stopped"))
    student = [error for error in receiver.failures if isinstance(error, RetortError)]
    if student:
        raise student[0]
    ends = json.loads(verdict.read_text()) if verdict.exists() else []
    lost = sorted((end for end in ends if end["code"] < 0), key=lambda end: (end["ended"], end["at"]))
    if lost and (not lost[0]["ended"] or not receiver.failures):
        raise _lost(lost[0])
    if receiver.failures:
        raise receiver.failures[0]
    raise TransientError(f"the ranks ended with {code} and without a word", code="rank_lost")


def _lost(end: dict[str, Any]) -> TransientError:
    name = signal.Signals(-end["code"]).name
    message = f"rank {end['rank']} of the training was lost: its process {end['pid']} was ended by {name}"
    hint = "the machine may have run out of memory" if name == "SIGKILL" else "the run's log may say more"
    return TransientError(message, hint=hint, code="rank_lost")


def main(order: str, number: int, verdict: Path) -> int:
    """Run the ranks once; write *verdict* where one fails.

    When one of them ends badly, the rest are ended.
    """
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=number,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="localhost",  # the machine's own name need not be known to any resolver
        max_restarts=0,
        monitor_interval=0.1,
        shutdown_timeout=5,
    )
    try:
        elastic_launch(config, sys.executable)("-m", "retort.training.distributed.rank", order)
    except ChildFailedError as error:
        verdict.write_text(json.dumps([_told(rank, failure) for rank, failure in error.failures.items()]))
        return 1
    except SignalException:
        return 1
    return 0


def _told(rank: int, failure: Any) -> dict[str, Any]:
    """Return a rank's end; the launcher's own SIGTERM to the survivors is not one."""
    return {
        "rank": rank,
        "code": failure.exitcode,
        "ended": failure.exitcode == -signal.SIGTERM,
        "at": failure.timestamp,
        "pid": failure.pid,
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])))
