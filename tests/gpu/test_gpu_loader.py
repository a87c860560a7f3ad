"""Batches that reach a CUDA device early, and colors that it changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import core.conftest  # noqa: F401  # prepares the environment
import pytest
import torch
from core.training.pictures import Notebook
from core.training.test_training_colours import tables
from gpu.test_gpu_fit import plan
from retort.spec import DistillationSpec
from retort.training.config import TrainConfig
from retort.training.data.ahead import Ahead, prepare
from retort.training.data.colours import KEY, recoloured
from retort.training.trainer import TrainingLoop

pytestmark = [
    pytest.mark.train,
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device"),
]
GPU = torch.device("cuda:0")


def test_a_gpu_changes_colors_as_a_loader_process_does_to_the_bit() -> None:
    images = torch.randint(0, 256, (20, 3, 160, 160), dtype=torch.uint8)
    changes = tables(20)
    assert torch.equal(recoloured(images.to(GPU), changes.to(GPU)).cpu(), recoloured(images, changes))


def test_batches_that_are_prepared_beside_busy_work_are_whole() -> None:
    def batches() -> Iterator[dict[str, Any]]:
        for number in range(20):
            draw = torch.Generator().manual_seed(number)
            images = torch.randint(0, 256, (16, 3, 320, 320), dtype=torch.uint8, generator=draw)
            labels = {"batch_idx": torch.zeros(1), "cls": torch.zeros(1, 1), "bboxes": torch.full((1, 4), 0.5)}
            yield {"img": images.pin_memory(), KEY: tables(16, number), **labels}

    ahead = Ahead.on(GPU, pytest.fail)
    assert ahead is not None
    busy, sums = torch.rand(4096, 4096, device=GPU), []
    for batch in ahead.over(batches()):
        busy = (busy @ busy).clamp(0, 1)
        sums.append(batch["img"].long().sum())
        del batch
    expected = [prepare(batch, torch.device("cpu"))["img"].long().sum() for batch in batches()]
    assert torch.stack(sums).tolist() == torch.stack(expected).tolist()


class InTurn(TrainingLoop):
    """Prepares each batch when its turn comes."""

    def _build_train_pipeline(self) -> None:
        super()._build_train_pipeline()
        self.train_loader.ahead = None


class OnGpu(TrainingLoop):
    """Leaves the colors to the GPU from the start."""

    def _build_train_pipeline(self) -> None:
        super()._build_train_pipeline()
        self.train_loader.dataset.colours_later.turn_on()


def losses(kind: type[TrainingLoop], wanted: TrainConfig, folder: Path, teacher: Path) -> dict[str, float | None]:
    notebook = Notebook()
    made = kind(replace(wanted, folder=folder), notebook, teacher=teacher, distillation=DistillationSpec())
    try:
        made.train()
    finally:
        made.close()
    assert not any("no batch is prepared" in said or "no longer prepared" in said for said in notebook.said)
    return {
        f"{epoch} {name}": value
        for epoch, values in notebook.metrics.items()
        for name, value in values.items()
        if name.startswith("train/")
    }


def test_losses_are_the_same_with_and_without_what_is_done_early_and_whoever_changes_the_colors(
    published: Callable[..., Path], data_yaml: Path, tmp_path: Path
) -> None:
    wanted, teacher = plan(data_yaml, tmp_path), published("yolo11n")
    expected = losses(InTurn, wanted, tmp_path / "in turn", teacher)
    assert losses(TrainingLoop, wanted, tmp_path / "ahead", teacher) == expected
    assert losses(OnGpu, wanted, tmp_path / "colors on the gpu", teacher) == expected
