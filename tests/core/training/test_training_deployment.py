"""What is timed on a GPU is what would be deployed there: half precision, kernels recorded once for each shape."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from retort.training.benchmark import Subject, measure
from retort.training.deployment import RecordedNetwork, deploy
from retort.training.distillation.teacher import Function
from retort.training.inference import CPU, Runtime, load_folded, network_output, prepare

SIDE = 64


@pytest.fixture(scope="module")
def weights(published: Callable[..., Path]) -> Path:
    return published("yolov8n")


class Recorder:
    """What CUDA does: it keeps what a function did to one input, and does that again to others."""

    def __init__(self) -> None:
        self.recordings: list[torch.Size] = []
        self.replays = 0

    def __call__(self, function: Function, x: torch.Tensor) -> Function:
        self.recordings.append(x.shape)
        function(x)

        def replay(images: torch.Tensor) -> Any:
            self.replays += 1
            return function(images)

        return replay


def timed(network: RecordedNetwork, picture: Path) -> Any:
    runtime = Runtime(network, "PyTorch", most=None, fixed=False, describe=network.describe)
    (speed,) = measure({"student": Subject(lambda: runtime, SIDE, picture=picture)}).values()
    return speed


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("retort.training.benchmark.MOST", {1: 5, 8: 5})


@pytest.fixture
def picture(data_yaml: Path) -> Path:
    return min((data_yaml.parent / "images/val").iterdir())


def test_kernels_are_recorded_once_for_each_shape_and_every_run_is_a_replay(weights: Path, picture: Path) -> None:
    """They were launched one by one, in float32: the host's time was measured, alike for all networks."""
    recorder = Recorder()
    network = RecordedNetwork(load_folded(weights), recorder)
    speed = timed(network, picture)
    assert recorder.recordings == [(1, 3, SIDE, SIDE), (8, 3, SIDE, SIDE)]
    assert recorder.replays == 3 + 6 + 6
    assert speed.timed_as.startswith(f"float16, recorded, batch 1, {SIDE} px, CPU, ")
    (one, eight) = (anchors for anchors, _ in network._held)
    assert one is not eight, "a recording reads the grid that it was made with"


def test_what_is_recorded_is_the_network_in_half_precision(weights: Path, picture: Path) -> None:
    images = prepare(picture, SIDE)[0]
    network = RecordedNetwork(load_folded(weights), Recorder())
    assert {value.dtype for name, value in network._head.named_parameters() if "dfl" not in name} == {torch.float16}
    exact = network_output(load_folded(weights))(images)
    torch.testing.assert_close(network(images), exact, rtol=0.02, atol=0.3)


def test_what_cannot_be_recorded_is_timed_without_and_told(weights: Path, picture: Path) -> None:
    def record(function: Function, x: torch.Tensor) -> Function:
        del function, x
        raise RuntimeError("CUDA error: operation not permitted when stream is capturing\nmore")

    network = RecordedNetwork(load_folded(weights), record)
    with pytest.warns(RuntimeWarning, match=r"\(1, 3, 64, 64\), it is timed without: CUDA error: operation not"):
        speed = timed(network, picture)
    assert speed.timed_as.startswith("float16, eager, batch 1")
    assert speed.latency_ms["p50"] > 0


def test_on_a_cpu_a_network_is_timed_in_float32_as_it_is(weights: Path) -> None:
    runtime = deploy(load_folded(weights), CPU)
    assert runtime.describe is not None
    assert runtime.describe() == "float32, eager"
    assert runtime.run(torch.zeros(1, 3, SIDE, SIDE)).dtype is torch.float32


def test_networks_are_timed_on_a_picture_of_the_data(picture: Path) -> None:
    """It was a black one, on which a form with NMS inside has nothing to do."""
    images = Subject(lambda: None, (64, 96), 2, picture).images(CPU)  # type: ignore[arg-type, return-value]
    assert images.shape == (2, 3, 64, 96)
    for image in images:
        assert torch.equal(image[None], prepare(picture, (64, 96))[0])
