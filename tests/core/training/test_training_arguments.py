"""How a plan reads in the words of upstream."""

from __future__ import annotations

from pathlib import Path

import pytest
from retort.names import Role
from retort.spec import TrainingSpec
from retort.training.arguments import arguments
from retort.training.plan import Plan


def plan(training: TrainingSpec, epochs: int) -> Plan:
    return Plan(
        role=Role.STUDENT, model="yolov8n", weights=None, data_yaml=Path("data.yaml"), epochs=epochs, training=training,
        folder=Path("folder"), device="cpu",
    )  # fmt: skip


def test_the_nominal_batch_decides_how_many_images_make_a_step():
    made = arguments(plan(TrainingSpec(batch=16, nominal_batch=16), epochs=1))

    assert (made["batch"], made["nbs"]) == (16, 16)
    assert TrainingSpec().nominal_batch == 64


@pytest.mark.parametrize(("epochs", "closed"), [(100, 10), (10, 10), (4, 4)])
def test_mosaic_is_closed_for_all_epochs_where_there_are_no_more_than_it_is_closed_for(epochs: int, closed: int):
    assert arguments(plan(TrainingSpec(close_mosaic=10), epochs))["close_mosaic"] == closed
