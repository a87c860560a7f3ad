"""Count what the labels of a split hold, and doubt them as a whole."""

from __future__ import annotations

import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from retort.data.labels import LINE, LabelBox, LabelFile, label_of, read_labels
from retort.errors import DataError

_OUTSIDE = 0.02
"""A box that reaches further out of its image, as a share of the side, is no rounding error."""
_ENOUGH = 10
"""Fewer boxes say nothing about a whole set."""
_MOST_FILES = 2_000_000
_ELSEWHERE = frozenset({".txt", ".xml", ".json"})
_SHOWN = 5


class LabelDoubt(NamedTuple):
    """A probable mistake in a set's labels, and its places."""

    code: str
    message: str
    hint: str
    number: int
    places: tuple[str, ...] = ()

    def sentence(self) -> str:
        """Return the doubt for a log."""
        where = f", such as {self.places[0]}" if self.places else ""
        return f"{self.message}: {self.number}{where} ({self.hint})"


@dataclass(slots=True)
class LabelCounts:
    """Counts over the labels of one or more splits, filled file by file."""

    num_boxes: int = 0
    num_polygons: int = 0
    num_recoded: int = 0
    outside: list[str] = field(default_factory=list)
    """Labels with a box that reaches far out of its image, each as often as it has one."""
    num_like_corners: int = 0
    """Boxes whose last two numbers are larger than the first two, as corners would be."""
    num_right_or_below: int = 0
    """Boxes that reach out of the image on its right or lower side."""

    def add(self, shown: str, content: LabelFile) -> None:
        """Count the boxes of one label file."""
        self.num_boxes += len(content.boxes)
        self.num_polygons += content.num_polygons
        self.num_recoded += content.recoded
        for box in content.boxes:
            right, below = _reach(box)
            self.num_right_or_below += right > 1 + _OUTSIDE or below > 1 + _OUTSIDE
            self.num_like_corners += box.width > box.centre_x and box.height > box.centre_y
            if max(right, below) > 1 + _OUTSIDE or min(right - box.width, below - box.height) < -_OUTSIDE:
                self.outside.append(shown)

    def doubts(self) -> Iterator[LabelDoubt]:
        """Yield what is converted, and what is probably wrong."""
        if self.num_polygons:
            hint = "as Ultralytics reads them"
            yield LabelDoubt("polygons", "polygons that become the boxes around them", hint, self.num_polygons)
        if self.num_recoded:
            message = "labels in UTF-16, with which plain Ultralytics leaves out the image"
            yield LabelDoubt("utf16_label", message, "save them as UTF-8", self.num_recoded)
        if self.outside:
            places = tuple(dict.fromkeys(self.outside))[:_SHOWN]
            message = "boxes that reach far out of their images"
            yield LabelDoubt("box_outside", message, self._remedy(), len(self.outside), places)

    def _remedy(self) -> str:
        """Say what the numbers of the boxes look like."""
        enough = self.num_boxes >= _ENOUGH and len(self.outside) >= 0.2 * self.num_boxes
        if enough and self.num_like_corners >= 0.95 * self.num_boxes:
            return "these look like corners x1 y1 x2 y2 where centre_x centre_y width height are expected"
        if enough and not self.num_right_or_below:
            return "these look like the left upper corner where the centre is expected"
        return "each line: class centre_x centre_y width height"


def _reach(box: LabelBox) -> tuple[float, float]:
    return box.centre_x + box.width / 2, box.centre_y + box.height / 2


def check_labels(
    root: Path, splits: Mapping[str, Sequence[Path]], num_classes: int, *, most_missing: float = 1.0
) -> tuple[LabelCounts, tuple[MissingLabels, ...]]:
    """Check and count the labels of every image.

    Returned as well are the images without a label file. Those are background, if they are a share of at most
    *most_missing* and have no labels elsewhere.

    Raises:
        DataError: a line is malformed (the first is shown with file and line), a split has no box at all, or too many
            images have no label file.

    """
    counts = LabelCounts()
    boxes = {
        split: sum(_count(label_of(root, image), num_classes, root, counts) for image in images)
        for split, images in splits.items()
    }
    missing = missing_labels(root, splits, num_classes)
    refused = [found for found in missing if found.refused(most_missing)]
    for found in sorted(refused, key=lambda found: not found.elsewhere):
        if found.elsewhere or boxes[found.split]:
            raise DataError(found.sentence(), hint=found.hint())
    for split, number in boxes.items():
        if not number and splits[split]:
            raise DataError(
                f"{root}: no box in any label of {split}; labels were looked for in "
                f"{label_of(root, splits[split][0]).parent}",
                hint="an image images/x.jpg has its boxes in labels/x.txt",
            )
    return counts, tuple(missing)


def _count(label: Path, num_classes: int, root: Path, counts: LabelCounts) -> int:
    """Return how many boxes *label* holds."""
    content, shown = read_labels(label, num_classes, root), label.relative_to(root).as_posix()
    if content.problems:
        number, problem = content.problems[0]
        more = f" (and {len(content.problems) - 1} more in this file)" if len(content.problems) > 1 else ""
        raise DataError(f"{shown}:{number}: {problem}{more}", hint=f"each line: {LINE}")
    counts.add(shown, content)
    return len(content.boxes)


