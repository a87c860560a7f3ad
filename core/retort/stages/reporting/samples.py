"""Sample validation images as the labels, the teacher, the control and the student see them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from retort.names import Role
from retort.stages import teacher
from retort.stages.answers import TrainedNetwork
from retort.stages.context import Context
from retort.stages.reporting.pictures import COLORS, Mark, Sample, compare, draw, matched, truth

NUM_IMAGES = 8
NUM_EXTREMES = 3
"""Images shown where the student gained most, and as many where it lost most."""
MOST_LOOKED_AT = 200
"""Images that these are looked for in, spread evenly over the validation set."""

Found = Mapping[str, Sequence[Sequence[Mark]]]
"""Detections by role, image by image."""


@dataclass(frozen=True, slots=True)
class Group:
    """Rows of the same image, chosen for one reason."""

    title: str
    note: str
    rows: tuple[tuple[Sample, ...], ...]


@dataclass(frozen=True, slots=True)
class Gallery:
    """The groups, and what the colours mean."""

    groups: tuple[Group, ...]
    legend: tuple[tuple[str, str], ...]
    """Class name and colour; empty where colours had to be used twice."""


def gallery(context: Context, num_images: int = NUM_IMAGES) -> Gallery:
    """Draw up to so many images that have boxes, and those on which student and control differ most."""
    names = context.inputs.dataset.names
    pairs = _chosen(context.inputs.data_yaml.parent, MOST_LOOKED_AT)
    images = [image for image, _ in pairs]
    expected = [truth(image, label) for image, label in pairs]
    found = {role.value: _predict(context, role, weights, images) for role, weights in _networks(context).items()}
    legend = tuple(zip(names, COLORS, strict=False)) if len(names) <= len(COLORS) else ()
    tags = None if legend else names

    def rows(chosen: Sequence[int]) -> tuple[tuple[Sample, ...], ...]:
        return tuple(_row(images[at], expected[at], {role: found[role][at] for role in found}, tags) for at in chosen)

    step = max(1.0, len(pairs) / num_images)
    spread = [int(number * step) for number in range(min(num_images, len(pairs)))]
    groups = [Group("Spread over the set", "Validation images at even distances.", rows(spread))] if pairs else []
    for title, note, chosen in _extremes(found, expected):
        groups.append(Group(title, note, rows(chosen)))
    return Gallery(tuple(groups), legend)


def _extremes(found: Found, expected: Sequence[Sequence[Mark]]) -> list[tuple[str, str, list[int]]]:
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


def _score(found: Sequence[Mark], expected: Sequence[Mark]) -> int:
    right, wrong = matched(found, expected)
    return right - wrong


def _row(
    image: Path, expected: Sequence[Mark], found: Mapping[str, Sequence[Mark]], tags: Sequence[str] | None
) -> tuple[Sample, ...]:
    columns = [Sample("ground truth", draw(image, expected, tags), f"{len(expected)} boxes")]
    for title, marks in found.items():
        columns.append(Sample(title, draw(image, marks, tags), compare(marks, expected)))
    return tuple(columns)


def _networks(context: Context) -> Mapping[Role, Path]:
    found = {Role.TEACHER: teacher.weights(context)}
    for role, stage in ((Role.CONTROL, "control"), (Role.STUDENT, "distill")):
        trained = context.found(stage, TrainedNetwork)
        if trained is not None:
            found[role] = context.workdir / trained.weights
    return found


def _predict(context: Context, role: Role, weights: Path, images: Sequence[Path]) -> list[list[Mark]]:
    """Detect with *weights*; classes that the data does not have are left out, others get the data's numbers."""
    from retort.training import networks
    from retort.training.boxes import predict
    from retort.training.distillation.objective import ClassMap

    context.check()
    context.pulse.beat("setup")
    names = dict(enumerate(context.inputs.dataset.names))
    found = predict(weights, images, imgsz=teacher.imgsz(context.spec, role), device=context.inputs.device)
    classes = ClassMap.between(names, networks.load(weights).names)
    numbers = {number: number for number in names}
    if classes.student is not None and classes.teacher is not None:
        numbers = dict(zip(classes.teacher.tolist(), classes.student.tolist(), strict=True))
    return [
        [
            Mark((box.x1, box.y1, box.x2, box.y2), numbers[box.class_id], box.score)
            for box in boxes
            if box.class_id in numbers
        ]
        for boxes in found
    ]


def _chosen(data: Path, most: int) -> list[tuple[Path, Path]]:
    """Choose images with boxes, spread evenly over the validation set, in its order."""
    pairs = [
        (image, data / "labels" / "val" / f"{image.stem}.txt") for image in sorted((data / "images" / "val").iterdir())
    ]
    labelled = [pair for pair in pairs if pair[1].is_file() and pair[1].stat().st_size]
    step = max(1.0, len(labelled) / most)
    return [labelled[int(index * step)] for index in range(min(most, len(labelled)))]
