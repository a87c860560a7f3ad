"""Annotation files as tools and hands write them, with the right boxes or the refusal of each."""

from __future__ import annotations

import functools
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

WIDTH, HEIGHT = 100, 50
BoxShares = tuple[str, float, float, float, float]
"""Class, then left, top, right and lower side as shares of the image's."""
NAMES = ("cat", "dog")
DOG: BoxShares = ("dog", 0.1, 0.2, 0.3, 0.61)
CAT: BoxShares = ("cat", 0.5, 0.5, 0.75, 0.9)
"""What most files of the corpus say."""


@dataclass(frozen=True)
class AnnotationCase:
    """One annotation file, and what is expected of it."""

    name: str
    data: str | bytes | None
    """None: the file is not there."""
    boxes: tuple[BoxShares, ...] = (DOG,)
    told: str = ""
    """Part of the refusal; empty where the file is read."""
    file: str = ""
    """Its path in the data set, where its tool has one of its own."""
    image: str = "train/a.png"
    """The image whose boxes are expected."""
    beside: Mapping[str, str] = field(default_factory=dict)
    """What lies beside it, by path."""

    @property
    def content(self) -> bytes | None:
        """Return the file as bytes."""
        return self.data.encode() if isinstance(self.data, str) else self.data


@functools.cache
def picture(number: int) -> bytes:
    """Return an image file that no other number gives."""
    buffer = io.BytesIO()
    Image.new("RGB", (WIDTH, HEIGHT), (number, 2 * number, 90)).save(buffer, "PNG")
    return buffer.getvalue()


def write(files: Mapping[str, str | bytes | None], root: Path) -> None:
    """Write *files* below *root*; None leaves one out."""
    for name, data in files.items():
        if data is not None:
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data.encode() if isinstance(data, str) else data)


