"""Trace networks into ONNX graphs; halve, complete and describe those."""

from __future__ import annotations

import warnings
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import onnx
import torch

from retort import files
from retort.errors import UserError
from retort.training.export.form import Form
from retort.training.inference import load_onnx, parsed
from retort.training.ultralytics_api import best_onnx_opset, torch2onnx

IR_VERSION = 10
"""Newest file version that every onnxruntime in use reads."""
ENDING = "boxes/"
"""Before the name of each node that makes final boxes of raw output."""


def trace(network: Any, given: torch.Tensor, *, opset: int | None, axes: Any) -> Any:
    """Trace *network* into an ONNX graph.

    The exporter is the one that upstream chooses too: the newer one needs another package.
    """
    with TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning)  # torch announces that other exporter
        warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)  # type: ignore[attr-defined]  # sizes are constant unless dynamic
        file = Path(folder) / "network.onnx"
        try:
            torch2onnx(network, given, file, opset=opset or best_onnx_opset(onnx), dynamic=axes)
        except (ValueError, torch.onnx.errors.OnnxExporterError) as error:
            message = f"this network cannot be written in ONNX opset {opset}: {error}"
            raise UserError(message, hint="leave opset out", code="bad_export") from error
        return onnx.load(file)


def describe(graph: Any, told: dict[str, Any]) -> None:
    """Replace a graph's metadata by what upstream's loader reads.

    So ``YOLO("student-fp32.onnx")`` works too.
    """
    del graph.metadata_props[:]
    for key, value in told.items():
        entry = graph.metadata_props.add()
        entry.key, entry.value = key, str(value)
    graph.ir_version = min(graph.ir_version, IR_VERSION)


def halve(path: Path) -> None:
    """Store weights and compute in float16, but for images and decoding.

    Boxes and scores are decoded in float32. Pixels above 512 are half a pixel apart in float16.
    """
    from onnxruntime.quantization.onnx_model import ONNXModel
    from onnxruntime.transformers import float16

    graph = onnx.load(path)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning)  # of each weight that rounds to zero
        graph = float16.convert_float_to_float16(graph, keep_io_types=True, node_block_list=list(decoding(graph)))
    sorter = ONNXModel(graph)
    sorter.topological_sort()
    graph = sorter.model
    onnx.checker.check_model(graph)
    files.atomic_write(path, graph.SerializeToString())


def layers(graph: Any) -> tuple[str, ...]:
    """Return the names of a graph's convolutions, ordered from the image to the boxes.

    The one that stands for the expectation over box sides (DFL) has fixed weights and is none of them.
    """
    return tuple(node.name for node in graph.graph.node if node.op_type == "Conv" and "/dfl/" not in node.name)


def decoding(graph: Any) -> tuple[str, ...]:
    """Return the names of the nodes behind the last convolutions, which decode boxes."""
    known = set(layers(graph))
    made_by = {name: node for node in graph.graph.node for name in node.output}
    found: dict[str, None] = {}
    waiting = [output.name for output in graph.graph.output]
    while waiting:
        node = made_by.get(waiting.pop())
        if node is not None and node.name not in found and node.name not in known:
            found[node.name] = None
            waiting += node.input
    return tuple(found)


def finish(path: Path, form: Form) -> None:
    """Append NMS, or what takes the best boxes, to a graph of raw output."""
    ending = form.ending()
    if ending is None:
        return
    graph = onnx.load(path)
    raw = load_onnx(path).run(form.images())
    opset = next(entry.version for entry in graph.opset_import if not entry.domain)
    axes = {"images": {0: "batch", 2: "anchors"}, "output0": {0: "batch"}} if form.dynamic else None
    after = onnx.compose.add_prefix(trace(ending.eval(), raw, opset=opset, axes=axes), ENDING)
    after.ir_version = graph.ir_version
    told = {one.key: parsed(one.value) for one in graph.metadata_props}
    del graph.metadata_props[:]
    _rename_output(graph, f"{ENDING}raw")
    joined = onnx.compose.merge_models(graph, after, io_map=[(graph.graph.output[0].name, after.graph.input[0].name)])
    _rename_output(joined, "output0")
    args = {**told["args"], "batch": form.batch, "dynamic": form.dynamic, "nms": form.nms is True}
    describe(joined, {**told, "args": args, "batch": form.batch, "end2end": form.nms_free})
    onnx.checker.check_model(joined)
    files.atomic_write(path, joined.SerializeToString())


def _rename_output(model: Any, name: str) -> None:
    """Give the one output of a graph the name that upstream gives it."""
    (output,) = model.graph.output
    for node in model.graph.node:
        node.output[:] = [name if one == output.name else one for one in node.output]
    output.name = name
