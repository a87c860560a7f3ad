"""Say how to take the files of a job away and use them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from retort.spec.result import JobResult

_TORCH = """from ultralytics import YOLO

model = YOLO({file})
for found in model.predict("image.jpg", imgsz={imgsz}):
    for box in found.boxes:
        name = found.names[int(box.cls)]
        print(name, float(box.conf), box.xyxy[0].tolist())
"""
_ONNX = """import numpy as np
import onnxruntime
from PIL import Image

session = onnxruntime.InferenceSession({file})
image = Image.open("image.jpg").convert("RGB").resize(({imgsz}, {imgsz}))
pixels = np.asarray(image, np.float32).transpose(2, 0, 1)[None] / 255
(output,) = session.run(None, {{session.get_inputs()[0].name: pixels}})
print(output.shape)
"""
_RAW = (
    "The network alone, without letterbox and NMS, which are yours to do. Of shape (1, 4 + classes, n) each column is "
    "a box, as centre, width and height in pixels of the square, and a score by class; of (1, n, 6) each row is a "
    "final box, as two corners, score and class."
)


@dataclass(frozen=True, slots=True)
class Snippet:
    """Lines of Python that run a file as it is."""

    title: str
    note: str
    code: str


@dataclass(frozen=True, slots=True)
class Usage:
    """A run's name, its files, and how to use them."""

    run: str
    """The job's id in the service; the folder's name after ``retort run``."""
    files: tuple[str, ...] = ()
    """Names among the artifacts, beside which the page lies."""
    snippets: tuple[Snippet, ...] = ()


def usage(run: str, student: str, result: JobResult, more: Sequence[str] = ()) -> Usage:
    """Return how to use *student* and the exports; *more* are further artifacts."""
    published = [export for export in result.exports if export.files and export.status != "needs"]
    files = (student, *(file for export in result.exports for file in export.files), *more)
    imgsz = result.roles.student.imgsz or 640
    graphs = [export.path for export in published if PurePosixPath(export.path).suffix == ".onnx"]
    snippets = (
        Snippet(
            f"{student} in Ultralytics",
            "Each line printed is a box: class, score, two corners.",
            _filled(_TORCH, student, imgsz),
        ),
        *(Snippet(f"{graph} in onnxruntime", _RAW, _filled(_ONNX, graph, imgsz)) for graph in graphs),
    )
    return Usage(run, tuple(dict.fromkeys(files)), snippets)


def _filled(code: str, file: str, imgsz: int) -> str:
    return code.format(file=json.dumps(file, ensure_ascii=False), imgsz=imgsz)
