"""Audit a dataset: report all errors and doubts before training."""

from __future__ import annotations

import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from retort.class_names import alike
from retort.data import datasets, intake
from retort.data.conversion.convert import ConversionOptions, convert, foreign_source
from retort.data.description import DatasetDescription, find, read_description
from retort.data.label_counts import LabelCounts, missing_labels
from retort.data.labels import LINE, NO_LABEL, LabelBox, LabelFile, label_of, read_labels, shared_labels
from retort.data.left_out import left_out
from retort.data.listing import Listing, images_of
from retort.data.text_files import readable
from retort.errors import DataError
from retort.images import CONVERT, SMALLEST_PX, ImageFacts, can_open, shown
from retort.images import shown as path_text
from retort.spec.image_use import ImageUse

Severity = Literal["error", "warning"]
MOST_MISSING = 0.5
"""The spec's default of ``data.max_missing_labels``."""
_SHOWN = 5
"""Places named for each finding."""
_FEW_IMAGES = 50
_FEW_BOXES = 10
_MOST_OBJECTS = 300
"""Upstream's limit on the boxes of an image."""
_SMALLEST_PX = 2.0
"""A box that is narrower in the image's own pixels is a slip of the hand."""


def _unwatched() -> None:
    """Do nothing: nobody waits for a sign of life."""


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
    images: dict[str, ImageUse] = field(default_factory=dict)
    """By split: how many images are there, and how many a job would use."""
    notes: tuple[str, ...] = ()
    """Files of other kinds in the folder, counted."""

    @property
    def ok(self) -> bool:
        """Whether the dataset has no error."""
        return all(finding.severity != "error" for finding in self.findings)


@dataclass(frozen=True, slots=True)
class _AuditedImage:
    """One image and its label, as far as they can be read."""

    path: Path
    shown: str
    """The path in the data set, as text that can be written anywhere."""
    label: Path
    boxes: tuple[LabelBox, ...]
    mistakes: tuple[str, ...]
    """In the label, each with its line."""
    content: LabelFile
    facts: ImageFacts
    """What the file is."""

    @property
    def digest(self) -> str | None:
        """SHA-256 of a file that is an image; None for others."""
        return self.facts.digest if self.facts.digest and self.facts.kind else None


@dataclass(frozen=True, slots=True)
class AuditOptions:
    """How a dataset is looked through."""

    most_missing: float = MOST_MISSING
    """Share of the images of a split that may have no label file."""
    kept: Path | None = None
    """File of what is known of images that were opened before, which are not decoded again."""
    alive: Callable[[], None] = _unwatched
    """Is called again and again."""
    most_pairs: int | None = None
    """Of images, in which altered copies are looked for; None for any number."""
    whole_folder: bool = False
    """Tell the files in the folder that belong to no split, too."""


AS_ASKED = AuditOptions()


def check(path: str, data_dirs: Sequence[Path], options: AuditOptions = AS_ASKED) -> AuditReport:
    """Check all of the dataset at *path* and report its problems.

    It is looked for as by ``datasets.locate``; nothing in it makes this raise. Whatever a job would refuse is an error
    here; the other way round, an image that opens only in part is an error here and would be left out there.
    """
    try:
        with readable():
            source = foreign_source(path, data_dirs)
            if source is not None:
                return _check_converted(source, data_dirs)
            return _check(read_description(find(path, data_dirs), data_dirs), options)
    except DataError as error:
        return AuditReport(None, (), {}, (_refusal("description", error),))
    except OSError as error:
        return AuditReport(None, (), {}, (_refusal("unreadable", DataError(str(error), hint="look at the disk")),))


def _check_converted(source: Path, data_dirs: Sequence[Path]) -> AuditReport:
    """Convert other annotations for the while, and check what a job would read."""
    with tempfile.TemporaryDirectory(prefix="retort-check-") as folder:
        target = Path(folder).resolve() / "converted"
        made = convert(source, target, data_dirs, ConversionOptions(link=True))
        found = _check(read_description(made.data_yaml, [target], data_dirs), AuditOptions(most_missing=1.0))
    told = tuple(AuditFinding("warning", "converted", note, "", 1, ()) for note in made.notes)
    return replace(found, root=source, findings=(*found.findings, *told))


