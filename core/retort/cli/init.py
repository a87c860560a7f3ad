"""``retort init``: write a first spec for a folder of images."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
import yaml

from retort.cli.options import AsJson, emit, note, say
from retort.cli.spec_options import StudentOption, TeacherOption, as_weights, name_of, student_of
from retort.errors import DataError, UserError
from retort.images import size_of

if TYPE_CHECKING:
    from retort.data.datasets import Dataset

_SIDES = (64, 640)
_SAMPLE = 50
"""Images whose size is looked at."""


def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A data set: a folder with a data.yaml.")],
    out: Annotated[Path, typer.Option(help="File to write.")] = Path("retort.yaml"),
    teacher: TeacherOption = None,
    student: StudentOption = None,
    as_json: AsJson = False,
) -> None:
    """Write a first spec for the data set in DIR, with reasons; nothing is trained."""
    from retort.data.datasets import locate
    from retort.spec import parse_document, parse_spec

    if out.exists():
        raise UserError(f"{out} is there already", hint="name another file: --out", code="file_exists")
    dataset = locate(str(folder.absolute()), [Path("/")])
    text = spec_text(folder, dataset, teacher, student)
    document = parse_document(text)
    if teacher is None or "/" not in document["teacher"]["weights"]:
        parse_spec(document)
    out.write_text(text)
    if as_json:
        emit({"spec": str(out), "num_train": dataset.num_train, "num_val": dataset.num_val, "names": dataset.names})
        return
    say(f"{out}: {dataset.num_train} training and {dataset.num_val} validation images")
    note(f"look at the data: retort data check {folder}\nstart here:       retort run {out}")
    note(f"or in a service:  retort submit {out} --watch")


def spec_text(folder: Path, dataset: Dataset, teacher: str | None, student: str | None) -> str:
    """Return the spec as YAML, with a comment beside each choice."""
    side, why = image_side(dataset.train)
    classes = f"{len(dataset.names)} classes: {', '.join(dataset.names[:6])}{', ...' if len(dataset.names) > 6 else ''}"
    learner = student_of(student) if student else {"model": "yolov8n"}
    return "\n".join([
        f"# Made by retort init for {dataset.num_train} training and {dataset.num_val} validation images.",
        f"# {classes}".replace("\n", " "),
        "# Every field and its default: retort validate on this file; docs/spec.md explains them.",
        f"name: {_scalar(name_of(str(folder)))}",
        "data:",
        f"  path: {_scalar(str(folder.absolute()))}",
        *_teacher_lines(teacher),
        "student: # what you will deploy; it starts from published weights",
        *(f"  {field}: {_scalar(value)}" for field, value in learner.items()),
        "training:",
        "  epochs: 100",
        f"  imgsz: {side} # {why}; both networks see squares of this side",
        "  batch: 16 # halve it where memory runs out",
        "control: true # the same student without the teacher: only the difference shows what distillation bought",
        "exports: # files beside student.pt, each measured after it was made",
        "  - {format: onnx}",
        "",
    ])  # fmt: skip


def _teacher_lines(teacher: str | None) -> list[str]:
    if teacher is not None:
        return ["teacher: # it has to know the classes of the data", f"  weights: {_scalar(as_weights(teacher))}"]
    return [
        "teacher: # it has to know the classes of the data, so the job trains one first; with one of your own:",
        "  # weights: ./teacher.pt",
        "  train: {model: yolo11s, epochs: 100} # a larger model teaches more, and takes longer",
    ]


def _scalar(value: str) -> str:
    return yaml.safe_dump(value, allow_unicode=True, width=10_000).removesuffix("\n").removesuffix("\n...")


def image_side(images: tuple[Path, ...]) -> tuple[int, str]:
    """Return a square's side for *images* in pixels, a multiple of 32, and the reason in words."""
    longest = [size for size in map(_longest_side, images[:: max(1, len(images) // _SAMPLE)]) if size]
    if not longest:
        return _SIDES[1], "the usual size"
    median = round(statistics.median(longest))
    side = min(max(-(-median // 32) * 32, _SIDES[0]), _SIDES[1])
    return side, f"the images' longer side is {median} px (median)"


def _longest_side(image: Path) -> int | None:
    try:
        return max(size_of(image))
    except DataError:  # also where a light install opens no images
        return None
