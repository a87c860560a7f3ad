"""Read datasets in YOLO layout strictly and safely."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from retort.errors import DataError, SpecError
from retort.files import sha256_of
from retort.spec import parse_document

_IGNORED = {
    "download": "it is never run",
    "test": "only train and val are used",
    "roboflow": "it is not needed",
}
_OTHER_TASKS = frozenset({"kpt_shape", "flip_idx", "masks_dir", "depth_scale"})
_MOST_CLASSES = 10_000


@dataclass(frozen=True, slots=True)
class DatasetDescription:
    """Contents of a ``data.yaml``, with every path resolved and inside *root*."""

    file: Path
    root: Path
    sources: dict[str, tuple[Path, ...]]
    """By split: folders of images, or text files that list them."""
    names: tuple[str, ...]
    notes: tuple[str, ...]


def read_description(file: Path, data_dirs: Sequence[Path]) -> DatasetDescription:
    """Read the description *file*; its folder is where its paths begin.

    Raises:
        DataError: it is not such a description, or leads out of the dataset's folder or the *data_dirs*.

    """
    document = _document(file)
    if other := sorted(_OTHER_TASKS & document.keys()):
        raise DataError(f"{file}: {other[0]} belongs to another task", hint="Retort distils detectors: boxes only")
    if document.get("channels", 3) != 3:
        raise DataError(f"{file}: channels must be 3", hint="use colour or grey images of 8 bits")
    root = _root(file, document.get("path", "."), data_dirs)
    entry = {"path", "train", "val", "names", "nc", "channels"}
    notes = tuple(
        f"data.yaml: {key} is ignored: {_IGNORED.get(key, 'it is not a field that Retort knows')}"
        for key in map(str, document)
        if key not in entry
    )
    return DatasetDescription(
        file=file,
        root=root,
        sources={split: _sources(file, root, split, document.get(split)) for split in ("train", "val")},
        names=_names(file, document.get("names"), document.get("nc")),
        notes=notes,
    )


def _document(file: Path) -> dict[str, Any]:
    try:
        document = parse_document(file.read_bytes())
    except SpecError as error:
        raise DataError(f"{file}: {error.message}", hint=error.hint) from error
    if not isinstance(document, dict):
        raise DataError(f"{file} must be a mapping", hint="with train, val and names")
    return document


def _root(file: Path, path: object, data_dirs: Sequence[Path]) -> Path:
    if not isinstance(path, str) or not path:
        raise DataError(f"{file}: path must be a text", hint="leave it out: the file's own folder is meant")
    root = (file.parent / path).resolve()
    if not root.is_dir():
        raise DataError(
            f"{file}: path is {path!r}, and there is no folder {root}", hint="paths are relative to this file"
        )
    if not any(root.is_relative_to(folder.resolve()) for folder in data_dirs):
        shown = ", ".join(str(folder) for folder in data_dirs)
        raise DataError(f"{file}: path leads to {root}", hint=f"it must lie inside one of: {shown}")
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
        raise DataError(
            f"{file}: {split} is {item!r}, and there is no folder {target}", hint="paths are relative to this file"
        )
    return target


def _names(file: Path, value: object, number: object) -> tuple[str, ...]:
    if isinstance(value, dict):
        if sorted(value, key=str) != sorted(range(len(value)), key=str):
            raise DataError(f"{file}: names must be numbered 0, 1, 2 ... without gaps", hint="0: first, 1: second")
        value = [value[index] for index in range(len(value))]
    if not isinstance(value, list) or not value:
        raise DataError(f"{file}: names must list the classes", hint="for example names: [cat, dog]")
    names = tuple(str(name).strip() for name in value)
    for index, name in enumerate(names):
        if not name or not name.isprintable() or len(name) > 200:
            raise DataError(f"{file}: the name of class {index} is not a short printable text", hint="name it")
        if name in names[:index]:
            raise DataError(f"{file}: two classes are named {name!r}", hint="give each class a name of its own")
    if len(names) > _MOST_CLASSES:
        raise DataError(f"{file}: {len(names)} classes are more than {_MOST_CLASSES}")
    if number is not None and number != len(names):
        raise DataError(f"{file}: nc is {number}, but {len(names)} names are listed", hint="leave nc out")
    return names


_LARGEST_BYTES = 16 << 20
_SLACK = 1e-3
"""How far outside 0..1 a coordinate may lie: rounding errors of the tool that wrote it."""
LINE = "class centre_x centre_y width height, the last four as shares (0..1) of the image's sides"
"""What a label file's lines must hold."""


class LabelBox(NamedTuple):
    """A labelled object: class, and box as shares of image sides."""

    class_id: int
    centre_x: float
    centre_y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class LabelFile:
    """Boxes of a label file, and its invalid lines with their numbers."""

    boxes: tuple[LabelBox, ...]
    problems: tuple[tuple[int, str], ...]


