"""The data sets of a study, with a test split held apart and a part of the labels."""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from retort.constants import PSEUDO_LABELLED
from retort.data import datasets

IMAGES = ("labelled", "repeated", "pseudo", "few_labels", "unlabelled", "all")
"""What becomes of the images whose labels are left out: they are not there (``labelled``); not there, and the labelled
ones repeated until an epoch has as many steps as with all images (``repeated``); labelled by the teacher (``pseudo``),
or so by the recipe of a job for few labels (``few_labels``);
shown to the terms alone (``unlabelled``); or they have their labels, against which the others are held (``all``)."""
LABELLED_BY_TEACHER = ("pseudo", "few_labels")
"""Those of them whose labels are the teacher's."""
Boxes = dict[str, list[list[float]]]
"""By image: rows of class, centre x and y, width and height as shares of its sides, and score."""


def named_path(text: str) -> tuple[str, Path]:
    """Read ``NAME=DIR``; a folder alone is called by its own name.

    Raises:
        ArgumentTypeError: there is no such folder.

    """
    name, equals, given = text.rpartition("=")
    path = Path(given)
    if not path.exists():
        raise argparse.ArgumentTypeError(f"{given} does not exist; give NAME=DIR, a folder with a data.yaml")
    return (name if equals else path.resolve().name), path


def named_number(text: str) -> tuple[str, int]:
    """Read ``NAME=12``."""
    name, _, number = text.partition("=")
    return name, int(number)


def chosen(names: Iterable[str], share: float, salt: str) -> list[str]:
    """Return that share of the *names*, at least one, by digest: whatever the order, and whatever else is there."""
    dealt = sorted(names, key=lambda name: hashlib.sha256(f"{salt} {name}".encode()).digest())
    return sorted(dealt[: max(1, round(share * len(dealt)))])


