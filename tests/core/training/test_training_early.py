"""Trainings that are asked to finish early: at a batch, between epochs, in a later attempt, and on several ranks."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import torch
from core.training.pictures import Notebook
from retort.constants import MAP, Role
from retort.errors import Stopped
from retort.spec import TrainingSpec
from retort.training.checkpoint import CheckpointStore
from retort.training.config import TrainConfig
from retort.training.distributed import launcher
from retort.training.distributed.messages import messages_file
from retort.training.trainer import fit

pytestmark = pytest.mark.train

EPOCHS = 6
BATCHES = 3
"""Of an epoch: 16 images by 6."""


@dataclass
class Hasty(Notebook):
    """Asks to finish early after so many batches; 0 asks from the start."""

    finish_after: int = 0
    sections: list[str] = field(default_factory=list)

    @property
    def batches(self) -> int:
        return len(self.fractions)

    def finish_requested(self) -> bool:
        return self.batches >= self.finish_after

    def alive(self, section: str) -> None:
        self.sections.append(section)


@pytest.fixture
def plan(data_yaml: Path, tmp_path: Path) -> TrainConfig:
    training = TrainingSpec(imgsz=64, batch=6, close_mosaic=0, checkpoint_every=2)
    return TrainConfig(
        role=Role.STUDENT, model="yolov8n", weights=None, data_yaml=data_yaml, epochs=EPOCHS, training=training,
        folder=tmp_path / "run", device="cpu",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("asked_after", "epochs", "batches"),
    [
        (0, 1, 3),  # from the start: one epoch is trained and measured
        (2, 1, 3),
        (5, 1, 5),  # in the second epoch: it does not count
        (6, 2, 6),  # with its last batch: it is measured, and does
    ],
)
def test_a_training_ends_at_the_next_batch_once_an_epoch_is_measured(
    asked_after: int, epochs: int, batches: int, plan: TrainConfig
):
    notebook = Hasty(finish_after=asked_after)
    fitted = fit(plan, notebook)
    assert (fitted.epochs, notebook.batches) == (epochs, batches)
    assert sorted(notebook.metrics) == list(range(epochs + 1))
    assert fitted.last == plan.folder / f"checkpoints/student-epoch-{epochs:04d}.pt"
    assert torch.load(fitted.last, weights_only=False)["retort"]["epoch"] == epochs
    assert fitted.weights.is_file()
    assert fitted.metrics[MAP] == notebook.metrics[fitted.best_epoch][MAP]
    assert f"info: finished early, after epoch {epochs} of {EPOCHS}" in notebook.said


def test_a_later_attempt_trains_no_more_when_an_epoch_is_whole(plan: TrainConfig):
    first = Notebook(stop_after=2 * BATCHES + 1)
    with pytest.raises(Stopped):
        fit(plan, first)
    second = Hasty()
    fitted = fit(plan, second)
    assert (fitted.epochs, second.batches, second.metrics) == (2, 0, {})
    assert fitted.metrics[MAP] == first.metrics[fitted.best_epoch][MAP]
    assert fitted.weights.is_file()


def test_a_later_attempt_trains_one_epoch_when_none_is_whole(plan: TrainConfig):
    with pytest.raises(Stopped):
        fit(plan, Notebook(stop_after=1))
    assert CheckpointStore(plan.folder / "states").numbers() == [0]
    second = Hasty()
    assert fit(plan, second).epochs == 1
    assert second.batches == BATCHES


def test_all_ranks_finish_at_the_same_batch(plan: TrainConfig):
    notebook = Hasty(finish_after=4)
    plan.folder.mkdir()
    fitted = launcher.fit(replace(plan, epochs=500), notebook, ranks=2)
    assert 1 <= fitted.epochs < 100
    assert sorted(notebook.metrics) == list(range(fitted.epochs + 1))
    assert fitted.last is not None
    assert fitted.last.is_file()
    assert b'"failed"' not in messages_file(plan.folder).read_bytes()


def test_a_training_prepares_until_its_first_batch_is_done_and_says_when_it_writes(plan: TrainConfig):
    notebook = Hasty(finish_after=BATCHES)
    fit(plan, notebook)
    start, *before = notebook.sections[: notebook.sections.index("step", 1)]
    after = notebook.sections
    assert (start, before) == ("step", ["checkpoint", "setup"])  # where it starts is measured in one batch
    assert after.count("step") >= BATCHES
    assert after.count("checkpoint") >= 3  # the state before the first epoch; its networks, its state
    assert after[-1] == "setup"
