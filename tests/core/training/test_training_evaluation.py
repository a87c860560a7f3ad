"""Figures of networks: those of plain Ultralytics and of COCO's evaluation."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from core.training.pictures import NAMES, SIDE, scene
from faster_coco_eval import COCO, COCOeval_faster
from PIL import Image
from retort.class_names import ITEM
from retort.data.datasets import locate, overlay
from retort.labelling import predict
from retort.training import models
from retort.training.curves import Judged, gather
from retort.training.detection import Detector
from retort.training.evaluate import Accuracy, Conditions, accuracy, by_size

Pairs = list[tuple[Accuracy, dict[str, Any]]]
PLAIN = """
import json, sys
from pathlib import Path

class Wall:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0].startswith("retort"):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Wall())
from ultralytics import YOLO
from ultralytics.cfg import entrypoint
from ultralytics.models.yolo import detect
from ultralytics.utils import ops

found = []

class Keeping(detect.DetectionValidator):
    def init_metrics(self, model):
        super().init_metrics(model)
        self.boxes = []

    def update_metrics(self, preds, batch):
        for index, pred in enumerate(preds):
            image = self._prepare_batch(index, batch)
            boxes = ops.scale_boxes(image["imgsz"], pred["bboxes"].clone(), image["ori_shape"], image["ratio_pad"])
            self.boxes.append([image["im_file"], boxes.tolist(), pred["conf"].tolist(), pred["cls"].tolist()])
        super().update_metrics(preds, batch)

    def finalize_metrics(self):
        super().finalize_metrics()
        box = self.metrics.box
        names = [self.names[int(number)] for number in box.ap_class_index]
        per_class = dict(zip(names, zip(map(float, box.ap50), map(float, box.ap)), strict=True))
        told = {"map50": float(box.map50), "map": float(box.map), **per_class}
        found.append({"told": told, "boxes": self.boxes, "max_det": self.args.max_det})

detect.DetectionValidator = Keeping
weights, data, *lines = sys.argv[1:]
YOLO(weights).val(data=data)
for line in lines:
    entrypoint(line)
Path("found.json").write_text(json.dumps(found))
"""


@pytest.fixture(scope="module")
def uneven(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scenes of several shapes and sizes: wide, tall, small and large ones."""
    folder, rng = tmp_path_factory.mktemp("uneven"), np.random.default_rng(3)
    for split, number in (("train", 1), ("val", 24), ("test", 9)):
        for kind in ("images", "labels"):
            (folder / kind / split).mkdir(parents=True)
        for index in range(number):
            pixels, rows = scene(rng)
            width, height = rng.integers(SIDE, 5 * SIDE, 2)
            picture = Image.fromarray(pixels).resize((int(width), int(height)), Image.Resampling.NEAREST)
            picture.save(folder / "images" / split / f"{index}.png")
            (folder / "labels" / split / f"{index}.txt").write_text("\n".join(rows))
    (folder / "data.yaml").write_text(
        f"path: {folder}\ntrain: images/train\nval: images/val\ntest: images/test\nnames: {list(NAMES.values())}\n"
    )
    return folder / "data.yaml"


@pytest.fixture(scope="module")
def kept() -> dict[str, Any]:
    """What the first of the judged validations tells beside its figures."""
    return {}


