"""Say how to take the files of a job away and use them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from retort.spec.exported import AnyExport, MeasuredExport
from retort.spec.result import JobResult

_TORCH = """from ultralytics import YOLO

model = YOLO({file}, task="detect")
for found in model.predict("image.jpg"{more}):
    for box in found.boxes:
        name = found.names[int(box.cls)]
        print(name, float(box.conf), box.xyxy[0].tolist())
"""
_PICTURE = """{imports}
from PIL import Image, ImageOps

picture = Image.open("image.jpg").convert("RGB")
picture = ImageOps.pad(picture, ({width}, {height}), color=(114, 114, 114))
pixels = np.asarray(picture, np.float32).transpose(2, 0, 1)[None] / 255
{batch}"""
_BATCH = "pixels = np.repeat(pixels, {batch}, axis=0)  # so many images at once\n"
_IMPORTS = {
    "onnx": "import numpy as np\nimport onnxruntime",
    "openvino": "import numpy as np\nimport openvino",
    "torchscript": "import numpy as np\nimport torch\nimport torchvision  # NMS is one of its operators",
    "ncnn": "import ncnn\nimport numpy as np",
}
_RUN = {
    "onnx": """session = onnxruntime.InferenceSession({file})
(output,) = session.run(None, {{session.get_inputs()[0].name: pixels}})
""",
    "openvino": """model = openvino.Core().compile_model({file} + "/student.xml", "CPU")
output = model(pixels)[0]
""",
    "torchscript": """model = torch.jit.load({file})
with torch.inference_mode():
    output = model(torch.from_numpy(pixels)).numpy()
""",
    "ncnn": """net = ncnn.Net()
net.load_param({file} + "/model.ncnn.param")
net.load_model({file} + "/model.ncnn.bin")
with net.create_extractor() as extractor:
    extractor.input(net.input_names()[0], ncnn.Mat(pixels[0]).clone())
    output = extractor.extract(net.output_names()[0])[1].numpy()[None]
""",
}
_RUNTIMES = {"onnx": "onnxruntime", "openvino": "OpenVINO", "torchscript": "PyTorch", "ncnn": "NCNN"}
_RAW_END = "print(output.shape)\n"
_FINAL_END = """for x1, y1, x2, y2, score, label in output[0].tolist():
    if score > {least}:
        print(int(label), score, [x1, y1, x2, y2])
"""
_NOTES = {
    "raw": "The network alone, without NMS, which is yours to do: of shape (images, 4 + classes, n), each column is a "
    "box, as centre, width and height in pixels of the padded picture, and a score by class.",
    "nms": "NMS is inside, at a score of {conf:g} and an overlap of {iou:g}. Each row is a final box: two corners in "
    "pixels of the padded picture, score, class; rows of zeros fill up to {most}.",
    "nms_free": "Boxes come without NMS, from a head that needs none. Each row is a final box: two corners in pixels "
    "of the padded picture, score, class; {most} at most.",
}
_ALIKE = ' Ultralytics opens it too, and gives boxes in pixels of the picture: YOLO({file}, task="detect").'


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
    files = (student, *(file for export in result.exports for file in export.files), *more)
    imgsz = result.roles.student.imgsz or 640
    first = Snippet(
        f"{student} in Ultralytics",
        "Each line printed is a box: class, score, two corners.",
        _TORCH.format(file=_quoted(student), more=f", imgsz={imgsz}"),
    )
    return Usage(run, tuple(dict.fromkeys(files)), (first, *export_lines(result.exports, imgsz)))


def export_lines(exports: Sequence[AnyExport], imgsz: int) -> tuple[Snippet, ...]:
    """Return how to use the published exports; *imgsz* is the network's."""
    return tuple(_snippet(one, imgsz) for one in exports if isinstance(one, MeasuredExport) and one.files)


def _snippet(export: MeasuredExport, imgsz: int) -> Snippet:
    """Return the lines that run a form in its own runtime, or in Ultralytics where that alone is usual."""
    file = _quoted(export.path)
    if export.format not in _RUN:
        note = "Each line printed is a box: class, score, two corners."
        return Snippet(f"{export.path} in Ultralytics", note, _TORCH.format(file=file, more=""))
    boxes = export.boxes or "raw"
    height, width = export.shape or (imgsz, imgsz)
    repeat = _BATCH.format(batch=export.batch) if (export.batch or 1) > 1 and not export.dynamic else ""
    picture = _PICTURE.format(imports=_IMPORTS[export.format], height=height, width=width, batch=repeat)
    run = _RUN[export.format].format(file=file)
    end = _RAW_END if boxes == "raw" else _FINAL_END.format(least=0 if boxes == "nms" else 0.25)
    note = _NOTES[boxes].format(conf=export.conf or 0, iou=export.iou or 0, most=export.most_boxes)
    title = f"{export.path} in {_RUNTIMES[export.format]}"
    return Snippet(title, note + _ALIKE.format(file=file), picture + run + end)


def _quoted(file: str) -> str:
    return json.dumps(file, ensure_ascii=False)
