"""Work beside the training: what follows on it, and what it raises, comes in the training's own thread."""

from __future__ import annotations

import threading

import pytest
import torch
from retort.training.background import BackgroundWork
from retort.training.checkpoint import copied


class Gate:
    """Work that ends when it is let."""

    def __init__(self) -> None:
        self.opened, self.done = threading.Event(), threading.Event()
        self.thread: threading.Thread | None = None

    def __call__(self) -> None:
        self.thread = threading.current_thread()
        assert self.opened.wait(60)
        self.done.set()


def test_what_follows_on_work_comes_when_it_is_done_and_in_the_thread_that_asks() -> None:
    work, gate, told = BackgroundWork(), Gate(), []
    work.start(gate, lambda: told.append(threading.current_thread()))
    work.poll()
    assert work.busy
    assert told == []
    gate.opened.set()
    work.wait()
    assert told == [threading.current_thread()]
    assert gate.thread is not threading.current_thread()
    work.wait()
    work.poll()
    assert not work.busy
    assert len(told) == 1


def test_a_poll_settles_what_is_done() -> None:
    work, told = BackgroundWork(), []
    work.start(lambda: None, lambda: told.append(1))
    while work.busy:
        work.poll()
    assert told == [1]


def test_one_piece_of_work_waits_for_the_one_before() -> None:
    work, told, gate = BackgroundWork(), [], Gate()
    work.start(gate, lambda: told.append("first"))
    gate.opened.set()
    work.start(lambda: told.append("second's work"), lambda: told.append("second"))
    assert gate.done.is_set()
    work.wait()
    assert told == ["first", "second's work", "second"]


def test_a_failure_is_raised_where_the_work_is_asked_for_and_once_and_nothing_follows() -> None:
    work, told = BackgroundWork(), []

    def fail() -> None:
        raise OSError(28, "No space left on device")

    work.start(fail, lambda: told.append("saved"))
    with pytest.raises(OSError, match="No space left"):
        work.start(lambda: told.append("begun"), lambda: None)
    assert told == []
    work.wait()
    assert not work.busy


def test_a_copy_of_a_state_does_not_change_with_it_and_keeps_its_layout() -> None:
    module = torch.nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    state = {"model": module.state_dict(), "steps": [torch.tensor(3), (torch.tensor(4), "x")], "done": 2}
    before = copied(state)
    kernel = before["model"]["weight"].clone()
    with torch.no_grad():
        module.weight.add_(1)
    assert torch.equal(before["model"]["weight"], kernel)
    assert before["model"]["weight"].stride() == module.weight.stride()
    assert before["model"]._metadata == module.state_dict()._metadata
    assert before["steps"] == [torch.tensor(3), (torch.tensor(4), "x")]
    assert before["done"] == 2
