"""Ask for what ``retort init`` still needs, where somebody is there to answer."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TypeVar

import typer

from retort.cli.options import note
from retort.constants import MODEL_NAMES
from retort.errors import UserError, printable
from retort.exports import EXPORT_FORMATS

T = TypeVar("T")
_DEEPEST, _MOST_FOLDERS, _SHOWN = 3, 2000, 5
_WEIGHTS = ".pt"


def somebody_answers() -> bool:
    """Return True if both ends are a terminal: a pipe is asked nothing."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def ask(question: str, default: str, check: Callable[[str], T]) -> T:
    """Ask until *check* accepts the answer; return what it makes of it."""
    while True:
        answer = typer.prompt(printable(question), default=printable(default), err=True).strip()
        try:
            return check(default if answer == printable(default) else answer)
        except UserError as error:
            note(f"  {error.message}" + (f" ({error.hint})" if error.hint else ""))


def folder_of(check: Callable[[Path], T]) -> T:
    """Ask for the data set; those below the current folder are offered."""
    found = list(islice(datasets_below(Path()), _SHOWN))
    for one in found:
        note(f"  found: {one}")
    return ask("Data set, a folder with a data.yaml", str(found[0]) if found else "", lambda text: check(_path(text)))


def _path(text: str) -> Path:
    if not text:
        raise UserError("name a folder", hint="retort data demo DIR writes one to try; retort data list names others")
    return Path(text).expanduser()


def datasets_below(top: Path) -> Iterator[Path]:
    """Yield folders with a data.yaml, the nearest first; hidden ones, and those behind links, are not looked into."""
    level, seen = [top], 0
    for _ in range(_DEEPEST):
        below: list[Path] = []
        for folder in level:
            seen += 1
            if seen > _MOST_FOLDERS:
                return
            if (folder / "data.yaml").is_file():
                yield folder
            else:
                below += _folders(folder)
        level = below


def _folders(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as found:
            return sorted(
                Path(one.path)
                for one in found
                if not one.name.startswith(".") and one.is_dir(follow_symlinks=False)
            )  # fmt: skip
    except OSError:
        return []


def student(default: str) -> str:
    """Ask for the network that will be deployed."""
    note("Student: what you will deploy; n is the smallest size, then s, m, l, x.")
    return ask("Student", default, _student)


def _student(text: str) -> str:
    if text in MODEL_NAMES or (text.endswith(_WEIGHTS) and Path(text).expanduser().is_file()):
        return text
    raise UserError(f"{text!r} is no network", hint="such as yolov8n or yolo11n, or a .pt file")


def teacher() -> str | None:
    """Ask for weights that teach; None is to train a teacher first."""
    note("Teacher: a larger network that knows these classes; none: one is trained first.")
    for one in sorted(Path().glob(f"*{_WEIGHTS}"))[:_SHOWN]:
        note(f"  found: {one}")
    return ask("Teacher, a .pt file or train", "train", _teacher)


def _teacher(text: str) -> str | None:
    if text == "train":
        return None
    if text.endswith(_WEIGHTS) and (any(part in text for part in "/\\~") or Path(text).is_file()):
        if Path(text).expanduser().is_file():
            return text
        raise UserError(f"there is no file {text}", hint="name one that is here, or train")
    if text.startswith("model:") or text.removesuffix(_WEIGHTS) in MODEL_NAMES:
        return text if text.startswith("model:") else f"{text.removesuffix(_WEIGHTS)}{_WEIGHTS}"
    raise UserError(f"{text!r} names no weights", hint="a .pt file, a published name such as yolo11l.pt, or train")


def number(question: str, default: int, least: int, step: int = 1) -> int:
    """Ask for a whole number that is not below *least*, and a multiple of *step*."""

    def check(text: str) -> int:
        if not (text.isascii() and text.isdecimal()) or int(text) < least:
            raise UserError(f"{text!r} is not a whole number from {least} on", hint=f"such as {default}")
        if int(text) % step:
            raise UserError(f"{text} is no multiple of {step}", hint=f"such as {-(-int(text) // step) * step}")
        return int(text)

    return ask(question, str(default), check)


def formats() -> list[str]:
    """Ask in which forms the student is wanted."""
    note(f"Forms of the student: {', '.join(EXPORT_FORMATS)}; several with commas, or none.")
    return ask("Forms to export", "onnx", formats_of)


def formats_of(text: str) -> list[str]:
    """Read the names of formats.

    Raises:
        UserError: one of them is none.

    """
    names = [] if text == "none" else [one.strip() for one in text.split(",") if one.strip()]
    for name in names:
        if name not in EXPORT_FORMATS:
            raise UserError(f"{name!r} is no format", hint=f"of {', '.join(EXPORT_FORMATS)}; or none", code="usage")
    return list(dict.fromkeys(names))


def new_file(default: Path) -> Path:
    """Ask for a file that is not there yet."""
    return ask("File to write", str(default), _new)


def _new(text: str) -> Path:
    path = Path(text).expanduser()
    if path.exists():
        raise UserError(f"{path} is there already", hint="name another file")
    if not path.absolute().parent.is_dir():
        raise UserError(f"there is no folder {path.parent}", hint="make it, or name another file")
    return path


def all_of(given: Sequence[str] | None) -> list[str] | None:
    """Read formats of options, each one or several with commas; None where none was given."""
    return None if given is None else list(dict.fromkeys(name for one in given for name in formats_of(one)))
