"""Validation images with the boxes of labels, teacher, control and student."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from PIL import Image, ImageDraw, ImageFont

from retort import images as reader
from retort.constants import Role
from retort.pipeline import train
from retort.pipeline.answers import TrainedNetwork
from retort.pipeline.context import Context
from retort.review.models import MATCH_IOU, Corners, overlap

_SIDE = 400
"""Longer side of a picture in pixels; smaller images are enlarged, so that thin boxes can be told apart."""
COLORS = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7", "#FFFFFF")
"""By class: the palette of Okabe and Ito, which colour-blind people can tell apart, and white for its black."""
Outcome = Literal["found", "wrong", "missed"]


@dataclass(frozen=True, slots=True)
class Style:
    """How boxes of one outcome are drawn: they differ in colour and in line."""

    color: str
    stroke: int
    """Pixels of a stroke; 0 is an unbroken line."""
    gap: int
    meaning: str


STYLES: Mapping[Outcome, Style] = {
    "found": Style("#56B4E9", 0, 0, "found: a label of the same class is there"),
    "wrong": Style("#D55E00", 12, 6, "wrong: no such label, or one found before"),
    "missed": Style("#F0E442", 4, 3, "missed: a label that was not found"),
}
"""Blue, red and yellow of that palette, each far from the others in lightness too."""


@dataclass(frozen=True, slots=True)
class DrawnBox:
    """A box to draw: corners, class and score.

    The corners are in pixels of the image. The score is set if a network found the box, the outcome once its boxes
    were compared with the labels.
    """

    box: Corners
    class_id: int
    score: float | None = None
    outcome: Outcome | None = None


@dataclass(frozen=True, slots=True)
class SampleImage:
    """One sample image with the boxes of one source."""

    title: str
    uri: str
    caption: str


def truth(image: Path, label: Path) -> list[DrawnBox]:
    """Read the ground-truth boxes of a label file, in image pixels."""
    if not label.is_file():
        return []
    width, height = reader.picture(image).size
    marks: list[DrawnBox] = []
    for line in label.read_text(encoding="utf-8-sig").splitlines():
        if columns := line.split():
            x, y, w, h = (float(value) for value in columns[1:5])
            box = ((x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height)
            marks.append(DrawnBox(box, int(float(columns[0]))))
    return marks


def draw(image: Path, marks: Sequence[DrawnBox], names: Sequence[str] | None = None) -> str:
    """Return the *image* with boxes drawn on it, as a data URI.

    The image is scaled. Boxes that were compared are drawn in the style of their outcome, others in the colour of
    their class. *names* are those of the classes, where no legend tells their colours.
    """
    picture = reader.picture(image)
    scale = _SIDE / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    picture = picture.resize(size, Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(picture, "RGBA")
    for mark in sorted(marks, key=lambda mark: mark.score or 0.0):
        left, top, right, bottom = (side * scale for side in mark.box)
        corners = (left, top, max(left, right), max(top, bottom))
        style = None if mark.outcome is None else STYLES[mark.outcome]
        color = COLORS[mark.class_id % len(COLORS)] if style is None else style.color
        _frame(pen, corners, color, style, picture.size)
        if words := _words(mark, names):
            _tag(pen, words[:24], (left, top), color, picture.width)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=82, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _words(mark: DrawnBox, names: Sequence[str] | None) -> str:
    """Say score and class; the class of a box that was found is that of its label, beside it."""
    words = [names[mark.class_id]] if names and mark.outcome != "found" else []
    if mark.score is not None:
        words.append(f"{mark.score:.2f}")
    return " ".join(words)


def _frame(pen: ImageDraw.ImageDraw, corners: Corners, color: str, style: Style | None, size: tuple[int, int]) -> None:
    """Draw a box; a dark line around the coloured one keeps it visible on any ground."""
    left, top, right, bottom = corners
    pen.rectangle((left - 1, top - 1, right + 1, bottom + 1), outline="#00000090", width=1)
    if style is None or not style.stroke:
        pen.rectangle(corners, outline=color, width=2)
        return
    pen.rectangle(corners, outline="#00000090", width=2)
    for x in (left, right - 1):
        for start, end in _strokes(top, bottom, size[1], style):
            pen.rectangle((x, start, x + 1, end), fill=color)
    for y in (top, bottom - 1):
        for start, end in _strokes(left, right, size[0], style):
            pen.rectangle((start, y, end, y + 1), fill=color)


def _strokes(start: float, end: float, side: int, style: Style) -> list[tuple[float, float]]:
    """Divide the visible part of a line into strokes."""
    start, end = max(start, 0.0), min(end, float(side))
    number = math.ceil(max(0.0, end - start) / (style.stroke + style.gap))
    begins = [start + index * (style.stroke + style.gap) for index in range(number)]
    return [(begin, min(begin + style.stroke - 1, end)) for begin in begins]


def _tag(pen: ImageDraw.ImageDraw, text: str, corner: tuple[float, float], color: str, width: int) -> None:
    """Write *text* above a box's corner, inside the picture of this *width*."""
    font = ImageFont.load_default(size=12)
    wide = pen.textlength(text, font=font) + 4
    x = max(0.0, min(corner[0], width - wide))
    y = corner[1] - 14 if corner[1] >= 14 else corner[1]
    pen.rectangle((x, y, x + wide, y + 14), fill=color)
    pen.text((x + 2, y), text, fill="black" if color != "#0072B2" else "white", font=font)


