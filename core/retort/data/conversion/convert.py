"""Write a dataset with COCO or VOC annotations in YOLO layout."""

from __future__ import annotations

import hashlib
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import yaml

from retort.data.archives import unpack_dataset
from retort.data.conversion.coco import classes_of, read_coco
from retort.data.conversion.images import ImageIndex, shown_size
from retort.data.conversion.layout import Kind, Layout, find_layout, other_tool, split_of
from retort.data.conversion.objects import TOLD, AnnotatedSplit, ImageAnnotations, cut, shares
from retort.data.conversion.voc import FirstPixel, read_voc
from retort.data.datasets import Dataset, locate
from retort.data.labels import LabelBox
from retort.errors import DataError
from retort.images import MOST_PIXELS

VAL_SHARE = 0.2
"""Share of the images that are measured on where the annotations name no split for it."""
MOST_MISSING = 0.1
"""Share of the listed images that may not be there."""
_ENOUGH, _OUTSIDE = 10, 0.2
"""Of so many boxes and more a larger share that reaches out of the images is no accident."""
_LAYOUT_WORDS = frozenset({"images", "labels", "annotations", "jpegimages"})
_OTHER_SHAPE = 0.02
"""Relative difference of aspect ratios from which on an image is not the one that was annotated."""


@dataclass(frozen=True, slots=True)
class ConversionOptions:
    """Choices that the annotations leave open."""

    val_share: float = VAL_SHARE
    first_pixel: FirstPixel | None = None
    allow_missing: bool = False
    link: bool = False
    """Link the images instead of copying them."""


@dataclass(frozen=True, slots=True)
class Conversion:
    """A dataset that was written in YOLO layout."""

    data_yaml: Path
    kind: Kind
    names: tuple[str, ...]
    num_images: dict[str, int]
    """By split."""
    num_boxes: dict[str, int]
    notes: tuple[str, ...]
    """What was left out or changed, counted."""


def foreign_source(path: str, data_dirs: Sequence[Path]) -> Path | None:
    """Return the COCO or VOC annotations at *path*, or None.

    They are a COCO document, an archive, or a folder, and lie in one of the *data_dirs*, in each of which a relative
    path is looked for.
    """
    given = Path(path).expanduser()
    for candidate in [given] if given.is_absolute() else [folder / given for folder in data_dirs]:
        resolved = candidate.resolve()
        if any(resolved.is_relative_to(folder.resolve()) for folder in data_dirs) and _is_foreign(resolved):
            return resolved
    return None


def _is_foreign(path: Path) -> bool:
    if path.is_file():
        return path.suffix.lower() in {".json", ".zip"}
    if not path.is_dir() or (path / "data.yaml").is_file():
        return False
    return find_layout(path) is not None or other_tool(path) is not None


def locate_converted(
    path: str,
    data_dirs: Sequence[Path],
    folder: Path,
    *,
    kept: Path | None = None,
    unusable_share: float = 0.1,
    most_pixels: int = MOST_PIXELS,
) -> Dataset | None:
    """Convert COCO or VOC annotations at *path*, and check the result, or return None.

    The new *folder* receives the dataset; images are linked.

    Raises:
        DataError: the annotations, or the images, are malformed.

    """
    source = foreign_source(path, data_dirs)
    if source is None:
        return None
    made = convert(source, folder, data_dirs, ConversionOptions(link=True))
    found = locate(
        str(made.data_yaml),
        [folder],
        linked=data_dirs,
        kept=kept,
        unusable_share=unusable_share,
        most_pixels=most_pixels,
    )
    origin = f"annotations in {made.kind.upper()} form at {source} were converted"
    return replace(found, notes=(*found.notes, origin, *made.notes))


def convert(
    source: Path, target: Path, allowed: Sequence[Path], options: ConversionOptions = ConversionOptions()
) -> Conversion:
    """Write *source* in YOLO layout into the new or empty folder *target*.

    *source* is a COCO document, a folder with COCO or VOC annotations, or a ZIP file of one; its images may lie in any
    of the *allowed* folders.

    Raises:
        DataError: it is none, or malformed; the message names file and line.

    """
    if not source.exists():
        raise DataError(f"no annotations at {source}", hint="a COCO JSON file, a folder, or a ZIP of one")
    if (source / "data.yaml").is_file():
        raise DataError(f"{source} is in YOLO layout already: it has a data.yaml", hint="name it in a spec as it is")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise DataError(f"{target} is not empty", hint="name a new folder")
    target.mkdir(parents=True, exist_ok=True)
    try:
        return _convert(source, target, allowed, options)
    except BaseException:
        shutil.rmtree(target, ignore_errors=True)
        raise


