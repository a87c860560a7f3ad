"""The weight of distillation over the epochs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from retort.spec import Schedule
from retort.training.distillation.objective import factor, last_epoch


def at(schedule: Schedule, epoch: float, epochs: int = 100, close_mosaic: int = 10) -> float:
    return factor(schedule, epoch, epochs=epochs, close_mosaic=close_mosaic)


def test_the_default_is_constant() -> None:
    assert {at(Schedule(), epoch) for epoch in (0, 0.5, 50, 100)} == {1.0}


def test_it_ramps_up_within_the_first_epochs() -> None:
    schedule = Schedule(warmup_epochs=2)
    assert [at(schedule, epoch) for epoch in (0, 0.5, 1, 2, 3)] == [0, 0.25, 0.5, 1, 1]


@pytest.mark.parametrize(("decay", "half"), [("linear", 0.55), ("cosine", 0.55)])
def test_it_decays_to_the_floor(decay: str, half: float) -> None:
    schedule = Schedule.model_validate({"decay": decay, "floor": 0.1})
    assert at(schedule, 0) == pytest.approx(1)
    assert at(schedule, 50) == pytest.approx(half)
    assert at(schedule, 100) == pytest.approx(0.1)


def test_it_stops_with_mosaic_having_reached_the_floor() -> None:
    schedule = Schedule(decay="cosine", floor=0.05, stop_with_mosaic=True)
    assert at(schedule, 89.999) == pytest.approx(0.05, abs=1e-4)
    assert at(schedule, 90) == 0


def test_a_training_without_mosaic_distils_to_its_end() -> None:
    schedule = Schedule(stop_with_mosaic=True)
    assert last_epoch(schedule, epochs=5, close_mosaic=10) == 5
    assert last_epoch(schedule, epochs=5, close_mosaic=0) == 5
    assert at(schedule, 4.9, epochs=5, close_mosaic=10) == 1


@given(
    warmup=st.floats(0, 50),
    decay=st.sampled_from(["none", "linear", "cosine"]),
    floor=st.floats(0, 1),
    stop=st.booleans(),
    epoch=st.floats(0, 100),
    close_mosaic=st.integers(0, 200),
)
def test_it_is_always_a_share(
    warmup: float, decay: str, floor: float, *, stop: bool, epoch: float, close_mosaic: int
) -> None:
    schedule = Schedule.model_validate(
        {"warmup_epochs": warmup, "decay": decay, "floor": floor, "stop_with_mosaic": stop}
    )
    assert 0 <= at(schedule, epoch, close_mosaic=close_mosaic) <= 1
