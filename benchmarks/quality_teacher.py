"""The teacher of one data set of a study: its labels on other images, and what it says ahead of time."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image
from provenance import write_json
from quality_sets import Boxes, StudySet, decided
from retort.files import sha256_of
from retort.labelling.thresholds import with_class_shares
from retort.review.models import Scored
from retort.spec import PseudoLabelsSpec
from retort.training import models
from retort.training.config import MixtureConfig
from retort.training.data.teacher_cache import TeacherCache
from retort.training.detection import load_detector
from retort.training.models import ClassMap
from retort.training.teaching_ahead import load_ahead_teacher, origin_of, views_of

SPEC = PseudoLabelsSpec.model_validate({"path": "rest", "recipe": "few_labels"})
"""The recipe for few labels, as a job has it."""
FEW_LABELS = SPEC.model_dump(mode="json", exclude={"path"})


def mixture(epochs: int) -> MixtureConfig:
    """Return how the recipe for few labels shares the batches of so many epochs."""
    return MixtureConfig(SPEC.labelled_share, round(SPEC.burn_in * epochs), round(SPEC.ramp * epochs))


@dataclass(frozen=True)
class StudyTeacher:
    """The teacher of one data set."""

    weights: Path
    imgsz: int
    """Side of its input."""
    work: Path
    """Keeps what it has said."""
    given: StudySet
    device: str
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "digest", sha256_of(self.weights))

    def misnamed(self) -> Path:
        """Return the same network with the names of its classes moved by one, which does harm."""
        path = self.work / f"misnamed-{self.digest[:16]}.pt"
        if not path.exists():
            network = models.load(self.weights)
            names = list(network.names.values())
            moved = dict(enumerate([*names[1:], names[0]]))
            models.publish(network, path, names=moved, imgsz=self.imgsz)
        return path

    def pseudo_labels(self, least: float, doubtful: float) -> Boxes:
        """Return its boxes on the images without labels, as labels and doubtful ones."""
        return decided(self._found(min(least, doubtful)), least, doubtful)

    def few_labels(self) -> Boxes:
        """Return the same by the recipe for few labels, with a score for each class."""
        assert SPEC.ignore_from is not None, "the recipe has a band"
        found, names = self._found(SPEC.ignore_from), self.given.names
        scored = [[scored_box(row, names) for row in rows] for rows in found.values()]
        chosen = with_class_shares(SPEC, scored, self._labelled_counts())
        least = {number: chosen.per_class.get(name, chosen.confidence) for number, name in enumerate(names)}
        return decided(found, least, SPEC.ignore_from)

    def _labelled_counts(self) -> list[Counter[str]]:
        folder = self.given.folder / "all" / "labels" / "train"
        files = [folder / f"{Path(image).stem}.txt" for image in self.given.labelled]
        lines = [file.read_text().splitlines() if file.exists() else [] for file in files]
        return [Counter(self.given.names[int(line.split()[0])] for line in one if line.strip()) for one in lines]

    def _found(self, lowest: float) -> Boxes:
        """Return all its boxes from a score on."""
        path = self.work / f"boxes-{self.digest[:16]}-{self.imgsz}-{lowest:g}.json"
        if not path.exists():
            folder = self.given.folder / "all" / "images" / "train"
            numbers = class_numbers(self.weights, self.given.names)
            images = [folder / file for file in self.given.rest]
            with load_detector(self.weights, imgsz=self.imgsz, device=self.device, conf=lowest) as detector:
                found = detector(images)
            boxes = {
                image.name: [row(box, image, numbers) for box in one] for image, one in zip(images, found, strict=True)
            }
            write_json(path, boxes)
        kept: Boxes = json.loads(path.read_text())
        return kept

    def cache(self, views: Collection[Any]) -> Path:
        """Return what it has said of all training images ahead of time, labelled or not."""
        origin = origin_of(self.digest, self.weights, self.imgsz, views)
        folder = self.given.folder / "all" / "images" / "train"
        files = {sha256_of(image): image for image in sorted(folder.iterdir())}
        path = self.work / f"cache-{origin.digest(files)[:16]}.npz"
        if not path.exists():
            ordered, began, spent = sorted(files), time.monotonic(), time.process_time()
            with load_ahead_teacher(self.weights, views_of(origin.views, origin.imgsz), self.device) as teacher:
                boxes = list(teacher([files[image] for image in ordered], lambda: None))
            took = {"seconds": time.monotonic() - began, "processor_seconds": time.process_time() - spent}
            write_json(path.with_suffix(".json"), took)
            TeacherCache.of(origin, dict(zip(ordered, boxes, strict=True))).save(path)
        return path

    def asking_cost(self, views: Collection[Any]) -> float:
        """Return the seconds that this took; on a CPU, which others share, of the processor."""
        took = json.loads(self.cache(views).with_suffix(".json").read_text())
        return float(round(took["processor_seconds" if self.device == "cpu" else "seconds"], 2))


def scored_box(row: Sequence[float], names: Sequence[str]) -> Scored:
    """Return a row of the boxes as the labelling of a job knows it."""
    number, x, y, width, height, score = row
    x1, x2, y1, y2 = (min(1.0, max(0.0, at)) for at in (x - width / 2, x + width / 2, y - height / 2, y + height / 2))
    return Scored(name=names[int(number)], x1=x1, x2=x2, y1=y1, y2=y2, score=score)


def row(box: Any, image: Path, numbers: Mapping[int, int]) -> list[float]:
    """Return a detection as class, centre, width and height as shares of the image's sides, and score."""
    with Image.open(image) as opened:
        width, height = opened.size
    x1, x2 = (min(1.0, max(0.0, x / width)) for x in (box.x1, box.x2))
    y1, y2 = (min(1.0, max(0.0, y / height)) for y in (box.y1, box.y2))
    return [float(numbers[box.class_id]), (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1, box.score]


def class_numbers(teacher: Path, names: tuple[str, ...]) -> dict[int, int]:
    """Return the data's class numbers by the teacher's."""
    network = models.load(teacher)
    classes = ClassMap.between(dict(enumerate(names)), network.names)
    if classes.teacher is None or classes.student is None:
        return {number: number for number in range(len(names))}
    return dict(zip(classes.teacher.tolist(), classes.student.tolist(), strict=True))
