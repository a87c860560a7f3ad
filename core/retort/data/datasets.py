"""Find and check datasets, and lay them out for a run."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from retort import class_names
from retort.data.description import DatasetDescription, find, read_description
from retort.data.label_counts import check_labels
from retort.data.labels import copy_labels, label_of
from retort.data.text_files import read_text
from retort.data.verification import ImageRecord, jpeg_end
from retort.errors import DataError
from retort.files import sha256_of

IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
_MAGIC = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"RIFF", b"II*\0", b"MM\0*")
"""First bytes of the formats above."""


_LARGEST_LIST = 256 << 20
_LONGEST_STEM = 200
"""Bytes: file systems take 255, and what is made of an image gets a longer name."""


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
    warnings: tuple[str, ...]
    """What is probably wrong with names and labels."""
    records: tuple[ImageRecord, ...] = field(repr=False)
    """What was seen of each image."""
    label_digests: Mapping[Path, str] = field(repr=False)
    """SHA-256 in hex of each label file, by its image."""
    test: tuple[Path, ...] = ()
    """Images to measure on that nothing else looks at; empty where there are none."""

    @property
    def held_out(self) -> frozenset[str]:
        """Digests of the images that are measured on."""
        measured = {str(image) for image in (*self.val, *self.test)}
        return frozenset(seen.digest for seen in self.records if seen.path in measured)

    @property
    def num_train(self) -> int:
        """Number of training images."""
        return len(self.train)

    @property
    def num_val(self) -> int:
        """Number of validation images."""
        return len(self.val)

    @property
    def num_test(self) -> int:
        """Number of test images."""
        return len(self.test)


@dataclass(frozen=True, slots=True)
class _ImageContent:
    """What one image and its label hold."""

    name: str
    image: ImageRecord
    label: str
    """SHA-256 in hex; empty where there is no label file."""


def locate(path: str, data_dirs: Sequence[Path], linked: Sequence[Path] = (), *, most_missing: float = 1.0) -> Dataset:
    """Locate and check the dataset at *path*.

    A share of *most_missing* of a split's images may have no label file.

    *path* is a folder with a ``data.yaml``, or that file. A relative path is looked for in each of the *data_dirs*.
    Paths in the file are relative to the file. Links to images may also lead into the folders *linked*.

    Raises:
        DataError: it is missing, lies outside *data_dirs*, or is malformed; the message names file and line.

    """
    description = read_description(find(path, data_dirs), data_dirs, linked)
    splits = {split: images_of(description, split) for split in ("train", "val")}
    splits["test"], notes = test_images(description)
    num_classes = len(description.names)
    counts, missing = check_labels(description.root, splits, num_classes, most_missing=most_missing)
    with ThreadPoolExecutor(max_workers=4) as pool:
        contents = {
            split: list(pool.map(lambda image: _content(description.root, image), images))
            for split, images in splits.items()
            if images or split != "test"
        }
    seen = {content.image.digest for content in contents["train"]}
    return Dataset(
        root=description.root,
        train=splits["train"],
        val=splits["val"],
        names=description.names,
        digest=_digest(description.names, contents),
        num_shared=sum(content.image.digest in seen for content in contents["val"]),
        notes=(*description.notes, *notes),
        warnings=(
            *near_names(description.names),
            *(found.sentence() for found in missing),
            *(doubt.sentence() for doubt in counts.doubts()),
        ),
        records=tuple(content.image for split in contents.values() for content in split),
        label_digests={
            image: content.label
            for split, found in contents.items()
            for image, content in zip(splits[split], found, strict=True)
            if content.label
        },
        test=splits["test"],
    )


def near_names(names: Sequence[str]) -> tuple[str, ...]:
    """Warn of different classes with nearly equal names."""
    return tuple(
        f"data.yaml: {' and '.join(map(repr, group))} are different classes, because their names are not equal"
        for group in class_names.alike(names)
    )


def test_images(description: DatasetDescription) -> tuple[tuple[Path, ...], tuple[str, ...]]:
    """Return the images of the split ``test``, or none and the reason."""
    if "test" not in description.sources:
        return (), ()
    try:
        images = images_of(description, "test")
    except DataError as error:
        return (), (f"data.yaml: test is ignored: {error.message}",)
    if not any(label_of(description.root, image).is_file() for image in images):
        return (), ("data.yaml: test is ignored: none of its images has a label file",)
    return images, ()


def overlay(dataset: Dataset, folder: Path) -> Path:
    """Lay the dataset out in *folder*; return its ``data.yaml``.

    The folder is new. Images are links; labels are copies, so that who edits them does not edit a running job's.
    The ``data.yaml`` is written there, with the data's digest. Ultralytics keeps a pickle, ``labels/*.cache``, beside
    the labels, and trusts one that it finds there. Here it finds none but its own, and writes nothing into the user's
    folder.
    """
    splits = {"train": dataset.train, "val": dataset.val, "test": dataset.test}
    splits = {split: images for split, images in splits.items() if images}
    for split, images in splits.items():
        image_folder, label_folder = folder / "images" / split, folder / "labels" / split
        image_folder.mkdir(parents=True)
        label_folder.mkdir(parents=True)
        for stem, image in _stems(images):
            place_image(image, image_folder / f"{stem}{image.suffix.lower()}")
            if image in dataset.label_digests:
                label = label_of(dataset.root, image)
                digest = dataset.label_digests[image]
                copy_labels(label, label_folder / f"{stem}.txt", digest, len(dataset.names))
    description = {
        "path": str(folder.absolute()),
        **{split: f"images/{split}" for split in splits},
        "names": dict(enumerate(dataset.names)),
        "digest": dataset.digest,
    }
    target = folder / "data.yaml"
    target.write_text(yaml.safe_dump(description, sort_keys=False, allow_unicode=True))
    return target


def place_image(image: Path, target: Path) -> None:
    """Link *image* as *target*, or copy it where Ultralytics would change the file itself.

    It writes anew what it takes for a broken JPEG, through the link: one with bytes behind its end. The copy ends where
    the image does, so its pixels are the same and nobody writes to either.
    """
    if _goes_on_behind_its_end(image):
        data = image.read_bytes()
        end = jpeg_end(data)
        if end is not None and end < len(data):
            target.write_bytes(data[:end])
            shutil.copystat(image, target)
            return
    target.symlink_to(image)


def _goes_on_behind_its_end(image: Path) -> bool:
    """Return True if Ultralytics would take *image* for a broken JPEG; its ending does not count."""
    with image.open("rb") as file:
        if file.read(2) != b"\xff\xd8":
            return False
        file.seek(-2, os.SEEK_END)
        return file.read() != b"\xff\xd9"


def _stems(images: Sequence[Path]) -> Iterator[tuple[str, Path]]:
    """Give each image a stem of its own: images of one name in different folders share no label file."""
    taken: set[str] = set()
    for image in images:
        short = image.stem if len(os.fsencode(image.stem)) <= _LONGEST_STEM else _shortened(image)
        stem, number = short, 1
        while stem.casefold() in taken:
            number += 1
            stem = f"{short}-{number}"
        taken.add(stem.casefold())
        yield stem, image


def _shortened(image: Path) -> str:
    return f"{image.stem[:40]}-{hashlib.sha256(os.fsencode(image.stem)).hexdigest()[:16]}"


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
            if not any(resolved.is_relative_to(folder) for folder in (description.root, *description.linked)):
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
    text = read_text(source, str(source), most_bytes=_LARGEST_LIST)
    for number, line in enumerate(text.splitlines(), start=1):
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
        image=ImageRecord.of(checked(image)),
        label=hashlib.sha256(label.read_bytes()).hexdigest() if label.is_file() else "",
    )


def digest_of(image: Path) -> str:
    """Return the SHA-256 in hex of an image file.

    Raises:
        DataError: it does not begin like an image.

    """
    return sha256_of(checked(image))


def checked(image: Path) -> Path:
    """Return *image*, which has to begin like an image.

    Raises:
        DataError: it does not.

    """
    with image.open("rb") as file:
        first = file.read(12)
        if not first.startswith(_MAGIC):
            raise DataError(f"{image} is not an image", hint="remove the file, or replace it by one that opens")
    return image


def _digest(names: Sequence[str], contents: dict[str, list[_ImageContent]]) -> str:
    digest = hashlib.sha256(repr(tuple(names)).encode())
    for split, items in sorted(contents.items()):
        for item in sorted(items, key=lambda item: item.name):
            digest.update(repr((split, item.name, item.image.size_bytes, item.label, item.image.digest)).encode())
    return digest.hexdigest()
