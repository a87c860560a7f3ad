"""Load, build, describe and publish detection networks; match their classes."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from retort import class_names, files
from retort.checkpoints import architecture_rows, opening
from retort.checkpoints.records import Flaw
from retort.documents import DocumentLimits, parse_document
from retort.errors import Diverged, ModelError, SpecError
from retort.foreign import first_line
from retort.training.architecture import activation, detector, difference, name_of, read
from retort.training.rebuilding import rebuild
from retort.training.ultralytics_api import (
    Conv,
    DetectionModel,
    get_flops,
    guess_model_scale,
    intersect_dicts,
    version,
)

if TYPE_CHECKING:
    from torch import Tensor, nn

    from retort.training.config import TrainConfig


def load(weights: Path) -> Any:
    """Load a detection network in float32 and eval mode.

    The file's pickle is read, not run; the network is rebuilt from its description.

    Raises:
        ModelError: the file is missing, damaged, unsafe, or holds something else than a sound YOLO detector.

    """
    if not weights.is_file():
        raise ModelError(f"weights file {weights.name} does not exist", hint="put it into the model folder")
    try:
        model = rebuild(weights)
    except ModelError:
        raise
    except Exception as error:  # whatever a stranger's file provokes in torch
        message = f"weights file {weights.name} cannot be loaded: {_reason(error)}"
        raise ModelError(message, hint=opening.HINT) from error
    if (damage := opening.damage_in(weights)) is not None:
        raise ModelError(f"weights file {weights.name} is damaged: {damage}", hint="copy or fetch it again")
    network = detector(model, weights.name)
    if (found := weight_flaw(network)) is not None:
        message = f"weights file {weights.name} comes from a training that diverged: {found}"
        raise ModelError(message, hint="weights that have been trained to an end")
    return network


def _reason(error: Exception) -> str:
    return first_line(error) if str(error).strip() else type(error).__name__


def weight_flaw(model: nn.Module) -> str | None:
    """Return the flaw in the weights of *model*, or None.

    It is what a training that left the finite numbers has done; None where the model is sound. Upstream saves such
    weights as zeros, so that a layer of nothing but zeros tells as much.
    """
    for name, (value, largest) in _largest(model).items():
        if not math.isfinite(largest):
            return f"{name} holds values that are not finite"
        if value.ndim == 4 and largest == 0:
            return f"{name} is all zeros"
    return None


def is_finite(model: nn.Module) -> bool:
    """Return True if every floating-point weight and buffer is finite."""
    return all(math.isfinite(largest) for _, largest in _largest(model).values())


def _largest(model: nn.Module) -> dict[str, tuple[Tensor, float]]:
    """Return the floating-point tensors of *model* by name, each with its largest magnitude.

    A magnitude is not finite where one value is not. All are found in one pass, and a GPU is waited for once.
    """
    tensors = {n: value for n, value in model.state_dict().items() if value.is_floating_point() and value.numel()}
    if not tensors:
        return {}
    norms = torch._foreach_norm(list(tensors.values()), math.inf)  # noqa: SLF001 - optimizers take it too
    largest: list[float] = torch.stack([norm.float() for norm in norms]).cpu().tolist()
    return dict(zip(tensors, zip(tensors.values(), largest, strict=True), strict=True))


def build(
    model: str,
    *,
    names: Mapping[int, str],
    weights: Path | None,
    seed: int,
    definition: Path | None = None,
    from_weights: bool = False,
) -> Any:
    """Build a network for the classes *names*.

    It is the one named *model*, that of a *definition* of one's own, or what the *weights* describe. Its weights come
    from *weights*, or are random by *seed*. Equal arguments give byte-identical weights, and the caller's random state
    is left as it was.

    Raises:
        ModelError: *weights* cannot be loaded, or belong to another architecture; or nothing usable can be built.

    """
    source = None if weights is None else load(weights)
    described: str | dict[str, Any] = f"{model}.yaml" if definition is None else read_definition(definition)
    if from_weights:
        assert source is not None, "a network that is built as its weights describe it has weights"
        described = deepcopy(source.yaml)
    with seeded(seed):
        network = construct(described, len(names), model)
    network.names = dict(names)
    if source is not None:
        assert weights is not None
        fits(network, source, None if from_weights else model, weights.name)
        with seeded(seed):  # a class branch of another width is built anew
            _take_over(network, source, names)
    network.train()
    return network


def class_rows(ours: Mapping[int, str], theirs: Mapping[int, str]) -> dict[int, int] | None:
    """Return which class of *theirs* each of *ours* begins from.

    Equal names belong together, whatever their numbers; a class without an equal name is left out. None where
    the numbers are all that can be gone by: as many classes, and no name in common.
    """
    pairs = dict(class_names.pairs(ours, theirs))
    return None if not pairs and len(ours) == len(theirs) else pairs


def _take_over(network: Any, source: Any, names: Mapping[int, str]) -> None:
    """Load the weights of *source* into *network*, its classes by their names.

    Ultralytics matches them too, but takes ``Car`` for ``car``; without names it leaves that alone.
    """
    fresh = [[parameter.clone() for parameter in layer.parameters()] for layer in _class_layers(network)]
    network.names = {number: str(number) for number in names}
    network.load(source, verbose=False)
    network.names = dict(names)
    if (rows := class_rows(names, source.names)) is None:
        return
    for ours, begun, theirs in zip(_class_layers(network), fresh, _class_layers(source), strict=True):
        for parameter, new, known in zip(ours.parameters(), begun, theirs.parameters(), strict=True):
            if parameter.shape[1:] == new.shape[1:]:
                parameter.data = new.detach().clone()
            if parameter.shape[1:] == known.shape[1:]:
                parameter.data[[*rows]] = known.data[[*rows.values()]].to(parameter.dtype)


def _class_layers(network: Any) -> list[Any]:
    """Return the last layer of each class branch, whose rows are the classes."""
    head = network.model[-1]
    return [branch[-1] for name in ("cv3", "one2one_cv3") for branch in getattr(head, name, None) or ()]


def build_start(plan: TrainConfig, names: Mapping[int, str]) -> Any:
    """Build the network that the training of *plan* begins from.

    Raises:
        ModelError: as ``build``.

    """
    return build(
        plan.model, names=names, weights=plan.weights, seed=plan.training.seed, definition=plan.definition,
        from_weights=plan.from_weights,
    )  # fmt: skip


_LARGEST_DEFINITION = 1 << 20


def read_definition(path: Path) -> dict[str, Any]:
    """Read a network's description as Ultralytics writes it.

    Raises:
        ModelError: it is no such description.

    """
    hint = "a mapping with nc, backbone and head, as Ultralytics' own model files have it"
    try:
        with path.open("rb") as file:
            found = parse_document(file.read(_LARGEST_DEFINITION + 1), DocumentLimits(_LARGEST_DEFINITION))
    except (OSError, SpecError) as error:
        reason = error.problems[0].message if isinstance(error, SpecError) else " ".join(str(error).split())
        raise ModelError(f"the network {path.name} cannot be read: {reason}", hint=hint) from error
    if not isinstance(found, dict) or not all(isinstance(found.get(part), list) for part in ("backbone", "head")):
        raise ModelError(f"{path.name} does not describe a network", hint=hint)
    try:
        architecture_rows.check(found)
    except Flaw as error:
        raise ModelError(f"the network {path.name} cannot be built: {error}", hint=hint) from error
    return {"nc": 80, **found, "scale": guess_model_scale(path), "yaml_file": path.name}


def construct(described: str | dict[str, Any], num_classes: int, name: str) -> Any:
    """Build the described network with a Detect head, with random weights.

    Raises:
        ModelError: it cannot be built.

    """
    return detector(built_as(DetectionModel, described, num_classes, name), name)


def built_as(kind: Any, described: str | dict[str, Any], num_classes: int, name: str) -> Any:
    """Build the described network as one of Ultralytics' *kind*.

    Ultralytics' default activation stays as it was.

    Raises:
        ModelError: it cannot be built.

    """
    default = Conv.default_act
    try:
        return kind(described, ch=3, nc=num_classes, verbose=False)
    except Exception as error:  # whatever a stranger's description provokes
        reason = first_line(error)
        raise ModelError(f"the network {name} cannot be built: {reason}", hint="a description that works") from error
    finally:
        Conv.default_act = default


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Use a separate CPU random stream inside the block."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def fits(network: nn.Module, source: nn.Module, model: str | None, name: str) -> None:
    """Insist that *source* is the architecture of *network* but for its classes.

    *model* names it; None is for a network that was built as the file *name* itself describes it.

    Raises:
        ModelError: tensors are missing or have other shapes, or equal tensors mean something else.

    """
    head = f"model.{len(network.model) - 1}."  # type: ignore[arg-type]
    branches = (f"{head}cv3.", f"{head}one2one_cv3.")  # their width depends on the number of classes
    wanted = {key: value for key, value in network.state_dict().items() if not key.startswith(branches)}
    common = intersect_dicts(source.state_dict(), wanted)
    apart = difference(network, source)
    if len(common) == len(wanted) and apart is None:
        return
    why = apart or f"{len(common)} of {len(wanted)} tensors agree"
    found = read(source)
    if model is None:
        message = f"weights {name} are not the network {found.name} that they describe: {why}"
        raise ModelError(message, hint="a checkpoint whose layers were not changed after it was built")
    hint = f"weights of a {model}, or leave model out to build what the file holds, or weights: null for random ones"
    raise ModelError(f"weights {name} hold {found}; they do not fit {model} ({activation(network)}): {why}", hint=hint)


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

    Its content is that of ``published``.

    Raises:
        Diverged: a weight is not finite, or a layer is all zeros.

    """
    files.atomic_write(path, serialized(published(model, names=names, imgsz=imgsz, metadata=metadata, at=at)))