DOG_LINE = "1 0.2 0.405 0.2 0.41"
CAT_LINE = "0 0.625 0.7 0.25 0.4"
YOLO_READ: dict[str, tuple[str | bytes, tuple[BoxShares, ...]]] = {
    "plain": (f"{DOG_LINE}\n{CAT_LINE}\n", (DOG, CAT)),
    "without a last line end": (DOG_LINE, (DOG,)),
    "lines of Windows": (f"{DOG_LINE}\r\n{CAT_LINE}\r\n", (DOG, CAT)),
    "lines of an old Mac": (f"{DOG_LINE}\r{CAT_LINE}\r", (DOG, CAT)),
    "byte order mark": (DOG_LINE.encode("utf-8-sig"), (DOG,)),
    "utf-16 with a mark": (DOG_LINE.encode("utf-16"), (DOG,)),
    "utf-16 little": (DOG_LINE.encode("utf-16-le"), (DOG,)),
    "utf-16 big": (f"{DOG_LINE}\n".encode("utf-16-be"), (DOG,)),
    "spaces behind": (f"{DOG_LINE}   \n\n  \n", (DOG,)),
    "spaces before": (f"   {DOG_LINE}\n", (DOG,)),
    "tabs": (DOG_LINE.replace(" ", "\t"), (DOG,)),
    "several spaces": (DOG_LINE.replace(" ", "   "), (DOG,)),
    "powers of ten": ("1 2e-1 4.05E-1 .2 41e-2\n", (DOG,)),
    "small numbers": ("1 0.5 0.5 1e-3 1e-3\n", (("dog", 0.4995, 0.4995, 0.5005, 0.5005),)),
    "class with a point": (DOG_LINE.replace("1 ", "1.0 ", 1), (DOG,)),
    "class with zeros": ("01 +0.2 0.405 0.2 0.41", (DOG,)),
    "many digits": ("1 0.20000000000000001 0.405000000000000026 0.2 0.41", (DOG,)),
    "polygon": ("1 0.1 0.2 0.3 0.2 0.3 0.61 0.1 0.61 0.15 0.4\n", (DOG,)),
    "triangle": ("1 0.1 0.61 0.3 0.61 0.2 0.2\n", (DOG,)),
    "oriented box of four corners": ("1 0.2 0.2 0.3 0.4 0.2 0.61 0.1 0.4\n", (DOG,)),
    "polygon that closes itself": ("1 0.1 0.2 0.3 0.2 0.3 0.61 0.1 0.2\n", (DOG,)),
    "polygons and boxes": (f"1 0.1 0.2 0.3 0.2 0.3 0.61 0.1 0.61\n{CAT_LINE}\n", (DOG, CAT)),
    "the same line twice": (f"{DOG_LINE}\n{DOG_LINE}\n", (DOG,)),
    "whole image": ("1 0.5 0.5 1 1\n", (("dog", 0.0, 0.0, 1.0, 1.0),)),
    "half a pixel outside": ("1 0.5 0.5 1.004 1\n", (("dog", -0.002, 0.0, 1.002, 1.0),)),
    "empty": ("", ()),
    "spaces alone": (" \n\n", ()),
}
YOLO_REFUSED: dict[str, tuple[str | bytes, str]] = {
    "commas": (DOG_LINE.replace(" ", ","), ":1: 1 columns"),
    "commas and spaces": (DOG_LINE.replace(" ", ", "), ":1: not every column is a finite number"),
    "decimal commas": (DOG_LINE.replace(".", ","), ":1: not every column is a finite number"),
    "confidence behind": (f"{CAT_LINE}\n{DOG_LINE} 0.91\n", ":2: 6 columns where 5 are expected; is the last one a"),
    "four columns": ("0.2 0.405 0.2 0.41", ":1: 4 columns"),
    "name of the class": (DOG_LINE.replace("1", "dog", 1), ":1: not every column"),
    "not a number": (f"{DOG_LINE}\n\n1 nan 0.4 0.2 0.4\n", ":3: not every column is a finite number"),
    "infinite": ("1 inf 0.4 0.2 0.4", ":1: not every column is a finite number"),
    "negative centre": ("1 -0.2 0.4 0.2 0.4", ":1: a coordinate is outside"),
    "negative width": ("1 0.2 0.4 -0.2 0.4", ":1: a coordinate is outside"),
    "pixels": ("1 20 20 20 20", ":1: a coordinate is outside"),
    "without area": ("1 0.2 0.4 0 0.4", ":1: the box has no area"),
    "class too large": (DOG_LINE.replace("1", "2", 1), ":1: class 2 is not one of 0 to 1"),
    "negative class": (DOG_LINE.replace("1", "-1", 1), ":1: class -1"),
    "half a class": (DOG_LINE.replace("1", "0.5", 1), ":1: class 0.5"),
    "polygon outside": ("1 0.1 0.2 1.4 0.2 0.3 0.61", ":1: a coordinate is outside"),
    "heading": (f"class x y w h\n{DOG_LINE}\n", ":1: not every column"),
    "remark": (f"{DOG_LINE} # a dog\n", ":1: 8 columns"),
    "latin-1": (f"{DOG_LINE}\nChien mâle\n".encode("latin-1"), "line 2 holds the byte 0xe2"),
    "bytes of zero": (f"{DOG_LINE}\n\0\0\0\0\n", "line 2 holds a NUL character"),
    "utf-32": (DOG_LINE.encode("utf-32"), "NUL character"),
    "document of another tool": ('{"shapes": []}', ":1: 2 columns"),
}


def yolo() -> Iterator[AnnotationCase]:
    """Label files beside a sound one."""
    place = {"file": "labels/train/a.txt", "image": "images/train/a.png"}
    for name, (data, boxes) in YOLO_READ.items():
        yield AnnotationCase(name, data, boxes, **place)
    for name, (data, told) in YOLO_REFUSED.items():
        yield AnnotationCase(name, data, told=told, **place)
    yield AnnotationCase("not there", None, (), **place)
    elsewhere = {"labels/train/A.TXT": DOG_LINE}
    yield AnnotationCase("ending in capital letters", None, told="images/train/a.png", beside=elsewhere, **place)


def yolo_set(case: AnnotationCase) -> dict[str, str | bytes | None]:
    """Return the data set around a label file."""
    return {
        "data.yaml": "train: images/train\nval: images/val\nnames: [cat, dog]\n",
        **{f"images/{name}.png": picture(n) for n, name in enumerate(("train/a", "train/z", "val/v"), start=1)},
        "labels/train/z.txt": CAT_LINE, "labels/val/v.txt": CAT_LINE, case.file: case.data, **case.beside,
    }  # fmt: skip


