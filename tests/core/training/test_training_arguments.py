"""How a plan reads in the words of upstream."""

from __future__ import annotations

from pathlib import Path

from retort.constants import Role
from retort.spec import TrainingSpec
from retort.training.arguments import arguments
from retort.training.config import TrainConfig


def plan(training: TrainingSpec, epochs: int) -> TrainConfig:
    return TrainConfig(
        role=Role.STUDENT, model="yolov8n", weights=None, data_yaml=Path("data.yaml"), epochs=epochs, training=training,
        folder=Path("folder"), device="cpu",
    )  # fmt: skip


def test_the_nominal_batch_decides_how_many_images_make_a_step():
    made = arguments(plan(TrainingSpec(batch=16, nominal_batch=16), epochs=1))

    assert (made["batch"], made["nbs"]) == (16, 16)
    assert TrainingSpec().nominal_batch == 64
