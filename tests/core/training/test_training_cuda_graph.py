"""Recording a teacher's kernels: when it is tried, and what happens where it fails."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from retort.training.distillation.distiller import prepare_teachers, run_teachers
from retort.training.distillation.teacher import CudaGraphReplay, MemoryPool, record_graph

FAILED = "CUDA error: operation failed due to a previous error during capture\nmore lines that nobody needs"


def doubled(x: torch.Tensor) -> torch.Tensor:
    return 2 * x


class Recorder:
    """Keeps which shapes it was asked to record, and fails for those with *bad* rows as CUDA does.

    It fails before it has touched the pool, as for want of memory, or with *spoils* after that.
    """

    def __init__(self, bad: int | None = None, *, spoils: bool = False) -> None:
        self.bad, self.spoils, self.asked, self.replayed = bad, spoils, list[int](), list[int]()
        self.pools: list[MemoryPool] = []

    def __call__(
        self, function: Callable[[torch.Tensor], Any], x: torch.Tensor, pool: MemoryPool
    ) -> Callable[[torch.Tensor], Any]:
        self.asked.append(len(x))
        self.pools.append(pool)
        if len(x) == self.bad:
            pool.is_spoiled = self.spoils
            raise RuntimeError(FAILED)

        def replay(given: torch.Tensor) -> Any:
            self.replayed.append(len(given))
            return function(given)

        return replay


def ask(captured: CudaGraphReplay, rows: int, times: int) -> None:
    for number in range(times):
        x = torch.full((rows, 2), float(number))
        torch.testing.assert_close(captured(x), 2 * x)


def test_a_shape_is_recorded_when_it_comes_for_the_third_time_and_replayed_from_then_on() -> None:
    recorder = Recorder()
    captured = CudaGraphReplay(doubled, recorder)
    ask(captured, 4, times=2)
    assert recorder.asked == []
    ask(captured, 4, times=3)
    assert (recorder.asked, recorder.replayed) == ([4], [4, 4, 4])


def test_a_third_shape_runs_as_it_is() -> None:
    recorder = Recorder()
    captured = CudaGraphReplay(doubled, recorder)
    for rows in (1, 2, 3):
        ask(captured, rows, times=4)
    assert recorder.asked == [1, 2]


def test_a_recording_that_fails_is_told_once_in_one_line_and_never_tried_again() -> None:
    recorder = Recorder(bad=4)
    captured = CudaGraphReplay(doubled, recorder)
    with pytest.warns(RuntimeWarning, match=r"for images of \(4, 2\), it runs without: CUDA error") as told:
        ask(captured, 4, times=8)
    assert len(told) == 1
    assert "\n" not in str(told[0].message)
    assert recorder.asked == [4]
    ask(captured, 3, times=3)
    assert (recorder.asked, recorder.replayed) == ([4, 3], [3])


def test_what_is_prepared_is_replayed_at_once_and_nothing_is_recorded_later_beside_the_loaders() -> None:
    recorder = Recorder()
    captured = CudaGraphReplay(doubled, recorder)
    captured.prepare(torch.zeros(4, 2))
    captured.prepare(torch.zeros(5, 2))
    ask(captured, 4, times=1)
    ask(captured, 3, times=9)
    assert (recorder.asked, recorder.replayed) == ([4], [4])


def test_a_preparation_that_fails_leaves_everything_to_run_as_it_is() -> None:
    recorder = Recorder(bad=4)
    captured = CudaGraphReplay(doubled, recorder)
    with pytest.warns(RuntimeWarning, match="it runs without"):
        captured.prepare(torch.zeros(4, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ask(captured, 4, times=5)
    assert (recorder.asked, recorder.replayed) == ([4], [])


@pytest.mark.skipif(torch.cuda.is_available(), reason="here the recording works; tests/gpu tries it")
def test_a_machine_that_cannot_record_says_so_and_answers_all_the_same() -> None:
    captured = CudaGraphReplay(doubled, record_graph)
    with pytest.warns(RuntimeWarning, match="it runs without"):
        ask(captured, 4, times=4)


@pytest.mark.parametrize("spoils", [False, True])
def test_a_recording_that_fails_beside_others_leaves_no_memory_behind(spoils: bool) -> None:
    """One that has taken memory of the pool takes the pool with it: the others' recordings would hold it for good."""
    recorder, pool = Recorder(bad=5, spoils=spoils), MemoryPool()
    first, second = (CudaGraphReplay(doubled, recorder) for _ in range(2))
    first.prepare(torch.zeros(4, 2), pool)
    with pytest.warns(RuntimeWarning, match="it runs without"):
        second.prepare(torch.zeros(5, 2), pool)
    assert (first.has_recorded, second.has_recorded) == (not spoils, False)
    for captured, rows in ((first, 4), (second, 5)):
        ask(captured, rows, times=4)
    assert recorder.asked == [4, 5]


def test_shapes_recorded_apart_from_a_step_do_not_share_memory_with_anything() -> None:
    recorder = Recorder()
    captured = CudaGraphReplay(doubled, recorder)
    ask(captured, 1, times=3)
    ask(captured, 2, times=3)
    assert recorder.pools[0] is not recorder.pools[1]


def test_all_teachers_of_a_step_are_recorded_in_one_pool_in_the_order_in_which_they_are_asked() -> None:
    """The order is CUDA's condition for memory that recordings share."""
    recorder, order = Recorder(), list[str]()

    def teacher(name: str) -> Callable[[torch.Tensor], Any]:
        def function(x: torch.Tensor) -> torch.Tensor:
            order.append(name)
            return doubled(x)

        return function

    class Asked:
        def __init__(self, name: str) -> None:
            self.replay = CudaGraphReplay(teacher(name), recorder)

        def prepare(self, number: int, height: int, width: int, pool: MemoryPool) -> None:
            self.replay.prepare(torch.zeros(number, 3, height, width), pool)

        def __call__(self, images: torch.Tensor, *, reuse_buffers: bool) -> Any:
            assert reuse_buffers
            return self.replay(images)

    slots: Any = [SimpleNamespace(teacher=Asked(name)) for name in ("first", "second", "third")]
    prepare_teachers(slots, 2, 8)
    run_teachers(slots, torch.zeros(2, 3, 8, 8))
    assert len({id(pool) for pool in recorder.pools}) == 1
    assert len(recorder.pools) == 3
    assert order == ["first", "second", "third"]
