"""ONNX: writing the graph of a published network, and proving that it gives the same boxes."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import onnx
import torch

from retort.errors import UserError
from retort.training import durable
from retort.training.boxes import Box, Network, detect, folded, network_output, prepare
from retort.training.upstream import best_onnx_opset, torch2onnx

if TYPE_CHECKING:
    from torch import Tensor

NEWEST_OPSET = 20
"""The last that torch's tracing exporter writes; it only warns beyond."""
IR_VERSION = 10
"""Newest file version that every onnxruntime in use reads."""
TOLERANCE = 1e-3
"""Largest difference of equal boxes: of scores, and of coordinates relative to the image."""


@dataclass(frozen=True)
class Comparison:
    """How far a graph is from the network it was made from."""

    max_relative_error: float
    """Largest difference in the raw output, relative to its largest value."""
    num_images: int
    num_boxes: int
    """Boxes after NMS that both sides gave."""
    equal: bool
    """Every box of one side has its equal on the other."""


def export_onnx(
    weights: Path,
    path: Path,
    *,
    imgsz: int,
    opset: int | None = None,
    dynamic: bool = False,
    simplify: bool = True,
) -> None:
    """Write published *weights* as ONNX in float32: images (1, 3, imgsz, imgsz) to raw output (1, 4 + K, A).

    *opset* None takes the newest that torch's exporter and onnxruntime both run in full; *dynamic* leaves batch,
    height and width open. Nothing is installed or downloaded.

    Raises:
        ModelError: the weights cannot be loaded.
        UserError: torch cannot write this opset.

    """
    if opset is not None and opset > NEWEST_OPSET:
        message = f"opset {opset} cannot be written, {NEWEST_OPSET} is the newest"
        raise UserError(message, hint="leave opset out", code="bad_export")
    network = folded(weights)
    head = network.model[-1]
    head.export, head.format, head.dynamic = True, "onnx", dynamic
    graph = trace(network, imgsz=imgsz, opset=opset, dynamic=dynamic)
    if simplify:
        import onnxslim  # type: ignore[import-untyped]

        graph = onnxslim.slim(graph)
    describe(graph, network, imgsz=imgsz, dynamic=dynamic)
    onnx.checker.check_model(graph)
    durable.write(path, graph.SerializeToString())


def trace(network: Any, *, imgsz: int, opset: int | None, dynamic: bool) -> Any:
    """Trace *network* into a graph, by the exporter that upstream chooses too: the newer one needs another package."""
    axes = {"images": {0: "batch", 2: "height", 3: "width"}, "output0": {0: "batch", 2: "anchors"}}
    image = torch.zeros(1, 3, imgsz, imgsz)
    with TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning)  # torch announces that other exporter
        warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)  # type: ignore[attr-defined]  # sizes are constant unless dynamic
        file = Path(folder) / "network.onnx"
        try:
            torch2onnx(network, image, file, opset=opset or best_onnx_opset(onnx), dynamic=axes if dynamic else None)
        except (ValueError, torch.onnx.errors.OnnxExporterError) as error:
            message = f"this network cannot be written in ONNX opset {opset}: {error}"
            raise UserError(message, hint="leave opset out", code="bad_export") from error
        return onnx.load(file)


def describe(graph: Any, network: Any, *, imgsz: int, dynamic: bool) -> None:
    """Add what upstream's loader reads from a graph, so that ``YOLO("student.onnx")`` works too."""
    found = {
        "description": "Detector distilled by Retort",
        "license": "AGPL-3.0",
        "stride": int(max(network.stride)),
        "task": "detect",
        "batch": 1,
        "imgsz": [imgsz, imgsz],
        "names": dict(network.names),
        "args": {"batch": 1, "dynamic": dynamic, "nms": False},
        "channels": 3,
        "end2end": False,
    }
    for key, value in found.items():
        entry = graph.metadata_props.add()
        entry.key, entry.value = key, str(value)
    graph.ir_version = min(graph.ir_version, IR_VERSION)


def graph_output(path: Path) -> Network:
    """Return the graph as a function, run by onnxruntime on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def run(images: Tensor) -> Tensor:
        return torch.from_numpy(session.run(None, {name: images.numpy()})[0])

    return run


def compare_onnx(
    weights: Path, onnx_path: Path, images: Sequence[Path], *, imgsz: int, conf: float = 0.25
) -> Comparison:
    """Run network and graph on *images* on the CPU, and compare raw outputs and boxes after the same NMS.

    Raises:
        ModelError: the weights cannot be loaded.
        DataError: a file is not an image.

    """
    sides = network_output(folded(weights)), graph_output(onnx_path)
    cpu = torch.device("cpu")
    error, count, equal = 0.0, 0, True
    for image in images:
        pixels, shape = prepare(image, imgsz)
        ours, theirs = (side(pixels) for side in sides)
        error = max(error, float((ours - theirs).abs().max() / ours.abs().max()))
        # A little below the threshold too, where the other side may find a box that one side has just above it.
        found = [detect(side, image, imgsz=imgsz, device=cpu, conf=conf - TOLERANCE) for side in sides]
        equal = equal and all(has_equals(a, b, conf=conf, size=max(shape)) for a, b in (found, found[::-1]))
        count += sum(box.score >= conf for box in found[0])
    return Comparison(error, len(images), count, equal)


def has_equals(boxes: Sequence[Box], others: Sequence[Box], *, conf: float, size: int) -> bool:
    """Tell whether each of *boxes* with a score of *conf* has its equal among *others*."""
    return all(any(same(box, other, size) for other in others) for box in boxes if box.score >= conf)


def same(a: Box, b: Box, size: int) -> bool:
    """Tell whether two boxes are equal, in an image of *size* pixels, up to rounding."""
    corners = ((a.x1, b.x1), (a.y1, b.y1), (a.x2, b.x2), (a.y2, b.y2))
    close = all(abs(x - y) <= TOLERANCE * size for x, y in corners)
    return close and abs(a.score - b.score) <= TOLERANCE and a.class_id == b.class_id