@pytest.fixture(scope="module")
def judged(
    knows: Path, uneven: Path, kept: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> list[tuple[Accuracy, dict[str, Any]]]:
    """Figures of one network, each beside those of a process with plain Ultralytics that cannot import Retort."""
    folder = tmp_path_factory.mktemp("plain")
    network = models.load(knows)
    usual = Conditions(
        uneven, imgsz=network.args["imgsz"], device="cpu", loader_workers=0, data_name=str(uneven),
    )  # fmt: skip
    keeps = {"on_matches": partial(kept.__setitem__, "matches"), "on_found": partial(kept.__setitem__, "images")}
    ours = [
        accuracy(models.load(knows), conditions, str(knows))
        for conditions in (
            replace(usual, found_from=0.25, **keeps),
            replace(usual, square=True),
            replace(usual, split="test"),
        )
    ]
    merged = overlay(locate(str(uneven.parent), [uneven.parent]).as_one_class(), folder / "merged")
    one_class = of_one_class(network, folder / "item.pt")
    together = replace(usual, data_yaml=merged, single_cls=True)
    ours.append(accuracy(models.load(one_class), together, str(one_class)))
    lines = [str(one.command) for one in ours[1:]]
    done = subprocess.run(
        [sys.executable, "-c", PLAIN, knows, uneven, *lines],
        capture_output=True, text=True, env={**os.environ, "YOLO_CONFIG_DIR": str(folder)}, cwd=folder, timeout=240,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return list(zip(ours, json.loads((folder / "found.json").read_text()), strict=True))


def of_one_class(network: Any, path: Path) -> Path:
    """A network that takes for an item what *network* takes for its first class."""
    made = models.build("yolov8n", names={0: ITEM}, weights=None, seed=0).state_dict()
    known = {name: value[: len(made[name])] if value.ndim else value for name, value in network.state_dict().items()}
    single = models.build("yolov8n", names={0: ITEM}, weights=None, seed=0)
    single.load_state_dict(known)
    models.publish(single, path, names=single.names, imgsz=network.args["imgsz"])
    return path


WHICH = ["without arguments", "the line for squares", "the line for the test split", "the line for all classes as one"]


@pytest.mark.parametrize("which", WHICH)
def test_plain_ultralytics_gives_the_figures_that_are_told(which: str, judged: Pairs) -> None:
    index = WHICH.index(which)
    ours, theirs = judged[index]
    usual = ("val", "rectangle")
    assert (ours.split, ours.letterbox) == [usual, ("val", "square"), ("test", "rectangle"), usual][index]
    assert ("single_cls=True" in str(ours.command)) == (set(ours.per_class) == {ITEM}) == (index == 3)
    told = {name: (one["ap50"], one["ap"]) for name, one in ours.per_class.items()}
    found = {"map50": ours.map50, "map": ours.map, **told}
    assert found.keys() == theirs["told"].keys()
    for name, value in theirs["told"].items():
        assert found[name] == pytest.approx(value, abs=5e-7), name
    assert 0.05 < ours.map < 0.95, "figures of a network that finds nothing, or all, would show nothing"


def test_recorded_curves_have_the_areas_and_matrices_the_labels_and_boxes_of_plain_ultralytics(
    uneven: Path, judged: Pairs, kept: dict[str, Any]
) -> None:
    names, theirs = list(NAMES.values()), judged[0][1]
    found = gather({"student": Judged(kept["matches"], kept["images"], "rectangle")}, names, iou=0.5, score_from=0.25)
    network = found.networks["student"]
    recalls = np.linspace(0, 1, 101)
    areas = {one.name: float(np.trapezoid(one.precision, recalls)) for one in network.classes}
    assert areas == pytest.approx({name: theirs["told"][name][0] for name in names}, abs=2e-5)
    assert np.trapezoid(network.mean, recalls) == pytest.approx(theirs["told"]["map50"], abs=2e-5)
    rows = [line for path in (uneven.parent / "labels" / "val").glob("*.txt") for line in path.read_text().splitlines()]
    numbers = Counter(int(row.split()[0]) for row in rows)
    sure = Counter(
        int(label)
        for _, _, scores, labels in theirs["boxes"]
        for score, label in zip(scores, labels, strict=True)
        if score >= 0.25
    )
    counts = np.array(network.confusion.counts)
    assert counts.sum(1)[:3].tolist() == [one.number for one in network.classes] == [numbers[at] for at in range(3)]
    assert counts.sum(0)[:3].tolist() == [sure[at] for at in range(3)]
    assert 0 < np.trace(counts) < len(rows)


@pytest.mark.parametrize("index", [0, 1, 2])
def test_figures_by_size_are_those_of_cocos_evaluation(index: int, uneven: Path, judged: Pairs) -> None:
    ours, theirs = judged[index]
    expected = coco_sizes(uneven.parent / "labels" / ours.split, theirs["boxes"])
    assert {size: one["ap"] for size, one in ours.by_size.items()} == pytest.approx(expected, abs=5e-7)


def coco_sizes(labels: Path, found: list[Any]) -> dict[str, float]:
    """AP by size from label files and the detections of plain Ultralytics, by faster-coco-eval's own summary."""
    notes: list[dict[str, Any]] = []
    boxes: list[dict[str, Any]] = []
    for number, (path, corners, scores, classes) in enumerate(found):
        with Image.open(path) as picture:
            width, height = picture.size
        for row in (labels / f"{Path(path).stem}.txt").read_text().splitlines():
            label, x, y, w, h = map(float, row.split())
            notes.append({
                "id": len(notes) + 1, "image_id": number, "category_id": int(label), "iscrowd": 0,
                "bbox": [(x - w / 2) * width, (y - h / 2) * height, w * width, h * height],
                "area": w * width * h * height,
            })  # fmt: skip
        for (x1, y1, x2, y2), score, label in zip(corners, scores, classes, strict=True):
            box = [x1, y1, x2 - x1, y2 - y1]
            boxes.append({"image_id": number, "category_id": int(label), "bbox": box, "score": score})
    images = [{"id": number} for number in range(len(found))]
    categories = [{"id": number} for number in NAMES]
    truth = COCO({"images": images, "annotations": notes, "categories": categories}, print_function=silent)
    judge = COCOeval_faster(truth, truth.loadRes(boxes), "bbox", print_function=silent)
    judge.params.maxDets = [1, 10, 300]
    judge.evaluate()
    judge.accumulate()
    judge.summarize()
    return dict(zip(("small", "medium", "large"), judge.stats[3:6].tolist(), strict=True))


def silent(*_: Any) -> None:
    """Print nothing."""


def test_perfect_detections_of_a_thousand_objects_are_perfect_in_every_size() -> None:
    places = [(50.0 * x, 50.0 * y) for x in range(25) for y in range(40)]
    sides = [40.0 if index % 3 else 20.0 for index in range(len(places))]
    corners = [[x, y, x + side, y + side] for (x, y), side in zip(places, sides, strict=True)]
    truth = np.array([[0, *box] for box in corners])
    found = np.array([[1 - index / 2000, 0, *box] for index, box in enumerate(corners)])
    judged = by_size([(truth, found)], 1, max_det=1000)
    assert judged["small"] == {"ap": pytest.approx(1.0), "number": 334}
    assert judged["medium"] == {"ap": pytest.approx(1.0), "number": 666}


def test_classes_that_differ_by_a_capital_letter_alone_are_judged_apart(
    knows: Path, scenes: Path, tmp_path: Path
) -> None:
    """The same images and weights, with only the names changed, have the same figures."""
    twins = ("Car", "car", "CAR")
    named = tmp_path / "data.yaml"
    named.write_text(scenes.read_text().replace(str(list(NAMES.values())), str(list(twins))))
    network = models.load(knows)
    plain = accuracy(network, Conditions(scenes, SIDE, "cpu"))
    network.names = dict(enumerate(twins))
    found = accuracy(network, Conditions(named, SIDE, "cpu"))
    assert plain.map50 > 0.5
    assert list(found.per_class.values()) == list(plain.per_class.values())
    assert (found.map, found.by_size) == (plain.map, plain.by_size)

    models.publish(network, tmp_path / "twins.pt", names=network.names, imgsz=SIDE)
    assert predict.class_numbers(tmp_path / "twins.pt", twins) == network.names


def test_of_a_thousand_certain_objects_none_becomes_background(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((960, 960, 3), dtype=np.uint8)).save(tmp_path / "dense.png")
    centres = torch.cartesian_prod(torch.arange(15, 960, 30.0), torch.arange(15, 960, 30.0)).T  # 2 A
    raw = torch.cat([centres, torch.full_like(centres, 20), torch.full((1, centres.shape[1]), 0.9)])[None]
    with Detector(lambda _: raw.clone(), imgsz=960, conf=0.25) as detector:
        (found,) = detector([tmp_path / "dense.png"])
    assert len(found) == centres.shape[1] == 1024
