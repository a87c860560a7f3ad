"""Fetch known datasets and convert them to YOLO layout."""

from __future__ import annotations

import fcntl
import json
import math
import shutil
import xml.etree.ElementTree as ET
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from retort import images
from retort.archives.members import ArchiveLimits
from retort.data import catalog
from retort.data.archives import unpack_dataset
from retort.data.catalog import CatalogEntry, Layout
from retort.data.download import Fetched, fetch
from retort.errors import DataError, RetortError
from retort.review.models import Corners

Folders = tuple[str, str]
"""Of the images to learn from, and of those to measure on."""
_OURS: Folders = ("images/train", "images/val")


def convert(entry: CatalogEntry, unpacked: Path, target: Path) -> Folders:
    """Convert an unpacked data set to YOLO layout in *target*.

    The files are moved into the new folder *target*; returned is where the images are.

    Raises:
        DataError: it is not laid out as this data set is.

    """
    try:
        return _CONVERTERS[entry.layout](entry, unpacked, target)
    except RetortError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, ET.ParseError) as error:
        message = f"{entry.name} is not laid out as it was: {type(error).__name__}: {error}"
        raise DataError(
            message, hint="what was fetched is another edition of it; use its folder by data.path"
        ) from error


def _yolo(entry: CatalogEntry, unpacked: Path, target: Path) -> Folders:
    """Take the folder that holds the images; archives differ in what they put around it."""
    around = [unpacked, *sorted(path for path in unpacked.glob("*") if path.is_dir())]
    for base in around:
        for folders in entry.folders:
            if all((base / folder).is_dir() for folder in folders):
                base.rename(target)
                return folders
    wanted = " or ".join(train for train, _ in entry.folders)
    raise DataError(f"{entry.name} holds no folder {wanted}", hint="what was fetched is another edition of it")


def _coco(entry: CatalogEntry, unpacked: Path, target: Path) -> Folders:
    for split, folder in (("train", "train2017"), ("val", "val2017")):
        (target / "images").mkdir(parents=True, exist_ok=True)
        (unpacked / folder).rename(target / "images" / split)
        document = json.loads((unpacked / "annotations" / f"instances_{folder}.json").read_bytes())
        _write_labels(target / "labels" / split, _coco_labels(document, entry.names))
    return _OURS


def _coco_labels(document: dict[str, Any], names: Sequence[str]) -> Iterable[tuple[str, list[str]]]:
    categories = sorted(document["categories"], key=lambda category: category["id"])
    if [category["name"] for category in categories] != list(names):
        raise ValueError("its classes are others")
    class_of = {category["id"]: number for number, category in enumerate(categories)}
    boxes: defaultdict[int, list[tuple[int, Corners]]] = defaultdict(list)
    for item in document["annotations"]:
        if not item.get("iscrowd"):
            left, top, width, height = item["bbox"]
            boxes[item["image_id"]].append((class_of[item["category_id"]], (left, top, left + width, top + height)))
    for image in document["images"]:
        size = (image["width"], image["height"])
        lines = [_line(number, corners, size) for number, corners in boxes[image["id"]]]
        yield image["file_name"], [line for line in lines if line]


def _voc(entry: CatalogEntry, unpacked: Path, target: Path) -> Folders:
    kit = unpacked / "VOCdevkit"
    parts = (("2007", "trainval", "train"), ("2012", "trainval", "train"), ("2007", "test", "val"))
    for year, listed, split in parts:
        folder = kit / f"VOC{year}"
        (target / "images" / split).mkdir(parents=True, exist_ok=True)
        # A line may also have a column that says whether the class is there.
        stems = [line.split()[0] for line in (folder / "ImageSets" / "Main" / f"{listed}.txt").read_text().splitlines()]
        found = []
        for stem in stems:
            name = _bare(f"{stem}.jpg")
            (folder / "JPEGImages" / name).rename(target / "images" / split / name)
            found.append((name, _voc_lines((folder / "Annotations" / f"{stem}.xml").read_bytes(), entry.names)))
        _write_labels(target / "labels" / split, found)
    return _OURS


