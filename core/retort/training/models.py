"""Load, build, describe and publish detection networks; match their classes."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from retort import class_names, files
from retort.errors import Diverged, ModelError
from retort.training.ultralytics_api import Detect, DetectionModel, get_flops, intersect_dicts, load_checkpoint, version

if TYPE_CHECKING:
    from torch import Tensor, nn

STRIDES = (8, 16, 32)
"""Strides of the levels P3, P4 and P5, which every network here has."""


def load(weights: Path) -> Any:
    """Load a detection network in float32 and eval mode.

    Only the safe loader is used.

    Raises:
        ModelError: the file is missing, damaged, unsafe, or holds something else than a sound YOLO detector.

    """
    if not weights.is_file():
        raise ModelError(f"weights file {weights.name} does not exist", hint="put it into the model folder")
    try:
        model, _ = load_checkpoint(weights)
    except Exception as error:  # whatever a stranger's file provokes in the unpickler
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        message = f"weights file {weights.name} cannot be loaded: {reason}"
        raise ModelError(
            message, hint="an Ultralytics detection checkpoint, not damaged and not TorchScript"
        ) from error
    network = detector(model, weights.name)
    if (found := weight_flaw(network)) is not None:
        message = f"weights file {weights.name} comes from a training that diverged: {found}"
        raise ModelError(message, hint="weights that have been trained to an end")
    return network


def weight_flaw(model: nn.Module) -> str | None:
    """Return the flaw in the weights of *model*, or None.

    It is what a training that left the finite numbers has done; None where the model is sound. Upstream saves such
    weights as zeros, so that a layer of nothing but zeros tells as much.
    """
    for name, value in model.state_dict().items():
        if not value.is_floating_point():
            continue
        if not bool(value.isfinite().all()):
            return f"{name} holds values that are not finite"
        if value.ndim == 4 and not bool(value.any()):
            return f"{name} is all zeros"
    return None


def is_finite(model: nn.Module) -> bool:
    """Return True if every floating-point weight and buffer is finite."""
    tensors = (value for value in model.state_dict().values() if value.is_floating_point())
    return all(bool(value.isfinite().all()) for value in tensors)


def detector(model: Any, name: str) -> Any:
    """Insist that *model* is a plain YOLO detector with three levels."""
    if type(model) is not DetectionModel or type(model.model[-1]) is not Detect:
        kind = getattr(model, "task", type(model).__name__)
        raise ModelError(f"{name} is not a detection network but {kind}", hint="YOLOv8, YOLO11, YOLO12 or YOLO26")
    model.names = class_names.as_names(model.names)
    if len(model.names) != (number := int(model.model[-1].nc)):
        raise ModelError(
            f"{name} has {number} classes, and names for {len(model.names)}", hint="weights as a training saves them"
        )
    strides = tuple(int(stride) for stride in model.stride)
    if strides != STRIDES:
        raise ModelError(f"{name} has the strides {strides}, not {STRIDES}", hint="a network with levels P3, P4 and P5")
    return model


def build(model: str, *, names: Mapping[int, str], weights: Path | None, seed: int) -> Any:
    """Build a network by name for the classes *names*.

    Its weights come from *weights*, or are random by *seed*. Equal arguments give byte-identical weights, and the
    caller's random state is left as it was.

    Raises:
        ModelError: *weights* cannot be loaded, or belong to another architecture.

    """
    with seeded(seed):
        network = DetectionModel(f"{model}.yaml", ch=3, nc=len(names), verbose=False)
    network.names = dict(names)
    if weights is not None:
        source = load(weights)
        fits(network, source, model, weights.name)
        with seeded(seed):  # a class branch of another width is built anew
            network.load(source, verbose=False)
    network.train()
    return network


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Use a separate CPU random stream inside the block."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def fits(network: nn.Module, source: nn.Module, model: str, name: str) -> None:
    """Insist that *source* has every weight of *network* before its head."""
    head = f"model.{len(network.model) - 1}."  # type: ignore[arg-type]
    student = {key: value for key, value in network.state_dict().items() if not key.startswith(head)}
    common = intersect_dicts(source.state_dict(), student)
    if len(common) < len(student):
        found = Path(str(source.yaml.get("yaml_file", "another network"))).stem  # type: ignore[union-attr,operator]
        message = f"weights {name} ({found}) do not fit {model}: {len(common)} of {len(student)} tensors agree"
        raise ModelError(message, hint=f"weights of a {model}, or null for random ones")


LICENSE = "AGPL-3.0 (https://ultralytics.com/license)"


def publish(
    model: Any,
    path: Path,
    *,
    names: Mapping[int, str],
    imgsz: int,
    metadata: Mapping[str, Any] | None = None,
    at: datetime | None = None,
) -> None:
    """Write *model* to *path* in float16, with the keys that upstream reads.

    Plain Ultralytics works at *imgsz* where no other size is named.
    *metadata* (plain values, no paths) is kept under the key ``retort``.

    Raises:
        Diverged: a weight is not finite, or a layer is all zeros.

    """
    arguments = {"task": "detect", "mode": "train", "imgsz": imgsz}
    checkpoint = {
        "epoch": -1,
        "best_fitness": None,
        "model": clean(model, names, arguments),
        "ema": None,
        "updates": None,
        "optimizer": None,
        "scaler": None,
        "train_args": arguments,
        "train_metrics": {},
        "train_results": {},
        "date": (at or datetime.now(UTC)).isoformat(),
        "version": version,
        "license": LICENSE,
        "docs": "https://docs.ultralytics.com",
        "retort": dict(metadata or {}),
    }
    buffer = io.BytesIO()  # torch.save writes a path's stem into the file; a buffer has none
    torch.save(checkpoint, buffer)
    files.atomic_write(path, buffer.getvalue())


def clean(model: Any, names: Mapping[int, str], arguments: Mapping[str, Any]) -> Any:
    """Return a clean float16 copy of *model* on the CPU.

    It is without anything that training, loading or validating left on *model*.
    """
    if (flaw := weight_flaw(model)) is not None:
        raise Diverged(f"the network cannot be published: {flaw}", hint="lower the learning rate")
    network = deepcopy(model).float().cpu().half().to(memory_format=torch.contiguous_format).eval()
    for value in network.state_dict().values():
        if value.is_floating_point():
            torch.nan_to_num_(value)  # float16 ends at 65504; upstream clamps likewise
    for parameter in network.parameters():
        parameter.requires_grad_(requires_grad=False)
    for name in ("criterion", "class_weights", "pt_path", "_end2end"):
        network.__dict__.pop(name, None)
    network.names, network.nc, network.task = dict(names), len(names), "detect"
    network.args = dict(arguments)
    network.yaml = {**network.yaml, "yaml_file": Path(str(network.yaml.get("yaml_file", ""))).name}
    head = network.model[-1]
    head.shape, head.anchors, head.strides = None, torch.empty(0), torch.empty(0)  # caches of the last image size
    return network


_ATTENTION = frozenset({"ABlock", "PSABlock"})
"""Upstream's blocks of attention: area attention in YOLO12, one stage of self-attention in YOLO11 and YOLO26."""


