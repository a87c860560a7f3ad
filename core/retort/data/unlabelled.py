"""Folders of images without labels: for distillation terms, and for pseudo-labels."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from retort.data.datasets import IMAGE_SUFFIXES, Dataset, checked, place_image
from retort.data.inputs import PseudoLabelInfo
from retort.data.labels import label_of, read_labels
from retort.data.verification import ImageRecord
from retort.errors import DataError, FieldProblem, SpecError
from retort.review.models import IMAGE
from retort.spec import PseudoLabelsSpec


@dataclass(frozen=True, slots=True)
class UnlabelledSet:
    """Unlabelled images whose files have all been checked."""

    root: Path
    images: tuple[Path, ...]
    """Sorted."""
    digest: str
    """SHA-256 over name and content of every image; the place does not count."""
    num_shared: int
    """How many have the bytes of a validation or test image, and are left out."""
    notes: tuple[str, ...]
    records: tuple[ImageRecord, ...] = field(repr=False)
    """What was seen of each image."""


def locate_unlabelled(path: str, data_dirs: Sequence[Path], *, held_out: Collection[str] = ()) -> UnlabelledSet:
    """Locate and check the unlabelled images in the folder *path*.

    A relative path is looked for in each of the *data_dirs*. Images whose digest is one of *held_out* are left out.

    Raises:
        DataError: it is missing, lies outside *data_dirs*, leads out of itself, or holds no images.

    """
    root = _find(path, data_dirs)
    images = _images(root)
    with ThreadPoolExecutor(max_workers=4) as pool:
        records = list(pool.map(lambda image: ImageRecord.of(checked(image)), images))
    used = tuple((image, seen) for image, seen in zip(images, records, strict=True) if seen.digest not in held_out)
    if not used:
        raise DataError(f"every image in {root} is a validation or test image too", hint="name other images")
    whole = hashlib.sha256()
    for image, seen in used:
        whole.update(repr((image.relative_to(root).as_posix(), seen.digest)).encode())
    num_labels = sum(1 for file in root.rglob("*.txt") if file.is_file())
    notes = (f"unlabelled images: {num_labels} text files beside them are not read",) if num_labels else ()
    return UnlabelledSet(
        root,
        tuple(image for image, _ in used),
        whole.hexdigest(),
        len(images) - len(used),
        notes,
        tuple(seen for _, seen in used),
    )


def overlay_unlabelled(found: UnlabelledSet, folder: Path) -> Path:
    """Link the unlabelled images into *folder*; return the images' folder.

    *folder* is new. Each image gets an empty label file: for Ultralytics these are images of background, which its
    loader takes as they are.
    """
    images, labels = folder / "images" / "unlabelled", folder / "labels" / "unlabelled"
    images.mkdir(parents=True)
    labels.mkdir(parents=True)
    for number, image in enumerate(found.images):
        place_image(image, images / f"{number:07d}{image.suffix.lower()}")
        (labels / f"{number:07d}.txt").touch()
    return images


def _find(path: str, data_dirs: Sequence[Path]) -> Path:
    """Return the resolved folder, which lies in one of the operator's."""
    given = Path(path).expanduser()
    candidates = [given] if given.is_absolute() else [folder / given for folder in data_dirs]
    for candidate in candidates:
        resolved = candidate.resolve()
        if resolved.is_dir() and any(resolved.is_relative_to(folder.resolve()) for folder in data_dirs):
            return resolved
    shown = ", ".join(str(folder) for folder in data_dirs)
    raise DataError(f"no folder of unlabelled images at {path}", hint=f"name a folder inside one of: {shown}")


def _images(root: Path) -> tuple[Path, ...]:
    found = sorted(file for file in root.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES and file.is_file())
    for image in found:
        if not image.resolve().is_relative_to(root):
            hint = "copy the image into the folder, or name a common folder"
            raise DataError(f"{image} leads out of the folder, to {image.resolve()}", hint=hint)
    if not found:
        hint = f"put images there; known endings: {', '.join(sorted(IMAGE_SUFFIXES))}"
        raise DataError(f"no unlabelled images in {root}", hint=hint)
    return tuple(found)


FOLDER = "to-label"
_LONGEST = 100
_SHOWN = 10
"""Notes about label files; who has more such files has seen enough of them."""
_FOREIGN = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True, slots=True)
class PseudoLabelImages:
    """Checked images for pseudo-labels, and their existing label files.

    Every file of these images has been looked at.
    """

    root: Path
    images: dict[str, Path]
    """By a name that is safe in files, addresses and archives."""
    labels: dict[str, Path]
    """Of those that have one, by the same names."""
    digest: str
    notes: tuple[str, ...]
    records: tuple[ImageRecord, ...] = field(repr=False)
    """What was seen of each image."""


def locate_pseudo_label_images(
    wanted: PseudoLabelsSpec, data_dirs: Sequence[Path], dataset: Dataset
) -> PseudoLabelImages:
    """Find and check the images for the pseudo-labels *wanted*.

    The classes of *wanted* must be those of *dataset*.

    Raises:
        SpecError: a class that it names is not one of the data set's.
        DataError: the folder is missing, lies outside *data_dirs*, leads out of itself, or holds no images.

    """
    _check_classes(wanted, dataset.names)
    found = locate_unlabelled(wanted.path, data_dirs)
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
    return PseudoLabelImages(found.root, images, usable, whole.hexdigest(), tuple(notes[:_SHOWN]), found.records)


def overlay_pseudo_label_images(found: PseudoLabelImages, folder: Path) -> PseudoLabelInfo:
    """Link images and copy labels below the new *folder*; describe the images."""
    laid = folder / FOLDER
    for kind in ("images", "labels"):
        (laid / kind).mkdir(parents=True)
    for name, file in found.images.items():
        place_image(file, laid / "images" / f"{name}{file.suffix.lower()}")
    for name, file in found.labels.items():
        shutil.copyfile(file, laid / "labels" / f"{name}.txt")
    return PseudoLabelInfo(
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
        entry = f"the data set has: {', '.join(names)}"
        raise SpecError(
            [FieldProblem(f"pseudo_labels.per_class.{name}", "is no class of the data", entry) for name in unknown]
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
    for label in (label_of(home, image), image.with_suffix(".txt")):
        if label.is_file():
            return label
    return None


def _problem(label: Path, num_classes: int, home: Path) -> str | None:
    """Say why a label cannot be compared with."""
    try:
        content = read_labels(label, num_classes, home)
    except DataError as error:
        return error.message
    return content.problems[0][1] if content.problems else None