def check_labels(description: DatasetDescription, splits: Mapping[str, Sequence[tuple[Path, Path]]]) -> None:
    """Check the label of every (image, label) pair.

    An image without a label file is background.

    Raises:
        DataError: a line is malformed (the first is shown with file and line), or a split has no box at all.

    """
    for split, pairs in splits.items():
        boxes = sum(_count(label, len(description.names), description.root) for _, label in pairs)
        if boxes == 0:
            looked = pairs[0][1].parent
            raise DataError(
                f"{description.file}: no box in any label of {split}; labels were looked for in {looked}",
                hint="an image images/x.jpg has its boxes in labels/x.txt",
            )


def _count(label: Path, num_classes: int, root: Path) -> int:
    """Return how many boxes *label* holds."""
    content = read(label, num_classes, root)
    if content.problems:
        number, problem = content.problems[0]
        more = f" (and {len(content.problems) - 1} more in this file)" if len(content.problems) > 1 else ""
        raise DataError(f"{label.relative_to(root)}:{number}: {problem}{more}", hint=f"each line: {LINE}")
    return len(content.boxes)


def read(label: Path, num_classes: int, root: Path) -> LabelFile:
    """Read the label file *label* of a dataset at *root*.

    The file need not exist.

    Raises:
        DataError: it leads out of *root*, or is no text file of a likely size.

    """
    if not label.is_file():
        return LabelFile((), ())
    shown = label.relative_to(root)
    if not label.resolve().is_relative_to(root):
        raise DataError(f"{shown} leads out of the dataset's folder", hint="copy the label into the dataset")
    if label.stat().st_size > _LARGEST_BYTES:
        raise DataError(f"{shown} is larger than {_LARGEST_BYTES >> 20} MiB", hint="one line a box is expected")
    try:
        text = label.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{shown} is not a text file", hint=f"each line: {LINE}") from error
    boxes, problems = [], []
    for number, line in enumerate(text.splitlines(), start=1):
        columns = line.split()
        if columns and (problem := _problem(columns, num_classes)):
            problems.append((number, problem))
        elif columns:
            class_id, *box = map(float, columns)
            boxes.append(LabelBox(int(class_id), *box))
    return LabelFile(tuple(boxes), tuple(problems))


def _problem(columns: list[str], num_classes: int) -> str | None:
    if len(columns) != 5:
        polygon = "; this looks like a polygon, and boxes are needed" if len(columns) >= 7 else ""
        return f"{len(columns)} columns where 5 are expected{polygon}"
    try:
        values = [float(column) for column in columns]
    except ValueError:
        values = [math.nan]
    if not all(math.isfinite(value) for value in values):
        return f"not every column is a finite number: {' '.join(columns)}"
    class_id, *box = values
    if not class_id.is_integer() or not 0 <= class_id < num_classes:
        return f"class {columns[0]} is not one of 0 to {num_classes - 1}"
    if not all(-_SLACK <= value <= 1 + _SLACK for value in box):
        return f"a coordinate is outside 0..1: {' '.join(columns[1:])}"
    return "the box has no area; remove the line" if min(box[2:]) <= 0 else None


IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
_MAGIC = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"RIFF", b"II*\0", b"MM\0*")
"""First bytes of the formats above."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """A dataset whose every image and label has been looked at."""

    root: Path
    """Everything lies inside this folder."""
    train: tuple[Path, ...]
    """Images, sorted."""
    val: tuple[Path, ...]
    names: tuple[str, ...]
    """Class names in the order of their ids."""
    digest: str
    """SHA-256 over the names, and over name, size and content of every image and label; the place does not count."""
    num_shared: int
    """Validation images whose bytes are also a training image."""
    notes: tuple[str, ...]
    """What in the description was ignored, and why."""

    @property
    def num_train(self) -> int:
        """Number of training images."""
        return len(self.train)

    @property
    def num_val(self) -> int:
        """Number of validation images."""
        return len(self.val)


@dataclass(frozen=True, slots=True)
class _ImageContent:
    """What one image and its label hold."""

    name: str
    size_bytes: int
    image: str
    label: str
    """SHA-256 in hex; empty where there is no label file."""


def locate(path: str, data_dirs: Sequence[Path]) -> Dataset:
    """Locate and check the dataset at *path*.

    *path* is a folder with a ``data.yaml``, or that file. A relative path is looked for in each of the *data_dirs*.
    Paths in the file are relative to the file.

    Raises:
        DataError: it is missing, lies outside *data_dirs*, or is malformed; the message names file and line.

    """
    description = read_description(find(path, data_dirs), data_dirs)
    splits = {split: images_of(description, split) for split in ("train", "val")}
    pairs = {split: [(image, label_of(description.root, image)) for image in splits[split]] for split in splits}
    check_labels(description, pairs)
    with ThreadPoolExecutor(max_workers=4) as pool:
        contents = {
            split: list(pool.map(lambda image: _content(description.root, image), images))
            for split, images in splits.items()
        }
    seen = {content.image for content in contents["train"]}
    return Dataset(
        root=description.root,
        train=splits["train"],
        val=splits["val"],
        names=description.names,
        digest=_digest(description.names, contents),
        num_shared=sum(content.image in seen for content in contents["val"]),
        notes=description.notes,
    )


def label_of(root: Path, image: Path) -> Path:
    """Return the path of the label file of *image*.

    It has ``labels`` for the last folder ``images``, and ``.txt`` at the end; the file need not exist. Only folders
    below *root* count, so that a dataset kept in a folder named ``images`` means the same.
    """
    parts = list(image.relative_to(root).with_suffix(".txt").parts)
    for index in range(len(parts) - 2, -1, -1):
        if parts[index] == "images":
            parts[index] = "labels"
            break
    return root.joinpath(*parts)


def overlay(dataset: Dataset, folder: Path) -> Path:
    """Link the dataset's files into *folder*; return its ``data.yaml``.

    The folder is new, and the ``data.yaml`` is written there. Ultralytics keeps a pickle, ``labels/*.cache``, beside
    the labels, and trusts one that it finds there. Here it finds none but its own, and writes nothing into the user's
    folder.
    """
    for split, images in (("train", dataset.train), ("val", dataset.val)):
        image_folder, label_folder = folder / "images" / split, folder / "labels" / split
        image_folder.mkdir(parents=True)
        label_folder.mkdir(parents=True)
        for stem, image in _stems(images):
            (image_folder / f"{stem}{image.suffix.lower()}").symlink_to(image)
            label = label_of(dataset.root, image)
            if label.is_file():
                (label_folder / f"{stem}.txt").symlink_to(label)
    description = {
        "path": str(folder.absolute()),
        "train": "images/train",
        "val": "images/val",
        "names": dict(enumerate(dataset.names)),
    }
    target = folder / "data.yaml"
    target.write_text(yaml.safe_dump(description, sort_keys=False, allow_unicode=True))
    return target


def _stems(images: Sequence[Path]) -> Iterator[tuple[str, Path]]:
    """Give each image a stem of its own: images of one name in different folders share no label file."""
    taken: set[str] = set()
    for image in images:
        stem, number = image.stem, 1
        while stem.casefold() in taken:
            number += 1
            stem = f"{image.stem}-{number}"
        taken.add(stem.casefold())
        yield stem, image


def find(path: str, data_dirs: Sequence[Path]) -> Path:
    """Return the resolved description file of the dataset at *path*.

    It lies in one of the operator's folders.

    Raises:
        DataError: it does not, or is not there.

    """
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
        raise DataError(f"no data.yaml in {path}", hint=f"put one there, inside one of: {shown}")
    raise DataError(
        f"no dataset at {path}", hint=f"name a folder with a data.yaml, or that file, inside one of: {shown}"
    )


def images_of(description: DatasetDescription, split: str) -> tuple[Path, ...]:
    """Collect the images of a split.

    They come from folders, and from text files that list them.

    Raises:
        DataError: there are none, or one lies outside the dataset.

    """
    found: set[Path] = set()
    for source in description.sources[split]:
        listed = _listed(source) if source.suffix == ".txt" else source.rglob("*")
        pictures = [path for path in listed if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()]
        for picture in pictures:
            resolved = picture.resolve()
            if not resolved.is_relative_to(description.root):
                raise DataError(
                    f"{picture} leads out of the dataset's folder, to {resolved}",
                    hint="copy the image into the dataset, or name a common folder as path in data.yaml",
                )
            # The image may be a link inside the dataset; its label belongs to the place where it is listed.
            found.add(picture.parent.resolve() / picture.name)
    if not found:
        where = ", ".join(str(source) for source in description.sources[split])
        kinds = ", ".join(sorted(IMAGE_SUFFIXES))
        raise DataError(f"no images for {split} in {where}", hint=f"put images there; known endings: {kinds}")
    return tuple(sorted(found))


def _listed(source: Path) -> list[Path]:
    """Read a text file of image paths, one a line, relative to the file."""
    paths: list[Path] = []
    for number, line in enumerate(source.read_text(encoding="utf-8-sig").splitlines(), start=1):
        if line.strip():
            path = source.parent / line.strip()
            if not path.is_file():
                raise DataError(f"{source}:{number}: no image at {path}", hint="paths are relative to this file")
            paths.append(path)
    return paths


def _content(root: Path, image: Path) -> _ImageContent:
    label = label_of(root, image)
    return _ImageContent(
        name=image.relative_to(root).as_posix(),
        size_bytes=image.stat().st_size,
        image=digest_of(image),
        label=hashlib.sha256(label.read_bytes()).hexdigest() if label.is_file() else "",
    )


def digest_of(image: Path) -> str:
    """Return the SHA-256 in hex of an image file.

    The file has to begin like an image.

    Raises:
        DataError: it does not.

    """
    with image.open("rb") as file:
        first = file.read(12)
        if not first.startswith(_MAGIC):
            raise DataError(f"{image} is not an image", hint="remove the file, or replace it by one that opens")
    return sha256_of(image)


def _digest(names: Sequence[str], contents: dict[str, list[_ImageContent]]) -> str:
    digest = hashlib.sha256(repr(tuple(names)).encode())
    for split, items in sorted(contents.items()):
        for item in sorted(items, key=lambda item: item.name):
            digest.update(repr((split, item.name, item.size_bytes, item.label, item.image)).encode())
    return digest.hexdigest()
