"""TensorRT: an engine built from an ONNX graph where that can be done, and what to build it from where it cannot."""

from __future__ import annotations

import importlib.util
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from retort import files
from retort.training.ultralytics_api import onnx2engine

NEEDS = "TensorRT 8.6 or later for Python, and a CUDA GPU"
_QUANTIZE = {"fp32": None, "fp16": 16, "int8": 8}


def missing() -> str | None:
    """Say what this machine lacks for building engines; None where it can."""
    if not torch.cuda.is_available():
        return f"this machine has no CUDA GPU; an engine needs {NEEDS}"
    if importlib.util.find_spec("tensorrt") is None:
        return f"the package tensorrt is not installed; an engine needs {NEEDS}"
    return None


def build_engine(
    graph: Path, path: Path, *, precision: str, imgsz: int, workspace_gib: float | None, metadata: Mapping[str, Any]
) -> None:
    """Build the engine of an ONNX *graph* on the first GPU; in INT8 the scales are in the graph."""
    part = path.with_name(f"{path.name}.part")
    onnx2engine(
        str(graph),
        part,
        workspace=workspace_gib,
        quantize=_QUANTIZE[precision],
        shape=(1, 3, imgsz, imgsz),
        metadata=dict(metadata),
    )
    part.replace(path)


def write_cache(scales: Mapping[str, float], path: Path) -> None:
    """Write the tensors' scales in the text form that TensorRT's calibrators read: name, and float32 in hex."""
    lines = [f"{name}: {struct.pack('>f', scale).hex()}" for name, scale in sorted(scales.items())]
    files.atomic_write(path, "\n".join(["TRT-8600-MinMaxCalibration", *lines, ""]).encode())


def lacking(export: Any) -> str | None:
    """Say before any training what this machine lacks for *export*; None where nothing is known to be missing."""
    return missing() if export.format == "engine" else None
