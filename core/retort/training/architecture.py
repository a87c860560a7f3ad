"""Read the structure of a detection network, and compare two."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from torch import nn

from retort import class_names
from retort.constants import LEVEL_STRIDES, MODEL_NAMES, Level
from retort.errors import ModelError
from retort.training.ultralytics_api import Detect, DetectionModel, v10Detect, yaml_model_load

_LEVELS = {stride: level for level, stride in LEVEL_STRIDES.items()}
_PARTS = ("backbone", "head", "activation", "reg_max")
_MULTIPLES = ("depth_multiple", "width_multiple")
_GEOMETRY = ("stride", "padding", "dilation", "groups", "kernel_size")
"""Of convolutions and pooling."""


@dataclass(frozen=True)
class Architecture:
    """Structure of a network, as people and stages ask for it."""

    name: str
    """Of its description, such as yolov8n-p2."""
    levels: tuple[Level, ...]
    activation: str
    """Of most of its layers, such as SiLU."""
    reg_max: int
    """Bins of a box's distances; 1 is a distance itself."""
    one2one: bool
    """Whether it has a second head that needs no NMS."""
    num_classes: int

    def __str__(self) -> str:
        bins = f"{self.reg_max} distance bins" if self.reg_max > 1 else "no distance bins"
        head = ", one2one head" if self.one2one else ""
        return f"{self.name} ({self.activation}, {self.levels[0]} to {self.levels[-1]}, {bins}{head})"


def read(network: Any) -> Architecture:
    """Read the structure of a plain detector."""
    head = network.model[-1]
    return Architecture(
        name=name_of(network),
        levels=head_levels(network),
        activation=activation(network),
        reg_max=int(head.reg_max),
        one2one=getattr(head, "one2one_cv2", None) is not None,
        num_classes=int(head.nc),
    )


UNNAMED = "a network without a name"


def name_of(network: Any) -> str:
    """Return the name of the description that *network* was built from.

    A file may hold the description without its name: then it is that of the architecture with these layers, if any.
    """
    given = Path(str(network.yaml.get("yaml_file") or "")).stem
    return given or _known_by_layers(network.yaml) or UNNAMED


def _known_by_layers(described: Mapping[str, Any]) -> str | None:
    """Return the known architecture whose layers and multiples are *described*."""
    scales, scale = described.get("scales") or {}, described.get("scale")
    multiples = (described.get("depth_multiple"), described.get("width_multiple"))
    wanted = list(scales[scale][:2]) if scale in scales else list(multiples)
    for model in MODEL_NAMES:
        known = yaml_model_load(f"{model}.yaml")
        own = (known.get("scales") or {}).get(known["scale"], [known.get(name) for name in _MULTIPLES])
        if list(own[:2]) == wanted and all(known.get(part) == described.get(part) for part in _PARTS):
            return model
    return None


_READ: WeakKeyDictionary[nn.Module, tuple[Level, ...]] = WeakKeyDictionary()
"""Levels of the networks that were asked for theirs: to read strides on a GPU is to wait for it."""


def head_levels(network: Any) -> tuple[Level, ...]:
    """Return the levels that the Detect head reads, from fine to coarse."""
    if network not in _READ:
        _READ[network] = tuple(_LEVELS[int(stride)] for stride in network.stride)
    return _READ[network]


def detector(model: Any, name: str) -> Any:
    """Insist that *model* is a plain YOLO detector for colour images.

    Its levels must be known. Its class names are put into a mapping by number, which old checkpoints lack.

    Raises:
        ModelError: it is something else; it says what.

    """
    hint = "a detector with a Detect head: YOLOv3, v5, v6, v8, v9, v10, YOLO11, YOLO12 or YOLO26"
    if type(model) is not DetectionModel or type(model.model[-1]) not in {Detect, v10Detect}:
        layers = getattr(model, "model", None)
        last = f" whose last layer is {type(layers[-1]).__name__}" if isinstance(layers, nn.Sequential) else ""
        raise ModelError(f"{name} is not a detection network: it is a {type(model).__name__}{last}", hint=hint)
    if model.model[-1].cv2 is None:
        raise ModelError(f"{name} has lost its one-to-many head by fusion", hint="the checkpoint before it was fused")
    strides = tuple(int(stride) for stride in model.stride)
    if not all(stride in _LEVELS for stride in strides) or list(strides) != sorted(set(strides)):
        raise ModelError(f"{name} has the strides {strides}", hint="some of 4, 8, 16, 32 and 64, from fine to coarse")
    if (channels := input_channels(model)) != 3:
        raise ModelError(f"{name} reads images of {channels} channels, not 3", hint="a network for colour images")
    model.names = class_names.as_names(getattr(model, "names", None))
    if sorted(model.names) != list(range(number := int(model.model[-1].nc))):
        raise ModelError(
            f"{name} has {number} classes, and names for {len(model.names)}", hint="weights as a training saves them"
        )
    return model


def input_channels(model: nn.Module) -> int:
    """Return the number of channels of the images that *model* reads."""
    return next(module.in_channels for module in model.modules() if isinstance(module, nn.Conv2d))


def activation(network: nn.Module) -> str:
    """Return the activation of most of a network's layers, with its arguments."""
    found = [trait for name, trait in traits(network).items() if name.endswith(".act") and trait != "Identity()"]
    return max(set(found), key=found.count).removesuffix("()") if found else "no activation"


def traits(network: nn.Module) -> dict[str, str]:
    """Return what two networks with equal weights can differ in, by layer.

    It is the activations, the geometry of convolutions and pooling, and shortcuts.
    """
    found: dict[str, str] = {}
    for name, module in network.named_modules():
        if name.endswith(".act") and not list(module.children()):
            found[name] = re.sub(r"(, )?inplace=(True|False)", "", repr(module)).replace("(, ", "(")
        if isinstance(module, nn.Conv2d | nn.MaxPool2d):
            found[name] = " ".join(f"{key}={getattr(module, key)}" for key in _GEOMETRY if hasattr(module, key))
        if isinstance(shortcut := getattr(module, "add", None), bool):
            found[f"{name}.add"] = f"shortcut={shortcut}"
    return found


def difference(network: nn.Module, source: nn.Module) -> str | None:
    """Return how *source* differs from *network* beside weights, or None."""
    ours, theirs = traits(network), traits(source)
    apart = [name for name in ours if name in theirs and ours[name] != theirs[name] and not _of_class_branch(name)]
    if not apart:
        return None
    if all(name.endswith(".act") for name in apart):
        return f"its activation is {activation(source)}, not {activation(network)}"
    first = next(name for name in apart if not name.endswith(".act"))
    return f"{first} has {theirs[first]}, not {ours[first]}"


def _of_class_branch(name: str) -> bool:
    """Return True for layers whose width, and so whose groups, depends on the number of classes."""
    return ".cv3." in name and not name.endswith(".act")
