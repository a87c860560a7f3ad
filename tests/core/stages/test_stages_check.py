"""Networks that do not fit are refused in the first stage, before anything is trained."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from core.runs import document
from core.training.pictures import NAMES
from retort.data.inputs import Inputs
from retort.data.prepare import prepare
from retort.errors import ModelError, RetortError, SpecError
from retort.pipeline.answers import CheckedNetworks
from retort.pipeline.context import Context
from retort.protocol.events import LogEvent
from retort.protocol.journal import Journal, read
from retort.protocol.workdir import Heartbeat
from retort.settings import Settings
from retort.spec import parse_spec
from retort.stages import check, measure


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a data set, a detector of other classes, a segmentation network, and a network's description."""
    from retort.training import models
    from ultralytics.nn.tasks import SegmentationModel, yaml_model_load

    folder = tmp_path_factory.mktemp("home")
    (folder / "models").mkdir()
    other = models.build("yolov8n", names={0: "cat", 1: "dog"}, weights=None, seed=0)
    models.publish(other, folder / "models" / "other.pt", names=other.names, imgsz=64)
    seg = SegmentationModel("yolov8n-seg.yaml", verbose=False)
    torch.save({"model": seg.half()}, folder / "models" / "seg.pt")
    p2 = models.build("yolov8n-p2", names=NAMES, weights=None, seed=0)
    models.publish(p2, folder / "models" / "p2.pt", names=NAMES, imgsz=64)
    import yaml

    described = {**yaml_model_load("yolov8n.yaml"), "activation": "nn.ReLU()"}
    (folder / "models" / "own.yaml").write_text(yaml.safe_dump(described))
    return folder


def checked(home: Path, workdir: Path, device: str = "cpu", **changes: Any) -> CheckedNetworks:
    spec = parse_spec(document(home, **changes))
    prepare(spec, Settings(home=home, fetch_weights=False), workdir, attempt=1, device=device)
    with Journal(workdir / "journal.jsonl") as journal:
        context = Context(
            spec, Inputs.load(workdir), workdir, journal, threading.Event(), {}, lambda _: None, Heartbeat(workdir),
            "check", "",
        )  # fmt: skip
        return check.run(context)


TRAIN = {"model": "yolo11n", "weights": None, "epochs": 100}
RESPONSES = {"losses": [{"kind": "class_logits"}]}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"student": {"weights": "seg.pt"}}, "student: seg.pt is not a detection network: it is a SegmentationModel"),
        ({"teacher": {"train": TRAIN, "ensemble": [{"weights": "seg.pt"}]}}, "teacher.ensemble.0: seg.pt is not"),
        ({"teacher": {"weights": "seg.pt"}}, "teacher: seg.pt is not a detection network: it is a SegmentationModel"),
        ({"teacher": {"train": {**TRAIN, "weights": "other.pt"}}}, "teacher.train: weights other.pt hold yolov8n"),
        ({"student": {"model": "yolov8s", "weights": "other.pt"}}, "student: .* do not fit yolov8s"),
        (
            {"teacher": {"weights": "other.pt"}, "distillation": RESPONSES},
            "teacher.weights knows none .*class names in common",
        ),
        (
            {"teacher": {"weights": "other.pt"}, "training": {"imgsz": 64, "single_cls": True}},
            "teacher.weights knows 'cat', 'dog', and training.single_cls trains one class, item",
        ),
        ({"student": {"model": "yolov8n-p6", "weights": None}, "training": {"imgsz": 96}}, "training.imgsz is 96"),
        ({"student": {"weights": "p2.pt"}, "exports": [{"format": "onnx", "nms": False}]}, "which yolov8n-p2 has not"),
        (
            {"student": {"model": "yolov8n-p6", "weights": None}, "exports": [{"format": "onnx", "imgsz": [64, 96]}]},
            "exports.0.imgsz is 96",
        ),
        ({"training": {"imgsz": 64, "freeze": 23}}, "leaves nothing to train"),
        ({"training": {"imgsz": 64, "freeze": [0, "22.cv9"]}}, "names the layer 22.cv9"),
    ],
)
def test_a_network_that_will_not_do_is_refused_before_the_teacher_is_trained(
    changes: dict[str, Any], said: str, home: Path, tmp_path: Path
) -> None:
    """A segmentation model as student or in the ensemble was found after the teacher's hundred epochs."""
    with pytest.raises(RetortError, match=said):
        checked(home, tmp_path, **changes)


@pytest.mark.parametrize(
    ("student", "name"),
    [
        ({"weights": "p2.pt"}, "yolov8n-p2"),
        ({"model": "own.yaml", "weights": None}, "own"),
        ({"model": "yolov9t", "weights": None}, "yolov9t"),
    ],
)
def test_a_student_of_another_family_is_known_by_its_architecture(
    student: dict[str, Any], name: str, home: Path, tmp_path: Path
) -> None:
    assert checked(home, tmp_path, student=student) == CheckedNetworks(student=name, teachers=("yolo11n",))


def test_a_description_that_is_not_in_the_model_folder_is_named_with_those_that_are(home: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no network mine\.yaml") as caught:
        checked(home, tmp_path, student={"model": "mine.yaml", "weights": None})
    assert caught.value.hint == "in the folder: own.yaml"


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_whose_memory_cannot_be_asked_fails_no_job(home: Path, tmp_path: Path) -> None:
    """The training itself shows whether it fits."""
    assert checked(home, tmp_path, "0").memory is None
    said = [event.message for event in read(tmp_path / "journal.jsonl")[0] if isinstance(event, LogEvent)]
    assert any(one.startswith("the memory of a step could not be foreseen") for one in said)


def test_a_network_whose_file_asks_for_images_of_any_size_is_refused(home: Path, tmp_path: Path):
    """No field of the spec is above its ceiling: the file is."""
    from retort.training import models

    huge = models.build("yolov8n", names=NAMES, weights=None, seed=0)
    models.publish(huge, home / "models" / "huge.pt", names=NAMES, imgsz=4096)
    data = document(home)["data"]
    spec = parse_spec({"task": "evaluate", "name": "x", "data": data, "networks": ["huge.pt"]})
    prepare(spec, Settings(home=home, fetch_weights=False, max_imgsz=1024), tmp_path, attempt=1, device="cpu")
    with Journal(tmp_path / "journal.jsonl") as journal:
        context = Context(
            spec, Inputs.load(tmp_path), tmp_path, journal, threading.Event(), {}, lambda _: None, Heartbeat(tmp_path),
            "measure", "",
        )  # fmt: skip
        with pytest.raises(SpecError) as caught:
            measure.run(context)
    assert "at 4096 pixels, and this service allows 1024 at most (RETORT_MAX_IMGSZ)" in caught.value.message
