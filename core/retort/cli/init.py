"""``retort init``: write a first spec for a folder of images."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
import yaml

from retort.cli import questions
from retort.cli.options import AsJson, emit, note, say
from retort.cli.spec_options import (
    EpochsOption,
    ImgszOption,
    StudentOption,
    TeacherOption,
    as_weights,
    name_of,
    student_of,
)
from retort.errors import DataError, UserError
from retort.images import size_of

if TYPE_CHECKING:
    from retort.data.datasets import Dataset

_SIDES = (64, 640)
_SAMPLE = 50
"""Images whose size is looked at."""
_STUDENT = "yolov8n"
_OUT = Path("retort.yaml")
_PRESENTATIONS = 1_000_000
"""Images seen in all, about so many of which are enough where there are many."""
_EPOCHS = (30, 100)
"""Fewest and most that are proposed."""
Formats = Annotated[
    list[str] | None,
    typer.Option("--format", metavar="FORMAT", help="To export: onnx, openvino, … or none. May be repeated."),
]


@dataclass(frozen=True, slots=True)
class FirstSpec:
    """What a first spec is made of; what is not said gets a default with its reason."""

    folder: Path
    teacher: str | None
    """None trains one first."""
    student: str
    epochs: int
    imgsz: int
    why_imgsz: str
    formats: tuple[str, ...]


def init(  # noqa: PLR0917 - typer gives each by name
    folder: Annotated[
        Path | None, typer.Argument(metavar="[DIR]", help="A data set: a folder with a data.yaml.", show_default=False)
    ] = None,
    out: Annotated[Path | None, typer.Option(help="File to write.", show_default=str(_OUT))] = None,
    teacher: TeacherOption = None,
    student: StudentOption = None,
    epochs: EpochsOption = None,
    imgsz: ImgszOption = None,
    formats: Formats = None,
    ask: Annotated[
        bool | None, typer.Option("--ask/--no-ask", help="Ask for what no option says.", show_default="on a terminal")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write a first spec for the data set in DIR, with reasons; on a terminal, ask for the rest. Nothing is trained."""
    asking = questions.somebody_answers() and not as_json if ask is None else ask
    if (out is not None and out.exists()) or (out is None and not asking and _OUT.exists()):
        raise UserError(f"{out or _OUT} is there already", hint="name another file: --out", code="file_exists")
    if folder is None and not asking:
        raise UserError("no data set is named", hint="retort init DIR; on a terminal it is asked for", code="usage")
    chosen = questions.all_of(formats)
    where, dataset = _located(folder) if folder is not None else questions.folder_of(_located)
    _tell(dataset)
    side, why = image_side(dataset.train)
    wanted = FirstSpec(
        folder=where, teacher=teacher, student=student or _STUDENT, epochs=epochs or epochs_for(dataset.num_train),
        imgsz=imgsz or side, why_imgsz="as asked for" if imgsz else why,
        formats=("onnx",) if chosen is None else tuple(chosen),
    )  # fmt: skip
    if asking:
        given = {"student": student, "teacher": teacher, "epochs": epochs, "imgsz": imgsz, "formats": chosen}
        wanted = _asked(wanted, {name for name, value in given.items() if value is not None})
    path = out or (questions.new_file(_OUT) if asking else _OUT)
    _write(wanted, dataset, path)
    _report(wanted, dataset, path, as_json=as_json)


def _located(folder: Path) -> tuple[Path, Dataset]:
    """Return the folder and the data set in it, every image and label of which was looked at.

    Raises:
        DataError: a job would refuse it.

    """
    from retort.data.datasets import locate

    return folder, locate(str(folder.absolute()), [Path("/")])


def _tell(dataset: Dataset) -> None:
    """Say what the data set holds, and what is doubtful in it."""
    names = f"{', '.join(dataset.names[:6])}{', …' if len(dataset.names) > 6 else ''}"
    note(f"{dataset.num_train} training and {dataset.num_val} validation images, {len(dataset.names)} classes: {names}")
    for doubt in dataset.warnings:
        note(f"  warning: {doubt}")


