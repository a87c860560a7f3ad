"""Read the description of a dataset, its ``data.yaml``."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retort.data.text_files import read_text
from retort.documents import parse_document
from retort.errors import DataError, SpecError
from retort.redaction import redact

_IGNORED = {
    "download": "it is never run",
    "roboflow": "it is not needed",
}
_OTHER_TASKS = frozenset({"kpt_shape", "flip_idx", "masks_dir", "depth_scale"})
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_NO_URL = "fetch it yourself and name its folder, or upload it"
_MOST_CLASSES = 10_000
_LONGEST_NAME = 200
_JOINERS = frozenset("\u00ad\u200c\u200d\u200e\u200f\u2060\ufeff")
"""Invisible letters that belong to words: hyphens, joiners and marks of direction in Persian, Hindi or emoji."""
_LARGEST_BYTES = 8 << 20
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class DatasetDescription:
    """Contents of a ``data.yaml``, with every path resolved and inside *root*."""

    file: Path
    root: Path
    sources: dict[str, tuple[Path, ...]]
    """By split (``test`` is optional): folders of images, or text files that list them."""
    names: tuple[str, ...]
    notes: tuple[str, ...]
    linked: tuple[Path, ...] = ()
    """Further folders into which links to images may lead: those that a converted dataset was made from."""


def find(path: str, data_dirs: Sequence[Path]) -> Path:
    """Return the resolved description file of the dataset at *path*.

    It lies in one of the operator's folders.

    Raises:
        DataError: it does not, or is not there.

    """
    if _URL.match(path):
        raise DataError(f"no dataset at {redact(path)[:200]}: nothing is fetched from an address", hint=_NO_URL)
    given = Path(path).expanduser()
    candidates = [given] if given.is_absolute() else [folder / given for folder in data_dirs]
    for candidate in candidates:
        target = candidate / "data.yaml" if candidate.is_dir() else candidate
        if target.is_file():
            resolved = target.resolve()
            if any(resolved.is_relative_to(folder.resolve()) for folder in data_dirs):
                return resolved
    shown = ", ".join(str(folder) for folder in data_dirs)
    if any(candidate.is_dir() for candidate in candidates):
        hint = f"put one there, or annotations in COCO JSON or Pascal VOC XML, inside one of: {shown}"
        others = [file.name for folder in candidates if folder.is_dir() for file in sorted(folder.iterdir())]
        described = [name for name in others if name.lower().endswith((".yaml", ".yml"))]
        if described:
            hint = f"name the file itself, or call it data.yaml: {', '.join(described[:_SHOWN])} is there"
        raise DataError(f"no data.yaml in {path}", hint=hint)
    raise DataError(
        f"no dataset at {path}", hint=f"name a folder with a data.yaml, or that file, inside one of: {shown}"
    )


def read_description(file: Path, data_dirs: Sequence[Path], linked: Sequence[Path] = ()) -> DatasetDescription:
    """Read the description *file*; its folder is where its paths begin.

    Links to images may also lead into the folders *linked*.

    Raises:
        DataError: it is not such a description, or leads out of the dataset's folder or the *data_dirs*.

    """
    document, notes = _document(file), []
    for other in ("validation", "valid"):
        if "val" not in document and other in document:
            document["val"] = document.pop(other)
            notes.append(f"data.yaml: {other} is read as val")
    if tasks := sorted(_OTHER_TASKS & document.keys()):
        raise DataError(f"{file}: {tasks[0]} belongs to another task", hint="Retort distils detectors: boxes only")
    if document.get("channels", 3) != 3:
        raise DataError(f"{file}: channels must be 3", hint="use colour or grey images of 8 bits")
    root = _root(file, document.get("path"), data_dirs)
    entry = {"path", "train", "val", "test", "names", "nc", "channels"}
    notes += [
        f"data.yaml: {key} is ignored: {_IGNORED.get(key, 'it is not a field that Retort knows')}"
        for key in map(str, document)
        if key not in entry
    ]
    for split in ("train", "val"):
        meant = [key for key in map(str, document) if key.casefold() == split and key != split]
        if split not in document and meant:
            raise DataError(f"{file}: {split} is missing", hint=f"write {split} for {meant[0]}")
    sources = {split: _sources(file, root, split, document.get(split)) for split in ("train", "val")}
    if document.get("test"):
        try:
            sources["test"] = _sources(file, root, "test", document["test"])
        except DataError as error:  # Roboflow and COCO name one whether it is there or not
            notes.append(f"data.yaml: test is ignored: {error.message.removeprefix(f'{file}: ')}")
    if document.get("names") is None and document.get("nc") is not None:
        notes.append("data.yaml: the classes have no names: they are called class_0, class_1 and so on")
    return DatasetDescription(
        file=file,
        root=root,
        sources=sources,
        names=_names(file, document.get("names"), document.get("nc")),
        notes=tuple(notes),
        linked=tuple(folder.resolve() for folder in linked),
    )


def read_names(file: Path) -> tuple[str, ...]:
    """Read the class names alone.

    Raises:
        DataError: it is not such a description.

    """
    document = _document(file)
    return _names(file, document.get("names"), document.get("nc"))


def _document(file: Path) -> dict[str, Any]:
    try:
        document = parse_document(read_text(file, str(file), most_bytes=_LARGEST_BYTES))
    except SpecError as error:
        raise DataError(f"{file}: {error.message}", hint=error.hint) from error
    if not isinstance(document, dict):
        raise DataError(f"{file} must be a mapping", hint="with train, val and names")
    return document


def _root(file: Path, path: object, data_dirs: Sequence[Path]) -> Path:
    path = "." if path is None or path == "" else path
    if not isinstance(path, str):
        raise DataError(f"{file}: path must be a text", hint="leave it out: the file's own folder is meant")
    root = (file.parent / path).resolve()
    # Outside of the folders nobody learns what there is.
    if not any(root.is_relative_to(folder.resolve()) for folder in data_dirs):
        shown = ", ".join(str(folder) for folder in data_dirs)
        hint = f"leave it out: the file's own folder is meant; or name one inside of: {shown}"
        raise DataError(f"{file}: path leads to {root}", hint=hint)
    if not root.is_dir():
        raise DataError(
            f"{file}: path is {path!r}, and there is no folder {root}", hint="paths are relative to this file"
        )
    return root


def _sources(file: Path, root: Path, split: str, value: object) -> tuple[Path, ...]:
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not values or not all(isinstance(item, str) and item for item in values):
        raise DataError(
            f"{file}: {split} must name a folder of images, or several", hint=f"for example {split}: images/{split}"
        )
    return tuple(_source(file, root, split, item) for item in values)


def _source(file: Path, root: Path, split: str, item: str) -> Path:
    target = (root / item).resolve()
    if item.startswith("../") and not target.exists():
        # Roboflow writes ../train/images where train/images is meant.
        target = (root / item.removeprefix("../")).resolve()
    if not target.is_relative_to(root):
        raise DataError(f"{file}: {split} leads to {target}, out of {root}", hint="name a common folder as path")
    if not target.is_dir() and not (target.suffix == ".txt" and target.is_file()):
        if target.is_file():
            hint = "a folder of images, or a text file *.txt that lists them, is expected"
            raise DataError(f"{file}: {split} is {item!r}, which is a file", hint=hint)
        raise DataError(f"{file}: {split} is {item!r}, and there is no folder {target}", hint=path_hint(item))
    return target


def path_hint(path: str) -> str:
    """Return what to do about a *path* in a dataset's files that leads nowhere."""
    return "write / between folders, not a backslash" if "\\" in path else "paths are relative to this file"