BOX: dict[str, Any] = {"image_id": 10, "category_id": 9, "bbox": [10, 10, 20, 20.5]}
CROWD = {**BOX, "iscrowd": 1}
IMAGE: dict[str, Any] = {"id": 10, "file_name": "a.png", "width": WIDTH, "height": HEIGHT}
OTHER = {**IMAGE, "id": 11, "file_name": "b.png"}
CATEGORIES: list[dict[str, Any]] = [{"id": 3, "name": "cat", "supercategory": "animal"}, {"id": 9, "name": "dog"}]
COUNTS = [10 * 50 + 10, *[20, 30] * 19, 20, 71 * 50 - 30]
"""Run lengths of a mask in columns 10 to 29, rows 10 to 29."""
MASK: BoxShares = ("dog", 0.1, 0.2, 0.3, 0.6)


def coco(*annotations: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    """Return a document as tools write it, with what nobody here needs."""
    numbered = [{"id": n, "area": 1.0, "segmentation": [], "iscrowd": 0, **one} for n, one in enumerate(annotations)]
    return {
        "info": {"description": "", "year": "2026"}, "licenses": [{"id": 1, "name": "CC BY 4.0"}],
        "categories": CATEGORIES, "images": [IMAGE, OTHER], "annotations": numbered, **changes,
    }  # fmt: skip


def without(key: str) -> dict[str, Any]:
    """Return a document that lacks one of its arrays."""
    return {name: value for name, value in coco(BOX).items() if name != key}


def outline(segmentation: Any, **changes: Any) -> dict[str, Any]:
    """Return an object that has an outline, and no box."""
    return coco({**BOX, "bbox": [], "segmentation": segmentation, **changes})


def packed(counts: list[int]) -> str:
    """Pack run lengths as pycocotools does."""
    text = ""
    for index, count in enumerate(counts):
        value = count - counts[index - 2] if index > 2 else count
        while True:
            group, value = value & 0x1F, value >> 5
            more = value != (-1 if group & 0x10 else 0)
            text += chr((group | (0x20 if more else 0)) + 48)
            if not more:
                break
    return text


def named(file_name: str) -> dict[str, Any]:
    """Return a document whose first image goes by a name."""
    return coco(BOX, images=[{**IMAGE, "file_name": file_name}, OTHER])


def renumbered(image: Any, category: Any) -> dict[str, Any]:
    """Return a document with other ids."""
    box = {**BOX, "image_id": image, "category_id": category}
    categories = [{"id": category, "name": "dog"}]
    return coco(box, images=[{**IMAGE, "id": image}, {**OTHER, "id": f"{image}1"}], categories=categories)


SQUARE = [10, 10, 30, 10, 30, 30.5, 10, 30.5]
ROBOFLOW = [
    {"id": 0, "name": "animals", "supercategory": "none"}, {"id": 1, "name": "cat", "supercategory": "animals"},
    {"id": 9, "name": "dog", "supercategory": "animals"},
]  # fmt: skip
COCO_READ: dict[str, tuple[dict[str, Any], tuple[BoxShares, ...]]] = {
    "plain": (coco(BOX), (DOG,)),
    "roboflow": (coco(BOX, categories=ROBOFLOW), (DOG,)),
    "cvat": (coco({**BOX, "attributes": {"occluded": True, "rotation": 0.0}}), (DOG,)),
    "cvat, turned": (
        coco({**BOX, "bbox": [10, 10, 20, 10], "attributes": {"rotation": 90.0}}), (("dog", 0.15, 0.1, 0.25, 0.5),)),
    "turned by a text": (
        coco({**BOX, "bbox": [10, 10, 20, 10], "attributes": {"rotation": "90.0"}}), (("dog", 0.15, 0.1, 0.25, 0.5),)),
    "labelme's converters": (coco({**BOX, "segmentation": [SQUARE], "area": 410.0}), (DOG,)),
    "persons with key points": (coco({**BOX, "keypoints": [1, 2, 2] * 17, "num_keypoints": 17}), (DOG,)),
    "polygon alone": (outline([SQUARE]), (DOG,)),
    "polygon, bbox null": (outline([SQUARE], bbox=None), (DOG,)),
    "polygon, bbox of zeros": (outline([SQUARE], bbox=[0, 0, 0, 0]), (DOG,)),
    "polygon in two parts": (outline([[10, 10, 15, 10, 15, 15], [20, 30.5, 30, 30.5, 30, 20]]), (DOG,)),
    "polygon as points": (outline([[10, 10], [30, 10], [30, 30.5]]), (DOG,)),
    "mask": (outline({"size": [50, 100], "counts": COUNTS}), (MASK,)),
    "mask, packed": (outline({"size": [50, 100], "counts": packed(COUNTS)}), (MASK,)),
    "mask beside a box": (coco({**BOX, "segmentation": {"size": [50, 100], "counts": COUNTS}}), (DOG,)),
    "crowd": (coco(CROWD, BOX), (DOG,)),
    "crowd alone": (coco(CROWD, {**BOX, "image_id": 11}), ()),
    "iscrowd as text": (coco({**CROWD, "iscrowd": "1"}, {**BOX, "iscrowd": "0"}), (DOG,)),
    "iscrowd false": (coco({**CROWD, "iscrowd": True}, {**BOX, "iscrowd": False}), (DOG,)),
    "whole numbers": (coco({**BOX, "bbox": [10, 10, 20, 20]}), (("dog", 0.1, 0.2, 0.3, 0.6),)),
    "only what must be there": (
        {"images": [{"id": 10, "file_name": "a.png"}, {"id": 11, "file_name": "b.png"}],
         "categories": [{"id": 9, "name": "dog"}], "annotations": [BOX]}, (DOG,)),
    "large ids": (renumbered(1 << 40, 1 << 41), (DOG,)),
    "ids from zero": (renumbered(0, 0), (DOG,)),
    "ids as texts": (renumbered("img-7", "c2"), (DOG,)),
    "ids with points": (
        coco({"image_id": 10.0, "category_id": 9.0, "bbox": BOX["bbox"]}), (DOG,)),
    "names that are nearly equal": (coco(BOX, categories=[{"id": 3, "name": "Dog"}, {"id": 9, "name": "dog"}]), (DOG,)),
    "name in folders": (named("data/set/train/a.png"), (DOG,)),
    "name of Windows": (named("C:\\data\\train\\a.png"), (DOG,)),
    "signed address": (named("https://bucket.host/x/a.png?X-Signature=ab%2Fcd.png&v=1"), (DOG,)),
    "path in a query": (named("/data/local-files/?d=set%2Ftrain%2Fa.png"), (DOG,)),
    "upload's prefix": (named("../../upload/3/1c1b3ac9-a.png"), (DOG,)),
    "name with signs": (named("%61.png"), (DOG,)),
    "without area": (coco(BOX, {**BOX, "bbox": [1, 1, 0, 5]}), (DOG,)),
    "beyond the image": (coco({**BOX, "bbox": [90, 10, 20, 20]}), (("dog", 0.9, 0.2, 1.0, 0.6),)),
    "before the image": (coco({**BOX, "bbox": [-5, -5, 20, 20]}), (("dog", 0.0, 0.0, 0.15, 0.3),)),
    "outside of the image": (coco(BOX, {**BOX, "bbox": [200, 10, 20, 20]}), (DOG,)),
    "no size": (coco(BOX, images=[{"id": 10, "file_name": "a.png"}, OTHER]), (DOG,)),
    "size of zero": (coco(BOX, images=[{**IMAGE, "width": 0, "height": 0}, OTHER]), (DOG,)),
    "annotated in double size": (
        coco({**BOX, "bbox": [20, 20, 40, 41]}, images=[{**IMAGE, "width": 200, "height": 100}, OTHER]), (DOG,)),
    "an image listed twice": (
        coco(BOX, {"image_id": 12, "category_id": 3, "bbox": [50, 25, 25, 20]},
             images=[IMAGE, OTHER, {**IMAGE, "id": 12}]),
        (DOG, CAT)),
    "annotations first": (dict(reversed(coco(BOX).items())), (DOG,)),
}  # fmt: skip
COCO_REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "ids as texts and numbers": (coco({**BOX, "image_id": "10"}), "annotations[0]: there is no image '10'"),
    "unknown image": (coco({**BOX, "image_id": 7}), "annotations[0]: there is no image 7"),
    "unknown category": (coco(BOX, {**BOX, "category_id": 7}), "annotations[1]: there is no category 7"),
    "two categories of a name": (coco(BOX, categories=[*CATEGORIES, {"id": 1, "name": "dog "}]), "categories[2]: a"),
    "an id of two images": (coco(BOX, images=[IMAGE, {**OTHER, "id": 10}]), "images[1]: the id 10 is there twice"),
    "box as texts": (coco({**BOX, "bbox": ["10", "10", "20", "20.5"]}), "annotations[0]: bbox is ['10'"),
    "box of three numbers": (coco({**BOX, "bbox": [1, 2, 3]}), "annotations[0]: bbox is [1, 2, 3]"),
    "box of names": (coco({**BOX, "bbox": {"x": 1, "y": 2}}), "annotations[0]: bbox is {"),
    "box that is no number": (coco({**BOX, "bbox": [10, 10, float("nan"), 2]}), "NaN is no number"),
    "box without end": (coco({**BOX, "bbox": [10, 10, 1e300 * 1e10, 2]}), "Infinity is no number"),
    "negative width": (coco({**BOX, "bbox": [30, 10, -20, 20]}), "annotations[0]: bbox is [30, 10, -20, 20]"),
    "size as texts": (coco(BOX, images=[{**IMAGE, "width": "100"}]), "images[0]: width and height"),
    "no file_name": (coco(BOX, images=[{"id": 10}]), "images[0]: has no file_name"),
    "no image of that name": (named("c.png"), "there is no image 'c.png'"),
    "annotated before turning": (coco(BOX, images=[{**IMAGE, "width": 50, "height": 100}, OTHER]), "is shown with"),
    "odd polygon": (outline([[10, 10, 30]]), "annotations[0]: segmentation"),
    "mask that is too long": (outline({"size": [50, 100], "counts": [0, 9999]}), "annotations[0]: segmentation"),
    "mask of another size": (outline({"size": [25, 50], "counts": [0, 50]}), "annotations[0]: the mask is of 50 x 25"),
    "shares of the sides": (coco({**BOX, "bbox": [0.1, 0.2, 0.2, 0.4]}), "reaches beyond the first pixel"),
    "name with a bell": (coco(BOX, categories=[*CATEGORIES, {"id": 1, "name": "a\a"}]), "the name 'a\\x07'"),
    "name of half a letter": (coco(BOX, categories=[*CATEGORIES, {"id": 1, "name": "\ud800"}]), "the name '\\ud800'"),
    "no categories": (without("categories"), "has no categories"),
    "no images": (without("images"), "has no images"),
}  # fmt: skip


