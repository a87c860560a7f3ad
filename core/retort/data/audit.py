"""Audit a dataset: report all errors and doubts before training."""

from __future__ import annotations

import importlib.util
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from retort.class_names import alike
from retort.data import datasets
from retort.data.conversion.convert import ConversionOptions, convert, foreign_source
from retort.data.description import DatasetDescription, find, read_description
from retort.data.label_counts import LabelCounts, missing_labels
from retort.data.labels import LINE, NO_LABEL, LabelBox, LabelFile, label_of, read_labels
from retort.data.text_files import readable
from retort.errors import DataError

Severity = Literal["error", "warning"]
MOST_MISSING = 0.5
"""The spec's default of ``data.max_missing_labels``."""
_SHOWN = 5
"""Places named for each finding."""
_FEW_IMAGES = 50
_FEW_BOXES = 10
_SMALLEST_PX = 2.0
"""A box that is narrower in the image's own pixels is a slip of the hand."""


@dataclass(frozen=True, slots=True)
class AuditFinding:
    """One kind of mistake, and where it was seen."""

    severity: Severity
    """A job on this data would be refused, or would lose images; or it would run, and may disappoint."""
    code: str
    message: str
    hint: str
    number: int
    """How often."""
    places: tuple[str, ...]
    """The first few."""


@dataclass(frozen=True, slots=True)
class Split:
    """Counts of images and boxes in one split."""

    num_images: int
    num_backgrounds: int
    """Images without a box."""
    boxes: tuple[int, ...]
    """Boxes of each class, in the order of their ids."""


@dataclass(frozen=True, slots=True)
class AuditReport:
    """Result of the audit of a dataset."""

    root: Path | None
    names: tuple[str, ...]
    splits: dict[str, Split]
    """``train``, ``val`` and ``test``, where they could be read."""
    findings: tuple[AuditFinding, ...]
    """Errors first."""

    @property
    def ok(self) -> bool:
        """Whether the dataset has no error."""
        return all(finding.severity != "error" for finding in self.findings)


@dataclass(frozen=True, slots=True)
class _AuditedImage:
    """One image and its label, as far as they can be read."""

    shown: str
    label: Path
    boxes: tuple[LabelBox, ...]
    mistakes: tuple[str, ...]
    """In the label, each with its line."""
    content: LabelFile
    digest: str | None
    """None where the file is not an image."""
    size: tuple[int, int] | None
    """Width and height in pixels; None where it cannot be opened, or nothing here opens images."""


def check(path: str, data_dirs: Sequence[Path], *, most_missing: float = MOST_MISSING) -> AuditReport:
    """Check all of the dataset at *path* and report its problems.

    It is looked for as by ``datasets.locate``; nothing in it makes this raise. Whatever a job would refuse is an error
    here; the other way round, an image that opens only in part is an error here and would be left out there.
    """
    try:
        with readable():
            source = foreign_source(path, data_dirs)
            if source is not None:
                return _check_converted(source, data_dirs)
            return _check(read_description(find(path, data_dirs), data_dirs), most_missing)
    except DataError as error:
        return AuditReport(None, (), {}, (_refusal("description", error),))
    except OSError as error:
        return AuditReport(None, (), {}, (_refusal("unreadable", DataError(str(error), hint="look at the disk")),))


def _check_converted(source: Path, data_dirs: Sequence[Path]) -> AuditReport:
    """Convert other annotations for the while, and check what a job would read."""
    with tempfile.TemporaryDirectory(prefix="retort-check-") as folder:
        target = Path(folder).resolve() / "converted"
        made = convert(source, target, data_dirs, ConversionOptions(link=True))
        found = _check(read_description(made.data_yaml, [target], data_dirs), 1.0)
    told = tuple(AuditFinding("warning", "converted", note, "", 1, ()) for note in made.notes)
    return replace(found, root=source, findings=(*found.findings, *told))


