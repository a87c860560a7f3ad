"""Make and run TensorRT engines, or leave the files to build one."""

from __future__ import annotations

import importlib.util
import struct
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from retort import files
from retort.exports.tensorrt import Engine
from retort.training.export.base import Sources, ToolchainMissing
from retort.training.export.form import Form
from retort.training.export.graph import finish
from retort.training.inference import Runtime, decoded, taken
from retort.training.ultralytics_api import AutoBackend, onnx2engine

if TYPE_CHECKING:
    from torch import Tensor

NEEDS = "TensorRT 8.6 or later for Python, and a CUDA GPU"
_QUANTIZE = {"fp32": None, "fp16": 16, "int8": 8}


def make(sources: Sources, export: Engine, path: Path, kept: Collection[str]) -> None:
    """Build the TensorRT engine, or leave the graph for it.

    Where the engine cannot be built, the graph to build it from is left, with its scales in it, and beside it.
    """
    graph, given = path.with_suffix(".engine.onnx"), [path.with_suffix(".engine.onnx")]
    if export.trains:
        graph.write_bytes(sources.aware(export).graph.read_bytes())
    elif export.precision == "int8":
        ranged = sources.float_graph(export)
        ranged.write(graph, kept=kept, symmetric=True)
        given.append(path.with_suffix(".engine.cache"))
        write_cache(ranged.scales(), given[1])
    else:
        graph.write_bytes(sources.graph(export).read_bytes())
    form = Form.of(export, sources.imgsz)
    finish(graph, form)
    lacking = missing()
    if lacking is not None:
        raise ToolchainMissing(
            lacking, given, hint=f"build it where it will run: {_command(export, form, graph, path)}"
        )
    about = sources.metadata(export)
    workspace_gib = bounded(export.workspace_gib, sources.most_workspace_gib, has_gib=_gpu_gib)
    build_engine(graph, path, form, precision=export.precision, workspace_gib=workspace_gib, metadata=about)
    if export.precision != "int8":
        graph.unlink()


def _command(export: Engine, form: Form, graph: Path, path: Path) -> str:
    """Return the line of NVIDIA's tool that builds the engine of a graph."""
    words = ["trtexec", f"--onnx={graph.name}", f"--saveEngine={path.name}"]
    words += {"fp32": [], "fp16": ["--fp16"], "int8": ["--fp16", "--int8"]}[export.precision]
    if form.dynamic:
        height, width = form.shape
        sizes = {"min": (1, 32, 32), "opt": (form.batch, height, width), "max": (form.batch, 2 * height, 2 * width)}
        words += [f"--{name}Shapes=images:{n}x3x{h}x{w}" for name, (n, h, w) in sizes.items()]
    return " ".join(words)


def load(path: Path, *, exact: bool = False) -> Runtime:  # noqa: ARG001 - its arithmetic was chosen when it was built
    """Load a TensorRT engine on the first GPU, as upstream does."""
    device = torch.device("cuda:0")
    backend = AutoBackend(model=str(path), device=device, verbose=False)

    @torch.inference_mode()
    def run(images: Tensor) -> Tensor:
        return decoded(backend(images)).clone()

    return Runtime(run, "TensorRT", device, **taken(backend.metadata))


def missing() -> str | None:
    """Return what this machine lacks for building engines, or None."""
    if not torch.cuda.is_available():
        return f"this machine has no CUDA GPU; an engine needs {NEEDS}"
    if importlib.util.find_spec("tensorrt") is None:
        return f"the package tensorrt is not installed; an engine needs {NEEDS}"
    return None


def bounded(wanted_gib: float | None, most_gib: float | None, *, has_gib: Callable[[], float]) -> float | None:
    """Return the memory to build an engine in.

    It is what is wanted, or as much of the GPU's as the operator allows; None is all.
    """
    if wanted_gib is not None or most_gib is None or most_gib >= has_gib():
        return wanted_gib
    return most_gib


def _gpu_gib() -> float:
    return float(torch.cuda.get_device_properties(0).total_memory / 2**30)


def build_engine(
    graph: Path, path: Path, form: Form, *, precision: str, workspace_gib: float | None, metadata: Mapping[str, Any]
) -> None:
    """Build the engine of an ONNX *graph* on the first GPU.

    In INT8 the scales are in the graph.
    """
    part = path.with_name(f"{path.name}.part")
    onnx2engine(
        str(graph),
        part,
        workspace=workspace_gib,
        quantize=_QUANTIZE[precision],
        dynamic=form.dynamic,
        shape=(form.batch, 3, *form.shape),
        metadata=dict(metadata),
    )
    part.replace(path)


def write_cache(scales: Mapping[str, float], path: Path) -> None:
    """Write a TensorRT calibration cache: tensor names and scales in hex."""
    lines = [f"{name}: {struct.pack('>f', scale).hex()}" for name, scale in sorted(scales.items())]
    files.atomic_write(path, "\n".join(["TRT-8600-MinMaxCalibration", *lines, ""]).encode())