def compare(found: Sequence[DrawnBox], expected: Sequence[DrawnBox]) -> str:
    """Describe in words how many *expected* boxes were found.

    A match needs an IoU of 0.5 and the right class.
    """
    right, wrong = matched(found, expected)
    return f"{right} of {len(expected)} found, {wrong} wrong"


def matched(found: Sequence[DrawnBox], expected: Sequence[DrawnBox]) -> tuple[int, int]:
    """Count the *expected* boxes found, and the wrong boxes.

    A match needs an IoU of 0.5 and the right class.
    """
    outcomes = [mark.outcome for mark in judged(found, expected)]
    return outcomes.count("found"), outcomes.count("wrong")


def judged(found: Sequence[DrawnBox], expected: Sequence[DrawnBox]) -> list[DrawnBox]:
    """Return the boxes *found*, right or wrong, and the *expected* ones that were missed."""
    left = list(expected)
    marks: list[DrawnBox] = []
    for mark in sorted(found, key=lambda mark: -(mark.score or 0.0)):
        same = [
            other for other in left if other.class_id == mark.class_id and overlap(mark.box, other.box) >= MATCH_IOU
        ]
        if same:
            left.remove(max(same, key=lambda other: overlap(mark.box, other.box)))
        marks.append(replace(mark, outcome="found" if same else "wrong"))
    return marks + [replace(mark, outcome="missed") for mark in left]


NUM_IMAGES = 8
NUM_EXTREMES = 3
"""Images shown where the student gained most, and as many where it lost most."""
MOST_LOOKED_AT = 200
"""Images that these are looked for in, spread evenly over the validation set."""

Found = Mapping[str, Sequence[Sequence[DrawnBox]]]
"""Detections by role, image by image."""


@dataclass(frozen=True, slots=True)
class Row:
    """One image file, with the boxes of each source."""

    file: str
    columns: tuple[SampleImage, ...]


@dataclass(frozen=True, slots=True)
class Group:
    """Rows of the same image, chosen for one reason."""

    title: str
    note: str
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Gallery:
    """Groups of sample images, with the legend of the colours."""

    groups: tuple[Group, ...]
    legend: tuple[tuple[str, str], ...]
    """Class name and colour; empty where colours had to be used twice."""


def gallery(context: Context, num_images: int = NUM_IMAGES) -> Gallery:
    """Draw sample images, and those where student and control differ most."""
    names = context.inputs.dataset.names
    pairs = _chosen(context.inputs.data_yaml.parent, MOST_LOOKED_AT)
    images = [image for image, _ in pairs]
    expected = [truth(image, label) for image, label in pairs]
    found = {role.value: detect(context, role, weights, images) for role, weights in _networks(context).items()}
    legend = tuple(zip(names, COLORS, strict=False)) if len(names) <= len(COLORS) else ()
    tags = None if legend else names

    def rows(chosen: Sequence[int]) -> tuple[Row, ...]:
        return tuple(
            row(images[at], expected[at], {role: found[role][at] for role in found}, names, tags) for at in chosen
        )

    evenly = _evenly(len(pairs), num_images)
    groups = [Group("Spread over the set", "Validation images at even distances.", rows(evenly))] if pairs else []
    for title, note, chosen in _extremes(found, expected):
        groups.append(Group(title, note, rows(chosen)))
    return Gallery(tuple(groups), legend)


