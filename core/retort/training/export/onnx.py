"""Make and run ONNX: the graph of a published network, in float32 or INT8."""

from __future__ import annotations

import warnings
from collections.abc import Collection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import onnx
import torch

from retort import files
from retort.errors import UserError
from retort.exports.onnx import Onnx
from retort.training.export.base import Sources
from retort.training.export.folding import folded
from retort.training.inference import load_folded, load_onnx
from retort.training.ultralytics_api import best_onnx_opset, torch2onnx

NEWEST_OPSET = 20
"""The last that torch's tracing exporter writes; it only warns beyond."""
IR_VERSION = 10
"""Newest file version that every onnxruntime in use reads."""


def make(sources: Sources, export: Onnx, path: Path, kept: Collection[str]) -> None:
    """Write the ONNX graph, in INT8 with its scales in it."""
    if export.precision == "int8" and export.aware_epochs:
        path.write_bytes(folded(sources.aware_graph(export.aware_epochs).read_bytes()))
    elif export.precision == "int8":
        sources.float_graph(export, opset=export.opset).write(path, kept=kept)
    else:
        options = {"opset": export.opset, "dynamic": export.dynamic, "simplify": export.simplify}
        export_onnx(sources.weights, path, imgsz=sources.imgsz, **options)  # type: ignore[arg-type]


load = load_onnx
"""Runs the graph by onnxruntime."""


def export_onnx(
    weights: Path,
    path: Path,
    *,
    imgsz: int,
    opset: int | None = None,
    dynamic: bool = False,
    simplify: bool = True,
) -> None:
    """Write published *weights* as ONNX in float32.

    Images (1, 3, imgsz, imgsz) become raw output (1, 4 + K, A). *opset* None takes the newest that torch's exporter and
    onnxruntime both run in full; *dynamic* leaves batch, height and width open. Nothing is installed or downloaded.

    Raises:
        ModelError: the weights cannot be loaded.
        UserError: torch cannot write this opset.

    """
    if opset is not None and opset > NEWEST_OPSET:
        message = f"opset {opset} cannot be written, {NEWEST_OPSET} is the newest"
        raise UserError(message, hint="leave opset out", code="bad_export")
    network = load_folded(weights)
    head = network.model[-1]
    head.export, head.format, head.dynamic = True, "onnx", dynamic
    graph = trace(network, imgsz=imgsz, opset=opset, dynamic=dynamic)
    if simplify:
        import onnxslim  # type: ignore[import-untyped]

        graph = onnxslim.slim(graph)
    describe(graph, network, imgsz=imgsz, dynamic=dynamic)
    onnx.checker.check_model(graph)
    files.atomic_write(path, graph.SerializeToString())


def trace(network: Any, *, imgsz: int, opset: int | None, dynamic: bool) -> Any:
    """Trace *network* into an ONNX graph.

    The exporter is the one that upstream chooses too: the newer one needs another package.
    """
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
    """Add the metadata that upstream's loader reads from a graph.

    So ``YOLO("student-fp32.onnx")`` works too.
    """
    for key, value in metadata(network, imgsz=imgsz, dynamic=dynamic).items():
        entry = graph.metadata_props.add()
        entry.key, entry.value = key, str(value)
    graph.ir_version = min(graph.ir_version, IR_VERSION)


def metadata(network: Any, *, imgsz: int, dynamic: bool = False) -> dict[str, Any]:
    """Return a network's metadata for Ultralytics' loaders."""
    return {
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
