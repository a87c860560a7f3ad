"""Images that a teacher is to label: found, named, and laid out with the labels that its own are compared with."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from retort.errors import DataError, Problem, SpecError
from retort.intake import datasets, labels, unlabelled
from retort.intake.datasets import Dataset
from retort.intake.inputs import ToLabelFacts
from retort.review.pictures import IMAGE
from retort.spec import PseudoLabelsSpec

FOLDER = "to-label"
_LONGEST = 100
_SHOWN = 10
"""Notes about label files; who has more such files has seen enough of them."""
_FOREIGN = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True, slots=True)
class ToLabel:
    """Images whose every file has been looked at, and the label files that there are for them."""

    root: Path
    images: dict[str, Path]
    """By a name that is safe in files, addresses and archives."""
    labels: dict[str, Path]
    """Of those that have one, by the same names."""
    digest: str
    notes: tuple[str, ...]


def locate(wanted: PseudoLabelsSpec, data_dirs: Sequence[Path], dataset: Dataset) -> ToLabel:
    """Find and check what *wanted* names; its classes must be those of *dataset*.

    Raises:
        SpecError: a class that it names is not one of the data set's.
        DataError: the folder is missing, lies outside *data_dirs*, leads out of itself, or holds no images.

    """
    _check_classes(wanted, dataset.names)
    found = unlabelled.locate(wanted.path, data_dirs)
    home = next(folder.resolve() for folder in data_dirs if found.root.is_relative_to(folder.resolve()))
    images = dict(_named(found.root, found.images))
    usable: dict[str, Path] = {}
    notes: list[str] = []
    for name, image in images.items():
        label = _label_of(home, image)
        if label is not None and (problem := _problem(label, len(dataset.names), home)) is None:
            usable[name] = label
        elif label is not None:
            notes.append(f"pseudo_labels: {label.name} is not compared with the teacher's labels: {problem}")
    whole = hashlib.sha256(found.digest.encode())
    for name, label in sorted(usable.items()):
        whole.update(repr((name, hashlib.sha256(label.read_bytes()).hexdigest())).encode())
    return ToLabel(found.root, images, usable, whole.hexdigest(), tuple(notes[:_SHOWN]))


def overlay(found: ToLabel, folder: Path) -> ToLabelFacts:
    """Link images and labels below the new *folder*; say what they are."""
    laid = folder / FOLDER
    for kind, files in (("images", found.images), ("labels", found.labels)):
        (laid / kind).mkdir(parents=True)
        for name, file in files.items():
            (laid / kind / f"{name}{file.suffix.lower()}").symlink_to(file)
    return ToLabelFacts(
        root=str(found.root),
        folder=laid.absolute(),
        files={name: image.relative_to(found.root).as_posix() for name, image in found.images.items()},
        num_labels=len(found.labels),
        digest=found.digest,
        notes=found.notes,
    )


def _check_classes(wanted: PseudoLabelsSpec, names: Collection[str]) -> None:
    unknown = [name for name in wanted.per_class if name not in names]
    if unknown:
        known = f"the data set has: {', '.join(names)}"
        raise SpecError(
            [Problem(f"pseudo_labels.per_class.{name}", "is no class of the data", known) for name in unknown]
        )


def _named(root: Path, images: Sequence[Path]) -> Iterator[tuple[str, Path]]:
    """Name each image by its path, with what is not safe everywhere replaced, and a number where that is not unique."""
    taken: set[str] = set()
    for image in images:
        plain = _FOREIGN.sub("-", image.relative_to(root).with_suffix("").as_posix()).lstrip("._-")[:_LONGEST]
        name, number = plain or "image", 1
        while name.casefold() in taken:
            number += 1
            name = f"{plain or 'image'}-{number}"
        taken.add(name.casefold())
        assert re.match(IMAGE, name), name
        yield name, image


def _label_of(home: Path, image: Path) -> Path | None:
    """Return the label file of *image*, in ``labels`` beside ``images`` as in a data set, or beside the image."""
    for label in (datasets.label_of(home, image), image.with_suffix(".txt")):
        if label.is_file():
            return label
    return None


def _problem(label: Path, num_classes: int, home: Path) -> str | None:
    """Say why a label cannot be compared with."""
    try:
        content = labels.read(label, num_classes, home)
    except DataError as error:
        return error.message
    return content.problems[0][1] if content.problems else None
