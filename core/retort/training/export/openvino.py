"""Make and run OpenVINO: converted from ONNX, or quantized by NNCF."""

from __future__ import annotations

import logging
import platform
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import yaml

from retort.documents import parse_document
from retort.exports.openvino import OpenVino
from retort.training.export.base import Sources
from retort.training.export.graph import ENDING
from retort.training.export.quantization import CalibratedGraph
from retort.training.inference import Runtime, taken

if TYPE_CHECKING:
    from torch import Tensor

NAME = "student"


def make(sources: Sources, export: OpenVino, path: Path, kept: Collection[str]) -> None:
    """Write the model into the folder *path*."""
    about = sources.metadata(export)
    if export.precision == "int8" and not export.trains:
        ranged = sources.float_graph(export)
        quantize_openvino(ranged, path, kept=kept, metadata=about, whole=sources.finished(ranged.path, export))
        return
    graph = sources.aware(export).graph if export.trains else sources.graph(export)
    export_openvino(sources.finished(graph, export), path, half=export.precision != "fp32", metadata=about)


def load(folder: Path, *, exact: bool = False) -> Runtime:
    """Run an OpenVINO model on the CPU, as plain Ultralytics does."""
    import openvino

    core = openvino.Core()
    hints = {"PERFORMANCE_HINT": "LATENCY", **({"INFERENCE_PRECISION_HINT": "f32"} if exact or _accurate() else {})}
    compiled = core.compile_model(core.read_model(next(folder.glob("*.xml"))), "CPU", hints)

    def run(images: Tensor) -> Tensor:
        return torch.from_numpy(compiled(images.numpy())[0].copy())

    arithmetic = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    threads = compiled.get_property("INFERENCE_NUM_THREADS")
    settings = f"the CPU with the latency hint in {threads} threads, where it computes in {arithmetic}"
    told = parse_document((folder / "metadata.yaml").read_bytes())
    return Runtime(run, "OpenVINO", **taken(told), settings=settings)


def _accurate() -> bool:
    """Return True where plain Ultralytics asks for arithmetic in float32: on ARM under Linux, and under Windows."""
    return sys.platform == "win32" or (sys.platform == "linux" and platform.machine() in ("aarch64", "arm64"))


def export_openvino(graph: Path, folder: Path, *, half: bool, metadata: Mapping[str, Any]) -> None:
    """Write the ONNX *graph* as an OpenVINO model in *folder*.

    *half* stores its weights in 16 bits.
    """
    import openvino

    _save(openvino.convert_model(graph), folder, half=half, metadata=metadata)


def quantize_openvino(
    graph: CalibratedGraph,
    folder: Path,
    *,
    kept: Collection[str],
    metadata: Mapping[str, Any],
    whole: Path | None = None,
) -> None:
    """Write *graph* as an OpenVINO model in INT8.

    It may be the beginning of a *whole*, which is written then. NNCF's post-training quantization is used, but for the
    layers *kept*, the decoding, and what comes after.
    """
    import nncf
    import openvino

    nncf.set_log_level(logging.ERROR)
    model = openvino.convert_model(whole or graph.path)
    floats = tuple(f"{one}/" for one in (*kept, *graph.decoding, ENDING.rstrip("/")))
    ignored = [name for name in _names(model) if f"{name}/".startswith(floats)]
    quantized = nncf.quantize(
        model,
        nncf.Dataset(list(graph.inputs())),
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=-(-len(graph.calibration.images) // graph.form.batch),
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
