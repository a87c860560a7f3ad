"""Real networks on real images: what they are made of, what a step under them costs, and who should teach."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from core.runs import Running, start
from core.training.pictures import NAMES, draw
from core.training.test_training_foreign_teachers import stranger
from retort.model_ref import ModelRef
from retort.protocol.events import ArtifactEvent, FinishedEvent, LogEvent, MetricEvent, StageEvent
from retort.report.advice import ATTENTION
from retort.training import models
from retort.training.benchmark import FEWEST_STEPS, StepBenchmark
from retort.training.models import summarize

pytestmark = pytest.mark.timeout(900)  # the first to ask for it trains a network that knows something

COCO = {index: f"thing {index}" for index in range(80)}


def test_a_network_is_taken_apart_and_left_whole(published: Callable[..., Path]) -> None:
    network = models.load(published("yolo11n"))
    before = {name: value.clone() for name, value in network.state_dict().items()}

    found = summarize(network, 64)

    assert (found.architecture, found.names) == ("yolo11n", tuple(NAMES.values()))
    assert found.num_parameters < sum(parameter.numel() for parameter in network.parameters())  # folded
    assert 0.05 < found.gflops < 0.08
    assert all(value.equal(before[name]) for name, value in network.state_dict().items())


def test_attention_is_told_from_convolution(published: Callable[..., Path]) -> None:
    shares = {name: summarize(models.load(published(name)), 64).attention for name in ("yolov8n", "yolo11n", "yolo12n")}

    assert shares["yolov8n"] == 0 < shares["yolo11n"] < ATTENTION < shares["yolo12n"]


def test_a_step_under_a_teacher_takes_longer_than_without(published: Callable[..., Path]) -> None:
    beats: list[int] = []
    bench = StepBenchmark("yolov8n", weights=None, names=NAMES, imgsz=64, batch=2, device="cpu")

    found = bench.step(models.load(published("yolo11m")), on_step=lambda: beats.append(1))

    assert found.num_steps >= FEWEST_STEPS
    assert len(beats) > 2 * found.num_steps  # those that are not measured too
    assert found.ratio > 1


@pytest.fixture
def home(tmp_path: Path, knows: Path, published: Callable[..., Path]) -> Path:
    """A model folder with one who knows, one who does not, one who knows other things, and one that is no network."""
    (tmp_path / "models" / "registered").mkdir(parents=True)
    for name, path in {
        "knows.pt": knows, "weak.pt": published("yolo11n"), "start.pt": published("yolo26n"),
        "coco.pt": published("yolo11n", names=COCO),
    }.items():  # fmt: skip
        shutil.copy(path, tmp_path / "models" / name)
    return tmp_path


def ask(home: Path, scenes: Path, **changes: Any) -> Running:
    document = {"task": "advise", "data": {"path": str(scenes.parent)}, "imgsz": 64, "batch": 4, **changes}
    running = start(home, document)
    assert running.wait() == 0, running.log()
    return running


def advice(running: Running) -> dict[str, Any]:
    last = running.said()[-1]
    assert isinstance(last, FinishedEvent)
    return last.result.model_dump(mode="json")


def test_the_teacher_that_knows_is_recommended_to_a_student_that_does_not(home: Path, scenes: Path) -> None:
    student = {"model": "yolo26n", "weights": "start.pt"}
    stranger(home / "models", "detr", names=None)
    running = ask(
        home, scenes, student=student, candidates=["weak.pt", "knows.pt", "coco.pt", "detr.onnx"],
        adapters={"detr.onnx": {"names": ["cat", "red", "green"]}},
    )  # fmt: skip

    found = advice(running)
    by_title = {one["title"]: one for one in found["candidates"]}
    assert {title: one["verdict"] for title, one in by_title.items()} == {
        "weak": "refused", "knows": "recommended", "coco": "refused", "detr.onnx": "refused",
    }  # fmt: skip
    boxes = by_title["detr.onnx"]
    assert (boxes["model"], boxes["classes"]) == ("an ONNX detector", {"known": 2, "others": 1, "wanted": 3})
    assert (boxes["capacity"]["gflops"], boxes["step"]["num_steps"] > 0, boxes["num_parameters"] > 0) == (0, True, True)
    assert found["recommended"]["weights"] == "knows.pt"
    knows = by_title["knows"]
    assert knows["map"] > found["student"]["map"]
    assert knows["ap_over_student"] == {
        name: pytest.approx(knows["per_class"][name]["ap"] - found["student"]["per_class"][name]["ap"])
        for name in NAMES.values()
    }
    assert knows["capacity"]["gflops"] == pytest.approx(knows["gflops"] / found["student"]["gflops"])
    assert knows["classes"] == {"known": 3, "others": 0, "wanted": 3}
    assert knows["step"]["ratio"] > 1
    assert (by_title["coco"]["map"], by_title["coco"]["classes"]["known"]) == (None, 0)
    said = running.said()
    assert [event.stage for event in said if isinstance(event, StageEvent)] == ["advise"]
    assert [event.name for event in said if isinstance(event, ArtifactEvent)] == ["advice.json"]


def test_a_teacher_weaker_than_the_student_is_refused_with_both_figures(home: Path, scenes: Path) -> None:
    found = advice(ask(home, scenes, student={"model": "yolov8n", "weights": "knows.pt"}, candidates=["weak.pt"]))

    (weak,) = found["candidates"]
    assert (weak["verdict"], found["recommended"]) == ("refused", None)
    assert "weaker than the student" in weak["reasons"][0]
    assert f"{found['student']['map']:.3f}" in weak["reasons"][0]
    assert set(weak["weaker_classes"]) == set(NAMES.values())


def test_an_untrained_student_is_not_measured_and_a_registered_model_and_a_broken_file_are_candidates(
    home: Path, scenes: Path, knows: Path
) -> None:
    reference = ModelRef("street-teacher", hashlib.sha256(knows.read_bytes()).hexdigest())
    shutil.copy(knows, home / "models" / "registered" / reference.file_name)
    broken = (home / "models" / "start.pt").read_bytes().replace(b"ultralytics.nn.tasks", b"ultralytics.nn.tosks")
    (home / "models" / "broken.pt").write_bytes(broken)

    student = {"model": "yolo26n", "weights": None}
    found = advice(ask(home, scenes, student=student, candidates=["broken.pt", str(reference)]))

    assert (found["student"]["map"], found["student"]["per_class"]) == (None, {})
    assert [one["verdict"] for one in found["candidates"]] == ["refused", "recommended"]
    assert "is damaged" in found["candidates"][0]["reasons"][0]
    assert found["recommended"]["weights"] == str(reference)
    assert "The student's mAP is not known" in found["sentence"]


def test_a_student_trained_alone_bounds_what_a_teacher_can_add(home: Path, scenes: Path) -> None:
    student = {"model": "yolo26n", "weights": None}
    running = ask(home, scenes, student=student, candidates=["knows.pt", "coco.pt"], student_epochs=1)

    found = advice(running)
    plain, (knows, coco) = found["student"]["plain"], found["candidates"]
    assert (plain["epochs"], found["student"]["map"]) == (1, None)
    worth = knows["worth"]
    assert (worth["basis"], worth["epochs"]) == ("fit", 1)
    assert {name: one["plain"] for name, one in worth["per_class"].items()} == {
        name: scores["ap"] for name, scores in plain["per_class"].items()
    }
    leads = [max(0.0, one["teacher"] - one["plain"]) for one in worth["per_class"].values()]
    assert worth["most"] == pytest.approx(sum(leads) / len(leads))
    assert 0 < worth["interval"]["low"] <= worth["most"] <= worth["interval"]["high"]
    assert worth["sentence"] in knows["reasons"]
    assert "worth" not in coco, "it knows none of the classes"
    assert "is not known" not in found["sentence"]
    trained = [event for event in running.said() if isinstance(event, MetricEvent) and event.role == "control"]
    assert [event.step for event in trained] == [0, 1]


def test_networks_are_measured_on_the_same_images_and_compared_with_the_first(
    home: Path, scenes: Path, published: Callable[..., Path]
) -> None:
    shutil.copy(
        published("yolov8n", names=dict(enumerate([*list(NAMES.values())[:-1], "BLUE"]))), home / "models/other.pt"
    )
    stranger(home / "models", "detr", names=["red", "green", "blue"])
    networks = ["weak.pt", "knows.pt", "other.pt", "coco.pt", "detr.onnx"]
    running = start(home, {"task": "evaluate", "data": {"path": str(scenes.parent)}, "networks": networks})
    assert running.wait() == 0, running.log()

    found = advice(running)

    weak, knows, _, coco, boxes = found["networks"]
    assert boxes["map"] is not None
    assert [one["weights"] for one in found["networks"]] == networks
    assert [one["imgsz"] for one in found["networks"]] == [96, 64, 96, 96, 64], "what the files say"
    assert (coco["map"], found["num_images"]) == (None, 8)
    better, same, stranger_than = found["differences"]
    assert (stranger_than["weights"], stranger_than["difference"]) == ("detr.onnx", boxes["map"] - weak["map"])
    assert (better["weights"], better["kind"]) == ("knows.pt", "gain")
    assert better["difference"] == pytest.approx(knows["map"] - weak["map"])
    assert better["interval"]["low"] > 0
    assert "is better than weak" in better["sentence"]
    assert (same["weights"], same["kind"]) == ("other.pt", "none")
    assert "is not shown to differ" in same["sentence"]
    assert "yolo detect val" in knows["command"]
    warned = [event.message for event in running.said() if isinstance(event, LogEvent) and event.level == "warning"]
    assert any(
        "other does not know 1 of the data's 3 classes: 'blue'. These count as never found" in one for one in warned
    )
    assert any("write 'BLUE' in data.yaml" in one for one in warned)
    assert any("knows none of the data's classes; it knows" in one for one in warned)
    published = [event.name for event in running.said() if isinstance(event, ArtifactEvent)]
    assert published == ["mistakes.json", "curves.json", "evaluation.json"]
    documents = [json.loads((running.workdir / "artifacts" / name).read_text()) for name in published[:2]]
    known = ["weak", "knows", "other", "detr.onnx"]
    assert [list(one["networks"]) for one in documents] == [known, known], "coco knows none of the data's classes"
    assert (documents[0]["network"], documents[0]["num_images"]) == ("weak", 8)
    areas = {name: one["map50"] for name, one in documents[1]["networks"].items()}
    assert areas["knows"] == pytest.approx(knows["map50"], abs=1e-4)


def test_a_forgotten_export_is_made_of_a_trained_network(home: Path, scenes: Path, tmp_path: Path) -> None:
    """INT8 from a folder of one's own scenes was never run from the spec to its file."""
    own = draw(tmp_path / "own", num_train=60, num_val=1, seed=9).parent / "images" / "train"
    document = {
        "task": "evaluate", "data": {"path": str(scenes.parent)}, "networks": ["knows.pt"],
        "exports": [
            {"format": "onnx"}, {"format": "engine"}, {"format": "onnx", "nms": True, "imgsz": [64, 96]},
            {"format": "onnx", "precision": "int8", "calibration_path": str(own)},
        ],
    }  # fmt: skip
    running = start(home, document)
    assert running.wait() == 0, running.log()

    found = advice(running)
    onnx, engine, final, int8 = found["exports"]

    assert (onnx["status"], onnx["path"], onnx["num_unequal"]) == ("passed", "knows-fp32.onnx", 0)
    assert (engine["status"], engine["format"]) == ("needs", "engine")
    published = [event.name for event in running.said() if isinstance(event, ArtifactEvent)]
    assert {"knows-fp32.onnx", int8["path"]} <= set(published)
    assert (int8["precision"], int8["status"]) == ("int8", "passed"), int8
    assert (int8["calibration"]["path"], int8["calibration"]["num_images"]) == (str(own), 60)
    assert published[-1] == "evaluation.json"
    assert (final["status"], final["path"]) == ("passed", "knows-fp32-nms-64x96.onnx")
    assert (final["shape"], final["boxes"], final["conf"]) == ([64, 96], "nms", 0.25)
    assert final["map"] == pytest.approx(final["base_map"], abs=1e-3)
    assert 0.05 < final["map"] < found["networks"][0]["map"], "boxes of low scores are not in it"
    # One sitting: the ratio is over the network's own figure. Forms were timed each beside PyTorch alone.
    network = found["networks"][0]["latency_ms"]["p50"]
    assert onnx["latency_ratio"] == pytest.approx(onnx["latency_ms"]["p50"] / network)
    assert plain_map(running.workdir / "artifacts", final["command"]) == pytest.approx(final["map"], abs=1e-6)