@dataclass(frozen=True)
class ModelSummary:
    """Size and structure of a network, batch normalisation folded."""

    architecture: str
    """By name, such as yolo11s."""
    names: tuple[str, ...]
    """Of its classes."""
    num_parameters: int
    gflops: float
    attention: float
    """Share of the parameters in blocks of attention."""


USUAL_SIZE = 640
"""Side at which plain Ultralytics works where a file names none."""


def input_size(network: Any) -> int:
    """Return the side in pixels at which plain Ultralytics runs *network*.

    It is what its file says, or 640.
    """
    arguments = getattr(network, "args", None) or {}
    named = arguments.get("imgsz") if isinstance(arguments, dict) else getattr(arguments, "imgsz", None)
    sides = named if isinstance(named, list | tuple) else [named]
    side = max((side for side in sides if isinstance(side, int)), default=USUAL_SIZE)
    largest_stride = 32
    return -(-side // largest_stride) * largest_stride


def summarize(network: Any, imgsz: int) -> ModelSummary:
    """Summarize *network* on the CPU; the network is left unchanged."""
    folded = deepcopy(network).cpu().float().eval().fuse(verbose=False)
    whole = _size(folded)
    return ModelSummary(
        architecture=Path(str(network.yaml.get("yaml_file", ""))).stem,
        names=tuple(str(name) for name in network.names.values()),
        num_parameters=whole,
        gflops=float(get_flops(folded, imgsz)),
        attention=sum(_size(module) for module in folded.modules() if type(module).__name__ in _ATTENTION) / whole,
    )


def _size(module: Any) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@dataclass(frozen=True, slots=True)
class ClassMap:
    """Paired indices of the classes that both networks name.

    None where all of them correspond one to one.
    """

    student: Tensor | None
    teacher: Tensor | None
    size: int

    @classmethod
    def between(cls, student: Mapping[int, str], teacher: Mapping[int, str]) -> ClassMap:
        """Match classes by their names, which must be equal (``retort.class_names``)."""
        pairs = class_names.pairs(student, teacher)
        if pairs == [(index, index) for index in range(len(teacher))] and len(student) == len(teacher):
            return cls(None, None, len(pairs))
        ours, theirs = ([pair[side] for pair in pairs] for side in (0, 1))
        return cls(torch.tensor(ours, dtype=torch.long), torch.tensor(theirs, dtype=torch.long), len(pairs))

    def to(self, device: torch.device) -> ClassMap:
        """Return the class map on *device*."""
        if self.student is None or self.teacher is None:
            return self
        return ClassMap(self.student.to(device), self.teacher.to(device), self.size)
