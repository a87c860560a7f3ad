"""Make and run NCNN: a traced network converted by pnnx."""

from __future__ import annotations

import subprocess
from collections.abc import Collection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import torch
import yaml

from retort import files
from retort.errors import RetortError
from retort.exports.ncnn import Ncnn
from retort.training.export.base import Sources
from retort.training.export.form import Form, metadata
from retort.training.export.torchscript import saved, traced
from retort.training.inference import Runtime

if TYPE_CHECKING:
    from torch import Tensor

_LONGEST_S = 600.0
_SHORTER = ("fp16_packed", "fp16_storage", "fp16_arithmetic", "bf16_packed", "bf16_storage")
"""What NCNN computes in by itself, where a processor is able to."""


def make(sources: Sources, export: Ncnn, path: Path, kept: Collection[str]) -> None:  # noqa: ARG001 - as all
    """Write the model into the folder *path*."""
    export_ncnn(sources.weights, path, Form.of(export, sources.imgsz), half=export.precision == "fp16")


def load(folder: Path, *, exact: bool = False) -> Runtime:
    """Run an NCNN model on the CPU, as plain Ultralytics does."""
    import ncnn

    net = ncnn.Net()
    net.opt.use_vulkan_compute = False
    if exact:
        for shorter in _SHORTER:
            setattr(net.opt, f"use_{shorter}", False)
    (parameters,) = folder.glob("*.param")
    net.load_param(str(parameters))
    net.load_model(str(parameters.with_suffix(".bin")))
    given, taken = net.input_names()[0], net.output_names()[0]

    def run(images: Tensor) -> Tensor:
        with net.create_extractor() as extractor:
            extractor.input(given, ncnn.Mat(images[0].contiguous().numpy()).clone())
            _, found = extractor.extract(taken)
            return torch.from_numpy(found.numpy().copy())[None]

    bits = "32 bits" if exact else "16 bits where the processor can"
    settings = f"the CPU in {net.opt.num_threads} threads, without Vulkan, where it computes in {bits}"
    return Runtime(run, "NCNN", settings=settings)


def export_ncnn(weights: Path, folder: Path, form: Form, *, half: bool) -> None:
    """Write published *weights* as an NCNN model in *folder*.

    *half* stores its weights in 16 bits.

    Raises:
        RetortError: pnnx did not write it.

    """
    import pnnx

    height, width = form.shape
    network, trace = traced(weights, form)
    with TemporaryDirectory() as scratch:
        place = Path(scratch)
        (place / "model.pt").write_bytes(saved(trace))
        command = [pnnx.EXEC_PATH, "model.pt", f"inputshape=[1,3,{height},{width}]", f"fp16={int(half)}"]
        done = subprocess.run(command, cwd=place, capture_output=True, check=False, timeout=_LONGEST_S)
        made = [place / f"model.ncnn.{kind}" for kind in ("param", "bin")]
        if done.returncode or not all(file.is_file() for file in made):
            last = (done.stderr or done.stdout).decode(errors="replace").strip().splitlines()[-1:]
            raise RetortError(f"pnnx could not convert the network: {' '.join(last) or done.returncode}")
        folder.mkdir(parents=True, exist_ok=True)
        for file in made:
            files.atomic_write(folder / file.name, file.read_bytes())
    (folder / "metadata.yaml").write_text(yaml.safe_dump(metadata(network, form), sort_keys=False))