@dataclass(frozen=True)
class StudySet:
    """One data set of a study, laid out in a folder of its own."""

    name: str
    folder: Path
    digest: str
    """Of the data set, and of what was held apart or left without labels."""
    names: tuple[str, ...]
    labelled: tuple[str, ...]
    """Training images that have labels, as file names."""
    rest: tuple[str, ...]
    """Training images whose labels are left out."""
    counts: dict[str, int]
    """Images of each split."""

    @classmethod
    def of(cls, name: str, path: Path, options: argparse.Namespace) -> StudySet:
        """Lay a data set out as the options of a study say."""
        folder = options.work / name / "data"
        return cls.lay_out(name, path, folder, test_share=options.test_share, labels=options.labels)

    @classmethod
    def lay_out(cls, name: str, path: Path, folder: Path, *, test_share: float, labels: float) -> StudySet:
        """Lay a data set out in *folder*, anew."""
        dataset = datasets.locate(str(path.resolve()), [Path("/")])
        shutil.rmtree(folder, ignore_errors=True)
        datasets.overlay(dataset, folder / "all")
        images = folder / "all" / "images"
        facts: list[Any] = [dataset.digest]
        if test_share and not dataset.num_test:
            moved = chosen(_files(images / "train"), test_share, "test")
            _move(folder / "all", moved)
            facts.append(("test", moved))
        training = _files(images / "train")
        kept = chosen(training, labels, "labels") if labels < 1 else training
        if labels < 1:
            facts.append(("labels", kept))
        digest = dataset.digest if len(facts) == 1 else _digest(facts)
        counts = {split.name: len(_files(split)) for split in sorted(images.iterdir())}
        rest = tuple(file for file in training if file not in set(kept))
        built = cls(name, folder, digest, dataset.names, tuple(kept), rest, counts)
        _describe(folder / "all", dataset.names, list(counts), digest if labels == 1 else _digest([digest, "all"]))
        return built

    @property
    def split(self) -> str:
        """The split that judges: the test images where there are any."""
        return "test" if "test" in self.counts else "val"

    def data_yaml(self, images: str, boxes: Boxes | None = None) -> Path:
        """Return the ``data.yaml`` for a use of the images, which are laid out where they are not yet."""
        if images == "all" or not self.rest:
            return self.folder / "all" / "data.yaml"
        told = "" if boxes is None else _digest(boxes)
        target = self.folder / (images if boxes is None else f"{images}-{told[:12]}")
        if not (target / "data.yaml").exists():
            shutil.rmtree(target, ignore_errors=True)
            self._link_training(target, images, boxes or {})
            for split in self.counts.keys() - {"train"}:
                for kind in ("images", "labels"):
                    (target / kind / split).symlink_to(self.folder / "all" / kind / split)
            _describe(target, self.names, list(self.counts), _digest([self.digest, images, told]))
        return target / "data.yaml"

    def _link_training(self, target: Path, images: str, boxes: Boxes) -> None:
        given = self.folder / "all"
        for kind in ("images", "labels"):
            (target / kind / "train").mkdir(parents=True)
        repeats = 1 if images != "repeated" else -(-(len(self.labelled) + len(self.rest)) // len(self.labelled))
        copies = [(file, turn) for turn in range(repeats) for file in self.labelled]
        for file, turn in copies[: len(self.labelled) + len(self.rest)]:
            stem, suffix = Path(file).stem, Path(file).suffix
            own = f"{stem}-{turn}" if turn else stem
            (target / "images" / "train" / f"{own}{suffix}").symlink_to(given / "images" / "train" / file)
            label = given / "labels" / "train" / f"{stem}.txt"
            if label.exists():
                (target / "labels" / "train" / f"{own}.txt").symlink_to(label)
        for file, found in boxes.items():
            (target / "images" / "train" / file).symlink_to(given / "images" / "train" / file)
            _write_boxes(target, Path(file).stem, found)
        if images == "few_labels":
            (target / PSEUDO_LABELLED).write_text("\n".join(Path(file).stem for file in boxes))

    def rest_folder(self) -> Path:
        """Return a folder of the images whose labels are left out, as the terms read such images."""
        folder = self.folder / "rest"
        if not folder.exists():
            for kind in ("images", "labels"):
                (folder / kind / "rest").mkdir(parents=True)
            for file in self.rest:
                (folder / "images" / "rest" / file).symlink_to(self.folder / "all" / "images" / "train" / file)
                (folder / "labels" / "rest" / f"{Path(file).stem}.txt").touch()
        return folder / "images" / "rest"

    def facts(self) -> dict[str, Any]:
        """Return what a reader needs to know of the set."""
        return {
            "digest": self.digest, "classes": list(self.names), "images": self.counts,
            "num_labelled": len(self.labelled), "judged_on": self.split,
        }  # fmt: skip


def decided(boxes: Boxes, least: float | Mapping[int, float], ignore_from: float) -> Boxes:
    """Return which boxes are labels (their last value is 1) and which are doubtful (0); others are background.

    *least* is the score from which on a box is a label, or such scores by class. An image without a label is left out,
    as a job leaves it out.
    """

    def needed(row: Sequence[float]) -> float:
        return least[int(row[0])] if isinstance(least, Mapping) else least

    marked = {
        file: [[*row[:5], float(row[5] >= needed(row))] for row in rows if row[5] >= min(needed(row), ignore_from)]
        for file, rows in boxes.items()
    }
    return {file: rows for file, rows in marked.items() if any(row[5] for row in rows)}


def _write_boxes(target: Path, stem: str, rows: Sequence[Sequence[float]]) -> None:
    """Write labels, and doubtful boxes where the training ignores them."""
    for folder, wanted in (("labels", 1), ("ignore", 0)):
        lines = [f"{int(row[0])} " + " ".join(f"{value:.6f}" for value in row[1:5]) for row in rows if row[5] == wanted]
        if lines or wanted:
            (target / folder / "train").mkdir(parents=True, exist_ok=True)
            (target / folder / "train" / f"{stem}.txt").write_text("".join(f"{line}\n" for line in lines))


def _files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def _move(folder: Path, files: Iterable[str]) -> None:
    """Move training images to the split ``test``."""
    for kind in ("images", "labels"):
        (folder / kind / "test").mkdir(parents=True, exist_ok=True)
    for file in files:
        (folder / "images" / "train" / file).rename(folder / "images" / "test" / file)
        label = folder / "labels" / "train" / f"{Path(file).stem}.txt"
        if label.exists():
            label.rename(folder / "labels" / "test" / label.name)


def _describe(folder: Path, names: Sequence[str], splits: Sequence[str], digest: str) -> None:
    described = {
        "path": str(folder.absolute()), **{split: f"images/{split}" for split in splits},
        "names": dict(enumerate(names)), "digest": digest,
    }  # fmt: skip
    (folder / "data.yaml").write_text(yaml.safe_dump(described, sort_keys=False, allow_unicode=True))


def _digest(facts: Any) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