def _voc_lines(document: bytes, names: Sequence[str]) -> list[str]:
    """Read one image's objects; its pixels are counted from 1, and both corners belong to the box."""
    if b"<!DOCTYPE" in document or b"<!ENTITY" in document:
        raise ValueError("an annotation declares entities")
    root = ET.fromstring(document)  # noqa: S314 - without entities there is nothing to expand
    size = (_number(root, "size/width"), _number(root, "size/height"))
    lines = []
    for item in root.iter("object"):
        if item.findtext("difficult", "0").strip() == "1":
            continue
        number = names.index((item.findtext("name") or "").strip())
        left, top, right, bottom = (_number(item, f"bndbox/{side}") for side in ("xmin", "ymin", "xmax", "ymax"))
        lines.append(_line(number, (left - 1, top - 1, right, bottom), size))
    return [line for line in lines if line]


def _visdrone(entry: CatalogEntry, unpacked: Path, target: Path) -> Folders:
    for split in ("train", "val"):
        folder = unpacked / f"VisDrone2019-DET-{split}"
        (target / "images").mkdir(parents=True, exist_ok=True)
        (folder / "images").rename(target / "images" / split)
        pictures = sorted((target / "images" / split).glob("*.jpg"))
        found = [(picture.name, _visdrone_lines(folder, picture, len(entry.names))) for picture in pictures]
        _write_labels(target / "labels" / split, found)
    return _OURS


def _visdrone_lines(folder: Path, picture: Path, num_classes: int) -> list[str]:
    """Read one image's rows: left, top, width, height, counts, class (0 is an ignored region, 11 other things)."""
    size = images.size_of(picture)
    lines = []
    for row in (folder / "annotations" / f"{picture.stem}.txt").read_text().splitlines():
        columns = [int(column) for column in row.split(",") if column.strip()]
        if columns and columns[4] and 1 <= columns[5] <= num_classes:
            left, top, width, height = columns[:4]
            lines.append(_line(columns[5] - 1, (left, top, left + width, top + height), size))
    return [line for line in lines if line]


def _line(number: int, corners: Corners, size: tuple[float, float]) -> str:
    """Return a label's line for a box in pixels, cut at the edges of the image; empty where nothing is left of it."""
    width, height = size
    left, right = (min(max(x / width, 0.0), 1.0) for x in (corners[0], corners[2]))
    top, bottom = (min(max(y / height, 0.0), 1.0) for y in (corners[1], corners[3]))
    if not all(map(math.isfinite, (left, top, right, bottom))):
        raise ValueError("a box is not finite")
    if round(right - left, 6) <= 0 or round(bottom - top, 6) <= 0:
        return ""
    return f"{number} {(left + right) / 2:.6f} {(top + bottom) / 2:.6f} {right - left:.6f} {bottom - top:.6f}"


