"""List the known datasets: archives, digests, classes."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Literal

from retort.errors import DataError

Layout = Literal["yolo", "coco", "voc", "visdrone"]

_ASSETS = "https://github.com/ultralytics/assets/releases/download/v0.0.0"
_COCO = "http://images.cocodataset.org"
_VOC = "https://thor.robots.ox.ac.uk/pascal/VOC"
_GLUON = "GluonCV's instructions for COCO"
_TORCHVISION = "torchvision's source, datasets/voc.py"
_MB = 1_000_000

COCO_CLASSES = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light",
    "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow",
    "elephant", "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee",
    "skis", "snowboard", "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard",
    "tennis racket", "bottle", "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple",
    "sandwich", "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch",
    "potted plant", "bed", "dining table", "toilet", "tv", "laptop", "mouse", "remote", "keyboard", "cell phone",
    "microwave", "oven", "toaster", "sink", "refrigerator", "book", "clock", "vase", "scissors", "teddy bear",
    "hair drier", "toothbrush",
)  # fmt: skip
"""In the order of their numbers in COCO's annotations, which leave some out."""

_VOC_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
_VISDRONE_CLASSES = (
    "pedestrian", "people", "bicycle", "car", "van", "truck", "tricycle", "awning-tricycle", "bus", "motor",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Archive:
    """One archive file to download."""

    url: str
    limit_bytes: int
    """It is no larger, generously."""
    checksum: tuple[Literal["md5", "sha1", "sha256"], str] | None = None
    """None where nobody has published one: then the first download is remembered."""
    checksum_source: str = ""
    """Where that figure stands."""

    @property
    def file(self) -> str:
        """File name of the archive on the disk."""
        return self.url.rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class CatalogEntry:
    """A data set that is known by name."""

    name: str
    about: str
    size: str
    """Of the download, in words."""
    licence: str
    archives: tuple[Archive, ...]
    names: tuple[str, ...]
    layout: Layout = "yolo"
    folders: tuple[tuple[str, str], ...] = (("images/train", "images/val"), ("train/images", "valid/images"))
    """In YOLO layout: where the images to learn from and to measure on may be; editions differ."""
    largest_bytes: int = 500 * _MB
    """What is unpacked is no larger, generously."""
    most_files: int = 10_000


_KNOWN = (
    CatalogEntry(
        name="coco8",
        about="the first 8 images of COCO train2017, 4 to learn from and 4 to measure on: for trying things",
        size="1 MB",
        licence="images: Flickr's terms of use; annotations: CC BY 4.0",
        archives=(Archive(f"{_ASSETS}/coco8.zip", 20 * _MB),),
        names=COCO_CLASSES,
    ),
    CatalogEntry(
        name="coco128",
        about="the first 128 images of COCO train2017, both to learn from and to measure on",
        size="7 MB",
        licence="images: Flickr's terms of use; annotations: CC BY 4.0",
        archives=(Archive(f"{_ASSETS}/coco128.zip", 50 * _MB),),
        names=COCO_CLASSES,
        folders=(("images/train2017", "images/train2017"),),
    ),
    CatalogEntry(
        name="coco",
        about="COCO 2017: 118,287 images to learn from, 5,000 to measure on, 80 classes; crowds are left out",
        size="20 GB",
        licence="images: Flickr's terms of use; annotations: CC BY 4.0",
        archives=(
            Archive(
                f"{_COCO}/zips/train2017.zip",
                25_000 * _MB,
                ("sha1", "10ad623668ab00c62c096f0ed636d6aff41faca5"),
                _GLUON,
            ),
            Archive(
                f"{_COCO}/zips/val2017.zip", 2_000 * _MB, ("sha1", "4950dc9d00dbe1c933ee0170f5797584351d2a41"), _GLUON
            ),
            Archive(
                f"{_COCO}/annotations/annotations_trainval2017.zip",
                500 * _MB,
                ("sha1", "8551ee4bb5860311e79dace7e79cb91e432e78b3"),
                _GLUON,
            ),
        ),
        names=COCO_CLASSES,
        layout="coco",
        largest_bytes=60_000 * _MB,
        most_files=200_000,
    ),
    CatalogEntry(
        name="voc",
        about="PASCAL VOC: trainval of 2007 and 2012 to learn from, test of 2007 to measure on, 20 classes; difficult "
        "objects are left out",
        size="2.8 GB",
        licence="images: Flickr's terms of use",
        archives=(
            Archive(
                f"{_VOC}/voc2007/VOCtrainval_06-Nov-2007.tar",
                1_000 * _MB,
                ("md5", "c52e279531787c972589f7e41ab4ae64"),
                _TORCHVISION,
            ),
            Archive(
                f"{_VOC}/voc2007/VOCtest_06-Nov-2007.tar",
                1_000 * _MB,
                ("md5", "b6e924de25625d8de591ea690078ad9f"),
                _TORCHVISION,
            ),
            Archive(
                f"{_VOC}/voc2012/VOCtrainval_11-May-2012.tar",
                4_000 * _MB,
                ("md5", "6cd6e144f989b92b3379bac3b3de84fd"),
                _TORCHVISION,
            ),
        ),
        names=_VOC_CLASSES,
        layout="voc",
        largest_bytes=10_000 * _MB,
        most_files=200_000,
    ),
    CatalogEntry(
        name="visdrone",
        about="VisDrone2019-DET: 6,471 images from drones to learn from, 548 to measure on, 10 classes; ignored "
        "regions and others are left out",
        size="1.5 GB",
        licence="see https://github.com/VisDrone/VisDrone-Dataset",
        archives=(
            Archive(f"{_ASSETS}/VisDrone2019-DET-train.zip", 3_000 * _MB),
            Archive(f"{_ASSETS}/VisDrone2019-DET-val.zip", 500 * _MB),
        ),
        names=_VISDRONE_CLASSES,
        layout="visdrone",
        largest_bytes=6_000 * _MB,
        most_files=50_000,
    ),
    CatalogEntry(
        name="african-wildlife",
        about="buffaloes, elephants, rhinos and zebras: 1,052 images to learn from, 225 to measure on",
        size="100 MB",
        licence="see https://docs.ultralytics.com/datasets/detect/african-wildlife",
        archives=(Archive(f"{_ASSETS}/african-wildlife.zip", 400 * _MB),),
        names=("buffalo", "elephant", "rhino", "zebra"),
        largest_bytes=1_000 * _MB,
    ),
    CatalogEntry(
        name="brain-tumor",
        about="scans of brains, with and without a tumour: 893 images to learn from, 223 to measure on",
        size="4 MB",
        licence="AGPL-3.0",
        archives=(Archive(f"{_ASSETS}/brain-tumor.zip", 50 * _MB),),
        names=("negative", "positive"),
    ),
)
CATALOGUE: dict[str, CatalogEntry] = {known.name: known for known in _KNOWN}


def find(name: str) -> CatalogEntry:
    """Return the known data set of that name, whichever letters are large.

    Raises:
        DataError: there is none.

    """
    entry = CATALOGUE.get(name.lower())
    if entry is None:
        close = difflib.get_close_matches(name.lower(), CATALOGUE, n=1)
        meant = f"did you mean {close[0]!r}? " if close else ""
        raise DataError(f"no data set is known as {name!r}", hint=f"{meant}known: {', '.join(CATALOGUE)}")
    return entry
