"""Build or change a spec by options: data, teacher, student, epochs and size."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from retort.cli import completion
from retort.errors import UserError

OptionalSpecFile = Annotated[
    str | None,
    typer.Argument(metavar="[SPEC]", help="A YAML or JSON file; - reads standard input. None: the options make it."),
]
DataOption = Annotated[
    str | None, typer.Option("--data", metavar="DIR", help="A data set: a folder, its data.yaml, or a known name.")
]
TeacherOption = Annotated[
    str | None, typer.Option("--teacher", metavar="WEIGHTS", help="Weights that teach, by name or by path.")
]
StudentOption = Annotated[
    str | None,
    typer.Option(
        "--student",
        metavar="MODEL",
        help="A model such as yolov8n, or weights by name or path.",
        autocompletion=completion.students,
    ),
]
EpochsOption = Annotated[int | None, typer.Option("--epochs", min=1, help="Passes over the training images.")]
ImgszOption = Annotated[int | None, typer.Option("--imgsz", help="Side of the square input in pixels.")]


@dataclass(frozen=True, slots=True)
class Options:
    """What options say about a spec; None leaves the document's own."""

    data: str | None = None
    teacher: str | None = None
    student: str | None = None
    epochs: int | None = None
    imgsz: int | None = None

    def apply(self, document: dict[str, Any], *, alone: bool) -> None:
        """Write the options into the document; *alone*, they have to name data and teacher.

        Raises:
            UserError: they make no spec by themselves.

        """
        if alone and (self.data is None or self.teacher is None):
            raise UserError(
                "give a spec, or --data and --teacher",
                hint="retort run --data DIR --teacher yolo11s.pt --student yolov8n; retort init DIR writes a spec",
                code="usage",
            )
        if self.data is not None:
            document["data"] = {**_kept(document, "data", "unlabelled"), **data_source(self.data)}
            document.setdefault("name", name_of(self.data))
        if self.teacher is not None:
            document["teacher"] = {"weights": as_weights(self.teacher)}
        if self.student is not None:
            document["student"] = student_of(self.student)
        sizes = {"epochs": self.epochs, "imgsz": self.imgsz}
        if given := {name: value for name, value in sizes.items() if value is not None}:
            document["training"] = {**(document.get("training") or {}), **given}


def _kept(document: dict[str, Any], section: str, field: str) -> dict[str, Any]:
    """Return the one *field* of a section that an option does not speak of."""
    given = document.get(section)
    return {field: given[field]} if isinstance(given, dict) and field in given else {}


def data_source(text: str) -> dict[str, str]:
    """Return the data section that *text* means: a folder or file that is there, else the name of a known set."""
    if Path(text).expanduser().exists() or any(part in text for part in "/\\"):
        return {"path": str(Path(text).expanduser())}
    return {"dataset": text}


def student_of(text: str) -> dict[str, str]:
    """Return the student that *text* means: weights by name or path, or an architecture's name."""
    return {"weights": as_weights(text)} if text.endswith(".pt") else {"model": text}


def as_weights(text: str) -> str:
    """Return *text* as a path if a file is there; a bare name means the model folder."""
    path = Path(text).expanduser()
    return str(path.absolute()) if text.endswith(".pt") and path.is_file() else text


def name_of(data: str) -> str:
    """Return a job's name for a data set."""
    path = Path(data).expanduser().absolute()
    folder = path.parent if path.suffix in {".yaml", ".yml", ".json"} else path
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", folder.name).strip("-._")[:63]
    return name or "job"