def _check(description: DatasetDescription, most_missing: float) -> AuditReport:
    findings = [_ignored(note) for note in description.notes]
    splits: dict[str, list[_AuditedImage]] = {}
    tested, notes = datasets.test_images(description)
    findings += map(_ignored, notes)
    for split in ("train", "val", "test") if tested else ("train", "val"):
        try:
            with readable():
                images = tested if split == "test" else datasets.images_of(description, split)
        except DataError as error:
            findings.append(_refusal("no_images", error))
        else:
            with ThreadPoolExecutor(max_workers=4) as pool:
                splits[split] = list(pool.map(lambda image: _look(description, image), images))
    findings += [finding for finding in _judge(description, splits) if finding.number]
    findings += _label_doubts(description, splits, most_missing)
    found = {split: _split(images, len(description.names)) for split, images in splits.items()}
    findings.sort(key=lambda finding: finding.severity)
    return AuditReport(description.root, description.names, found, tuple(findings))


def _look(description: DatasetDescription, image: Path) -> _AuditedImage:
    label = label_of(description.root, image)
    content = NO_LABEL
    mistakes: tuple[str, ...] = ()
    shown = label.relative_to(description.root).as_posix()
    try:
        with readable():
            content = read_labels(label, len(description.names), description.root)
    except DataError as error:
        mistakes = (error.message,)
    else:
        mistakes = tuple(f"{shown}:{number}: {problem}" for number, problem in content.problems)
    try:
        digest = datasets.digest_of(image)
    except (DataError, OSError):
        digest = None
    name = image.relative_to(description.root).as_posix()
    return _AuditedImage(name, label, content.boxes, mistakes, content, digest, _size(image) if digest else None)


def _opens_images() -> bool:
    """Return True if this installation does: a client's alone need not."""
    return importlib.util.find_spec("PIL") is not None


def _size(image: Path) -> tuple[int, int] | None:
    """Open the image whole."""
    if not _opens_images():
        return None
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(image) as opened:
            opened.load()
            return opened.size
    except (OSError, SyntaxError, ValueError, UnidentifiedImageError, Image.DecompressionBombError):
        return None


def _split(images: Sequence[_AuditedImage], num_classes: int) -> Split:
    counted = Counter(box.class_id for image in images for box in image.boxes)
    backgrounds = sum(not image.boxes and not image.mistakes for image in images)
    return Split(len(images), backgrounds, tuple(counted[class_id] for class_id in range(num_classes)))


def _judge(description: DatasetDescription, splits: dict[str, list[_AuditedImage]]) -> Iterator[AuditFinding]:
    everything = [image for images in splits.values() for image in images]
    yield _finding(
        "error", "malformed_label", "lines of labels that cannot be used", f"each line: {LINE}",
        (mistake for image in everything for mistake in image.mistakes),
    )  # fmt: skip
    yield _finding(
        "error", "not_an_image", "files named like images that are none", "remove them, or replace them",
        (image.shown for image in everything if image.digest is None),
    )  # fmt: skip
    closed = [image.shown for image in everything if image.digest is not None and image.size is None]
    if _opens_images():
        hint = "fetch or save them again"
        yield _finding("error", "broken_image", "images that cannot be opened to their end", hint, closed)
    else:
        yield _finding("warning", "images_not_opened", "images that were not opened", "install retort[train]", closed)
    for split, images in splits.items():
        if not any(image.boxes for image in images):
            hint = "an image images/x.jpg has its boxes in labels/x.txt"
            yield AuditFinding("error", "no_boxes", f"no label of {split} holds a box", hint, 1, ())
    yield from _doubts(description, splits, everything)
    yield from _doubts_by_class(description.names, splits)


def _label_doubts(
    description: DatasetDescription, splits: dict[str, list[_AuditedImage]], most_missing: float
) -> Iterator[AuditFinding]:
    counts, root = LabelCounts(), description.root
    for image in (image for images in splits.values() for image in images):
        counts.add(image.label.relative_to(root).as_posix(), image.content)
    for doubt in counts.doubts():
        yield AuditFinding("warning", doubt.code, doubt.message, doubt.hint, doubt.number, doubt.places)
    images = {split: [root / image.shown for image in found] for split, found in splits.items()}
    for found in missing_labels(root, images, len(description.names)):
        severity: Severity = "error" if found.refused(most_missing) else "warning"
        places = tuple(f"{image}: {there}" for image, there in found.elsewhere[:_SHOWN]) or found.missing[:_SHOWN]
        number = len(found.elsewhere or found.missing)
        yield AuditFinding(severity, "missing_labels", found.sentence(), found.hint(), number, places)