def _names(file: Path, value: object, number: object) -> tuple[str, ...]:
    expected = _number(file, number)
    if value is None and expected:
        value = [f"class_{index}" for index in range(expected)]
    if isinstance(value, dict):
        value = _numbered(file, value)
    if not isinstance(value, list) or not value:
        raise DataError(f"{file}: names must list the classes", hint="for example names: [cat, dog]")
    if len(value) > _MOST_CLASSES:
        raise DataError(f"{file}: {len(value)} classes are more than {_MOST_CLASSES}")
    names = tuple(_text(file, index, name) for index, name in enumerate(value))
    first: dict[str, int] = {}
    for index, name in enumerate(names):
        if not is_name(name):
            raise DataError(f"{file}: the name of class {index} is not a short printable text", hint="name it")
        if first.setdefault(name, index) != index:
            raise DataError(f"{file}: two classes are named {name!r}", hint="give each class a name of its own")
    if expected is not None and expected != len(names):
        raise DataError(f"{file}: nc is {expected}, but {len(names)} names are listed", hint="leave nc out")
    return names


def _text(file: Path, index: int, name: object) -> str:
    if name is None or isinstance(name, list | dict):
        raise DataError(f"{file}: the name of class {index} is {name!r}, not a text", hint="write the name in quotes")
    return str(name)


def _number(file: Path, number: object) -> int | None:
    """Return the number of classes, which may stand there as a text or with a point."""
    if number is None:
        return None
    if isinstance(number, bool) or not isinstance(number, (int, float, str)) or not _is_whole(number):
        raise DataError(f"{file}: nc must be a whole number, not {number!r}", hint="leave nc out")
    if not 0 < int(float(number)) <= _MOST_CLASSES:
        raise DataError(f"{file}: nc is {number}, and must be 1 to {_MOST_CLASSES}", hint="leave nc out")
    return int(float(number))


def _is_whole(number: float | str) -> bool:
    try:
        return float(number).is_integer()
    except (ValueError, OverflowError):
        return False


def _numbered(file: Path, value: dict[Any, Any]) -> list[Any]:
    """Return the names in the order of their numbers, which may be texts such as ``'0'``."""
    numbers = {int(str(key)): name for key, name in value.items() if str(key).isdecimal() and len(str(key)) < 9}
    if sorted(numbers) != list(range(len(value))):
        raise DataError(f"{file}: names must be numbered 0, 1, 2 ... without gaps", hint="0: first, 1: second")
    return [numbers[index] for index in range(len(value))]


def is_name(name: str) -> bool:
    """Return True for a short printable text, as a class may be called."""
    shown = "".join(letter for letter in name if letter not in _JOINERS and unicodedata.category(letter) != "Zs")
    return bool(shown) and shown.isprintable() and len(name) <= _LONGEST_NAME