def _check(description: DatasetDescription, options: AuditOptions) -> AuditReport:
    findings = [_ignored(note) for note in description.notes]
    listings: dict[str, Listing] = {}
    for split in ("train", "val"):
        try:
            with readable():
                listings[split] = images_of(description, split)
        except DataError as error:
            findings.append(_refusal("no_images", error))
    tested, notes = datasets.test_images(description)
    findings += map(_ignored, notes)
    if tested.images:
        listings["test"] = tested
    facts = intake.examine_images((image for found in listings.values() for image in found.images), options.kept)
    splits = {
        split: [_look(description, image, facts[image]) for image in listing.images]
        for split, listing in listings.items()
    }
    findings += [finding for finding in _judge(description, splits, options) if finding.number]
    findings += _label_doubts(description, splits, options.most_missing)
    findings += [finding for finding in _passed_over(description.root, listings, facts) if finding.number]
    rest, notes_of_rest = _rest(description, listings) if options.whole_folder else ([], [])
    findings += [finding for finding in rest if finding.number]
    found = {split: _split(images, len(description.names)) for split, images in splits.items()}
    findings = sorted(map(_writable, findings), key=lambda finding: finding.severity)
    uses = {split: intake.use_of(listing, facts, description.root) for split, listing in listings.items()}
    return AuditReport(description.root, description.names, found, tuple(findings), uses, tuple(notes_of_rest))


def _look(description: DatasetDescription, image: Path, facts: ImageFacts) -> _AuditedImage:
    label = label_of(description.root, image)
    content = NO_LABEL
    mistakes: tuple[str, ...] = ()
    name = shown(label.relative_to(description.root))
    try:
        with readable():
            content = read_labels(label, len(description.names), description.root)
    except DataError as error:
        mistakes = (error.message,)
    else:
        mistakes = tuple(f"{name}:{number}: {problem}" for number, problem in content.problems)
    name = shown(image.relative_to(description.root))
    return _AuditedImage(image, name, label, content.boxes, mistakes, content, facts)


def _split(images: Sequence[_AuditedImage], num_classes: int) -> Split:
    counted = Counter(box.class_id for image in images for box in image.boxes)
    backgrounds = sum(not image.boxes and not image.mistakes for image in images)
    return Split(len(images), backgrounds, tuple(counted[class_id] for class_id in range(num_classes)))


def _judge(
    description: DatasetDescription, splits: dict[str, list[_AuditedImage]], options: AuditOptions
) -> Iterator[AuditFinding]:
    everything = [image for images in splits.values() for image in images]
    yield _finding(
        "error", "malformed_label", "lines of labels that cannot be used", f"each line: {LINE}",
        (mistake for image in everything for mistake in image.mistakes),
    )  # fmt: skip
    yield from _unusable(everything)
    for split, images in splits.items():
        if not any(image.boxes for image in images):
            hint = "an image images/x.jpg has its boxes in labels/x.txt"
            yield AuditFinding("error", "no_boxes", f"no label of {split} holds a box", hint, 1, ())
    yield from _doubts(description, splits, everything, options)
    yield from _doubts_by_class(description.names, splits)


def _label_doubts(
    description: DatasetDescription, splits: dict[str, list[_AuditedImage]], most_missing: float
) -> Iterator[AuditFinding]:
    counts, root = LabelCounts(), description.root
    for image in (image for images in splits.values() for image in images):
        counts.add(image.label.relative_to(root).as_posix(), image.content)
    for doubt in counts.doubts():
        yield AuditFinding("warning", doubt.code, doubt.message, doubt.hint, doubt.number, doubt.places)
    images = {split: [image.path for image in found] for split, found in splits.items()}
    for found in missing_labels(root, images, len(description.names)):
        severity: Severity = "error" if found.refused(most_missing) else "warning"
        places = tuple(f"{image}: {there}" for image, there in found.elsewhere[:_SHOWN]) or found.missing[:_SHOWN]
        number = len(found.elsewhere or found.missing)
        yield AuditFinding(severity, "missing_labels", found.sentence(), found.hint(), number, places)


