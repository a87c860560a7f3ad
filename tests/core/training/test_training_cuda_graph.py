"""Recording a teacher's kernels: when it is tried, and what happens where it fails."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from retort.training.distillation.teacher import CudaGraphReplay, record_graph

FAILED = "CUDA error: operation failed due to a previous error during capture\nmore lines that nobody needs"


def doubled(x: torch.Tensor) -> torch.Tensor:
    return 2 * x


class Recorder:
    """Keeps which shapes it was asked to record, and fails for those with *bad* rows as CUDA does."""

    def __init__(self, bad: int | None = None) -> None:
        self.bad, self.asked, self.replayed = bad, list[int](), list[int]()

    def __call__(self, function: Callable[[torch.Tensor], Any], x: torch.Tensor) -> Callable[[torch.Tensor], Any]:
        self.asked.append(len(x))
        if len(x) == self.bad:
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
