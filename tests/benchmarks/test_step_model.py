"""The model of a training step: what an operation costs, how host and GPU wait for each other, and one small step."""

from __future__ import annotations

from argparse import Namespace

import core.conftest  # noqa: F401  # prepares the environment
import pytest
import torch
from retort.training.criterion import count_boxes
from step import batch_of
from step_model import H200, PARTS, Card, Op, Trace, run, solved, traced

CARD = Card("one", 1e9, 1e12, host_us=100.0)


def op(part: str = "student", *, megabytes: float = 0.0, waits: int = 0, recorded: bool = False) -> Op:
    return Op("x", part, int(megabytes * 1e6), 0, waits, kernel=True, recorded=recorded)


def traced_ops(work: str) -> list[Op]:
    trace = Trace("cuda")

    def look() -> None:
        x = torch.zeros(4, 8, 10, 10, dtype=torch.float16, device="cuda")
        weight = torch.zeros(16, 8, 3, 3, dtype=torch.float16, device="cuda")
        with trace.within("student"):
            eval(work, {"torch": torch, "x": x, "weight": weight})  # noqa: S307 - the lines below

    trace.run(look)
    return trace.ops


@pytest.mark.parametrize(
    ("work", "moved", "flops", "waits"),
    [
        ("x + x", 3 * 6400, 0, 0),  # two are read, though they are one: what a cache saves is not known
        ("x.exp_()", 2 * 6400, 0, 0),
        ("x.fill_(1)", 6400, 0, 0),
        ("x.view(4, -1).mT", 0, 0, 0),
        ("torch.empty_like(x)", 0, 0, 0),
        ("x[:, :1].expand_as(x).exp()", 800 + 6400, 0, 0),  # what is repeated lies there once
        ("x[..., :1].sum(dtype=torch.float32).item()", 640 + 4 + 4, 0, 1),
        ("torch.conv2d(x, weight)", 6400 + 2304 + 8192 + 2 * (6400 + 8192), 2 * 4 * 16 * 64 * 72, 0),  # turned twice
        ("torch.conv2d(x.to(memory_format=torch.channels_last), weight)", 3 * 6400 + 2304 + 8192, 589824, 0),
    ],
)
def test_an_operation_costs_what_it_reads_and_writes_and_multiplies(work: str, moved: int, flops: int, waits: int):
    ops = traced_ops(work)
    assert sum(one.bytes + one.beside for one in ops) == moved
    assert sum(one.flops for one in ops) == flops
    assert sum(one.waits for one in ops) == waits


@pytest.mark.parametrize(
    ("ops", "step_ms"),
    [
        ([op(megabytes=1)] * 10, 10.0),  # the GPU is slower: the host runs ahead
        ([op(megabytes=0.01)] * 10, 1.0),  # the host is slower
        ([op(megabytes=1), op(waits=1), *[op(megabytes=0.01)] * 10], 2.112),  # it waits, and then the GPU does
        ([op(megabytes=0.01, recorded=True)] * 10, 0.1),  # ten for one
    ],
)
def test_host_and_gpu_run_beside_each_other_until_one_waits(ops: list[Op], step_ms: float):
    found = run(ops, CARD)
    assert found["step_ms"] == pytest.approx(step_ms, abs=0.02)
    assert found["student"] == found["gpu_ms"]


def test_a_number_is_fitted_to_what_was_measured():
    ops = [op(megabytes=100)] * 5
    slow = solved("streams", CARD, lambda card: run(ops, card)["gpu_ms"], 1000.0)
    assert slow.streams == pytest.approx(0.5, abs=0.001)
    late = solved("host_us", CARD, lambda card: run([op()] * 10, card)["step_ms"], 2.0)
    assert late.host_us == pytest.approx(200, abs=1)


@pytest.mark.train
def test_a_distilled_step_has_all_its_parts_and_waits_less_than_the_native_one():
    options = Namespace(student="yolov8n", teacher="yolo11n", imgsz=64, batch=2)
    labels = count_boxes(batch_of(2, 32, torch.device("cpu")))
    ours, native = (traced(side, options, labels) for side in ("ours", "native"))
    for ops in (ours, native):
        by_part = {part: sum(one.part == part for one in ops) for part in PARTS}
        assert all(by_part.values()), by_part
        assert sum(one.name == "convolution" and one.part == "teacher" for one in ops) > 80
        assert sum(one.name == "convolution" and one.part == "student" for one in ops) == 63
        assert sum(one.name == "convolution_backward" for one in ops) >= 63
    assert {one.recorded for one in ours if one.part == "teacher"} == {True}
    assert sum(one.waits for one in ours) <= 8 < sum(one.waits for one in native)
    assert run(ours, H200)["step_ms"] > 0
