"""How each form is made: a file, or a folder of files, from the student on the bench."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from retort.errors import RetortError
from retort.exports.engine import Engine
from retort.exports.ncnn import Ncnn
from retort.exports.onnx import Onnx
from retort.exports.openvino import OpenVino
from retort.exports.torchscript import TorchScript
from retort.stages.exporting.bench import Bench

Maker = Callable[[Bench, Any, Path, Collection[str]], None]
"""Writes a form of the student at a path; the layers in the collection stay in higher precision."""


class Needs(RetortError):
    """Something that this machine lacks; what the form can be made from elsewhere lies in *files*."""

    code = "needs"

    def __init__(self, message: str, files: Collection[Path], *, hint: str) -> None:
        super().__init__(message, hint=hint)
        self.files = tuple(files)


def _onnx(bench: Bench, export: Onnx, path: Path, kept: Collection[str]) -> None:
    from retort.training.exporting.graph import export_onnx

    if export.precision == "int8" and export.aware_epochs:
        path.write_bytes(bench.aware_graph(export.aware_epochs).read_bytes())
    elif export.precision == "int8":
        bench.float_graph(export.calibration_images, opset=export.opset).write(path, kept=kept)
    else:
        options = {"opset": export.opset, "dynamic": export.dynamic, "simplify": export.simplify}
        export_onnx(bench.weights, path, imgsz=bench.imgsz, **options)  # type: ignore[arg-type]


def _openvino(bench: Bench, export: OpenVino, path: Path, kept: Collection[str]) -> None:
    from retort.training.exporting.openvino import export_openvino, quantize_openvino

    if export.precision == "int8" and export.aware_epochs:
        export_openvino(bench.aware_graph(export.aware_epochs), path, half=True, metadata=bench.metadata)
    elif export.precision == "int8":
        quantize_openvino(bench.float_graph(export.calibration_images), path, kept=kept, metadata=bench.metadata)
    else:
        export_openvino(bench.graph, path, half=export.precision == "fp16", metadata=bench.metadata)


def _torchscript(bench: Bench, export: TorchScript, path: Path, kept: Collection[str]) -> None:  # noqa: ARG001 - as all
    from retort.training.exporting.torchscript import export_torchscript

    export_torchscript(bench.weights, path, imgsz=bench.imgsz)


def _ncnn(bench: Bench, export: Ncnn, path: Path, kept: Collection[str]) -> None:  # noqa: ARG001 - as all
    from retort.training.exporting.ncnn import export_ncnn

    export_ncnn(bench.weights, path, imgsz=bench.imgsz, half=export.precision == "fp16")


def _engine(bench: Bench, export: Engine, path: Path, kept: Collection[str]) -> None:
    """Build the engine; where that cannot be, leave the graph to build it from, its scales in it, and beside it."""
    from retort.training.exporting import engine

    graph, files = bench.graph, []
    if export.precision == "int8" and export.aware_epochs:
        graph = path.with_suffix(".engine.onnx")
        graph.write_bytes(bench.aware_graph(export.aware_epochs).read_bytes())
        files = [graph]
    elif export.precision == "int8":
        ranged = bench.float_graph(export.calibration_images)
        graph = path.with_suffix(".engine.onnx")
        ranged.write(graph, kept=kept, symmetric=True)
        files = [graph, path.with_suffix(".engine.cache")]
        engine.write_cache(ranged.scales(), files[1])
    lacking = engine.missing()
    if lacking is None:
        engine.build_engine(
            graph, path, precision=export.precision, imgsz=bench.imgsz, workspace_gib=export.workspace_gib,
            metadata=bench.metadata,
        )  # fmt: skip
        return
    if not files:
        files = [path.with_suffix(".engine.onnx")]
        files[0].write_bytes(graph.read_bytes())
    flags = {"fp32": "", "fp16": " --fp16", "int8": " --fp16 --int8"}[export.precision]
    command = f"trtexec --onnx={files[0].name} --saveEngine={path.name}{flags}"
    raise Needs(lacking, files, hint=f"build it where it will run: {command}")


MAKERS: dict[str, Maker] = {
    "onnx": _onnx,
    "openvino": _openvino,
    "torchscript": _torchscript,
    "ncnn": _ncnn,
    "engine": _engine,
}
"""By format of ``retort.exports``."""


def lacking(export: Any) -> str | None:
    """Say before any training what this machine lacks for *export*; None where nothing is known to be missing."""
    if export.format != "engine":
        return None
    from retort.training.exporting import engine

    return engine.missing()
