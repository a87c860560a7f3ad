"""Run one rank: ``python -m retort.training.distributed.rank ORDER``, started by torchrun."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import sys
import threading
import traceback
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from retort.spec import DistillationSpec
from retort.training import environment
from retort.training.config import TrainConfig


@dataclass(frozen=True)
class RankConfig:
    """Configuration for all ranks of one training."""

    plan: TrainConfig
    """For the first rank; with GPUs, the next ranks take the devices that follow."""
    teacher: Path | None
    distillation: DistillationSpec | None

    def write(self, path: Path) -> None:
        """Write the configuration for the ranks to read."""
        path.write_bytes(TypeAdapter(RankConfig).dump_json(self))

    @classmethod
    def read(cls, path: Path) -> RankConfig:
        """Read the configuration that ``write`` wrote."""
        return TypeAdapter(RankConfig).validate_json(path.read_bytes())


def main(order_file: Path) -> int:
    """Train as one of several ranks; return the exit code."""
    threading.Thread(target=_die_with_starter, name="starter", daemon=True).start()
    faulthandler.register(signal.SIGQUIT, all_threads=True)
    order = RankConfig.read(order_file)
    number = environment.rank()
    environment.prepare(order.plan.folder / f"ultralytics-{number}", rank=True)

    from retort.training.distributed.messages import RankCallback

    sender = RankCallback(order.plan.folder, number)
    sender.alive("setup")
    try:
        _train(order, number, sender)
    except BaseException as error:  # noqa: BLE001 - whatever ends a rank is told
        traceback.print_exc()
        with contextlib.suppress(OSError):  # a full disk, which the log then shows
            sender.failed(error)
        sys.stderr.flush()
        os._exit(1)  # an orderly exit would wait for the other ranks, which may wait for this one
    return 0


def _train(order: RankConfig, number: int, sender: Any) -> None:
    import torch

    from retort.training import comm, trainer

    device = order.plan.device if order.plan.device == "cpu" else str(int(order.plan.device) + number)
    if device != "cpu":
        _try(device)
    comm.join(torch.device("cpu" if device == "cpu" else f"cuda:{device}"))
    sender.joined()
    plan = replace(order.plan, device=device)
    fitted = trainer.fit(plan, sender, teacher=order.teacher, distillation=order.distillation)
    sender.fitted(fitted)
    comm.leave()


def _try(device: str) -> None:
    """Try the GPU *device* before this rank meets the others.

    They would wait for a rank whose GPU is of no use.

    Raises:
        ForeignError: it cannot be used.

    """
    from retort.foreign import failed_gpu
    from retort.training import placement

    found = placement.obstacle(placement.read(device), device)
    if found is not None:
        raise failed_gpu(f"a GPU of the run cannot be used: {found.reason}", found.remedy)


def _die_with_starter() -> None:
    """Kill this session when standard input ends: a pipe that the run holds, so that no rank outlives its run.

    torchrun puts each rank into a session of its own, where no signal to the run's group arrives.
    """
    with contextlib.suppress(OSError):
        while os.read(0, 4096):
            pass
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
