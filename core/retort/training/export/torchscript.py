"""Make and run TorchScript: a published network traced."""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from retort import files
from retort.exports.torchscript import TorchScript
from retort.training.export.base import Sources
from retort.training.export.onnx import metadata
from retort.training.inference import Runtime, decoded, load_folded

if TYPE_CHECKING:
    from torch import Tensor


def make(sources: Sources, export: TorchScript, path: Path, kept: Collection[str]) -> None:  # noqa: ARG001 - as all
    """Write the TorchScript trace."""
    export_torchscript(sources.weights, path, imgsz=sources.imgsz)


def load(path: Path) -> Runtime:
    """Run a traced module in PyTorch's C++ library."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning)  # torch would rather have its newer exporter used
        module = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]

    @torch.inference_mode()
    def run(images: Tensor) -> Tensor:
        return decoded(module(images))

    return Runtime(run, "TorchScript")


def traced(weights: Path, *, imgsz: int) -> tuple[Any, Any]:
    """Return the folded network of *weights*, and its trace.

    The published network is folded for export, and traced on one image of side *imgsz*.
    """
    network = load_folded(weights)
    head = network.model[-1]
    head.export, head.format, head.dynamic = True, "torchscript", False
    image = torch.zeros(1, 3, imgsz, imgsz)
    with warnings.catch_warnings(), torch.inference_mode(mode=False), torch.no_grad():
        warnings.filterwarnings("ignore", category=DeprecationWarning)  # torch announces its newer exporter
        warnings.filterwarnings("ignore", category=FutureWarning)
        warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)  # type: ignore[attr-defined]  # sizes are constant
        network(image)  # the head's grid belongs to this size now
        return network, torch.jit.trace(network, image, strict=False, check_trace=False)  # type: ignore[no-untyped-call]


def export_torchscript(weights: Path, path: Path, *, imgsz: int) -> None:
    """Write published *weights* as TorchScript.

    Images (1, 3, imgsz, imgsz) become raw output (1, 4 + K, A).
    """
    network, trace = traced(weights, imgsz=imgsz)
    config = json.dumps(metadata(network, imgsz=imgsz))
    files.atomic_write(path, saved(trace, {"config.txt": config}))


def saved(trace: Any, more: Mapping[str, str] | None = None) -> bytes:
    """Return a trace as the bytes of a TorchScript file.

    The small files *more* are in it.
    """
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning)  # torch announces its newer exporter
        torch.jit.save(trace, buffer, _extra_files=dict(more or {}))
    return buffer.getvalue()