def _convert(source: Path, target: Path, allowed: Sequence[Path], options: ConversionOptions) -> Conversion:
    if source.is_file() and source.suffix.lower() == ".zip":
        unpacked = target / "unpacked"
        unpacked.mkdir()
        unpack_dataset(source, unpacked)
        made = _written(_layout(unpacked, source), target, [unpacked], options)
        if not options.link:
            shutil.rmtree(unpacked)
        return made
    return _written(_layout(source, source), target, allowed, options)


def _layout(folder: Path, source: Path) -> Layout:
    found = find_layout(folder)
    if found is None and (other := other_tool(folder)) is not None:
        message = f"{other[0]}:1: annotations in the form of {other[1]}, which is not read"
        raise DataError(message, hint="export them as COCO JSON, Pascal VOC XML or YOLO, and name that")
    if found is None:
        hint = (
            "COCO: a JSON file with images, annotations and categories; VOC: XML files with <annotation>; "
            "unpack an archive in YOLO layout, and name its folder"
        )
        raise DataError(f"{source} holds neither COCO nor VOC annotations", hint=hint)
    return found


def _written(layout: Layout, target: Path, allowed: Sequence[Path], options: ConversionOptions) -> Conversion:
    splits = {split: _read(layout, split, options) for split in layout.splits}
    classes = classes_of(list(splits.values()))
    if not classes:
        raise DataError(f"{layout.root}: the annotations have no class", hint="label some objects")
    _refuse_shares(splits.values())
    index = ImageIndex(layout.root, allowed)
    counted = sum((one.counted for one in splits.values()), Counter[str]())
    notes = [note for one in splits.values() for note in one.notes]
    found = {split: _found(one, split, index, counted, options) for split, one in splits.items()}
    if "val" not in found:
        found, note = _divided(found, options.val_share)
        notes.append(note)
    listed = {path for pairs in found.values() for path, _ in pairs}
    counted["unlisted"] = sum(path not in listed for path in index.files)
    writer = _Writer(layout.root, target, classes, counted, link=options.link)
    num_boxes = {split: writer.write(split, pairs) for split, pairs in found.items()}
    data_yaml = _describe(target, list(found), classes)
    told = [f"{counted[kind]:,} {said}" for kind, said in TOLD.items() if counted[kind]]
    told += _corners_meant(layout.kind, counted["cut"] + counted["outside"], sum(num_boxes.values()))
    return Conversion(
        data_yaml=data_yaml,
        kind=layout.kind,
        names=classes,
        num_images={split: len(pairs) for split, pairs in found.items()},
        num_boxes=num_boxes,
        notes=tuple(dict.fromkeys([*notes, *told])),
    )


def _refuse_shares(splits: Iterable[AnnotatedSplit]) -> None:
    """Refuse boxes that are shares of the sides.

    As pixels, all of them would lie within the first one.
    """
    for split in splits:
        images = [image for image in split.images if image.objects]
        if images and max(max(one.right, one.bottom) for image in images for one in image.objects) <= 1:
            raise DataError(
                f"{images[0].place}: no box of {split.file.name} reaches beyond the first pixel",
                hint="boxes are in pixels; multiply shares of the sides by width and height",
            )


def _corners_meant(kind: Kind, num_outside: int, num_boxes: int) -> list[str]:
    """Doubt boxes of which many reach out of their images."""
    if kind != "coco" or num_boxes < _ENOUGH or num_outside < _OUTSIDE * num_boxes:
        return []
    told = f"{num_outside} of {num_boxes} boxes reach out of their images"
    return [f"{told}: bbox is left, top, width and height; are these corners, or centres?"]


def _read(layout: Layout, split: str, options: ConversionOptions) -> AnnotatedSplit:
    if layout.kind == "coco":
        (_, document), *_ = layout.splits[split]
        return read_coco(document)
    return read_voc(layout.root, layout.splits[split], options.first_pixel)


Pairs = list[tuple[Path, ImageAnnotations]]


def _found(
    annotated: AnnotatedSplit, split: str, index: ImageIndex, counted: Counter[str], options: ConversionOptions
) -> Pairs:
    """Return the images that are there, each once, with their annotations."""
    near = annotated.file if annotated.file.is_dir() else annotated.file.parent
    found: dict[Path, ImageAnnotations] = {}
    missing = []
    for image in annotated.images:
        path = index.find(image.name, near, split, image.place)
        if path is None and image.other_name:
            path = index.find(image.other_name, near, split, image.place)
        elif image.other_name and _differ(image) and index.find(image.other_name, near, split, image.place) not in {
            None, path,
        }:  # fmt: skip
            counted["renamed"] += 1
        if path is None:
            missing.append(image)
        elif path in found:
            counted["repeated"] += 1
            found[path] = replace(found[path], objects=(*found[path].objects, *image.objects))
        else:
            found[path] = image
    counted["missing"] += len(missing)
    few = len(missing) <= MOST_MISSING * len(annotated.images) or options.allow_missing
    if missing and not (few and found):
        raise DataError(
            f"{missing[0].place}: there is no image {missing[0].name[:200]!r} below {annotated.file.parent} "
            f"({len(missing)} of {len(annotated.images)} are missing)",
            hint="put the images beside their annotations, or take what is there: retort data convert --allow-missing",
        )
    if not found:
        raise DataError(f"{annotated.file} lists no image", hint="list the images that the annotations are of")
    return list(found.items())


