"""Batches on their way take a bounded share of memory: processes, what they have ready, and page-locking follow it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from core.training.pictures import Notebook
from retort.constants import Role
from retort.spec import TrainingSpec
from retort.training.arguments import arguments
from retort.training.config import PREFETCH, Loading, TeacherConfig, TrainConfig, UnlabelledConfig
from retort.training.data import host_memory
from retort.training.data.host_memory import (
    SHARE,
    BatchMemory,
    available_bytes,
    choose,
    empty_batch,
    free_shared_bytes,
    tell,
)
from retort.training.data.loader import loading_for
from retort.training.environment import num_cores
from retort.training.trainer import TrainingLoop
from torch.utils.data import DataLoader, Dataset

USUAL = BatchMemory(16, 640)
IMAGE = 3 * 640 * 640
VALIDATION = 3 * 672 * 672
GIB, MIB = 2**30, 2**20


def test_the_demand_is_what_every_process_has_ready_and_what_the_trainer_holds() -> None:
    assert USUAL.shared_bytes(Loading(0)) == 0
    assert USUAL.shared_bytes(Loading(1)) == 16 * IMAGE * 6 + 16 * VALIDATION * 3
    assert USUAL.shared_bytes(Loading(8)) == 16 * IMAGE * 34 + 16 * VALIDATION * 17
    assert USUAL.shared_bytes(Loading(8, prefetch=1)) == 16 * IMAGE * 10 + 16 * VALIDATION * 17
    assert replace(USUAL, trains=False).shared_bytes(Loading(8)) == 16 * VALIDATION * 17
    more = replace(USUAL, unlabelled=8)
    assert more.shared_bytes(Loading(2)) - USUAL.shared_bytes(Loading(2)) == 8 * IMAGE * 5


def test_page_locked_batches_take_powers_of_two_and_validation_takes_none() -> None:
    at_64 = BatchMemory(64, 640)
    assert 64 * IMAGE < 128 * MIB
    assert at_64.pinned_bytes(Loading(8, pinned=False)) == 0
    assert at_64.pinned_bytes(Loading(8, pinned=True)) == 35 * 128 * MIB  # 12.5 GiB with upstream's validation
    assert at_64.pinned_bytes(Loading(8, prefetch=1, pinned=True)) == 11 * 128 * MIB
    assert at_64.pinned_bytes(Loading(0, prefetch=1, pinned=True)) == 3 * 128 * MIB
    assert replace(at_64, unlabelled=32).pinned_bytes(Loading(2, pinned=True)) == (11 * 128 + 7 * 64) * MIB


@pytest.mark.parametrize(
    ("batch", "imgsz", "workers", "training", "validation"),
    # What became used of /dev/shm, in bytes: of training batches, then of batches twice as large for validation.
    [(8, 320, 1, 14_888_960, 29_855_744), (16, 320, 2, 49_373_184, 59_592_704), (4, 640, 2, 49_373_184, 54_308_864)],
)
def test_the_demand_is_what_was_measured(batch: int, imgsz: int, workers: int, training: int, validation: int) -> None:
    alone = BatchMemory(batch, imgsz, validation=2 * batch, trains=False)
    whole = replace(alone, trains=True).shared_bytes(Loading(workers))
    assert training == pytest.approx(whole - alone.shared_bytes(Loading(workers)), rel=0.02)
    assert validation == pytest.approx(alone.shared_bytes(Loading(2)), rel=0.02)  # of two processes


MACHINES = {
    "T4 VM": (13 * GIB, 8),
    "128 GB": (120 * GIB, 8),
    "laptop": (5 * GIB, 2),
    "2 GiB container": (2 * GIB, 8),
    "full": (100 * MIB, 4),
}
"""Free memory, and processes that the cores would carry."""


@pytest.mark.parametrize(
    ("machine", "batch", "imgsz", "expected"),
    [
        ("T4 VM", 16, 640, Loading(8, 4, pinned=True)),
        ("T4 VM", 64, 640, Loading(8, 1, pinned=True)),
        ("T4 VM", 128, 640, Loading(8, 2, pinned=False)),
        ("T4 VM", 64, 1280, Loading(5, 1, pinned=False)),
        ("128 GB", 64, 640, Loading(8, 4, pinned=True)),
        ("128 GB", 128, 1280, Loading(8, 2, pinned=True)),
        ("laptop", 16, 640, Loading(2, 4, pinned=True)),
        ("2 GiB container", 16, 640, Loading(7, 1, pinned=False)),
        ("2 GiB container", 64, 640, Loading(2, 1, pinned=False)),
        ("full", 16, 640, Loading(0, 1)),
    ],
)
def test_what_is_taken_fits_into_a_share_of_the_free_memory(
    machine: str, batch: int, imgsz: int, expected: Loading
) -> None:
    free, cores = MACHINES[machine]
    memory = BatchMemory(batch, imgsz)
    chosen = choose(cores, memory, cuda=True, host=free, shared=None)
    assert chosen == expected
    assert chosen.workers == 0 or memory.host_bytes(chosen) <= free * SHARE


@pytest.mark.parametrize("free", [MIB << power for power in range(0, 18, 2)])
def test_more_memory_never_means_less_loading(free: int) -> None:
    memory = BatchMemory(64, 640)
    chosen, doubled = (choose(8, memory, cuda=True, host=room, shared=None) for room in (free, 2 * free))
    assert (chosen.workers, chosen.pinned, chosen.prefetch if chosen.workers else 0) <= (
        doubled.workers, doubled.pinned, doubled.prefetch,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("free", "expected"),
    [
        (None, Loading(8)),
        (8 * GIB, Loading(8)),
        (int(USUAL.shared_bytes(Loading(8)) / 0.8) + 1, Loading(8)),
        (int(USUAL.shared_bytes(Loading(8)) / 0.8) - 9, Loading(8, 3)),
        (int(USUAL.shared_bytes(Loading(8, 1)) / 0.8) - 9, Loading(7, 1)),
        (64 * MIB, Loading(0, 1)),
        (0, Loading(0, 1)),
    ],
)
def test_a_bounded_shared_memory_lowers_what_is_ready_and_then_the_number(free: int | None, expected: Loading) -> None:
    assert choose(8, USUAL, cuda=False, host=None, shared=free) == expected


def told(wanted: int, chosen: Loading, **free: Any) -> list[tuple[str, str]]:
    said: list[tuple[str, str]] = []
    memory, cuda = free.pop("memory", USUAL), free.pop("cuda", False)
    tell(
        wanted, chosen, memory, lambda message, level, **_: said.append((level, message)), cuda=cuda,
        **{"host": None, "shared": None, **free},
    )  # fmt: skip
    return said


def test_ranks_share_what_is_free_and_it_is_said_with_the_numbers() -> None:
    free = int(2 * USUAL.shared_bytes(Loading(3, 1)) / 0.8) + 1
    chosen = choose(4, USUAL, cuda=False, host=None, shared=free, ranks=2)
    assert chosen == Loading(3, 1)
    ((level, message),) = told(4, chosen, shared=free, ranks=2)
    assert level == "warning"
    need = 2 * USUAL.shared_bytes(Loading(4)) >> 20
    assert message == (
        f"shared memory has {free >> 20} MiB free, and 8 loader processes would need {need} MiB: 6 are started, each "
        "with 1 of 4 batches ready; give the worker's container more (shm_size)"
    )


def test_a_limit_by_free_memory_is_said_in_one_line_and_nothing_where_there_is_none() -> None:
    memory = BatchMemory(64, 640)
    chosen = choose(8, memory, cuda=True, host=13 * GIB, shared=None)
    ((level, message),) = told(8, chosen, memory=memory, cuda=True, host=13 * GIB)
    assert level == "info"
    assert message == (
        "batches on their way may take 3328 of 13312 MiB of free memory, and 8 loader processes would need 5581 MiB: "
        "8 are started, each with 1 of 4 batches ready; give the worker more memory, or lower training.batch"
    )
    assert told(8, Loading(8, 4, pinned=True), memory=memory, cuda=True, host=99 * GIB) == []
    assert told(0, Loading(0, 1), host=99 * GIB) == []


def test_what_is_free_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert free_shared_bytes() is None, "Linux shares memory that lies in no folder"
    monkeypatch.setattr(host_memory, "hands_over_without_files", lambda: False)
    assert (free_shared_bytes(tmp_path) or 0) > 0
    assert free_shared_bytes(tmp_path / "nowhere") is None
    assert (available_bytes() or 0) > 0


def system(folder: Path, membership: str, **files: str) -> tuple[Path, Path]:
    """Write what a kernel would show; names of *files* have two underscores for each slash."""
    proc, groups = folder / "proc", folder / "cgroup"
    (proc / "self").mkdir(parents=True)
    (proc / "meminfo").write_text("MemTotal:  100 kB\nMemAvailable:  90 kB\n")
    (proc / "self" / "cgroup").write_text(membership)
    for name, text in files.items():
        path = groups / name.replace("__", "/").replace("memory_", "memory.", 1)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return proc, groups


KIB = 1024


@pytest.mark.parametrize(
    ("membership", "files", "left"),
    [
        ("0::/\n", {}, 90 * KIB),
        ("0::/\n", {"memory_max": "max\n", "memory_current": "7\n", "memory_stat": "inactive_file 1\n"}, 90 * KIB),
        ("0::/\n", {"memory_max": "50\n", "memory_current": "40\n", "memory_stat": "anon 5\ninactive_file 30\n"}, 40),
        ("0::/\n", {"memory_max": "50\n", "memory_current": "60\n", "memory_stat": "anon 5\n"}, 0),
        (  # a service of systemd's, in a slice that is limited
            "0::/a.slice/b.service\n",
            {"a.slice__memory_max": "80", "a.slice__memory_current": "20", "a.slice__memory_stat": "anon 5\n"},
            60,
        ),
        (  # version 1, in a container, which does not see the host's path
            "3:cpu,cpuacct:/docker/x\n2:memory:/docker/x\n",
            {
                "memory__memory_limit_in_bytes": "70", "memory__memory_usage_in_bytes": "60",
                "memory__memory_stat": "inactive_file 1\ntotal_inactive_file 20\n",
            },
            30,
        ),
    ],
)  # fmt: skip
def test_a_limit_of_a_control_group_counts_without_pages_of_files(
    membership: str, files: dict[str, str], left: int, tmp_path: Path
) -> None:
    named = {name.replace("memory__memory_", "memory__memory."): text for name, text in files.items()}
    proc, groups = system(tmp_path, membership, **named)
    assert available_bytes(proc, groups) == left


def test_a_system_that_does_not_tell_is_not_known(tmp_path: Path) -> None:
    assert available_bytes(tmp_path, tmp_path) is None


class Rooms(Dataset[torch.Tensor]):
    """Batches of a megabyte, made as training's are."""

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> torch.Tensor:
        return empty_batch(4, 3, 300, 300).fill_(index)


