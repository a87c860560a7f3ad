"""List the images of a split, and count the files that are passed over."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from retort.data.description import DatasetDescription, path_hint
from retort.data.text_files import read_text, readable
from retort.documents import LineLimits, lines_of
from retort.errors import DataError
from retort.images import CONVERT, SUFFIXES, UNREAD, shown

_LARGEST_LIST = 64 << 20
_LIMITS = LineLimits(most_lines=2_000_000, longest=1 << 16)
_MAC = "._"
"""So begin the files in which a Mac keeps attributes on foreign disks; their endings are those of the images."""


@dataclass(frozen=True, slots=True)
class Listing:
    """Images that were found, and files beside them that are passed over."""

    images: tuple[Path, ...]
    """Sorted; each is there once."""
    unread: tuple[Path, ...] = ()
    """Pictures by their endings, which are not among those that are read."""
    num_attributes: int = 0
    """Files ``._*`` of a Mac."""
    num_repeated: int = 0
    """Images that are listed more than once."""


def images_of(description: DatasetDescription, split: str) -> Listing:
    """List the images of a split.

    They come from folders, and from text files that list them.

    Raises:
        DataError: there are none, or one lies outside the dataset.

    """
    sources = description.sources[split]
    files = [file for source in sources for file in (_listed(source) if source.suffix == ".txt" else _below(source))]
    found = list_images(
        files, (description.root, *description.linked), "dataset", "name a common folder as path in data.yaml"
    )
    if not found.images:
        where = ", ".join(map(shown, sources))
        raise DataError(f"no images for {split} in {where}{_beside(found)}", hint=_known_endings())
    return found


def images_below(folder: Path) -> Listing:
    """List the images in *folder*, a resolved path, and in the folders in it.

    Raises:
        DataError: there are none, or one lies outside.

    """
    found = list_images(_below(folder), (folder,), "folder", "name a common folder")
    if not found.images:
        raise DataError(f"no unlabelled images in {shown(folder)}{_beside(found)}", hint=_known_endings())
    return found


def list_images(files: Sequence[Path], inside: Sequence[Path], what: str, way_out: str) -> Listing:
    """Separate images from other *files*; they must lie *inside* some folder."""
    entry: list[Path] = []
    unread: set[Path] = set()
    attributes = 0
    for file in files:
        ending = file.suffix.lower()
        if file.name.startswith(_MAC):
            attributes += ending in SUFFIXES
        elif ending in UNREAD:
            unread.add(file)
        elif ending in SUFFIXES:
            entry.append(_place(file, inside, what, way_out))
    images = sorted(set(entry))
    return Listing(tuple(images), tuple(sorted(unread)), attributes, len(entry) - len(images))


def _place(picture: Path, inside: Sequence[Path], what: str, way_out: str) -> Path:
    resolved = picture.resolve()
    if not any(resolved.is_relative_to(folder) for folder in inside):
        if not resolved.exists():
            told = f"{shown(picture)} is a link to {shown(resolved)}, which is not there"
            raise DataError(told, hint=f"copy the image into the {what}, or remove the link")
        raise DataError(
            f"{shown(picture)} leads out of the {what}'s folder, to {shown(resolved)}",
            hint=f"copy the image into the {what}, or {way_out}",
        )
    # The image may be a link inside the dataset; its label belongs to the place where it is listed.
    return picture.parent.resolve() / picture.name


def _below(folder: Path) -> list[Path]:
    """Return all files below *folder*, those in linked folders too; a folder that cannot be read is an error."""
    return sorted(_walk(folder, frozenset()))


def _walk(folder: Path, above: frozenset[Path]) -> Iterator[Path]:
    real = folder.resolve()
    if real in above:  # a link that leads back
        return
    with readable():
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    for entry in entries:
        if _is(entry.is_dir):
            yield from _walk(Path(entry.path), above | {real})
        elif _is(entry.is_file) or entry.is_symlink():  # a link to nothing is an image that cannot be opened
            yield Path(entry.path)


def _is(asked: Callable[[], bool]) -> bool:
    """Return the answer, or no where links lead in a circle."""
    try:
        return asked()
    except OSError:
        return False


def _listed(source: Path) -> list[Path]:
    """Read a text file of image paths, one a line, relative to the file."""
    paths: list[Path] = []
    text = read_text(source, shown(source), most_bytes=_LARGEST_LIST)
    for number, line in enumerate(lines_of(text, shown(source), _LIMITS), start=1):
        if line.strip():
            path = source.parent / line.strip()
            if not path.is_file():
                raise DataError(f"{source}:{number}: no image at {path}", hint=path_hint(line))
            if path.suffix.lower() not in SUFFIXES | UNREAD:
                raise DataError(f"{source}:{number}: {path.name} has not the ending of an image", hint=_known_endings())
            paths.append(path)
    return paths


def _beside(found: Listing) -> str:
    """Say which pictures are there that are not read."""
    endings = sorted({file.suffix.lower() for file in found.unread})
    return f", but {len(found.unread)} files that are not read ({', '.join(endings)})" if endings else ""


def _known_endings() -> str:
    return f"put images there; known endings: {', '.join(sorted(SUFFIXES))}; of other kinds: {CONVERT}"
