"""The process that predicts: a real network, real images, and strangers' bytes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import torch
from PIL import Image
from retort.errors import TransientError
from retort_worker.predictions import Runner
from ultralytics.nn.tasks import DetectionModel


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a network that sees something everywhere, and an image."""
    made = tmp_path_factory.mktemp("predictions")
    torch.manual_seed(0)
    network = DetectionModel("yolov8n.yaml", nc=2, verbose=False)
    network.names = {0: "car", 1: "person"}
    for branch in network.model[-1].cv3:
        torch.nn.init.zeros_(branch[-1].bias)
    torch.save({"epoch": -1, "ema": None, "model": network}, made / "weights.pt")
    Image.new("RGB", (96, 48), "red").save(made / "image.png")
    return made


@pytest.fixture(scope="module")
def runner(folder: Path) -> Iterator[Runner]:
    with closing(Runner(folder)) as made:
        yield made


def question(folder: Path, image: str = "image.png", confidence: float = 0.3) -> dict[str, object]:
    about = {"weights": str(folder / "weights.pt"), "image": str(folder / image)}
    return {**about, "imgsz": 64, "confidence": confidence}


def test_a_network_finds_boxes_and_is_loaded_once(folder: Path, runner: Runner):
    first, second = runner.ask(question(folder)), runner.ask(question(folder))
    assert (first["width"], first["height"]) == (96, 48)
    assert first["boxes"]
    assert first["boxes"] == second["boxes"]
    assert {box["name"] for box in first["boxes"]} <= {"car", "person"}
    for box in first["boxes"]:
        assert 0 <= box["x1"] <= box["x2"] <= 1
        assert 0 <= box["y1"] <= box["y2"] <= 1
        assert box["score"] >= 0.3
    assert runner.ask(question(folder, confidence=1.0))["boxes"] == []


def test_bytes_that_are_no_image_or_too_large_a_one_are_refused_and_the_next_is_answered(folder: Path, runner: Runner):
    (folder / "text").write_bytes(b"not an image" * 100)
    Image.new("1", (30_000, 30_000)).save(folder / "huge.png")
    for name in ("text", "huge.png"):
        answer = runner.ask(question(folder, name))
        assert answer["error"]["code"] == "bad_data", answer
    assert runner.ask(question(folder))["width"] == 96


def test_a_process_that_has_died_is_told_and_replaced(folder: Path, runner: Runner):
    runner.ask(question(folder))
    process = runner._process
    assert process is not None
    process.kill()
    process.wait()
    assert runner.ask(question(folder))["width"] == 96
    missing = Runner(folder, ("/bin/false",))
    with pytest.raises(TransientError):
        missing.ask(question(folder))


def test_a_process_that_is_kept_ready_has_loaded_all_before_the_first_image(folder: Path):
    with closing(Runner(folder)) as warm:
        warm.warm()
        process = warm._process
        assert process is not None
        loaded = [Path(f"/proc/{pid}/maps").read_text() for pid in (process.pid, *_below(process.pid))]
        assert any("libtorch" in one for one in loaded)
        warm.warm()
        assert warm._process is process
        assert warm.ask(question(folder))["boxes"]
        assert warm._process is process


def _below(pid: int) -> list[int]:
    """Return the processes that *pid* has started: where it has a namespace of its own, the program is one of them."""
    found = [int(one) for file in Path(f"/proc/{pid}/task").glob("*/children") for one in file.read_text().split()]
    return [*found, *(further for one in found for further in _below(one))]