def used() -> int:
    found = os.statvfs("/dev/shm")  # noqa: S108
    return (found.f_blocks - found.f_bfree) * found.f_frsize


@pytest.mark.skipif(not host_memory.hands_over_without_files(), reason="this system shares no memory without a folder")
@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # two processes, on whatever machine
def test_images_are_handed_over_without_dev_shm() -> None:
    """So that a container with 64 MB of it loads as fast as any."""

    def passes() -> Iterator[int]:
        rooms = DataLoader(Rooms(), batch_size=None, num_workers=2, prefetch_factor=3, multiprocessing_context="fork")
        for index, batch in enumerate(rooms):
            assert batch.is_shared()
            assert torch.equal(batch, torch.full_like(batch, index))
            yield used()

    before = used()
    assert max(passes()) - before < 4 * 3 * 300 * 300


@pytest.fixture
def plan(data_yaml: Path, tmp_path: Path) -> TrainConfig:
    return TrainConfig(
        role=Role.STUDENT, model="yolov8n", weights=None, data_yaml=data_yaml, epochs=1, training=TrainingSpec(),
        folder=tmp_path, device="cpu",
    )  # fmt: skip


def test_what_earlier_attempts_have_learned_caps_the_number(plan: TrainConfig) -> None:
    assert arguments(plan)["workers"] >= 1
    assert arguments(replace(plan, loader_workers=0))["workers"] == 0
    assert arguments(replace(plan, loader_workers=99))["workers"] == arguments(plan)["workers"]


def test_a_trainer_asks_for_no_more_than_fit(plan: TrainConfig) -> None:
    notebook = Notebook()
    teaching = TeacherConfig(unlabelled=UnlabelledConfig(plan.folder, 2.0))
    made = TrainingLoop(replace(plan, teaching=teaching), notebook, teacher=None, distillation=None)
    try:
        assert loading_for(made, shared=1 << 30).workers == 0  # on a CPU
        assert not notebook.said
        made.args.workers = 2
        fitting = Loading(min(2, num_cores()) - 1, PREFETCH)  # one less than is wanted
        room = BatchMemory(16, 640, unlabelled=32).shared_bytes(replace(fitting, prefetch=1))
        assert loading_for(made, shared=int(room / 0.8) + 1).workers == fitting.workers
    finally:
        made.close()
    assert any(f"{fitting.workers} are started" in said for said in notebook.said)
