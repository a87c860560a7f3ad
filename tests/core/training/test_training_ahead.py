"""The next batch is prepared beside the present one, in an order that changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from core.training.test_training_colours import tables
from retort.training.criterion import MOST_BOXES
from retort.training.data.ahead import Ahead, PreparedBatch, prepare
from retort.training.data.colours import KEY, coloured
from retort.training.data.ignore_regions import KEY as IGNORED
from retort.training.data.ignore_regions import MARK

CPU = torch.device("cpu")


class Recorder:
    """Streams of no device, which write down what is asked of them; a batch's number is its first pixel."""

    def __init__(self, *, full_from: int = 99) -> None:
        self.calls: list[str] = []
        self._full_from, self._marks = full_from, 0

    @contextmanager
    def beside(self) -> Iterator[None]:
        self.calls.append("beside")
        if self._marks >= self._full_from:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nAnd more.")
        yield

    def mark(self) -> int:
        self._marks += 1
        self.calls.append(f"mark {self._marks}")
        return self._marks

    def wait_for(self, mark: int) -> None:
        self.calls.append(f"wait for {mark}")

    def keep(self, tensor: torch.Tensor) -> None:
        if tensor.dim() == 4:
            self.calls.append(f"keep {int(tensor[0, 0, 0, 0])}")


def batch(number: int) -> dict[str, Any]:
    """Two images, of which the second has a marked box."""
    return {
        "img": torch.full((2, 3, 32, 32), number, dtype=torch.uint8),
        "batch_idx": torch.tensor([0.0, 0.0, 1.0]),
        "cls": torch.tensor([[0.0], [1.0], [MARK]]),
        "bboxes": torch.full((3, 4), 0.5),
        "im_file": ("a", "b"),
    }


def source(calls: list[str], number: int) -> Iterator[dict[str, Any]]:
    for index in range(1, number + 1):
        calls.append(f"load {index}")
        yield batch(index)
    calls.append("end")


def test_a_batch_is_prepared_while_the_one_before_is_trained_on_and_none_of_the_next_epoch() -> None:
    streams = Recorder()
    seen = []
    for made in Ahead(CPU, streams, pytest.fail).over(source(streams.calls, 3)):
        streams.calls.append(f"train {int(made['img'][0, 0, 0, 0])}")
        seen.append(made)
    assert streams.calls == [
        "load 1", "beside", "mark 1", "load 2", "beside", "mark 2",
        "wait for 1", "keep 1", "train 1",
        "load 3", "beside", "mark 3",
        "wait for 2", "keep 2", "train 2",
        "end",
        "wait for 3", "keep 3", "train 3",
    ]  # fmt: skip
    assert all(isinstance(made, PreparedBatch) for made in seen)


@pytest.mark.parametrize("number", [0, 1])
def test_epochs_of_no_or_one_batch_end_as_they_are(number: int) -> None:
    streams = Recorder()
    assert len(list(Ahead(CPU, streams, pytest.fail).over(source(streams.calls, number)))) == number
    assert streams.calls.count("end") == 1


def test_where_memory_is_short_all_batches_come_and_it_is_said_once() -> None:
    streams, said = Recorder(full_from=2), []
    ahead = Ahead(CPU, streams, lambda message, level: said.append((level, message)))
    found = [int(made["img"][0, 0, 0, 0]) for made in ahead.over(source(streams.calls, 5))]
    found += [int(made["img"][0, 0, 0, 0]) for made in ahead.over(source(streams.calls, 2))]
    assert found == [1, 2, 3, 4, 5, 1, 2]
    assert [call for call in streams.calls if call.startswith("wait")] == ["wait for 1", "wait for 2"]
    assert streams.calls.count("beside") == 3
    reason = "CUDA out of memory. Tried to allocate 2.00 GiB."
    assert said == [("warning", f"batches are no longer prepared ahead on the GPU: {reason}")]


def test_a_device_without_streams_prepares_nothing_ahead() -> None:
    assert Ahead.on(CPU, pytest.fail) is None


def test_a_batch_is_prepared_once_with_its_boxes_counted_and_set_apart() -> None:
    given = {**batch(7), KEY: tables(2)}
    made = prepare(given, CPU)
    assert made[MOST_BOXES] == 2
    assert len(made[IGNORED]) == 1
    assert KEY not in made
    assert torch.equal(made["img"], coloured(given)["img"])
    assert not torch.equal(made["img"], given["img"])
    assert prepare(made, CPU) is made
    assert KEY in given