def coco_documents() -> Iterator[AnnotationCase]:
    """Documents of one split, that of the other is sound."""
    file = "train/_annotations.coco.json"
    for name, (document, boxes) in COCO_READ.items():
        yield AnnotationCase(name, json.dumps(document), boxes, file=file)
    for name, (document, told) in COCO_REFUSED.items():
        yield AnnotationCase(name, json.dumps(document, indent=1), told=told, file=file)
    yield from _coco_texts(file)
    yield from _coco_layouts()


def _coco_texts(file: str) -> Iterator[AnnotationCase]:
    """Forms of the text itself."""
    text = json.dumps(coco(BOX), indent=2)
    yield AnnotationCase("byte order mark", text.encode("utf-8-sig"), file=file)
    yield AnnotationCase("utf-16", text.encode("utf-16"), file=file)
    yield AnnotationCase("lines of Windows", text.replace("\n", "\r\n"), file=file)
    yield AnnotationCase("in one line", json.dumps(coco(BOX), separators=(",", ":")), file=file)
    latin = text.replace("CC BY 4.0", "für alle").encode("latin-1")
    yield AnnotationCase("latin-1", latin, told="_annotations.coco.json:9: ", file=file)
    yield AnnotationCase("cut off", text[: len(text) // 2], told="_annotations.coco.json:", file=file)
    yield AnnotationCase("empty", "", told="_annotations.coco.json:1: the file ends", file=file)
    yield AnnotationCase("last comma", text.replace("\n  ]\n}", ",\n  ]\n}"), told=".json:", file=file)
    yield AnnotationCase("list of predictions", "[]", told=".json:1: the document is a list", file=file)


def _coco_layouts() -> Iterator[AnnotationCase]:
    """Documents where their tools put them."""
    text = json.dumps(coco(BOX))
    again = {"valid/_annotations.coco.json": "", "annotations/instances_val2017.json": VALID}
    yield AnnotationCase("COCO 2017", text, file="annotations/instances_train2017.json", beside=again)
    alone = {"valid/_annotations.coco.json": ""}
    two = (BOX, {**BOX, "image_id": 11})
    both = coco(*two, images=[{**one, "file_name": f"images/{one['file_name']}"} for one in (IMAGE, OTHER)])
    yield AnnotationCase("Label Studio", json.dumps(both), file="result.json", beside=alone)
    yield AnnotationCase("CVAT", json.dumps(coco(*two)), file="annotations/instances_default.json", beside=alone)
    twin = {"train/more/a.png": "a"}
    yield AnnotationCase(
        "two images of a name", json.dumps(named("x/a.png")), told="_annotations.coco.json:1: 'x/a.png' may be",
        file="train/_annotations.coco.json", beside=twin,
    )  # fmt: skip


OTHER_TOOLS: dict[str, tuple[str, str]] = {
    "labelme": ("train/a.json", '{"version": "5.5", "shapes": [], "imagePath": "a.png", "imageData": null}'),
    "Label Studio": ("export.json", '[{"annotations": [{"id": 2, "result": []}], "data": {"image": "a.png"}}]'),
    "VIA": ("via.json", '{"a.png1": {"filename": "a.png", "regions": [{"shape_attributes": {"name": "rect"}}]}}'),
    "CreateML": ("train/_annotations.createml.json", '[{"annotations": [{"label": "dog", "coordinates": {"x": 20}}]}]'),
    "CVAT": ("annotations.xml", '<annotations><image id="0" name="a.png" width="100" height="50"/></annotations>'),
}  # fmt: skip
"""Files in forms that are not read as a data set."""


def other_tools() -> Iterator[AnnotationCase]:
    """Data sets in another tool's form."""
    for name, (file, text) in OTHER_TOOLS.items():
        yield AnnotationCase(name, text, told=f":1: annotations in the form of {name}, which is not read", file=file)


def other_set(case: AnnotationCase) -> dict[str, str | bytes | None]:
    """Return the data set around a file of another tool."""
    return {"train/a.png": picture(1), "train/b.png": picture(2), case.file: case.data}


VALID = json.dumps(coco({**BOX, "image_id": 20}, images=[{**IMAGE, "id": 20, "file_name": "v.png"}]))


def coco_set(case: AnnotationCase) -> dict[str, str | bytes | None]:
    """Return the data set around a COCO document; an empty text beside it leaves a file out."""
    files: dict[str, str | bytes | None] = {
        **{f"{name}.png": picture(n) for n, name in enumerate(("train/a", "train/b", "valid/v"), start=1)},
        "valid/_annotations.coco.json": VALID, case.file: case.data, **case.beside,
    }  # fmt: skip
    pictures: dict[str, str | bytes | None] = {name: picture(9) for name in files if name.endswith("more/a.png")}
    return {name: data for name, data in files.items() if data or name == case.file} | pictures


VOC = """<annotation>
  <folder>set</folder><filename>a.jpg</filename><path>C:\\set\\a.jpg</path>
  <source><database>Unknown</database></source>
  <size><width>100</width><height>50</height><depth>3</depth></size><segmented>0</segmented>
  <object>
    <name>dog</name><pose>Unspecified</pose><truncated>0</truncated><difficult>0</difficult>
    <bndbox><xmin>10</xmin><ymin>10</ymin><xmax>30</xmax><ymax>30.5</ymax></bndbox>
  </object>
</annotation>
"""
BNDBOX = "<bndbox><xmin>10</xmin><ymin>10</ymin><xmax>30</xmax><ymax>30.5</ymax></bndbox>"
TURN = "<attributes><attribute><name>rotation</name><value>90.0</value></attribute></attributes>"
PART = "<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part>"
POLYGON = "<polygon><x1>10</x1><y1>10</y1><x2>30</x2><y2>10</y2><x3>30</x3><y3>30.5</y3></polygon>"
TURNED = "<robndbox><cx>20</cx><cy>15</cy><w>20</w><h>10</h><angle>1.5707963267948966</angle></robndbox>"
LINE = "<object><name>dog</name><bndbox><xmin>9</xmin><ymin>9</ymin><xmax>9</xmax><ymax>20</ymax></bndbox></object>"
FLAT: BoxShares = ("dog", 0.15, 0.1, 0.25, 0.5)
"""A box of 20 x 10 pixels around (20, 15), turned by a right angle."""


def page(*changes: tuple[str, str]) -> str:
    """Return the file of LabelImg with parts of it replaced."""
    text = VOC
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return text


def boxed(new: str) -> str:
    """Return a file with something else for its box."""
    return page((BNDBOX, new))


def corners(xmin: str, ymin: str, xmax: str, ymax: str) -> str:
    """Return a file with other corners."""
    sides = {"xmin": xmin, "ymin": ymin, "xmax": xmax, "ymax": ymax}
    return boxed(f"<bndbox>{''.join(f'<{side}>{text}</{side}>' for side, text in sides.items())}</bndbox>")


VOC_READ: dict[str, tuple[str | bytes, tuple[BoxShares, ...]]] = {
    "LabelImg": (VOC, (DOG,)),
    "verified": (page(("<annotation>", '<annotation verified="yes">')), (DOG,)),
    "whole numbers": (corners("10", "10", "30", "30"), (("dog", 0.1, 0.2, 0.3, 0.6),)),
    "from zero": (corners("0", "0", "30", "30"), (("dog", 0.0, 0.0, 0.3, 0.6),)),
    "fractions": (corners("10.25", "10.5", "30.75", "30"), (("dog", 0.1025, 0.21, 0.3075, 0.6),)),
    "powers of ten": (corners("1e1", "1.0E+1", "3e1", "3.05e1"), (DOG,)),
    "spaces around numbers": (corners("\n 10 ", "\t10", "30\n", " 30.5 "), (DOG,)),
    "corners in another order": (
        boxed("<bndbox><ymax>30.5</ymax><xmax>30</xmax><ymin>10</ymin><xmin>10</xmin></bndbox>"), (DOG,)),
    "no size": (page(("<size><width>100</width><height>50</height><depth>3</depth></size>", "")), (DOG,)),
    "size of zero": (page(("<width>100", "<width>0"), ("<height>50", "<height>0")), (DOG,)),
    "annotated in double size": (
        page(("<width>100", "<width>200"), ("<height>50", "<height>100"), (BNDBOX, BNDBOX.replace("10", "20")
             .replace("30.5", "61").replace("30<", "60<"))), (DOG,)),
    "name of before": (page(("a.jpg", "IMG_0001.JPG")), (DOG,)),
    "no filename": (page(("<filename>a.jpg</filename>", "")), (DOG,)),
    "difficult": (page(("<difficult>0", "<difficult>1")), (DOG,)),
    "truncated and occluded": (
        page(("<truncated>0</truncated>", "<truncated>1</truncated><occluded>1</occluded>")), (DOG,)),
    "parts": (boxed(BNDBOX + PART), (DOG,)),
    "parts before": (boxed(PART + BNDBOX), (DOG,)),
    "no object": (VOC[: VOC.index("  <object>")] + "</annotation>", ()),
    "Roboflow, polygon": (boxed(POLYGON + BNDBOX), (DOG,)),
    "polygon alone": (boxed(POLYGON), (DOG,)),
    "CVAT, turned": (boxed(BNDBOX.replace("30.5", "20") + TURN), (FLAT,)),
    "roLabelImg, turned": (boxed(TURNED), (FLAT,)),
    "namespace": (page(("<annotation>", '<annotation xmlns="http://host/voc">')), (DOG,)),
    "namespace with a prefix": (
        VOC.replace("</", "</v:").replace("<", "<v:").replace("<v:/v:", "</v:").replace(
            "<v:annotation>", '<v:annotation xmlns:v="http://host/voc">', 1), (DOG,)),
    "declared": ('<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n' + VOC, (DOG,)),
    "byte order mark": (VOC.encode("utf-8-sig"), (DOG,)),
    "utf-16": (('<?xml version="1.0" encoding="utf-16"?>' + VOC).encode("utf-16"), (DOG,)),
    "latin-1": (('<?xml version="1.0" encoding="iso-8859-1"?>' + page(("Unknown", "für"))).encode("latin-1"), (DOG,)),
    "lines of Windows": (VOC.replace("\n", "\r\n"), (DOG,)),
    "in one line": (VOC.replace("\n", ""), (DOG,)),
    "remark of a page before": (f"<!-- {'licence ' * 1000} <object> -->{VOC}", (DOG,)),
    "remarks inside": (page(("<xmin>", "<!-- left --><xmin>")), (DOG,)),
    "raw text": (page(("<name>dog", "<name><![CDATA[dog]]>")), (DOG,)),
    "signs in names": (page(("<name>dog", "<name> salt &amp; pepper&#x21; ")), (("salt & pepper!", *DOG[1:]),)),
    "without area": (page(("</object>", f"</object>{LINE}")), (DOG,)),
    "beyond the image": (corners("90", "10", "110", "30"), (("dog", 0.9, 0.2, 1.0, 0.6),)),
    "outside of the image": (corners("200", "10", "210", "30"), ()),
}  # fmt: skip
VOC_REFUSED: dict[str, tuple[str | bytes, str]] = {
    "text for a number": (corners("x", "10", "30", "30"), "a.xml:7: bndbox/xmin is 'x'"),
    "decimal comma": (corners("10", "10,5", "30", "30"), "a.xml:7: bndbox/ymin is '10,5'"),
    "not a number": (corners("10", "10", "nan", "30"), "a.xml:7: bndbox/xmax is 'nan'"),
    "side missing": (page(("<xmax>30</xmax>", "")), "a.xml:5: the object 'dog' has no bndbox/xmax"),
    "no box": (boxed(""), "a.xml:5: the object 'dog' has no bndbox/xmin"),
    "two boxes": (boxed(BNDBOX + BNDBOX), "a.xml:7: an object has bndbox/xmin twice"),
    "corners exchanged": (corners("30", "10", "10", "30"), "a.xml:5: the box of 'dog' ends before it begins"),
    "no class": (page(("<name>dog</name>", "")), "a.xml:5: an object has no name"),
    "cut off": (VOC[: VOC.index("<bndbox>")], "a.xml:7: no XML"),
    "element not closed": (page(("</object>", "")), "a.xml:9: no XML"),
    "empty": ("", "a.xml:1: no XML"),
    "entity of HTML": (page(("<name>dog", "<name>dog&nbsp;")), "a.xml:6: no XML"),
    "document type": ("<!DOCTYPE annotation [<!ENTITY d 'dog'>]>" + page(("<name>dog", "<name>&d;")), "a.xml:1: a doc"),
    "entity elsewhere": ('<!DOCTYPE a SYSTEM "file:///etc/passwd"><annotation/>', "a.xml:1: a document type"),
    "document of CVAT": ("<annotations><image/></annotations>", "a.xml:1: the document is 'annotations'"),
    "annotated before turning": (page(("<width>100", "<width>50"), ("<height>50", "<height>100")), "is shown with"),
    "name with a tab": (page(("<name>dog", "<name>d&#9;g")), "a.xml:5: the name 'd\\tg'"),
    "polygon of one point": (boxed("<polygon><x1>1</x1><y1>1</y1></polygon>"), "a.xml:5: a polygon has fewer"),
    "wrong encoding": (page(("Unknown", "für")).encode("latin-1"), "a.xml:3: no XML"),
}  # fmt: skip


def voc() -> Iterator[AnnotationCase]:
    """Files beside their images, as LabelImg and Roboflow put them."""
    for name, (data, boxes) in VOC_READ.items():
        yield AnnotationCase(name, data, boxes, file="train/a.xml")
    for name, (data, told) in VOC_REFUSED.items():
        yield AnnotationCase(name, data, told=told, file="train/a.xml")
    challenge = page(("Unknown", "The VOC2007 Database"), ("30.5", "30"))
    shares = (("dog", 0.09, 0.18, 0.3, 0.6),)
    beside = {"train/b.xml": challenge, "valid/v.xml": challenge}
    yield AnnotationCase("of a challenge, from one", challenge, shares, file="train/a.xml", beside=beside)


def voc_set(case: AnnotationCase) -> dict[str, str | bytes | None]:
    """Return the data set around a VOC file."""
    return {
        **{f"{name}.png": picture(n) for n, name in enumerate(("train/a", "train/b", "valid/v"), start=1)},
        "train/b.xml": VOC, "valid/v.xml": VOC, case.file: case.data, **case.beside,
    }  # fmt: skip
