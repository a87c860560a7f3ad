"""Find and check datasets, and lay them out for a run."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

import yaml

from retort import class_names
from retort.data import intake
from retort.data.description import DatasetDescription, find, read_description
from retort.data.label_counts import check_labels
from retort.data.labels import copy_labels, label_of, shared_labels
from retort.data.listing import Listing, images_of
from retort.data.verification import ImageRecord
from retort.errors import DataError
from retort.images import MOST_PIXELS, ImageFacts, can_open, lay, plain_name, shown
from retort.spec.image_use import ImageUse

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
    """The images as intake saw them."""
    label_digests: Mapping[Path, str] = field(repr=False)
    """SHA-256 in hex of each label file, by its image."""
    test: tuple[Path, ...] = ()
    """Images to measure on that nothing else looks at; empty where there are none."""
    facts: Mapping[Path, ImageFacts] = field(default_factory=dict, repr=False)
    """What each of these images is."""
    uses: Mapping[str, ImageUse] = field(default_factory=dict)
    """By split: how many images are there, and how many are used."""
    bits: int | None = None
    """Bits that images of 16 bits fill; None where there are none."""
    merged: tuple[str, ...] = ()
    """Names of the classes that its labels tell apart, where all of them count as one."""

    def as_one_class(self) -> Self:
        """Return this data set with one class for all objects."""
        note = f"training.single_cls: {len(self.names)} classes count as one, {class_names.ITEM}"
        note += f": {class_names.listed(self.names)}"
        return replace(self, names=(class_names.ITEM,), merged=self.names, notes=(*self.notes, note))

    @property
    def label_classes(self) -> int:
        """Number of classes in the label files."""
        return len(self.merged or self.names)

    def label_records(self) -> Iterator[ImageRecord]:
        """Yield what was seen of each label file."""
        for image, digest in self.label_digests.items():
            label = label_of(self.root, image)
            now = label.stat()
            yield ImageRecord(str(label), now.st_size, now.st_mtime_ns, digest, now.st_ctime_ns)

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


def locate(
    path: str,
    data_dirs: Sequence[Path],
    linked: Sequence[Path] = (),
    *,
    most_missing: float = 1.0,
    kept: Path | None = None,
    unusable_share: float = intake.UNUSABLE_SHARE,
    most_pixels: int = MOST_PIXELS,
) -> Dataset:
    """Locate and check the dataset at *path*, and open all images of it.

    *path* is a folder with a ``data.yaml``, or that file. A relative path is looked for in each of the *data_dirs*.
    Paths in the file are relative to the file.

    Args:
        path: see there.
        data_dirs: folders in which it may lie.
        linked: folders into which links to images may also lead.
        most_missing: share of the images of a split that may have no label file.
        kept: folder of what is known of images that were opened before.
        unusable_share: of the images of a split; with more that cannot be used the dataset is refused.
        most_pixels: of an image; a larger one cannot be used.

    Raises:
        DataError: it is missing, lies outside *data_dirs*, or is malformed; the message names file and line.

    """
    description = read_description(find(path, data_dirs), data_dirs, linked)
    root = description.root
    _check_place(root)
    listings = {split: images_of(description, split) for split in ("train", "val")}
    test, notes = test_images(description)
    if test.images:
        listings["test"] = test
    counts, missing = check_labels(
        root, {split: found.images for split, found in listings.items()}, len(description.names),
        most_missing=most_missing,
    )  # fmt: skip
    if not can_open():
        raise DataError("this installation opens no images", hint="install retort[train]")
    everything = [image for found in listings.values() for image in found.images]
    facts = intake.examine_images(everything, intake.kept_file(kept, root), most_pixels)
    uses = {split: intake.use_of(found, facts, root) for split, found in listings.items()}
    intake.check_use(uses, unusable_share)
    bits = intake.bits_in(facts.values())
    passed = intake.notes_of(listings, bits)
    splits = {split: intake.usable(found, facts) for split, found in listings.items()}
    return replace(
        _dataset(description, splits, facts),
        notes=(*description.notes, *notes, *passed),
        warnings=(
            *near_names(description.names),
            *(found.sentence() for found in missing),
            *(doubt.sentence() for doubt in counts.doubts()),
            *_shared(root, listings),
        ),
        uses=uses,
        bits=bits,
    )


def _check_place(root: Path) -> None:
    if shown(root) != str(root):
        raise DataError(f"{shown(root)}: the folder's name is not UTF-8", hint="give it another name")


def _dataset(
    description: DatasetDescription, splits: Mapping[str, Sequence[Path]], facts: Mapping[Path, ImageFacts]
) -> Dataset:
    with ThreadPoolExecutor(max_workers=4) as pool:
        contents = {
            split: list(pool.map(lambda image: _content(description.root, image, facts[image]), images))
            for split, images in splits.items()
        }
    seen = {content.image.digest for content in contents["train"]}
    return Dataset(
        root=description.root,
        train=tuple(splits["train"]),
        val=tuple(splits["val"]),
        names=description.names,
        digest=_digest(description.names, contents),
        num_shared=sum(content.image.digest in seen for content in contents["val"]),
        notes=(),
        warnings=(),
        records=tuple(content.image for split in contents.values() for content in split),
        label_digests={
            image: content.label
            for split, found in contents.items()
            for image, content in zip(splits[split], found, strict=True)
            if content.label
        },
        test=tuple(splits.get("test", ())),
        facts=facts,
    )


def _shared(root: Path, listings: Mapping[str, Listing]) -> Iterator[str]:
    """Warn of images that have one label file in common."""
    found = shared_labels(root, (image for listing in listings.values() for image in dict.fromkeys(listing.images)))
    if found:
        label, mine = next(iter(found.items()))
        which = " and ".join(shown(image.name) for image in mine)
        yield f"label files that belong to several images: {len(found)}, such as {shown(label.name)} to {which}"


def near_names(names: Sequence[str]) -> tuple[str, ...]:
    """Warn of different classes with nearly equal names."""
    return tuple(
        f"data.yaml: {' and '.join(map(repr, group))} are different classes, because their names are not equal"
        for group in class_names.alike(names)
    )


def test_images(description: DatasetDescription) -> tuple[Listing, tuple[str, ...]]:
    """Return the images of the split ``test``, or none and the reason."""
    if "test" not in description.sources:
        return Listing(()), ()
    try:
        found = images_of(description, "test")
    except DataError as error:
        return Listing(()), (f"data.yaml: test is ignored: {error.message}",)
    if not any(label_of(description.root, image).is_file() for image in found.images):
        return Listing(()), ("data.yaml: test is ignored: none of its images has a label file",)
    return found, ()


def overlay(dataset: Dataset, folder: Path) -> Path:
    """Lay the dataset out in *folder*; return its ``data.yaml``.

    The folder is new. Images from which every program reads the same pixels are links, others are copies in 8 bits;
    labels are copies, so that who edits them does not edit a running job's.
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
        named = list(_stems(images))
        lay_images(named, dataset.facts, image_folder, dataset.bits)
        for stem, image in named:
            if image in dataset.label_digests:
                label = label_of(dataset.root, image)
                digest = dataset.label_digests[image]
                copy_labels(
                    label, label_folder / f"{stem}.txt", digest, dataset.label_classes, merge=bool(dataset.merged)
                )
    description = {
        "path": str(folder.absolute()),
        **{split: f"images/{split}" for split in splits},
        "names": dict(enumerate(dataset.names)),
        "digest": dataset.digest,
    }
    target = folder / "data.yaml"
    target.write_text(yaml.safe_dump(description, sort_keys=False, allow_unicode=True))
    return target