def _doubts(
    description: DatasetDescription, splits: dict[str, list[_AuditedImage]], everything: list[_AuditedImage]
) -> Iterator[AuditFinding]:
    seen = {image.digest: image.shown for image in splits.get("train", ()) if image.digest}
    yield _finding(
        "warning", "shared_image", "validation or test images that are training images too, so that accuracy flatters",
        "take them out of one of the two",
        (
            f"{image.shown} = {seen[image.digest]}"
            for split in ("val", "test") for image in splits.get(split, ()) if image.digest in seen
        ),
    )  # fmt: skip
    yield _finding(
        "warning", "doubled_image", "images that are there more than once", "keep one of each",
        (again for images in splits.values() for again in _doubled(images)),
    )  # fmt: skip
    yield _finding(
        "warning", "label_without_image", "labels that belong to no image", "remove them, or add their images",
        _orphans(description.root, everything),
    )  # fmt: skip
    yield _finding(
        "warning", "doubled_box", "labels with the same box more than once", "keep one of each",
        (image.label.relative_to(description.root).as_posix() for image in everything if image.content.num_doubled),
    )  # fmt: skip
    yield _finding(
        "warning", "tiny_box", f"boxes less than {_SMALLEST_PX:g} px wide or high", "they are slips, as a rule",
        (image.label.relative_to(description.root).as_posix() for image in everything for _ in _tiny(image)),
    )  # fmt: skip
    number = len(splits.get("val", ()))
    if number < _FEW_IMAGES:
        message = "few images in val, so that accuracy is known roughly"
        yield AuditFinding("warning", "few_images", message, f"{_FEW_IMAGES} or more are better", number, ())


def _doubts_by_class(names: Sequence[str], splits: dict[str, list[_AuditedImage]]) -> Iterator[AuditFinding]:
    yield _finding(
        "warning", "near_names", "classes with nearly equal names, each of which is a class of its own",
        "if one is meant, give its boxes one number", (" and ".join(map(repr, group)) for group in alike(names)),
    )  # fmt: skip
    found = {split: _split(images, len(names)).boxes for split, images in splits.items()}
    without = {split: [names[i] for i, number in enumerate(boxes) if not number] for split, boxes in found.items()}
    for split, cannot in (("train", "learnt"), ("val", "measured")):
        message = f"classes without a box in {split}, which cannot be {cannot}"
        yield _finding(
            "warning", "class_without_boxes", message, "label some, or drop the class", without.get(split, [])
        )
    rare = [f"{names[i]}: {number}" for i, number in enumerate(found.get("train", ())) if 0 < number < _FEW_BOXES]
    message = f"classes with fewer than {_FEW_BOXES} boxes to learn from"
    yield _finding("warning", "rare_class", message, "label more of them", rare)


def _doubled(images: Iterable[_AuditedImage]) -> Iterator[str]:
    first: dict[str, str] = {}
    for image in images:
        if image.digest in first:
            yield f"{image.shown} = {first[image.digest]}"
        elif image.digest is not None:
            first[image.digest] = image.shown


def _orphans(root: Path, images: Iterable[_AuditedImage]) -> Iterator[str]:
    """Name the label files beside those of the images that belong to none of them."""
    entry: defaultdict[Path, set[Path]] = defaultdict(set)
    for image in images:
        entry[image.label.parent].add(image.label)
    for folder, mine in sorted(entry.items()):
        if folder.is_dir() and any(label.is_file() for label in mine):
            for path in sorted(folder.glob("*.txt")):
                if path not in mine and path.name != "classes.txt":
                    yield path.relative_to(root).as_posix()


def _tiny(image: _AuditedImage) -> Iterator[LabelBox]:
    if image.size is not None:
        width, height = image.size
        yield from (box for box in image.boxes if min(box.width * width, box.height * height) < _SMALLEST_PX)


def _finding(severity: Severity, code: str, message: str, hint: str, places: Iterable[str]) -> AuditFinding:
    seen = list(places)
    return AuditFinding(severity, code, message, hint, len(seen), tuple(seen[:_SHOWN]))


def _refusal(code: str, error: DataError) -> AuditFinding:
    return AuditFinding("error", code, error.message, error.hint or "", 1, ())


def _ignored(note: str) -> AuditFinding:
    return AuditFinding("warning", "ignored_field", note, "a job does without it" if "ignored" in note else "", 1, ())
