"""Networks that run: PyTorch's, and the files made from it in the programs that run those on a device."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from retort.training.environment import num_cores
from retort.training.inference import Network, network_output

if TYPE_CHECKING:
    from torch import Tensor

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Runtime:
    """A network, ready to run."""

    run: Network
    """From images (N, 3, S, S) in 0..1 on *device* to raw output (N, 4 + K, A)."""
    name: str
    """The program that runs it."""
    device: torch.device = CPU
    batches: bool = False
    """Whether N may be more than 1."""

    def run_all(self, images: Tensor) -> Tensor:
        """Run any number of images, one by one where it has to be."""
        images = images.to(self.device)
        return self.run(images) if self.batches else torch.cat([self.run(image[None]) for image in images])


def of_network(network: Any, device: torch.device = CPU) -> Runtime:
    """Run a folded network in PyTorch."""
    return Runtime(network_output(network.to(device)), "PyTorch", device, batches=True)


def of_onnx(path: Path) -> Runtime:
    """Run a graph by onnxruntime on the CPU, on all cores that this process may use."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = num_cores()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    given = session.get_inputs()[0]

    def run(images: Tensor) -> Tensor:
        return torch.from_numpy(session.run(None, {given.name: images.numpy()})[0])

    return Runtime(run, "onnxruntime", batches=not isinstance(given.shape[0], int))


def of_torchscript(path: Path) -> Runtime:
    """Run a traced module in PyTorch's C++ library."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning)  # torch would rather have its newer exporter used
        module = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]

    @torch.inference_mode()
    def run(images: Tensor) -> Tensor:
        return _first(module(images))

    return Runtime(run, "TorchScript")


def of_openvino(folder: Path) -> Runtime:
    """Run an OpenVINO model on the CPU, in the precision that it was saved in."""
    import openvino

    core = openvino.Core()
    hints = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": num_cores(), "INFERENCE_PRECISION_HINT": "f32"}
    compiled = core.compile_model(core.read_model(next(folder.glob("*.xml"))), "CPU", hints)

    def run(images: Tensor) -> Tensor:
        return torch.from_numpy(compiled(images.numpy())[0].copy())

    return Runtime(run, "OpenVINO")


def of_ncnn(folder: Path) -> Runtime:
    """Run an NCNN model on the CPU."""
    import ncnn

    net = ncnn.Net()
    net.opt.use_vulkan_compute = False
    net.opt.num_threads = num_cores()
    for shorter in ("fp16_packed", "fp16_storage", "fp16_arithmetic", "bf16_packed", "bf16_storage"):
        setattr(net.opt, f"use_{shorter}", False)  # what a processor is able to shorten differs from one to the next
    (parameters,) = folder.glob("*.param")
    net.load_param(str(parameters))
    net.load_model(str(parameters.with_suffix(".bin")))
    given, taken = net.input_names()[0], net.output_names()[0]

    def run(images: Tensor) -> Tensor:
        with net.create_extractor() as extractor:
            extractor.input(given, ncnn.Mat(images[0].contiguous().numpy()).clone())
            _, found = extractor.extract(taken)
            return torch.from_numpy(found.numpy().copy())[None]

    return Runtime(run, "NCNN")


def of_engine(path: Path) -> Runtime:
    """Run a TensorRT engine on the first GPU, loaded as upstream loads it."""
    from retort.training.ultralytics_api import AutoBackend

    device = torch.device("cuda:0")
    backend = AutoBackend(model=str(path), device=device, verbose=False)

    @torch.inference_mode()
    def run(images: Tensor) -> Tensor:
        return _first(backend(images)).clone()

    return Runtime(run, "TensorRT", device)


def _first(output: Any) -> Tensor:
    """Return the decoded output, which some forms give together with what it was decoded from."""
    found: Tensor = output[0] if isinstance(output, (tuple, list)) else output
    return found


RUNTIMES: dict[str, Callable[[Path], Runtime]] = {
    "onnx": of_onnx,
    "torchscript": of_torchscript,
    "openvino": of_openvino,
    "ncnn": of_ncnn,
    "engine": of_engine,
}
"""How the files of each export format are run."""
