"""Run networks in PyTorch or onnxruntime, and prepare images for them."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from retort import images as reader
from retort.errors import ModelError
from retort.training import models
from retort.training.environment import num_cores
from retort.training.ultralytics_api import LetterBox

if TYPE_CHECKING:
    from torch import Tensor

IOU = 0.7
"""Two boxes of one class that overlap more are one: upstream's threshold."""

Network = Callable[["Tensor"], "Tensor"]
"""From images (N, 3, S, S) in 0..1 to raw output (N, 4 + K, A): boxes as centre and size in pixels, probabilities."""
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Runtime:
    """A network, ready to run."""

    run: Network
    """From images (N, 3, H, W) in 0..1 on *device* to raw output (N, 4 + K, A), or to final boxes (N, n, 6)."""
    name: str
    """The program that runs it."""
    device: torch.device = CPU
    most: int | None = 1
    """Images at a time; None takes any number."""
    fixed: bool = True
    """Whether it takes just so many, and no fewer."""
    final: bool = False
    """Whether it gives final boxes, as two corners, score and class, which need no NMS."""
    settings: str | None = None
    """Under which conditions of the program it runs."""
    describe: Callable[[], str] | None = None
    """Says, after it has run, in which precision it computes and whether its kernels are recorded."""

    def run_all(self, images: Tensor) -> Tensor:
        """Run any number of images, as many at a time as it takes."""
        images = images.to(self.device)
        if self.most is None:
            return self.run(images)
        return torch.cat([self._some(part) for part in torch.split(images, self.most)])

    def _some(self, images: Tensor) -> Tensor:
        lacking = (self.most or 0) - len(images)
        if lacking <= 0 or not self.fixed:
            return self.run(images)
        return self.run(torch.cat([images, images.new_zeros(lacking, *images.shape[1:])]))[:-lacking]


def load_folded(weights: Path, *, nms_free: bool = False) -> Any:
    """Load a network for inference, with batch normalisation folded.

    It predicts from the branch that needs NMS, upstream's default for validation and prediction; *nms_free* puts the
    other one in its place, whose raw output has the same form.

    Raises:
        ModelError: the weights cannot be loaded, or have no such branch.

    """
    network = models.load(weights)
    if nms_free:
        take_nms_free_head(network)
    network.end2end = False
    return network.fuse(verbose=False).eval()


def has_nms_free_head(network: Any) -> bool:
    """Return True if the network has a branch that gives each object once."""
    return getattr(network.model[-1], "one2one_cv2", None) is not None


def take_nms_free_head(network: Any) -> None:
    """Predict from the branch that gives each object once.

    Raises:
        ModelError: the network has none.

    """
    if not has_nms_free_head(network):
        hint = "nms: true puts NMS into the file; YOLO26 and YOLOv10 have such a head"
        raise ModelError("this network has no NMS-free head", hint=hint)
    head = network.model[-1]
    for name in [name for name, _ in head.named_children() if name.startswith("one2one_")]:
        setattr(head, name.removeprefix("one2one_"), getattr(head, name))
        setattr(head, name, None)


def network_output(network: Any) -> Network:
    """Return the network's decoded raw output as a function."""

    @torch.inference_mode()
    def run(images: Tensor) -> Tensor:
        found: Tensor = network(images)[0]
        return found

    return run


def halve(network: Any) -> Any:
    """Let a folded *network* compute in float16 with channels last.

    Boxes are decoded in float32: in float16, corners beyond 512 pixels would be rounded to half pixels.
    """
    network = network.half().to(memory_format=torch.channels_last)
    head = network.model[-1]
    head.dfl.float()
    decode = head._inference  # noqa: SLF001 - the seam between what the head says and boxes

    def in_float32(raw: Mapping[str, Any]) -> Tensor:
        grids = [one.new_empty(one.shape, dtype=torch.float32) for one in raw["feats"]]  # of which it asks the shape
        found: Tensor = decode({**raw, "boxes": raw["boxes"].float(), "scores": raw["scores"].float(), "feats": grids})
        return found

    head._inference = in_float32  # noqa: SLF001
    head.shape = None  # grids of anchors in float16 are forgotten
    return network


def wrap_network(network: Any, device: torch.device = CPU, ending: Any = None) -> Runtime:
    """Run a folded network in PyTorch; *ending* makes final boxes of its raw output."""
    raw = network_output(network.to(device))
    if ending is None:
        return Runtime(raw, "PyTorch", device, most=None, fixed=False, describe=lambda: "float32, eager")

    @torch.inference_mode()
    def run(images: Tensor) -> Tensor:
        found: Tensor = ending(raw(images))
        return found

    return Runtime(run, "PyTorch", device, most=None, fixed=False, final=True)


def load_onnx(path: Path) -> Runtime:
    """Load an ONNX graph into onnxruntime on the CPU.

    It runs on all cores that this process may use.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = num_cores()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    given = session.get_inputs()[0]

    def run(images: Tensor) -> Tensor:
        return torch.from_numpy(session.run(None, {given.name: images.numpy()})[0])

    told = {key: parsed(value) for key, value in session.get_modelmeta().custom_metadata_map.items()}
    return Runtime(run, "onnxruntime", **taken(told), settings=f"the CPU in {num_cores()} threads")


def parsed(value: str) -> Any:
    """Return a value of metadata, which upstream keeps as Python text."""
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return value


def taken(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a ``Runtime`` that a file's metadata says."""
    arguments = metadata.get("args") or {}
    dynamic, inside = bool(arguments.get("dynamic")), bool(arguments.get("nms"))
    most = None if dynamic and not inside else int(metadata.get("batch", 1))
    return {"most": most, "fixed": not dynamic, "final": inside or bool(metadata.get("end2end"))}


def decoded(output: Any) -> Tensor:
    """Return the decoded output, dropping the raw output of some formats."""
    found: Tensor = output[0] if isinstance(output, (tuple, list)) else output
    return found


def prepare(image: Path, imgsz: int | tuple[int, int]) -> tuple[Tensor, tuple[int, int]]:
    """Load a letterboxed image and its size.

    The image is (1, 3, H, W) in 0..1, *imgsz* the side of a square or height and width.
    """
    pixels, shape = letterboxed(image, imgsz)
    return pixels[None].float() / 255, shape


def letterboxed(image: Path, imgsz: int | tuple[int, int]) -> tuple[Tensor, tuple[int, int]]:
    """Load a letterboxed image, uint8 (3, H, W).

    Beside it is its height and width before.
    """
    bgr = reader.read(image)
    shape = (imgsz, imgsz) if isinstance(imgsz, int) else imgsz
    fitted = LetterBox(shape, auto=False)(image=bgr)  # H W 3, BGR
    rgb = torch.from_numpy(fitted[..., ::-1].transpose(2, 0, 1).copy())  # 3 H W, in this order for runtimes that insist
    return rgb, bgr.shape[:2]