def _unusable(images: Sequence[_AuditedImage]) -> Iterator[AuditFinding]:
    """Name the images that a job would leave out, and why."""
    problems = [(image.facts, f"{image.shown} {image.facts.problem}") for image in images if image.facts.problem]
    yield _finding(
        "error", "not_an_image", "files named like images that are none", "remove them, or replace them",
        (told for facts, told in problems if facts.digest and not facts.kind),
    )  # fmt: skip
    yield _finding(
        "error", "broken_image", "images that cannot be used", f"fetch them again, or {CONVERT}",
        (told for facts, told in problems if not facts.small and (facts.kind or not facts.digest)),
    )  # fmt: skip
    yield _finding(
        "error", "small_image", f"images with a side under {SMALLEST_PX} px, which are left out", "remove them",
        (told for facts, told in problems if facts.small),
    )  # fmt: skip
    if not can_open():
        closed = [image.shown for image in images]
        yield _finding("warning", "images_not_opened", "images that were not opened", "install retort[train]", closed)


def _passed_over(root: Path, listings: Mapping[str, Listing], facts: intake.Facts) -> Iterator[AuditFinding]:
    """Name the files that are passed over, and the images that are changed on their way to the network."""
    yield _finding(
        "warning", "unread_picture", "pictures of kinds that are not read", CONVERT,
        (shown(file.relative_to(root)) for listing in listings.values() for file in listing.unread),
    )  # fmt: skip
    number = sum(listing.num_attributes for listing in listings.values())
    message = "files ._* of a Mac, which are no images"
    yield AuditFinding("warning", "mac_attributes", message, "nothing is lost; they may be removed", number, ())
    number = sum(listing.num_repeated for listing in listings.values())
    message = "images that are listed more than once, and used once"
    yield AuditFinding("warning", "listed_twice", message, "list each once", number, ())
    used = [image for image, found in facts.items() if not found.problem]
    yield _finding(
        "warning", "several_frames", "images of several frames or pages, of which the first is used", "split them up",
        (shown(image.relative_to(root)) for image in used if facts[image].frames > 1),
    )  # fmt: skip
    bits = intake.bits_in(facts.values())
    if bits is not None:
        deep = [shown(image.relative_to(root)) for image in used if facts[image].brightest]
        message = f"images of 16 bits, of which 0 to {(1 << bits) - 1} are taken as black to white"
        hint = f"right where {bits} bits are filled; else save them with 8 bits, as the network is to see them"
        yield _finding("warning", "deep_image", message, hint, deep)


_TO_USE = (
    "to train on them, name their folder as train in data.yaml; images without labels come by a folder on the workers' "
    "machine, which a spec names as pseudo_labels.path or data.unlabelled.path"
)


def _rest(description: DatasetDescription, listings: Mapping[str, Listing]) -> tuple[list[AuditFinding], list[str]]:
    """Tell the files in the folder that belong to no split, and count those of other kinds."""
    images = [image for listing in listings.values() for image in listing.images]
    known = {description.file, *images, *(file for listing in listings.values() for file in listing.unread)}
    known |= {source for sources in description.sources.values() for source in sources}
    rest = left_out(description.root, known, {label_of(description.root, image) for image in images})
    message = "images that belong to no split and are left out"
    labels = "labels of images that belong to no split, left out with them"
    findings = [
        _finding("warning", "image_without_split", message, _TO_USE, rest.images),
        _finding("warning", "label_without_split", labels, "name their images in data.yaml", rest.labels),
    ]
    note = rest.note()
    return findings, [] if note is None else [note]