def _extremes(found: Found, expected: Sequence[Sequence[DrawnBox]]) -> list[tuple[str, str, list[int]]]:
    """Choose the images on which the student finds most more, and most less, than its control."""
    if Role.CONTROL not in found:
        return []
    gained = [
        _score(found[Role.STUDENT][at], expected[at]) - _score(found[Role.CONTROL][at], expected[at])
        for at in range(len(expected))
    ]
    order = sorted(range(len(gained)), key=lambda at: (-gained[at], at))
    better = [at for at in order[:NUM_EXTREMES] if gained[at] > 0]
    worse = [at for at in order[::-1][:NUM_EXTREMES] if gained[at] < 0]
    note = "By boxes found less boxes that are wrong, against the control, among {} images."
    told = [("Where the student gained most", better), ("Where it lost most", worse)]
    return [(title, note.format(len(expected)), chosen) for title, chosen in told if chosen]


def _score(found: Sequence[DrawnBox], expected: Sequence[DrawnBox]) -> int:
    right, wrong = matched(found, expected)
    return right - wrong


def row(
    image: Path,
    expected: Sequence[DrawnBox],
    found: Mapping[str, Sequence[DrawnBox]],
    names: Sequence[str],
    tags: Sequence[str] | None,
) -> Row:
    """Draw one image: its labels, and what each network made of them."""
    columns = [SampleImage("ground truth", draw(image, expected, tags), f"{len(expected)} boxes")]
    for title, marks in found.items():
        columns.append(SampleImage(title, draw(image, judged(marks, expected), names), compare(marks, expected)))
    return Row(reader.shown(image.name), tuple(columns))


def _networks(context: Context) -> Mapping[Role, Path]:
    found = {Role.TEACHER: train.weights(context)}
    for role, stage in ((Role.CONTROL, "control"), (Role.STUDENT, "distill")):
        trained = context.found(stage, TrainedNetwork)
        if trained is not None:
            found[role] = context.workdir / trained.weights
    return found


def detect(context: Context, role: Role, weights: Path, images: Sequence[Path]) -> list[list[DrawnBox]]:
    """Detect with *weights*, in the data's numbering.

    Classes that the data does not have are left out.
    """
    from retort.training import teachers
    from retort.training.detection import predict
    from retort.training.models import ClassMap

    context.check()
    context.heartbeat.beat("setup")
    names = dict(enumerate(context.inputs.dataset.names))
    found = predict(weights, images, imgsz=train.imgsz(context.spec, role), device=context.inputs.device)
    classes = ClassMap.between(names, teachers.load(weights).names)
    numbers = {number: number for number in names}
    if classes.student is not None and classes.teacher is not None:
        numbers = dict(zip(classes.teacher.tolist(), classes.student.tolist(), strict=True))
    return [
        [
            DrawnBox((box.x1, box.y1, box.x2, box.y2), numbers[box.class_id], box.score)
            for box in boxes
            if box.class_id in numbers
        ]
        for boxes in found
    ]


def spread(data: Path, number: int) -> list[tuple[Path, Path]]:
    """Return the images with their labels that the report shows first."""
    pairs = _chosen(data, MOST_LOOKED_AT)
    return [pairs[at] for at in _evenly(len(pairs), number)]


def _evenly(size: int, number: int) -> list[int]:
    """Choose at most *number* places of *size*, at even distances."""
    step = max(1.0, size / number)
    return [int(place * step) for place in range(min(number, size))]


def _chosen(data: Path, most: int) -> list[tuple[Path, Path]]:
    """Choose images with boxes, spread evenly over the validation set, in its order."""
    pairs = [
        (image, data / "labels" / "val" / f"{image.stem}.txt") for image in sorted((data / "images" / "val").iterdir())
    ]
    labelled = [pair for pair in pairs if pair[1].is_file() and pair[1].stat().st_size]
    step = max(1.0, len(labelled) / most)
    return [labelled[int(index * step)] for index in range(min(most, len(labelled)))]