def _differ(image: ImageAnnotations) -> bool:
    """Return True if an annotation file says another name of its image than it has itself."""
    return PurePosixPath(image.other_name.replace("\\", "/")).stem != PurePosixPath(image.name).name


def _divided(found: dict[str, Pairs], share: float) -> tuple[dict[str, Pairs], str]:
    """Take validation images from the training images: by digest, copies of one original together."""
    pairs = found["train"]
    groups: dict[str, Pairs] = {}
    for path, image in pairs:
        groups.setdefault(original(path), []).append((path, image))
    ordered = sorted(groups.values(), key=lambda group: hashlib.sha256(original(group[0][0]).encode()).digest())
    number = max(1, round(share * len(ordered)))
    if len(ordered) < 2 or number >= len(ordered):
        place = pairs[0][1].place.rpartition(":")[0]
        raise DataError(f"{place}: too few images to take validation images from", hint="annotate more images")
    val = [pair for group in ordered[:number] for pair in group]
    chosen = {path for path, _ in val}
    rest = {split: pairs for split, pairs in found.items() if split != "train"}
    train = [pair for pair in pairs if pair[0] not in chosen]
    note = (
        f"the annotations name no validation images: {len(val)} of {len(pairs)} images, chosen by their names, are "
        "measured on instead of learnt from"
    )
    return {"train": train, "val": val, **rest}, note


def original(path: Path) -> str:
    """Return the name of the image that Roboflow made *path* from."""
    return path.name.partition(".rf.")[0]


@dataclass(frozen=True, slots=True)
class _Writer:
    """Writes images and labels of splits into *target*."""

    root: Path
    target: Path
    classes: tuple[str, ...]
    counted: Counter[str]
    link: bool

    def write(self, split: str, pairs: Pairs) -> int:
        """Write one split; return how many boxes it has."""
        number = 0
        for (path, image), name in zip(pairs, _names(self.root, (path for path, _ in pairs)), strict=True):
            boxes = cut(self._boxes(path, image), self.counted)
            picture = self.target / "images" / split / f"{name}{path.suffix.lower()}"
            label = self.target / "labels" / split / f"{name}.txt"
            for file in (picture, label):
                file.parent.mkdir(parents=True, exist_ok=True)
            if self.link:
                picture.symlink_to(path.resolve())
            else:
                shutil.copyfile(path, picture)
            label.write_text("".join(map(_line, boxes)))
            number += len(boxes)
        return number

    def _boxes(self, path: Path, image: ImageAnnotations) -> list[LabelBox]:
        actual = shown_size(path)
        size = image.size or actual
        if size is None:
            hint = "give width and height in the annotations, or an image that opens"
            raise DataError(f"{image.place}: the size of {path.name} is unknown", hint=hint)
        if actual is not None and actual != size:
            if abs(size[0] * actual[1] / (size[1] * actual[0]) - 1) > _OTHER_SHAPE:
                raise DataError(
                    f"{image.place}: {path.name} is annotated as {size[0]:g} x {size[1]:g} pixels, and is shown with "
                    f"{actual[0]} x {actual[1]}",
                    hint="annotate the image as it is shown, or save it without its orientation tag",
                )
            self.counted["resized"] += 1
        return shares(image.objects, size, self.classes, image.place)


def _names(root: Path, paths: Iterable[Path]) -> Iterator[str]:
    """Yield a path without ending for each image, which no other has: folders that only name a split are dropped."""
    taken: set[str] = set()
    for path in paths:
        folders = path.relative_to(root).parts[:-1] if path.is_relative_to(root) else ()
        kept = [part for part in folders if part.lower() not in _LAYOUT_WORDS and split_of(part) is None]
        name = "/".join([*kept, path.stem])
        number, free = 1, name
        while free.casefold() in taken:
            number += 1
            free = f"{name}-{number}"
        taken.add(free.casefold())
        yield free


def _line(box: LabelBox) -> str:
    return f"{box.class_id} {box.centre_x:.9f} {box.centre_y:.9f} {box.width:.9f} {box.height:.9f}\n"


def _describe(target: Path, splits: Sequence[str], classes: Sequence[str]) -> Path:
    description = {**{split: f"images/{split}" for split in splits}, "names": dict(enumerate(classes))}
    path = target / "data.yaml"
    path.write_text(yaml.safe_dump(description, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return path
