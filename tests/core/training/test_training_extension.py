"""What an extended training does at each epoch that is added, without any training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from retort.constants import Role
from retort.errors import CannotExtend
from retort.spec import Schedule, TrainingSpec
from retort.training import checkpoint, optim
from retort.training.config import Cycle, TrainConfig
from retort.training.criterion import TwoBranchLoss
from retort.training.distillation.objective import extended_factor, factor
from retort.training.ultralytics_api import E2ELoss
from ultralytics.utils.torch_utils import one_cycle

LRF = 0.01


def upstreams(epochs: int, epoch: float, *, cosine: bool) -> float:
    """The learning rate of upstream's own schedule, as a part of the initial one."""
    if cosine:
        return float(one_cycle(1, LRF, epochs)(epoch))
    return max(1 - epoch / epochs, 0) * (1.0 - LRF) + LRF


@given(first=st.integers(1, 300), added=st.integers(1, 300), before=st.integers(0, 300), cosine=st.booleans())
def test_the_rate_is_that_of_the_last_epochs_of_upstreams_schedule(
    first: int, added: int, before: int, *, cosine: bool
) -> None:
    begins = first + before
    cycle = Cycle(begins, begins + added, first)
    rate, length = optim.extended_rate(cycle, LRF, cosine=cosine), max(first, added)
    for number in {0, added // 2, added - 1}:
        expected = upstreams(length, length - added + number, cosine=cosine)
        assert rate(begins + number) == pytest.approx(expected, abs=1e-12)


def test_an_extension_longer_than_the_training_begins_at_the_initial_rate_and_a_short_one_far_below() -> None:
    assert optim.extended_rate(Cycle(10, 30, 10), LRF, cosine=False)(10) == pytest.approx(1)
    assert optim.extended_rate(Cycle(100, 110, 100), LRF, cosine=False)(100) == pytest.approx(0.109)
    assert optim.extended_rate(Cycle(100, 110, 100), LRF, cosine=True)(100) == pytest.approx(0.0342, abs=1e-4)


@given(first=st.integers(3, 100), added=st.integers(1, 150), close=st.integers(0, 120), part=st.floats(0, 1))
def test_the_teacher_is_as_loud_as_in_the_last_epochs_and_never_ramps_up_again(
    first: int, added: int, close: int, part: float
) -> None:
    schedule = Schedule(warmup_epochs=3, decay="cosine", floor=0.1, stop_with_mosaic=True)
    cycle, length = Cycle(first, first + added, first), max(first, added)
    place = length - added + part * added
    found = extended_factor(schedule, first + part * added, cycle, close_mosaic=close)
    if place > 3:
        assert found == pytest.approx(factor(schedule, place, epochs=length, close_mosaic=close), abs=1e-9)
    else:
        assert found in {0.0, factor(schedule, 3, epochs=length, close_mosaic=close)}


def test_the_shares_of_two_branches_move_as_in_the_last_epochs() -> None:
    def loss(kind: type[Any], epochs: int) -> Any:
        made = kind.__new__(kind)
        made.o2m_copy, made.final_o2m, made.one2one = 0.8, 0.1, SimpleNamespace(hyp=SimpleNamespace(epochs=epochs))
        return made

    ours, theirs = loss(TwoBranchLoss, 24), loss(E2ELoss, 20)
    assert ours.decay(5) == loss(E2ELoss, 24).decay(5), "of a training that extends none, upstream's"
    ours.cycle = Cycle(20, 24, 20)
    assert [ours.decay(epoch) for epoch in range(20, 25)] == [theirs.decay(epoch) for epoch in range(16, 21)]


def plan(folder: Path, **changes: Any) -> TrainConfig:
    training = TrainingSpec(epochs=10, imgsz=64)
    made = TrainConfig(Role.STUDENT, "yolov8n", None, folder / "data.yaml", 10, training, folder, "cpu")
    return replace(made, **changes)


def longer(folder: Path) -> TrainConfig:
    return plan(folder, epochs=15, training=TrainingSpec(epochs=15, imgsz=64), extended=(10,))


@pytest.fixture
def data(tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "images").mkdir()
    return {"names": {0: "red"}, "train": str(tmp_path / "images"), "val": str(tmp_path / "images"), "digest": "a"}


def state(plan: TrainConfig, data: dict[str, Any], **changes: Any) -> dict[str, Any]:
    identity = checkpoint.identity_of(plan, None, [], data)
    stopping = {"best": [4, 0.5], "reason": "patience", "spent_s": 2.0}
    return {"identity": identity, "done": 10, "stopping": stopping, **changes}


def test_an_extension_takes_the_last_state_of_the_training_before_and_counts_patience_from_there(
    tmp_path: Path, data: dict[str, Any]
) -> None:
    extends = checkpoint.extends(longer(tmp_path), None, [], data)
    assert extends is not None
    wanted = checkpoint.identity_of(longer(tmp_path), None, [], data)
    taken = extends.take(state(plan(tmp_path), data), wanted)
    assert taken["identity"] == wanted
    assert taken["stopping"] == {"best": [10, 0.5], "reason": None, "spent_s": 2.0}


@pytest.mark.parametrize("seed", [1, None])
def test_an_extension_refuses_the_state_of_any_other_training_and_says_what_differs(
    tmp_path: Path, data: dict[str, Any], seed: int | None
) -> None:
    extends = checkpoint.extends(longer(tmp_path), None, [], data)
    assert extends is not None
    other = plan(tmp_path) if seed is None else plan(tmp_path, training=TrainingSpec(epochs=10, imgsz=64, seed=seed))
    what = {**data, "digest": "b"} if seed is None else data
    with pytest.raises(CannotExtend, match="another plan" if seed else "another data"):
        extends.take(state(other, what), {})


def test_an_extension_refuses_a_state_before_the_last_one(tmp_path: Path, data: dict[str, Any]) -> None:
    extends = checkpoint.extends(longer(tmp_path), None, [], data)
    assert extends is not None
    with pytest.raises(CannotExtend, match="after epoch 7"):
        extends.take(state(plan(tmp_path), data, done=7), {})


def test_two_lines_of_extensions_are_not_the_same_training(tmp_path: Path, data: dict[str, Any]) -> None:
    lines = [(), (10,), (5,), (5, 10)]
    plans = [replace(longer(tmp_path), extended=line) for line in lines]
    assert len({checkpoint.identity_of(one, None, [], data)["plan"] for one in plans}) == len(lines)
    assert longer(tmp_path).before() == plan(tmp_path)