def _write_labels(folder: Path, found: Iterable[tuple[str, list[str]]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for image, lines in found:
        label = (folder / _bare(image)).with_suffix(".txt")
        label.write_text("".join(f"{line}\n" for line in lines))


def _bare(name: str) -> str:
    if Path(name).name != name:
        raise ValueError(f"{name!r} is not the bare name of a file")
    return name


def _number(element: ET.Element, path: str) -> float:
    return float(element.findtext(path) or "")


_CONVERTERS: dict[Layout, Callable[[CatalogEntry, Path, Path], Folders]] = {
    "yolo": _yolo,
    "coco": _coco,
    "voc": _voc,
    "visdrone": _visdrone,
}


@dataclass(frozen=True, slots=True)
class DatasetSource:
    """Origin of a data set that is here."""

    name: str
    folder: Path
    archives: Mapping[str, str]
    """SHA-256 by file name."""
    notes: tuple[str, ...]
    """What the job's owner should know of it."""


def resolve(name: str, folder: Path, *, fetch_missing: bool) -> DatasetSource:
    """Return the known data set *name* in the operator's *folder*.

    It is fetched where that is allowed and needed.

    Raises:
        DataError: no such set is known, it is not there and may not be fetched, or its bytes are wrong.
        FetchError: it could not be downloaded.

    """
    entry = catalog.find(name)
    home = folder / entry.name
    if not (home / "data.yaml").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / f"{entry.name}.lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (home / "data.yaml").is_file():  # no other process was faster
                _make(entry, folder, home, allowed=fetch_missing)
    return _dataset_source(entry, folder, home)


def is_cached(entry: CatalogEntry, folder: Path) -> bool:
    """Return True if the data set need not be fetched."""
    return (folder / entry.name / "data.yaml").is_file()


def announcement(name: str, folder: Path | None) -> str | None:
    """Return the notice before data set *name* is made, or None.

    None where the set is not known, or is here already.
    """
    entry = catalog.CATALOGUE.get(name.lower())
    if entry is None or folder is None or is_cached(entry, folder):
        return None
    return f"the data set {entry.name} is not here yet: it is fetched ({entry.size}) and laid out first"


def _make(entry: CatalogEntry, folder: Path, home: Path, *, allowed: bool) -> None:
    if home.exists():
        raise DataError(f"{home} is not a data set that was fetched", hint="put a data.yaml there, or move it away")
    archives = folder / "archives"
    given = {archive.file for archive in entry.archives if (archives / archive.file).is_file()}
    pins = _pins(entry, folder)
    found = [fetch(archive, archives, pins, allowed=allowed) for archive in entry.archives]
    student = [fetched.path for fetched in found if fetched.path.name not in given]  # the rest is somebody else's
    part = folder / f"{entry.name}.part"
    shutil.rmtree(part, ignore_errors=True)
    try:
        _lay_out(entry, found, part)
        _remember(entry, folder, found)
        (part / "data").rename(home)
    except DataError:
        for path in student:  # not what it should be, whatever it is
            path.replace(path.with_name(f"{path.name}.refused"))
        raise
    finally:
        shutil.rmtree(part, ignore_errors=True)
    for path in student:
        path.unlink()


def _lay_out(entry: CatalogEntry, found: list[Fetched], part: Path) -> None:
    unpacked, target = part / "unpacked", part / "data"
    unpacked.mkdir(parents=True)
    files, size_bytes = entry.most_files, entry.largest_bytes
    for archive in found:
        limits = ArchiveLimits(most_files=files, most_bytes=size_bytes, most_file_bytes=size_bytes)
        came = unpack_dataset(archive.path, unpacked, limits).files
        files, size_bytes = files - len(came), size_bytes - sum(file.size_bytes for file in came)
    train, val = convert(entry, unpacked, target)
    description = {"train": train, "val": val, "names": dict(enumerate(entry.names))}
    (target / "data.yaml").write_text(yaml.safe_dump(description, sort_keys=False))


def _pins(entry: CatalogEntry, folder: Path) -> dict[str, str]:
    return {file: about["sha256"] for file, about in _record(entry, folder).items()}


def _record(entry: CatalogEntry, folder: Path) -> dict[str, Any]:
    """Return what is remembered of the archives; it outlives the data set, so that another edition is noticed."""
    try:
        record: dict[str, Any] = json.loads((folder / f"{entry.name}.json").read_bytes())
    except FileNotFoundError:
        return {}
    return record


def _remember(entry: CatalogEntry, folder: Path, found: list[Fetched]) -> None:
    urls = {archive.file: archive.url for archive in entry.archives}
    record = {
        fetched.path.name: {"url": urls[fetched.path.name], "sha256": fetched.sha256, "checked": fetched.checked}
        for fetched in found
    }
    path = folder / f"{entry.name}.json"
    part = path.with_name(f"{path.name}.part")
    part.write_text(json.dumps(record | _record(entry, folder), indent=2))  # what was first stays
    part.replace(path)


def _dataset_source(entry: CatalogEntry, folder: Path, home: Path) -> DatasetSource:
    record = _record(entry, folder)
    notes = tuple(
        f"data set {entry.name}: {file}, sha256 {about['sha256']}, checked against {about['checked']}"
        for file, about in record.items()
    )
    return DatasetSource(
        name=entry.name,
        folder=home,
        archives={file: about["sha256"] for file, about in record.items()},
        notes=notes or (f"data set {entry.name}: put there by hand",),
    )
