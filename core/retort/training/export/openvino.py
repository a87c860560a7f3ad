"""OpenVINO: an ONNX graph converted, stored in half precision, or quantized by NNCF."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import yaml

from retort.training.export.quantization import FloatGraph

NAME = "student"


def export_openvino(graph: Path, folder: Path, *, half: bool, metadata: Mapping[str, Any]) -> None:
    """Write the ONNX *graph* as an OpenVINO model in *folder*; *half* stores its weights in 16 bits."""
    import openvino

    _save(openvino.convert_model(graph), folder, half=half, metadata=metadata)


def quantize_openvino(graph: FloatGraph, folder: Path, *, kept: Collection[str], metadata: Mapping[str, Any]) -> None:
    """Write *graph* in INT8 by NNCF's post-training quantization, but for the layers *kept* and the decoding."""
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