def lay_images(
    named: Sequence[tuple[str, Path]], facts: Mapping[Path, ImageFacts], folder: Path, bits: int | None
) -> None:
    """Put images into *folder* under their new stems.

    Raises:
        DataError: one cannot be read any more.

    """

    def put(item: tuple[str, Path]) -> None:
        stem, image = item
        lay(image, facts[image], folder / plain_name(stem, image, facts[image]), bits or 16)

    with ThreadPoolExecutor(max_workers=4) as pool:
        list(pool.map(put, named))


def _stems(images: Sequence[Path]) -> Iterator[tuple[str, Path]]:
    """Name images of one name in different folders apart, since each needs a label file."""
    taken: set[str] = set()
    for image in images:
        named = shown(image.stem)
        plain = named if len(named.encode()) <= _LONGEST_STEM else _shortened(named)
        stem, number = plain, 1
        while stem.casefold() in taken:
            number += 1
            stem = f"{plain}-{number}"
        taken.add(stem.casefold())
        yield stem, image


def _shortened(stem: str) -> str:
    return f"{stem[:40]}-{hashlib.sha256(stem.encode()).hexdigest()[:16]}"


def _content(root: Path, image: Path, facts: ImageFacts) -> _ImageContent:
    label = label_of(root, image)
    return _ImageContent(
        name=image.relative_to(root).as_posix(),
        image=ImageRecord.seen(image, facts),
        label=hashlib.sha256(label.read_bytes()).hexdigest() if label.is_file() else "",
    )


def _digest(names: Sequence[str], contents: dict[str, list[_ImageContent]]) -> str:
    digest = hashlib.sha256(repr(tuple(names)).encode())
    for split, items in sorted(contents.items()):
        for item in sorted(items, key=lambda item: item.name):
            digest.update(repr((split, item.name, item.image.size_bytes, item.label, item.image.digest)).encode())
    return digest.hexdigest()
