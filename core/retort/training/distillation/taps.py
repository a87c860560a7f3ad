"""Where networks are tapped: feature maps by level, and the Detect head's raw output."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from retort.errors import TeacherMismatch
from retort.names import HEAD_LEVELS, Level
from retort.training.distillation.crossing import split

if TYPE_CHECKING:
    from torch import Tensor

Raw = dict[str, Any]
"""Raw output of one branch: boxes (N, 4R, A), scores (N, K, A) and the feature maps the head read."""


@dataclass(frozen=True, slots=True)
class Taps:
    """Layer index of each level in one network."""

    layers: Mapping[Level, int]

    @classmethod
    def of(cls, model: Any) -> Taps:
        """Find the levels: the inputs of the Detect head, and the last layer of the backbone."""
        head = dict(zip(HEAD_LEVELS, model.model[-1].f, strict=True))
        return cls({Level.BACKBONE: len(model.yaml["backbone"]) - 1, **head})


def forward(
    model: Any, images: Tensor, *, levels: Collection[Level] | None = None, head: bool = True, middles: bool = False
) -> tuple[dict[Level, Tensor], dict[str, Raw]]:
    """Run *model* on *images* (N, 3, H, W); return the features of each of *levels* (None: all) and the raw branches.

    Explicit instead of hooks, so that networks stay free of state that copies and pickles would carry. Layers that
    neither *levels* nor the *head* need are not computed. *middles*: whether one2many tells its intermediate features.
    """
    wanted = {index: level for level, index in Taps.of(model).layers.items() if levels is None or level in levels}
    needed = reached(model, {*wanted, *([len(model.model) - 1] if head else [])})
    features: dict[Level, Tensor] = {}
    outputs: list[Any] = []
    x: Any = images
    for layer in model.model[:-1]:
        if layer.i in needed:
            x = layer(_inputs(layer.f, x, outputs))
        outputs.append(x if layer.i in needed and (layer.i in model.save or layer.i in wanted) else None)
        if layer.i in wanted:
            features[wanted[layer.i]] = x
    last = model.model[-1]
    return features, raw_branches(last, _inputs(last.f, x, outputs), middles=middles) if head else {}


def reached(model: Any, targets: set[int]) -> set[int]:
    """Return the layers that the layers *targets* read from, directly or through others, and themselves."""
    found = set(targets)
    for layer in reversed(model.model):
        if layer.i in found:
            sources = [layer.f] if isinstance(layer.f, int) else layer.f
            found |= {layer.i - 1 if index == -1 else index for index in sources if layer.i or index != -1}
    return found


def _inputs(source: int | list[int], x: Any, outputs: list[Any]) -> Any:
    """Gather what a layer reads: the previous layer's output (-1), or those of earlier layers."""
    if isinstance(source, int):
        return x if source == -1 else outputs[source]
    return [x if index == -1 else outputs[index] for index in source]


def raw_branches(head: Any, inputs: list[Tensor], *, middles: bool = False) -> dict[str, Raw]:
    """Return the head's raw branches by name, without decoding: one2many, and one2one where there is one.

    In training the one2one branch reads detached features, as upstream's head does. With *middles*, one2many tells
    what it computed on the way, see `crossing.split`.
    """
    many = split(inputs, head.one2many) if middles else head.forward_head(inputs, **head.one2many)
    branches = {"one2many": many}
    if getattr(head, "one2one_cv2", None) is not None:
        detached = [x.detach() for x in inputs] if head.training else inputs
        branches["one2one"] = head.forward_head(detached, **head.one2one)
    return branches


def upstream_form(branches: dict[str, Raw]) -> Any:
    """Return raw branches as upstream's criterion takes them."""
    return branches if "one2one" in branches else branches["one2many"]


def first(branches: dict[str, Raw], number: int) -> dict[str, Raw]:
    """Return what the criterion reads of the first images of the batch alone."""
    return {
        name: {
            "boxes": raw["boxes"][:number],
            "scores": raw["scores"][:number],
            "feats": [x[:number] for x in raw["feats"]],
        }
        for name, raw in branches.items()
    }


def check_strides(student: Any, teacher: Any) -> None:
    """Insist that both heads read the same strides, so that anchors and feature maps correspond."""
    pairs = [tuple(int(s) for s in model.stride) for model in (student, teacher)]
    if pairs[0] != pairs[1]:
        message = f"student and teacher have different strides: {pairs[0]} and {pairs[1]}"
        raise TeacherMismatch(message, hint="both must be detectors with levels P3, P4 and P5")