def test_no_files_are_made_of_a_detector_that_is_no_yolo(home: Path, scenes: Path) -> None:
    stranger(home / "models", "detr", names=["red", "green", "blue"])
    exports = [{"format": "onnx"}]
    document = {"task": "evaluate", "data": {"path": str(scenes.parent)}, "networks": ["detr.onnx"], "exports": exports}
    running = start(home, document)
    assert running.wait() != 0
    assert "files to deploy are made of a YOLO, and detr.onnx is an ONNX detector" in running.log()


def plain_map(folder: Path, line: str) -> float:
    """Run a line of plain Ultralytics in *folder*, and read the mAP50-95 that it prints."""
    program = """import sys
from ultralytics import YOLO
print("found", YOLO(sys.argv[1], task="detect").val(data=sys.argv[2], split=sys.argv[3], plots=False).box.map)
"""
    given = dict(word.split("=", 1) for word in shlex.split(line)[3:])
    assert given.keys() == {"model", "data", "split"}
    done = subprocess.run(
        [sys.executable, "-c", program, given["model"], given["data"], given["split"]], cwd=folder,
        env={**os.environ, "YOLO_CONFIG_DIR": str(folder)}, capture_output=True, text=True, check=False, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return float(done.stdout.split("found ")[-1])


@pytest.mark.parametrize(
    ("said", "side"),
    [
        ({"imgsz": 96}, 96), ({"imgsz": 100}, 128), ({"imgsz": [480, 640]}, 640), ({}, 640), ({"imgsz": None}, 640),
        (SimpleNamespace(imgsz=320), 320), (None, 640),
    ],
    ids=str,
)  # fmt: skip
def test_a_network_is_run_at_the_size_that_its_file_says(said: Any, side: int) -> None:
    assert models.input_size(SimpleNamespace(args=said)) == side