def _asked(wanted: FirstSpec, given: set[str]) -> FirstSpec:
    """Ask for what no option has *given*."""
    if "student" not in given:
        wanted = replace(wanted, student=questions.student(wanted.student))
    if "teacher" not in given:
        wanted = replace(wanted, teacher=questions.teacher())
    if "epochs" not in given:
        wanted = replace(wanted, epochs=questions.number("Epochs, passes over the training images", wanted.epochs, 1))
    if "imgsz" not in given:
        note(f"Image size: the side of the squares that networks see; {wanted.why_imgsz}.")
        side = questions.number("Image size in pixels", wanted.imgsz, _SIDES[0], 32)
        wanted = wanted if side == wanted.imgsz else replace(wanted, imgsz=side, why_imgsz="as asked for")
    if "formats" not in given:
        wanted = replace(wanted, formats=tuple(questions.formats()))
    return wanted


def _write(wanted: FirstSpec, dataset: Dataset, path: Path) -> None:
    """Write the spec, if it is one."""
    from retort.spec import parse_document, parse_spec

    text = spec_text(wanted, dataset)
    document = parse_document(text)
    for role in ("teacher", "student"):
        if "/" in document[role].get("weights", ""):  # a file of this machine, which a later command registers
            document[role]["weights"] = "registered.pt"
    parse_spec(document)
    with path.open("x", encoding="utf-8") as file:  # nothing that came meanwhile is written over
        file.write(text)


def _report(wanted: FirstSpec, dataset: Dataset, path: Path, *, as_json: bool) -> None:
    if as_json:
        names = dataset.names
        emit({"spec": str(path), "num_train": dataset.num_train, "num_val": dataset.num_val, "names": names})
        return
    say(f"{path}: {dataset.num_train} training and {dataset.num_val} validation images")
    note(f"look at the data: retort data check {wanted.folder}\nstart here:       retort run {path}")
    note(f"or in a service:  retort submit {path} --watch")


def spec_text(wanted: FirstSpec, dataset: Dataset) -> str:
    """Return the spec as YAML, with a comment beside each choice."""
    classes = f"{len(dataset.names)} classes: {', '.join(dataset.names[:6])}{', ...' if len(dataset.names) > 6 else ''}"
    forms = ", ".join(f"{{format: {name}}}" for name in wanted.formats)
    return "\n".join([
        f"# Made by retort init for {dataset.num_train} training and {dataset.num_val} validation images.",
        f"# {classes}".replace("\n", " "),
        "# Every field and its default: retort validate on this file; docs/spec.md explains them.",
        f"name: {_scalar(name_of(str(wanted.folder)))}",
        "data:",
        f"  path: {_scalar(str(wanted.folder.absolute()))}",
        *_teacher_lines(wanted.teacher),
        "student: # what you will deploy; it starts from published weights",
        *(f"  {field}: {_scalar(value)}" for field, value in student_of(wanted.student).items()),
        "training:",
        f"  epochs: {wanted.epochs} # passes over the {dataset.num_train} training images",
        f"  imgsz: {wanted.imgsz} # {wanted.why_imgsz}; both networks see squares of this side",
        "  batch: 16 # halve it where memory runs out",
        "# distillation: {pilot: true} # tried in a tenth of the epochs first, and stopped where it does not pay",
        "control: true # the same student without the teacher: only the difference shows what distillation bought",
        f"exports: [{forms}] # files beside student.pt, each measured after it was made",
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


def epochs_for(num_train: int) -> int:
    """Return how many epochs to propose: fewer where there are many images."""
    fewest, most = _EPOCHS
    return min(most, max(fewest, 10 * (_PRESENTATIONS // (10 * max(1, num_train)))))


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