def _doubts(
    description: DatasetDescription,
    splits: dict[str, list[_AuditedImage]],
    everything: list[_AuditedImage],
    options: AuditOptions,
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
    for split in ("val", "test"):
        yield from _leaks(description.root, splits.get("train", ()), splits.get(split, ()), split, options)
    yield _finding(
        "warning", "doubled_image", "images that are there more than once", "keep one of each",
        (again for images in splits.values() for again in _doubled(images)),
    )  # fmt: skip
    yield _finding(
        "warning", "label_without_image", "labels that belong to no image that is read",
        "remove them, or add their images",
        _orphans(description.root, everything),
    )  # fmt: skip
    yield _finding(
        "warning", "shared_label", "label files that belong to several images, whose names differ in the ending alone",
        "give each image a name of its own",
        (
            f"{label.relative_to(description.root)}: {' and '.join(image.name for image in mine)}"
            for label, mine in shared_labels(description.root, [image.path for image in everything]).items()
        ),
    )  # fmt: skip
    yield _finding(
        "warning", "doubled_box", "labels with the same box more than once", "keep one of each",
        (image.label.relative_to(description.root).as_posix() for image in everything if image.content.num_doubled),
    )  # fmt: skip
    yield _finding(
        "warning", "tiny_box", f"boxes less than {_SMALLEST_PX:g} px wide or high", "they are slips, as a rule",
        (image.label.relative_to(description.root).as_posix() for image in everything for _ in _tiny(image)),
    )  # fmt: skip
    yield _finding(
        "warning", "many_objects", f"images with more than {_MOST_OBJECTS} boxes, the most that networks report",
        "cut them into tiles", (f"{image.shown}: {len(image.boxes)}" for image in everything
                                if len(image.boxes) > _MOST_OBJECTS),
    )  # fmt: skip
    number = len(splits.get("val", ()))
    if number < _FEW_IMAGES:
        message = f"few images in val ({number}), so that accuracy is known roughly"
        yield AuditFinding("warning", "few_images", message, f"{_FEW_IMAGES} or more are better", 1, ())


def _leaks(
    root: Path, train: Sequence[_AuditedImage], measured: Sequence[_AuditedImage], split: str, options: AuditOptions
) -> Iterator[AuditFinding]:
    """Name the images that are measured on and are altered copies of training images."""
    originals = {name: image.shown for image in train if (name := original(image.path)) is not None}
    same = {
        image.shown: originals[name]
        for image in measured
        if (name := original(image.path)) is not None and name in originals
    }
    yield _finding(
        "warning", "same_original", f"images of {split} that Roboflow made from one original with a training image",
        "split the originals first, and make copies of the training images alone",
        (f"{shown} ~ {other}" for shown, other in same.items()),
    )  # fmt: skip
    if not can_open():
        return
    from retort.data.copies import find_copies, view_images

    known = {image.digest for image in train}
    opened = [image for image in measured if not image.facts.problem and image.digest not in known]
    if options.most_pairs is not None and len(opened) * len(train) > options.most_pairs:
        yield AuditFinding("warning", "copies_not_looked_for", *_TOO_MANY, len(opened), (split,))
        return
    views = view_images([image.path for image in opened if image.shown not in same], options.alive)
    others = view_images([image.path for image in train if not image.facts.problem], options.alive)
    pairs = find_copies(views, others, options.alive)
    yield _finding(
        "warning", "copied_image", f"images of {split} that are altered copies of training images, so that accuracy "
        "flatters", "take them out of one of the two",
        (
            f"{path_text(views.images[number].relative_to(root))} ~ "
            f"{path_text(others.images[other].relative_to(root))}"
            for number, other in sorted(pairs.items())
        ),
    )  # fmt: skip


_TOO_MANY = (
    "images are too many to look for altered copies of training images among them in a job", "run retort data check",
)  # fmt: skip


def original(image: Path) -> str | None:
    """Return the name of the image that Roboflow made *image* from, or None."""
    stem, mark, _ = image.name.partition(".rf.")
    return stem if mark else None


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
    width, height = image.facts.width, image.facts.height
    if width:
        yield from (box for box in image.boxes if min(box.width * width, box.height * height) < _SMALLEST_PX)


def _writable(finding: AuditFinding) -> AuditFinding:
    """Spell bytes out that are no UTF-8 in the names of files."""
    return replace(finding, message=shown(finding.message), places=tuple(map(shown, finding.places)))


def _finding(severity: Severity, code: str, message: str, hint: str, places: Iterable[str]) -> AuditFinding:
    seen = list(places)
    return AuditFinding(severity, code, message, hint, len(seen), tuple(seen[:_SHOWN]))


def _refusal(code: str, error: DataError) -> AuditFinding:
    return AuditFinding("error", code, error.message, error.hint or "", 1, ())


def _ignored(note: str) -> AuditFinding:
    return AuditFinding("warning", "ignored_field", note, "a job does without it" if "ignored" in note else "", 1, ())
