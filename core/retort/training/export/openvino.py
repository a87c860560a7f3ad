"""Make and run OpenVINO: converted from ONNX, or quantized by NNCF."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import yaml

from retort.exports.openvino import OpenVino
from retort.training.environment import num_cores
from retort.training.export.base import Sources
from retort.training.export.quantization import CalibratedGraph
from retort.training.inference import Runtime

if TYPE_CHECKING:
    from torch import Tensor

NAME = "student"


def make(sources: Sources, export: OpenVino, path: Path, kept: Collection[str]) -> None:
    """Write the model into the folder *path*."""
    if export.precision == "int8" and export.aware_epochs:
        export_openvino(sources.aware_graph(export.aware_epochs), path, half=True, metadata=sources.metadata)
    elif export.precision == "int8":
        quantize_openvino(sources.float_graph(export), path, kept=kept, metadata=sources.metadata)
    else:
        export_openvino(sources.graph, path, half=export.precision == "fp16", metadata=sources.metadata)


def load(folder: Path) -> Runtime:
    """Run an OpenVINO model on the CPU, in its saved precision."""
    import openvino

    core = openvino.Core()
    hints = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": num_cores(), "INFERENCE_PRECISION_HINT": "f32"}
    compiled = core.compile_model(core.read_model(next(folder.glob("*.xml"))), "CPU", hints)

    def run(images: Tensor) -> Tensor:
        return torch.from_numpy(compiled(images.numpy())[0].copy())

    settings = f"latency hint, {num_cores()} threads, arithmetic in float32 (by itself, 16 bits where a processor can)"
    return Runtime(run, "OpenVINO", settings=settings)


def export_openvino(graph: Path, folder: Path, *, half: bool, metadata: Mapping[str, Any]) -> None:
    """Write the ONNX *graph* as an OpenVINO model in *folder*.

    *half* stores its weights in 16 bits.
    """
    import openvino

    _save(openvino.convert_model(graph), folder, half=half, metadata=metadata)


def quantize_openvino(
    graph: CalibratedGraph, folder: Path, *, kept: Collection[str], metadata: Mapping[str, Any]
) -> None:
    """Write *graph* as an OpenVINO model in INT8.

    NNCF's post-training quantization is used, but for the layers *kept* and the decoding.
    """
    import nncf
    import openvino

    nncf.set_log_level(logging.ERROR)
    model = openvino.convert_model(graph.path)
    floats = {*kept, *graph.decoding}
    ignored = [name for name in _names(model) if any(name == one or name.startswith(f"{one}/") for one in floats)]
    quantized = nncf.quantize(
        model,
        nncf.Dataset(list(graph.calibration.inputs(graph.imgsz))),
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=len(graph.calibration.images),
        ignored_scope=nncf.IgnoredScope(names=ignored, validate=False),
    )
    _save(quantized, folder, half=True, metadata=metadata)


def _names(model: Any) -> list[str]:
    return [operation.get_friendly_name() for operation in model.get_ordered_ops()]


def _save(model: Any, folder: Path, *, half: bool, metadata: Mapping[str, Any]) -> None:
    import openvino

    folder.mkdir(parents=True, exist_ok=True)
    openvino.save_model(model, folder / f"{NAME}.xml", compress_to_fp16=half)
    (folder / "metadata.yaml").write_text(yaml.safe_dump(dict(metadata), sort_keys=False))
