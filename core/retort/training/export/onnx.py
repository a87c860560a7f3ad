"""Make and run ONNX in float32, float16 or INT8."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import onnx

from retort import files
from retort.errors import UserError
from retort.exports.onnx import Onnx
from retort.training.export.base import Sources
from retort.training.export.folding import folded
from retort.training.export.form import Form, metadata
from retort.training.export.graph import describe, finish, halve, trace
from retort.training.inference import Runtime, load_folded, load_onnx

NEWEST_OPSET = 20
"""The last that torch's tracing exporter writes; it only warns beyond."""


def make(sources: Sources, export: Onnx, path: Path, kept: Collection[str]) -> None:
    """Write the ONNX graph, in INT8 with its scales in it."""
    form = Form.of(export, sources.imgsz)
    if export.trains:
        path.write_bytes(folded(sources.aware(export).graph.read_bytes()))
    elif export.precision == "int8":
        sources.float_graph(export, opset=export.opset).write(path, kept=kept)
    else:
        path.write_bytes(sources.graph(export, opset=export.opset, simplify=export.simplify).read_bytes())
    if export.precision == "fp16":
        halve(path)
    finish(path, form)


def load(path: Path, *, exact: bool = False) -> Runtime:  # noqa: ARG001 - onnxruntime's arithmetic is the graph's
    """Run the graph by onnxruntime."""
    return load_onnx(path)


def export_onnx(
    weights: Path, path: Path, form: Form | int, *, opset: int | None = None, simplify: bool = True
) -> None:
    """Write published *weights* as ONNX in float32.

    *form* may be the side of a square. Images (N, 3, H, W) become raw output (N, 4 + K, A), or final boxes. *opset*
    None takes the newest that torch's exporter and onnxruntime both run in full. Nothing is installed or downloaded.

    Raises:
        ModelError: the weights cannot be loaded, or have no NMS-free head.
        UserError: torch cannot write this opset.

    """
    form = Form((form, form)) if isinstance(form, int) else form
    export_raw(weights, path, form, opset=opset, simplify=simplify)
    finish(path, form)


def export_raw(weights: Path, path: Path, form: Form, *, opset: int | None = None, simplify: bool = True) -> None:
    """Write published *weights* as ONNX with raw output, for other formats.

    Raises:
        ModelError: the weights cannot be loaded, or have no NMS-free head.
        UserError: torch cannot write this opset.

    """
    if opset is not None and opset > NEWEST_OPSET:
        message = f"opset {opset} cannot be written, {NEWEST_OPSET} is the newest"
        raise UserError(message, hint="leave opset out", code="bad_export")
    network = load_folded(weights, nms_free=form.nms_free)
    head = network.model[-1]
    head.export, head.format, head.dynamic = True, "onnx", form.dynamic
    axes = {"images": {0: "batch", 2: "height", 3: "width"}, "output0": {0: "batch", 2: "anchors"}}
    graph = trace(network, form.images(), opset=opset, axes=axes if form.dynamic else None)
    if simplify:
        import onnxslim  # type: ignore[import-untyped]

        graph = onnxslim.slim(graph)
    describe(graph, metadata(network, form, final=False))
    onnx.checker.check_model(graph)
    files.atomic_write(path, graph.SerializeToString())
