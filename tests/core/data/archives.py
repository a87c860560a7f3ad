"""Small archives laid out as the known data sets are, and a server that publishes them."""

from __future__ import annotations

import io
import json
import tarfile
import threading
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from PIL import Image
from retort.data.catalog import COCO_CLASSES

COCO_IDS = [number for number in range(1, 91) if number not in {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}]
"""The numbers that COCO's annotations give to its classes."""


def picture(shade: int, width: int = 100, height: int = 50) -> bytes:
    """A JPEG of one shade."""
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), (shade, shade, shade)).save(buffer, "JPEG")
    return buffer.getvalue()


def zipped(files: Mapping[str, bytes | str]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, content in files.items():
            file.writestr(name, content)
    return buffer.getvalue()


def tarred(files: Mapping[str, bytes | str]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as file:
        for name, content in files.items():
            data = content.encode() if isinstance(content, str) else content
            info = tarfile.TarInfo(name)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def coco8() -> dict[str, bytes]:
    files: dict[str, bytes | str] = {"coco8/README.md": "hello", "coco8/LICENSE": "CC"}
    for split, shades in (("train", (10, 20)), ("val", (30, 40))):
        for shade in shades:
            files[f"coco8/images/{split}/{shade:012d}.jpg"] = picture(shade)
            files[f"coco8/labels/{split}/{shade:012d}.txt"] = "45 0.5 0.5 0.2 0.2\n"
    return {"coco8.zip": zipped(files)}


def coco128() -> dict[str, bytes]:
    files: dict[str, bytes | str] = {}
    for shade in (10, 20, 30):
        files[f"coco128/images/train2017/{shade:012d}.jpg"] = picture(shade)
        files[f"coco128/labels/train2017/{shade:012d}.txt"] = "0 0.5 0.5 0.2 0.2\n"
    return {"coco128.zip": zipped(files)}


def coco() -> dict[str, bytes]:
    """One image to learn from with three objects, one of them a crowd; one to measure on; one without a box."""
    categories = [{"id": number, "name": name} for number, name in zip(COCO_IDS, COCO_CLASSES, strict=True)]
    images = [{"id": 7, "file_name": "000000000007.jpg", "width": 100, "height": 50}]
    boxes = [
        {"image_id": 7, "category_id": 1, "bbox": [10, 5, 20, 10], "iscrowd": 0},
        {"image_id": 7, "category_id": 90, "bbox": [90, 40, 20, 20], "iscrowd": 0},
        {"image_id": 7, "category_id": 1, "bbox": [0, 0, 100, 50], "iscrowd": 1},
    ]
    empty = {"id": 8, "file_name": "000000000008.jpg", "width": 100, "height": 50}
    train = {"images": [*images, empty], "annotations": boxes, "categories": categories[::-1]}
    val = {"images": images, "annotations": boxes[:1], "categories": categories}
    return {
        "train2017.zip": zipped({f"train2017/{n:012d}.jpg": picture(n) for n in (7, 8)}),
        "val2017.zip": zipped({"val2017/000000000007.jpg": picture(70)}),
        "annotations_trainval2017.zip": zipped(
            {
                "annotations/instances_train2017.json": json.dumps(train),
                "annotations/instances_val2017.json": json.dumps(val),
                "annotations/captions_val2017.json": "{}",
            }
        ),
    }


VOC_XML = """<annotation><size><width>100</width><height>50</height><depth>3</depth></size>
<object><name>dog</name><difficult>0</difficult>
<bndbox><xmin>11</xmin><ymin>6</ymin><xmax>30</xmax><ymax>15</ymax></bndbox></object>
<object><name>person</name><difficult>1</difficult>
<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></object></annotation>"""


def voc(xml: str = VOC_XML) -> dict[str, bytes]:
    def part(year: int, listed: str, stem: str, shade: int) -> bytes:
        base = f"VOCdevkit/VOC{year}"
        return tarred(
            {
                f"{base}/JPEGImages/{stem}.jpg": picture(shade),
                f"{base}/JPEGImages/unlisted{shade}.jpg": picture(shade + 1),
                f"{base}/Annotations/{stem}.xml": xml,
                f"{base}/ImageSets/Main/{listed}.txt": f"{stem}\n",
            }
        )

    return {
        "VOCtrainval_06-Nov-2007.tar": part(2007, "trainval", "000005", 10),
        "VOCtest_06-Nov-2007.tar": part(2007, "test", "000001", 20),
        "VOCtrainval_11-May-2012.tar": part(2012, "trainval", "2008_000002", 30),
    }


def visdrone() -> dict[str, bytes]:
    """Cars, and what is to be ignored: a region, other things, and a row that does not count."""
    rows = "10,5,20,10,1,4,0,0\n0,0,50,50,0,0,0,0\n5,5,5,5,1,11,0,0\n1,1,5,5,0,1,0,0\n90,40,20,20,1,10,0,0,\n"
    return {
        f"VisDrone2019-DET-{split}.zip": zipped(
            {
                f"VisDrone2019-DET-{split}/images/a.jpg": picture(shade),
                f"VisDrone2019-DET-{split}/annotations/a.txt": rows,
            }
        )
        for split, shade in (("train", 10), ("val", 20))
    }


def tag_of(data: bytes) -> str:
    """The strong validator that the server gives to these bytes."""
    return f'"{hash(data)}"'


class Publisher(ThreadingHTTPServer):
    """Answers by file name, with ranges; may break off, forget ranges, or have another edition."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.asked: list[tuple[str, str | None]] = []
        self.break_after: int | None = None
        self.breaks = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Publisher

    def do_GET(self) -> None:
        wanted, asked = self.path.rpartition("/")[2], self.headers.get("Range")
        self.server.asked.append((wanted, asked))
        body = self.server.files.get(wanted)
        if body is None:
            self.send_error(404)
            return
        tag = tag_of(body)
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and self.headers.get("If-Range") == tag else 0
        if start >= len(body):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("ETag", tag)
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        rest = body[start:]
        if self.server.breaks and self.server.break_after is not None:
            self.server.breaks -= 1
            rest = rest[: self.server.break_after]
        self.wfile.write(rest)

    def log_message(self, *_: object) -> None:
        """Stay quiet."""


@contextmanager
def publishing() -> Iterator[Publisher]:
    with Publisher() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
