"""Find the annotation files of a foreign dataset by split."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from retort.data.text_files import encoding_of, read_text
from retort.documents import LineLimits, lines_of
from retort.errors import DataError

Kind = Literal["coco", "voc"]
SPLITS = ("train", "val", "test")
_WORDS = {
    "train": re.compile(r"(^|[^a-z])train(ing|val)?(?![a-z])", re.IGNORECASE),
    "val": re.compile(r"(^|[^a-z])(val|valid|validation)(?![a-z])", re.IGNORECASE),
    "test": re.compile(r"(^|[^a-z])test(ing)?(?![a-z])", re.IGNORECASE),
}
_SNIFFED = 1 << 16
_MARKS = (b'"annotations"', b'"categories"', b'"images"')
_REMARK = re.compile(r"<!--.*?(-->|\Z)", re.DOTALL)
_ROOT = re.compile(r"<([A-Za-z_][\w.-]*:)?(?P<name>[A-Za-z_][\w.-]*)")
_LARGEST_LIST = 64 << 20
_LIMITS = LineLimits(most_lines=2_000_000, longest=1 << 16)
_OTHER_TOOLS = {
    "labelme": (b'"shapes"', b'"imagePath"'),
    "Label Studio": (b'"annotations"', b'"result"'),
    "VIA": (b'"shape_attributes"', b'"regions"'),
    "CreateML": (b'"coordinates"', b'"label"'),
    "CVAT": (b"<annotations>", b"<image "),
}
"""What the files of tools hold whose own forms are not read."""
_MOST_SNIFFED = 20
_OTHER_TASKS = re.compile(r"^(captions|person_keypoints|panoptic|stuff|image_info)_")
_HIDDEN = (".", "__MACOSX")


@dataclass(frozen=True, slots=True)
class Layout:
    """Annotation files by split; a sole file without a split's name is of ``train``."""

    kind: Kind
    root: Path
    """Images are looked for below it."""
    splits: dict[str, tuple[tuple[str, Path], ...]]
    """A COCO document, or VOC files with their images' names."""


def find_layout(source: Path) -> Layout | None:
    """Return the layout of *source*, a COCO document or a folder, or None.

    Raises:
        DataError: it cannot be told which files are of which split.

    """
    if source.is_file():
        return _of_file(source) if source.suffix.lower() == ".json" and _is_coco(source) else None
    documents = [path for path in _files(source, ".json") if _is_coco(path)]
    if documents:
        return Layout("coco", source, _coco_splits(source, documents))
    pages = _voc_pages([*_files(source, ".xml")])
    return Layout("voc", source, _voc_splits(source, pages)) if pages else None


def other_tool(source: Path) -> tuple[Path, str] | None:
    """Return a file of another tool at *source*, and the tool's name, or None."""
    files = [source] if source.is_file() else [path for kind in (".json", ".xml") for path in _files(source, kind)]
    for path in files[:_MOST_SNIFFED]:
        with path.open("rb") as file:
            seen = file.read(_SNIFFED).replace(b"\0", b"")
        for tool, marks in _OTHER_TOOLS.items():
            if all(mark in seen for mark in marks):
                return path, tool
    return None


def split_of(name: str) -> str | None:
    """Return the split that a file or folder is named for."""
    found = [split for split, word in _WORDS.items() if word.search(name)]
    return found[0] if len(found) == 1 else None


def _files(root: Path, suffix: str) -> Iterator[Path]:
    for path in sorted(root.rglob("*")):
        below = path.relative_to(root).parts
        if path.suffix.lower() == suffix and path.is_file() and not any(part.startswith(_HIDDEN) for part in below):
            yield path


def _is_coco(path: Path) -> bool:
    """Return True if the beginning or the end of a JSON file has COCO's keys."""
    with path.open("rb") as file:
        seen = file.read(_SNIFFED)
        file.seek(max(0, path.stat().st_size - _SNIFFED))
        seen = (seen + file.read()).replace(b"\0", b"")  # it may be in UTF-16
    return sum(mark in seen for mark in _MARKS) >= 2 or path.name == "_annotations.coco.json"


def _voc_pages(files: list[Path]) -> list[Path]:
    """Return the VOC files and what lies among them.

    So a damaged one is refused later, and not left out.
    """
    folders = {path.parent for path in files if _is_voc(path)}
    return [path for path in files if path.parent in folders]


def _is_voc(path: Path) -> bool:
    """Return True if an XML document is named ``annotation``, or declares a type."""
    with path.open("rb") as file:
        seen = file.read(_SNIFFED)
    text = _REMARK.sub("", seen.decode(encoding_of(seen), errors="replace"))
    root = _ROOT.search(text)
    return "<!DOCTYPE" in text or (root is not None and root["name"] == "annotation")


