"""Loader processes are as many as shared memory has room for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from core.training.pictures import Notebook
from retort.constants import Role
from retort.spec import TrainingSpec
from retort.training.arguments import arguments
from retort.training.config import TeacherConfig, TrainConfig, UnlabelledConfig
from retort.training.data.loader import workers_for
from retort.training.environment import SharedMemoryDemand, affordable, cap_workers, free_bytes, num_cores
from retort.training.trainer import TrainingLoop

USUAL = SharedMemoryDemand(16, 640)
IMAGE = 3 * 640 * 640
VALIDATION = 3 * 672 * 672


def test_the_demand_is_what_every_process_has_ready_and_what_the_trainer_holds():
    assert USUAL.size_bytes(0) == 0
    assert USUAL.size_bytes(1) == 16 * IMAGE * 6 + 16 * VALIDATION * 5
    assert USUAL.size_bytes(8) == 16 * IMAGE * 34 + 16 * VALIDATION * 33
    assert replace(USUAL, trains=False).size_bytes(8) == 16 * VALIDATION * 17
    assert replace(USUAL, unlabelled=8).size_bytes(2) - USUAL.size_bytes(2) == 8 * IMAGE * 5


@pytest.mark.parametrize(
    ("batch", "imgsz", "workers", "training", "validation"),
    # What became used of /dev/shm, in bytes: of training batches, then of batches twice as large for validation.
    [(8, 320, 1, 14_888_960, 29_855_744), (16, 320, 2, 49_373_184, 59_592_704), (4, 640, 2, 49_373_184, 54_308_864)],
)
def test_the_demand_is_what_was_measured(batch: int, imgsz: int, workers: int, training: int, validation: int):
    of_validation = 3 * 2 * batch * (imgsz + 32) ** 2 * 5  # of two processes: there were no more cores
    whole = SharedMemoryDemand(batch, imgsz, 2 * batch).size_bytes(workers)
    of_training = whole - 3 * 2 * batch * (imgsz + 32) ** 2 * (4 * workers + 1)
    assert training == pytest.approx(of_training, rel=0.02)
    assert validation == pytest.approx(of_validation, rel=0.02)


@pytest.mark.parametrize(
    ("free", "expected"),
    [
        (None, 8),
        (8 << 30, 8),
        (int(USUAL.size_bytes(8) / 0.8) + 1, 8),
        (int(USUAL.size_bytes(8) / 0.8) - 9, 7),
        (64 << 20, 0),
        (0, 0),
    ],
)
def test_the_number_is_lowered_until_they_fit(free: int | None, expected: int):
    assert affordable(8, USUAL, free) == expected


def test_ranks_share_what_is_free_and_it_is_said_with_the_numbers():
    said: list[tuple[str, dict[str, Any]]] = []

    def log(message: str, level: str, **data: Any) -> None:
        assert level == "warning"
        said.append((message, data))

    free = int(2 * USUAL.size_bytes(3) / 0.8) + 1
    assert cap_workers(4, USUAL, free, log, ranks=2) == 3
    ((message, data),) = said
    assert data == {"free_mib": free >> 20, "need_mib": 2 * USUAL.size_bytes(4) >> 20, "workers": 3}
    assert f"{free >> 20} MiB free, and 8 loader processes would need {data['need_mib']} MiB: 6" in message
    assert cap_workers(3, USUAL, free, log, ranks=2) == 3
    assert len(said) == 1


def test_what_is_free_is_measured(tmp_path: Path):
    assert (free_bytes(tmp_path) or 0) > 0
    assert free_bytes(tmp_path / "nowhere") is None


@pytest.fixture
def plan(data_yaml: Path, tmp_path: Path) -> TrainConfig:
    return TrainConfig(
        role=Role.STUDENT, model="yolov8n", weights=None, data_yaml=data_yaml, epochs=1, training=TrainingSpec(),
        folder=tmp_path, device="cpu",
    )  # fmt: skip


def test_what_earlier_attempts_have_learned_caps_the_number(plan: TrainConfig):
    assert arguments(plan)["workers"] >= 1
    assert arguments(replace(plan, loader_workers=0))["workers"] == 0
    assert arguments(replace(plan, loader_workers=99))["workers"] == arguments(plan)["workers"]


def test_a_trainer_asks_for_no_more_than_fit(plan: TrainConfig):
    notebook = Notebook()
    teaching = TeacherConfig(unlabelled=UnlabelledConfig(plan.folder, 2.0))
    made = TrainingLoop(replace(plan, teaching=teaching), notebook, teacher=None, distillation=None)
    try:
        assert workers_for(made, 1 << 30) == 0  # on a CPU
        made.args.workers = 2
        fitting = min(2, num_cores()) - 1  # one less than is wanted
        demand = SharedMemoryDemand(16, 640, unlabelled=32)
        assert workers_for(made, int(demand.size_bytes(fitting) / 0.8) + 1) == fitting
    finally:
        made.close()
    assert any(f"{fitting} are started" in said for said in notebook.said)