def published(
    model: Any,
    *,
    names: Mapping[int, str],
    imgsz: int,
    metadata: Mapping[str, Any] | None = None,
    at: datetime | None = None,
) -> dict[str, Any]:
    """Return a copy of *model* as a file holds it, in float16.

    Plain Ultralytics works at *imgsz* where no other size is named.
    *metadata* (plain values, no paths) is kept under the key ``retort``.

    Raises:
        Diverged: a weight is not finite, or a layer is all zeros.

    """
    arguments = {"task": "detect", "mode": "train", "imgsz": imgsz}
    return {
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


def serialized(checkpoint: Mapping[str, Any]) -> bytes:
    """Return the content of a file with *checkpoint*."""
    buffer = io.BytesIO()  # torch.save writes a path's stem into the file; a buffer has none
    torch.save(checkpoint, buffer)
    return buffer.getvalue()


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
LARGEST_STRIDE = 32


def input_size(network: Any) -> int:
    """Return the side in pixels at which plain Ultralytics runs *network*.

    It is what its file says, or 640.
    """
    arguments = getattr(network, "args", None) or {}
    named = arguments.get("imgsz") if isinstance(arguments, dict) else getattr(arguments, "imgsz", None)
    sides = named if isinstance(named, list | tuple) else [named]
    side = max((side for side in sides if isinstance(side, int)), default=USUAL_SIZE)
    return -(-side // LARGEST_STRIDE) * LARGEST_STRIDE


def summarize(network: Any, imgsz: int) -> ModelSummary:
    """Summarize *network* on the CPU; the network is left unchanged."""
    folded = deepcopy(network).cpu().float().eval().fuse(verbose=False)
    whole = _size(folded)
    return ModelSummary(
        architecture=name_of(network),
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