def _of_file(source: Path) -> Layout:
    """Take one document, and those of the other splits that lie beside it under the same kind of name."""
    split = split_of(source.stem)
    root = source.parent.parent if source.parent.name.lower() == "annotations" else source.parent
    if split is None:
        return Layout("coco", root, {"train": (("", source),)})
    beside = [path for path in _files(source.parent, ".json") if path.parent == source.parent and _is_coco(path)]
    own = _WORDS[split].sub("", source.stem)
    kin = [path for path in beside if (other := split_of(path.stem)) and _WORDS[other].sub("", path.stem) == own]
    return Layout("coco", root, _coco_splits(root, kin))


def _coco_splits(root: Path, documents: list[Path]) -> dict[str, tuple[tuple[str, Path], ...]]:
    instances = [path for path in documents if path.name.startswith("instances_")]
    wanted = instances or [path for path in documents if not _OTHER_TASKS.match(path.name)]
    if len(wanted) == 1 and split_of(wanted[0].relative_to(root).as_posix()) is None:
        return {"train": (("", wanted[0]),)}
    found: dict[str, tuple[tuple[str, Path], ...]] = {}
    for path in wanted:
        split = split_of(path.stem) or split_of(path.parent.name)
        if split is None or split in found:
            shown = ", ".join(one.relative_to(root).as_posix() for one in wanted[:6])
            hint = "name one document, or keep one for each of train, val and test, named so"
            raise DataError(f"{root} holds several COCO documents: {shown}", hint=hint)
        found[split] = (("", path),)
    return _ordered(root, found)


def _voc_splits(root: Path, pages: list[Path]) -> dict[str, tuple[tuple[str, Path], ...]]:
    lists = {path: split for path in _files(root, ".txt") if (split := _list_split(path)) is not None}
    if lists:
        return _listed(root, pages, lists)
    found: dict[str, list[tuple[str, Path]]] = {}
    for page in pages:
        folders = page.relative_to(root).parts[:-1]
        split = next((split for part in folders if (split := split_of(part))), "train")
        found.setdefault(split, []).append((page.stem, page))
    return _ordered(root, {split: tuple(named) for split, named in found.items()})


def _list_split(path: Path) -> str | None:
    """Return the split that a list in ``ImageSets/Main`` is of; lists of single classes are of none."""
    if path.parent.name not in {"Main", "ImageSets"} or "ImageSets" not in path.parts:
        return None
    return {"train": "train", "trainval": "trainval", "val": "val", "valid": "val", "test": "test",
            "default": "train"}.get(path.stem.lower())  # fmt: skip


def _listed(root: Path, pages: list[Path], lists: dict[Path, str]) -> dict[str, tuple[tuple[str, Path], ...]]:
    """Read the lists of each year; ``trainval`` counts where it has no train and val beside it."""
    found: dict[str, dict[Path, str]] = {}
    for path, split in lists.items():
        beside = {other for file, other in lists.items() if file.parent == path.parent}
        if split == "trainval" and {"train", "val"} & beside:
            continue
        home = path.parent.parent if path.parent.name == "ImageSets" else path.parent.parent.parent
        own = _by_name(page for page in pages if page.is_relative_to(home))
        named = found.setdefault("train" if split == "trainval" else split, {})
        for number, name in _names(path):
            page = own.get(name) or own.get(name.rpartition("/")[2])
            if page is None:
                raise DataError(f"{path}:{number}: there is no annotation of {name!r}", hint="remove the line")
            named[page] = name
    return _ordered(
        root, {split: tuple((name, page) for page, name in named.items()) for split, named in found.items()}
    )


def _names(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the images in a list; a line may also have a column that says whether a class is there."""
    text = read_text(path, str(path), most_bytes=_LARGEST_LIST)
    for number, line in enumerate(lines_of(text, str(path), _LIMITS), start=1):
        stripped = re.sub(r"\s+-?[01]$", "", line.strip())
        if stripped:
            yield number, stripped


def _by_name(pages: Iterable[Path]) -> dict[str, Path]:
    """Return annotation files by their stems, alone and with the folders that they lie in."""
    found: dict[str, Path] = {}
    for page in pages:
        parts = page.with_suffix("").parts
        for depth in range(1, min(6, len(parts))):
            found.setdefault("/".join(parts[-depth:]), page)
    return found


def _ordered(root: Path, found: dict[str, tuple[tuple[str, Path], ...]]) -> dict[str, tuple[tuple[str, Path], ...]]:
    kept = {split: found[split] for split in SPLITS if found.get(split)}
    if "train" not in kept:
        raise DataError(f"{root}: no annotations are of a split train", hint="name a file or folder train")
    return kept
