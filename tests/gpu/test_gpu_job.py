"""A whole job on a GPU, and a training on two of them over NCCL."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import core.conftest  # noqa: F401  # prepares the environment
import pytest
import torch
from core.runs import document, start
from core.training.pictures import Notebook
from gpu.test_gpu_fit import plan
from retort.errors import TransientError
from retort.protocol.events import FinishedEvent, LogEvent, MetricEvent
from retort.spec import DistillationSpec
from retort.training.distributed import launcher

pytestmark = pytest.mark.train
two_gpus = pytest.mark.skipif(
    torch.cuda.device_count() < 2, reason=f"NCCL needs two GPUs, and this machine has {torch.cuda.device_count()}"
)


def test_a_job_of_three_epochs_ends_well_with_its_teacher_recorded(tmp_path: Path) -> None:
    training = {"epochs": 3, "imgsz": 96, "batch": 4, "close_mosaic": 0}
    running = start(tmp_path, document(tmp_path, training=training, exports=[]), device="0")
    running.until(lambda event: isinstance(event, FinishedEvent))
    assert running.wait() == 0, running.log()
    said = [event.message for event in running.said() if isinstance(event, LogEvent)]
    assert "teacher recorded: yes" in said
    steps = [event.step for event in running.said() if isinstance(event, MetricEvent) and "val/mAP50" in event.values]
    assert {1, 2, 3} <= set(steps)


@two_gpus
def test_two_gpus_train_what_one_trains(published: Callable[..., Path], data_yaml: Path, tmp_path: Path) -> None:
    notes, teacher = Notebook(), published("yolo11n")
    done = launcher.fit(plan(data_yaml, tmp_path), notes, ranks=2, teacher=teacher, distillation=DistillationSpec())
    assert done.epochs == 2
    assert "info: training on 2 GPUs, over NCCL" in notes.said
    assert all(value is not None for value in notes.metrics[2].values())


@two_gpus
@pytest.mark.timeout(180)
def test_a_killed_rank_ends_the_training_while_the_other_waits_for_it_on_its_gpu(
    published: Callable[..., Path], data_yaml: Path, tmp_path: Path
) -> None:
    """A rank in an all-reduce of NCCL spins on its GPU, and hears nothing: its launcher has to end it."""
    killed: list[float] = []

    def kill(pid: int) -> None:
        killed.append(time.monotonic())
        os.kill(pid, signal.SIGKILL)

    class Watching(Notebook):
        def log(self, message: str, level: str = "info", **data: object) -> None:
            super().log(message, level, **data)
            pids = data.get("pids")
            if isinstance(pids, list):
                threading.Timer(
                    5.0, lambda: (killed.append(time.monotonic()), os.kill(pids[1], signal.SIGKILL))
                ).start()

    long = replace(plan(data_yaml, tmp_path), epochs=500)
    with pytest.raises(TransientError) as caught:
        launcher.fit(long, Watching(), ranks=2, teacher=published("yolo11n"), distillation=DistillationSpec())
    assert caught.value.code == "rank_lost"
    assert time.monotonic() - killed[0] < 60
