"""Folders of images without labels: for distillation terms, and for pseudo-labels."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from retort.data import intake, listing
from retort.data.datasets import Dataset, lay_images
from retort.data.inputs import PseudoLabelInfo
from retort.data.labels import label_of, read_labels
from retort.data.verification import ImageRecord
from retort.errors import DataError, FieldProblem, SpecError
from retort.images import MOST_PIXELS, shown
from retort.review.models import IMAGE
from retort.spec import PseudoLabelsSpec
from retort.spec.image_use import ImageUse


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
    """The images as intake saw them."""
    facts: intake.Facts = field(repr=False)
    """What each of these images is."""
    use: ImageUse
    """How many images are there, and how many are used."""
    bits: int | None
    """Bits that images of 16 bits fill; None where there are none."""


def locate_unlabelled(
    path: str,
    data_dirs: Sequence[Path],
    *,
    held_out: Collection[str] = (),
    kept: Path | None = None,
    bits: int | None = None,
    title: str = "unlabelled images",
    most_pixels: int = MOST_PIXELS,
) -> UnlabelledSet:
    """Locate, open and check the unlabelled images in the folder *path*.

    Images that cannot be used are left out and told.

    Args:
        path: a folder; a relative path is looked for in each of the *data_dirs*.
        data_dirs: folders in which it may lie.
        held_out: digests of images that are left out.
        kept: folder of what is known of images that were opened before.
        bits: that the images of 16 bits fill in the dataset, so that these are read alike.
        title: what notes call these images.
        most_pixels: of an image; a larger one cannot be used.

    Raises:
        DataError: it is missing, lies outside *data_dirs*, leads out of itself, or holds no images that can be used.

    """
    root = _find(path, data_dirs, title)
    if shown(root) != str(root):
        raise DataError(f"{shown(root)}: the folder's name is not UTF-8", hint="give it another name")
    found = listing.images_below(root)
    facts = intake.examine_images(found.images, intake.kept_file(kept, root), most_pixels)
    use = intake.use_of(found, facts, root)
    intake.check_use({title: use}, 1.0)
    images = intake.usable(found, facts)
    records = [ImageRecord.seen(image, facts[image]) for image in images]
    used = tuple((image, seen) for image, seen in zip(images, records, strict=True) if seen.digest not in held_out)
    if not used:
        raise DataError(f"every image in {root} is a validation or test image too", hint="name other images")
    whole = hashlib.sha256()
    for image, seen in used:
        whole.update(repr((image.relative_to(root).as_posix(), seen.digest)).encode())
    num_labels = sum(1 for file in root.rglob("*.txt") if file.is_file())
    notes = intake.notes_of({title: found}, None)
    if num_labels:
        notes += (f"{title}: {num_labels} text files beside them are not read",)
    return UnlabelledSet(
        root,
        tuple(image for image, _ in used),
        whole.hexdigest(),
        len(images) - len(used),
        notes,
        tuple(seen for _, seen in used),
        facts,
        use,
        bits or intake.bits_in(facts.values()),
    )


def overlay_unlabelled(found: UnlabelledSet, folder: Path, name: str = "unlabelled") -> Path:
    """Link the unlabelled images into *folder*; return the images' folder.

    Nothing lies there as *name* yet. Each image gets an empty label file: for Ultralytics these are images of
    background, which its loader takes as they are.
    """
    images, labels = folder / "images" / name, folder / "labels" / name
    images.mkdir(parents=True)
    labels.mkdir(parents=True)
    named = [(f"{number:07d}", image) for number, image in enumerate(found.images)]
    lay_images(named, found.facts, images, found.bits)
    for stem, _ in named:
        (labels / f"{stem}.txt").touch()
    return images


def _find(path: str, data_dirs: Sequence[Path], title: str) -> Path:
    """Return the resolved folder, which lies in one of the operator's."""
    given = Path(path).expanduser()
    candidates = [given] if given.is_absolute() else [folder / given for folder in data_dirs]
    for candidate in candidates:
        resolved = candidate.resolve()
        if resolved.is_dir() and any(resolved.is_relative_to(folder.resolve()) for folder in data_dirs):
            return resolved
    folders = ", ".join(str(folder) for folder in data_dirs)
    raise DataError(f"no folder of {title} at {path}", hint=f"name a folder inside one of: {folders}")


FOLDER = "to-label"
_TITLE = "images to label"
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
    found: UnlabelledSet = field(repr=False)
    """The images as they were found."""
    num_merged: int = 0
    """Classes of the labels, where all of them count as one; else 0."""

    @property
    def records(self) -> tuple[ImageRecord, ...]:
        """The images as intake saw them."""
        return self.found.records


def locate_pseudo_label_images(
    wanted: PseudoLabelsSpec,
    data_dirs: Sequence[Path],
    dataset: Dataset,
    *,
    kept: Path | None = None,
    most_pixels: int = MOST_PIXELS,
) -> PseudoLabelImages:
    """Find and check the images for the pseudo-labels *wanted*.

    The classes of *wanted* must be those of *dataset*.

    Raises:
        SpecError: a class that it names is not one of the data set's.
        DataError: the folder is missing, lies outside *data_dirs*, leads out of itself, or holds no images.

    """
    _check_classes(wanted, dataset.names)
    found = locate_unlabelled(
        wanted.path, data_dirs, kept=kept, bits=dataset.bits, title=_TITLE, most_pixels=most_pixels
    )
    home = next(folder.resolve() for folder in data_dirs if found.root.is_relative_to(folder.resolve()))
    images = dict(_named(found.root, found.images))
    usable: dict[str, Path] = {}
    notes = [note for note in found.notes if "text files" not in note]
    for name, image in images.items():
        label = _label_of(home, image)
        if label is not None and (problem := _problem(label, dataset.label_classes, home)) is None:
            usable[name] = label
        elif label is not None:
            notes.append(f"pseudo_labels: {label.name} is not compared with the teacher's labels: {problem}")
    whole = hashlib.sha256(found.digest.encode())
    for name, label in sorted(usable.items()):
        whole.update(repr((name, hashlib.sha256(label.read_bytes()).hexdigest())).encode())
    merged = len(dataset.merged)
    return PseudoLabelImages(found.root, images, usable, whole.hexdigest(), tuple(notes[:_SHOWN]), found, merged)


def overlay_pseudo_label_images(found: PseudoLabelImages, folder: Path) -> PseudoLabelInfo:
    """Link images and copy labels below the new *folder*; describe the images."""
    laid = folder / FOLDER
    for kind in ("images", "labels"):
        (laid / kind).mkdir(parents=True)
    lay_images(list(found.images.items()), found.found.facts, laid / "images", found.found.bits)
    for name, file in found.labels.items():
        target = laid / "labels" / f"{name}.txt"
        if found.num_merged:
            target.write_text(read_labels(file.resolve(), found.num_merged, file.resolve().parent).merged().lines())
        else:
            shutil.copyfile(file, target)
    return PseudoLabelInfo(
        root=str(found.root),
        folder=laid.absolute(),
        files={name: shown(image.relative_to(found.root)) for name, image in found.images.items()},
        images=found.found.use,
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
        plain = _FOREIGN.sub("-", shown(image.relative_to(root).with_suffix(""))).lstrip("._-")[:_LONGEST]
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
