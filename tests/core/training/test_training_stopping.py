"""Trainings that end by patience or by time: the rule, and what a later attempt makes of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from core.training.pictures import Notebook
from retort.constants import Role
from retort.pipeline.answers import TrainedNetwork
from retort.spec import TrainingSpec
from retort.training.config import TrainConfig
from retort.training.stopping import StopRule
from retort.training.trainer import fit
from ultralytics.utils.torch_utils import EarlyStopping


def ended(rule: StopRule, curve: list[float], *, first: int = 1) -> int | None:
    """The epoch after which *rule* ends a training with this curve."""
    return next((epoch for epoch, value in enumerate(curve, start=first) if rule(epoch, value)), None)


@pytest.mark.parametrize(
    "curve", [[0, 0, 0, 0, 0.1, 0.2], [0.1, 0.2, 0.2, 0.2, 0.2], [0.3, 0.1, 0.1, 0.4, 0.1, 0.1, 0.1], [0.5, 0.4, 0.3]]
)
@pytest.mark.parametrize("patience", [0, 1, 2, 3])
def test_patience_ends_a_training_where_ultralytics_would(curve: list[float], patience: int):
    theirs = EarlyStopping(patience=patience)
    expected = next((epoch for epoch, value in enumerate(curve, start=1) if theirs(epoch, value)), None)
    assert ended(StopRule(TrainingSpec(patience=patience)), curve) == expected


def test_time_counts_over_all_attempts():
    def ticks() -> Iterator[float]:
        now = 0.0
        while True:
            yield now
            now += 60.0

    hours = TrainingSpec(time=5 / 60)
    clock = ticks()
    first = StopRule(hours, lambda: next(clock))
    assert ended(first, [0.1, 0.2, 0.3]) is None
    second = StopRule(hours, lambda: next(clock))
    second.restore(first.state())
    assert ended(second, [0.4, 0.5, 0.6], first=4) == 5
    assert second.reason == "time"


def test_what_ended_by_the_spec_was_not_finished_early():
    """A control is dropped where people had its student finished, and trained where a rule of both ended it."""
    whole = {
        "model": "yolov8n",
        "weights": "student.pt",
        "metrics": {},
        "planned_epochs": 9,
        "batch": 4,
        "best_epoch": 1,
    }
    assert TrainedNetwork(**whole, epochs=3).finished_early
    assert not TrainedNetwork(**whole, epochs=3, stopped_by="patience").finished_early


@pytest.mark.train
def test_a_training_that_ended_by_its_rule_is_not_taken_up_again(data_yaml: Path, tmp_path: Path):
    """A limit in time, so short that the first epoch uses it up."""
    training = TrainingSpec(imgsz=64, batch=8, close_mosaic=0, checkpoint_every=9, time=1e-6, fraction=0.5)
    plan = TrainConfig(
        role=Role.STUDENT, model="yolov8n", weights=None, data_yaml=data_yaml, epochs=4, training=training,
        folder=tmp_path / "run", device="cpu",
    )  # fmt: skip
    first, second = Notebook(), Notebook()
    found, again = fit(plan, first), fit(plan, second)
    assert (found.epochs, found.stopped_by) == (again.epochs, again.stopped_by) == (1, "time")
    assert len(first.fractions) == 1  # half of the sixteen images are one batch
    assert second.fractions == []
    assert [path.name for _, path, _ in first.checkpoints] == ["student-epoch-0001.pt"]
    assert "info: ended by training.time after epoch 1 of 4" in first.said
    assert "info: training on the first 8 images: training.fraction is 0.5" in first.said