@dataclass(frozen=True, slots=True)
class MissingLabels:
    """Images of one split without a label file."""

    split: str
    num_images: int
    missing: tuple[str, ...]
    """Relative to the dataset's folder."""
    elsewhere: tuple[tuple[str, str], ...]
    """Such images, with a file of their name that holds labels, in another place or with another ending."""

    @property
    def share(self) -> float:
        """Share of the split's images."""
        return len(self.missing) / self.num_images

    def refused(self, most: float) -> bool:
        """Return True if a job must not take them for background.

        It may for a share of *most*.
        """
        return most < 1 and (self.share > most or bool(self.elsewhere))

    def sentence(self) -> str:
        """Say how many they are, and where their labels seem to be."""
        told = f"{len(self.missing)} of {self.num_images} images of {self.split} have no label file"
        if not self.elsewhere:
            return f"{told}: they count as background"
        image, found = self.elsewhere[0]
        expected = label_of(Path(), Path(image)).as_posix()
        more = f", and likewise for {len(self.elsewhere) - 1} more" if len(self.elsewhere) > 1 else ""
        return f"{told}: that of {image} is looked for at {expected}, and there is {found}{more}"

    def hint(self) -> str:
        """Return what would be right."""
        if self.elsewhere and self.elsewhere[0][1].lower().endswith(".txt"):
            return "move or rename the labels to where they are looked for"
        if self.elsewhere:
            return "convert the labels to YOLO's text files"
        return "an empty label file says that an image is background; data.max_missing_labels: 1 takes all for it"


def missing_labels(root: Path, splits: Mapping[str, Sequence[Path]], num_classes: int) -> list[MissingLabels]:
    """Find the images without a label file, and look for their labels elsewhere.

    *splits* are the images by split, all of them below *root*.
    """
    without = {split: [image for image in images if not label_of(root, image).is_file()]
               for split, images in splits.items()}  # fmt: skip
    if not any(without.values()):
        return []
    mine = {label_of(root, image) for images in splits.values() for image in images}
    others = _by_stem(root, {name for images in without.values() for image in images for name in _stems(image)})
    return [
        MissingLabels(
            split=split,
            num_images=len(splits[split]),
            missing=tuple(image.relative_to(root).as_posix() for image in images),
            elsewhere=tuple(_found(root, images, others, mine, num_classes)),
        )
        for split, images in without.items()
        if images
    ]


def _stems(image: Path) -> tuple[str, str]:
    """Return how the label of *image* may be called: tools write ``x.jpg.txt`` too, and other letters."""
    return _plain(image.stem), _plain(image.name)


def _plain(name: str) -> str:
    """Return a name as all systems write it: Macs take accents apart, and some tell no capitals."""
    return unicodedata.normalize("NFC", name).casefold()


def _by_stem(root: Path, stems: set[str]) -> dict[str, list[Path]]:
    """Return the files below *root* that have one of these *stems*."""
    found: defaultdict[str, list[Path]] = defaultdict(list)
    number = 0
    for folder, _, names in os.walk(root):
        for name in names:
            path = Path(folder, name)
            if (stem := _plain(path.stem)) in stems:
                found[stem].append(path)
        number += len(names)
        if number > _MOST_FILES:
            break
    return found


def _found(
    root: Path, images: Iterable[Path], others: Mapping[str, Sequence[Path]], mine: set[Path], num_classes: int
) -> Iterator[tuple[str, str]]:
    for image in images:
        same = sorted(path for stem in dict.fromkeys(_stems(image)) for path in others.get(stem, ()))
        taken = {path.parent for path in same if path != image and path.suffix.lower() not in _ELSEWHERE}
        for path in same:
            free = path.suffix.lower() in _ELSEWHERE and path not in mine and not taken & _image_folders(root, path)
            if free and _holds_labels(path, num_classes, root):
                yield image.relative_to(root).as_posix(), path.relative_to(root).as_posix()
                break


def _image_folders(root: Path, label: Path) -> set[Path]:
    """Return where the image of a label file may lie: another image there has it, and no image elsewhere."""
    parts = list(label.parent.relative_to(root).parts)
    for index in range(len(parts) - 1, -1, -1):
        if parts[index] == "labels":
            parts[index] = "images"
            break
    return {label.parent, root.joinpath(*parts)}


def _holds_labels(path: Path, num_classes: int, root: Path) -> bool:
    """Return True if a file holds boxes; of another tool's file only its beginning is looked at."""
    try:
        if path.suffix.lower() == ".txt":
            content = read_labels(path, num_classes, root)
            return bool(content.boxes) and not content.problems
        with path.open("rb") as file:
            beginning = file.read(4096)
    except (DataError, OSError):
        return False
    return b"<bndbox>" in beginning or b'"shapes"' in beginning or b"<object>" in beginning
