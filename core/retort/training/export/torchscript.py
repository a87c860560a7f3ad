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
from retort.training.export.form import Form, metadata
from retort.training.inference import Runtime, decoded, load_folded, taken

if TYPE_CHECKING:
    from torch import Tensor


def make(sources: Sources, export: TorchScript, path: Path, kept: Collection[str]) -> None:  # noqa: ARG001 - as all
    """Write the TorchScript trace."""
    export_torchscript(sources.weights, path, Form.of(export, sources.imgsz))


def load(path: Path, *, exact: bool = False) -> Runtime:  # noqa: ARG001 - its arithmetic is its weights'
    """Run a traced module in PyTorch's C++ library."""
    more = {"config.txt": ""}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning)  # torch would rather have its newer exporter used
        module = torch.jit.load(str(path), map_location="cpu", _extra_files=more)  # type: ignore[no-untyped-call]

    @torch.inference_mode()
    def run(images: Tensor) -> Tensor:
        return decoded(module(images))

    settings = f"the CPU in {torch.get_num_threads()} threads"
    return Runtime(run, "TorchScript", **taken(json.loads(more["config.txt"])), settings=settings)


def traced(weights: Path, form: Form) -> tuple[Any, Any]:
    """Return the folded network of *weights*, and its trace.

    The published network is folded for export, and traced on black images.
    """
    network = load_folded(weights, nms_free=form.nms_free)
    head = network.model[-1]
    head.export, head.format, head.dynamic = True, "torchscript", form.dynamic
    images, ending = form.images(), form.ending()
    whole = network if ending is None else torch.nn.Sequential(network, ending).eval()
    with warnings.catch_warnings(), torch.inference_mode(mode=False), torch.no_grad():
        warnings.filterwarnings("ignore", category=DeprecationWarning)  # torch announces its newer exporter
        warnings.filterwarnings("ignore", category=FutureWarning)
        warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)  # type: ignore[attr-defined]  # sizes are constant
        network(images)  # the head's grid belongs to this size now
        return network, torch.jit.trace(whole, images, strict=False, check_trace=False)  # type: ignore[no-untyped-call]


def export_torchscript(weights: Path, path: Path, form: Form) -> None:
    """Write published *weights* as TorchScript.

    Images (N, 3, H, W) become raw output (N, 4 + K, A), or final boxes.
    """
    network, trace = traced(weights, form)
    config = json.dumps(metadata(network, form))
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
