"""Sample validation images, each as the labels, the teacher, the control and the student see it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from retort.names import Role
from retort.stages import teacher
from retort.stages.context import Context
from retort.stages.reporting.pictures import COLORS, Mark, Sample, compare, draw, truth

NUM_IMAGES = 8


@dataclass(frozen=True, slots=True)
class Gallery:
    """Rows of the same image, and what the colours mean."""

    rows: tuple[tuple[Sample, ...], ...]
    legend: tuple[tuple[str, str], ...]
    """Class name and colour; empty where colours had to be used twice."""


def gallery(context: Context, num_images: int = NUM_IMAGES) -> Gallery:
    """Draw up to so many images that have boxes."""
    names = context.inputs.dataset.names
    pairs = _chosen(context.inputs.data_yaml.parent, num_images)
    images = [image for image, _ in pairs]
    found = {role.value: _predict(context, role, weights, images) for role, weights in _networks(context).items()}
    legend = tuple(zip(names, COLORS, strict=False)) if len(names) <= len(COLORS) else ()
    tags = None if legend else names
    rows = []
    for index, (image, label) in enumerate(pairs):
        expected = truth(image, label)
        columns = [Sample("ground truth", draw(image, expected, tags), f"{len(expected)} boxes")]
        for title, marks in found.items():
            columns.append(Sample(title, draw(image, marks[index], tags), compare(marks[index], expected)))
        rows.append(tuple(columns))
    return Gallery(tuple(rows), legend)


def _networks(context: Context) -> Mapping[Role, Path]:
    found = {Role.TEACHER: teacher.weights(context)}
    for role, stage in ((Role.CONTROL, "control"), (Role.STUDENT, "distill")):
        weights = context.results.get(stage, {}).get("weights")
        if weights is not None:
            found[role] = context.workdir / str(weights)
    return found


def _predict(context: Context, role: Role, weights: Path, images: Sequence[Path]) -> list[list[Mark]]:
    """Detect with *weights*; classes that the data does not have are left out, others get the data's numbers."""
    from retort.training import networks
    from retort.training.boxes import predict
    from retort.training.distillation.objective import ClassMap

    context.check()
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
