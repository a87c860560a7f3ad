"""Figures of networks: those of plain Ultralytics and of COCO's evaluation."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from core.training.pictures import NAMES, SIDE, scene
from faster_coco_eval import COCO, COCOeval_faster
from PIL import Image
from retort.training import models
from retort.training.evaluate import Accuracy, Conditions, accuracy, by_size

PLAIN = """
import json, sys
from pathlib import Path

class Wall:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0].startswith("retort"):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Wall())
sys.argv = sys.argv[1:]
from ultralytics import YOLO
from ultralytics.cfg import entrypoint
from ultralytics.models.yolo.detect import DetectionValidator
from ultralytics.utils import ops

class Keeping(DetectionValidator):
    kept = []

    def update_metrics(self, preds, batch):
        for index, pred in enumerate(preds):
            image = self._prepare_batch(index, batch)
            boxes = ops.scale_boxes(image["imgsz"], pred["bboxes"].clone(), image["ori_shape"], image["ratio_pad"])
            self.kept.append([Path(image["im_file"]).stem, boxes.tolist(), pred["conf"].tolist(), pred["cls"].tolist()])
        super().update_metrics(preds, batch)

    def finalize_metrics(self):
        super().finalize_metrics()
        box = self.metrics.box
        names = [self.names[int(number)] for number in box.ap_class_index]
        per_class = dict(zip(names, zip(map(float, box.ap50), map(float, box.ap)), strict=True))
        found = {"map50": float(box.map50), "map": float(box.map), "per_class": per_class, "kept": self.kept}
        Path("found.json").write_text(json.dumps(found))

import ultralytics.models.yolo.detect as detect
detect.DetectionValidator = Keeping
if sys.argv[0] == "yolo":
    entrypoint()
else:
    YOLO(sys.argv[0]).val(data=sys.argv[1], workers=0, plots=False)
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


def plain(folder: Path, *arguments: str) -> dict[str, Any]:
    """What plain Ultralytics finds, in a process that cannot import Retort."""
    environ = {**os.environ, "YOLO_CONFIG_DIR": str(folder)}
    done = subprocess.run(
        [sys.executable, "-c", PLAIN, *arguments],
        capture_output=True, text=True, env=environ, cwd=folder, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads((folder / "found.json").read_text())
    return found


def figures(found: Accuracy) -> dict[str, Any]:
    """What plain Ultralytics tells as well."""
    per_class = {name: [one["ap50"], one["ap"]] for name, one in found.per_class.items()}
    return {"map50": found.map50, "map": found.map, **per_class}


def same(found: Accuracy, theirs: dict[str, Any]) -> None:
    """Insist on six digits."""
    expected = {"map50": theirs["map50"], "map": theirs["map"], **theirs["per_class"]}
    ours = figures(found)
    assert ours.keys() == expected.keys()
    for name, value in expected.items():
        assert ours[name] == pytest.approx(value, abs=5e-7), name
    assert 0.05 < found.map < 0.99, "figures of a network that finds nothing, or all, would show nothing"


def test_plain_ultralytics_without_arguments_gives_the_published_figures(
    knows: Path, uneven: Path, tmp_path: Path
) -> None:
    found = accuracy(models.load(knows), Conditions(uneven, imgsz=96, device="cpu", loader_workers=0))
    theirs = plain(tmp_path, str(knows), str(uneven))
    same(found, theirs)
    assert {size: one["ap"] for size, one in found.by_size.items()} == pytest.approx(
        coco_sizes(uneven, "val", theirs["kept"]), abs=5e-7
    )


@pytest.mark.parametrize(("square", "split"), [(True, "val"), (False, "test")])
def test_the_line_that_is_told_gives_the_same_figures_in_plain_ultralytics(
    square: bool, split: Any, knows: Path, uneven: Path, tmp_path: Path
) -> None:
    conditions = Conditions(
        uneven, imgsz=96, device="cpu", loader_workers=0, square=square, split=split, data_name=str(uneven)
    )
    found = accuracy(models.load(knows), conditions, str(knows))
    assert found.command is not None
    theirs = plain(tmp_path, *shlex.split(found.command), "workers=0", "plots=False")
    same(found, theirs)
    assert (found.split, found.letterbox) == (split, "square" if square else "rectangle")
    assert {size: one["ap"] for size, one in found.by_size.items()} == pytest.approx(
        coco_sizes(uneven, split, theirs["kept"]), abs=5e-7
    )


def coco_sizes(data_yaml: Path, split: str, kept: list[Any]) -> dict[str, float]:
    """AP by size from label files and the detections of plain Ultralytics, by faster-coco-eval's own summary."""
    notes, boxes, images = [], [], {}
    for number, path in enumerate(sorted((data_yaml.parent / "labels" / split).iterdir())):
        images[path.stem] = number
        width, height = Image.open(data_yaml.parent / "images" / split / f"{path.stem}.png").size
        for row in path.read_text().splitlines():
            label, x, y, w, h = map(float, row.split())
            box = [(x - w / 2) * width, (y - h / 2) * height, w * width, h * height]
            notes.append({
                "id": len(notes) + 1, "image_id": number, "category_id": int(label), "bbox": box,
                "area": box[2] * box[3], "iscrowd": 0,
            })  # fmt: skip
    for stem, corners, scores, labels in kept:
        for (x1, y1, x2, y2), score, label in zip(corners, scores, labels, strict=True):
            boxes.append({
                "image_id": images[stem], "category_id": int(label), "bbox": [x1, y1, x2 - x1, y2 - y1], "score": score,
            })  # fmt: skip
    truth = COCO(
        {
            "images": [{"id": i} for i in images.values()],
            "annotations": notes,
            "categories": [{"id": i} for i in NAMES],
        },
        print_function=lambda *_: None,
    )
    judge = COCOeval_faster(truth, truth.loadRes(boxes), "bbox", print_function=lambda *_: None)
    judge.params.maxDets = [1, 10, 300]
    judge.evaluate()
    judge.accumulate()
    judge.summarize()
    return dict(zip(("small", "medium", "large"), judge.stats[3:6].tolist(), strict=True))


def test_perfect_detections_of_a_thousand_objects_are_perfect_in_every_size() -> None:
    corners = [
        [x * 30.0, y * 30.0, x * 30.0 + side, y * 30.0 + side] for x in range(25) for y in range(40) for side in [20.0]
    ]
    corners[::3] = [[x1, y1, x1 + 40.0, y1 + 40.0] for x1, y1, *_ in corners[::3]]
    truth = np.array([[0, *box] for box in corners])
    found = np.array([[1 - i / 2000, 0, *box] for i, box in enumerate(corners)])
    judged = by_size([(truth, found)], 1, max_det=1000)
    assert {name: one["ap"] for name, one in judged.items() if one["number"]} == {
        "small": pytest.approx(1.0), "medium": pytest.approx(1.0),
    }  # fmt: skip
