"""Tap features by level and the Detect head's outputs; cross heads (CrossKD)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from retort.constants import Level
from retort.errors import TeacherMismatch
from retort.losses import CrossedLoss, Predictions
from retort.losses.base import standardise, wide
from retort.training.architecture import head_levels
from retort.training.criterion import make_anchors
from retort.training.ultralytics_api import dist2bbox

if TYPE_CHECKING:
    from torch import Tensor

HEADS = {"boxes": "box_head", "scores": "cls_head"}
"""Outputs of a branch, and upstream's name of the layers that make each."""


def split(inputs: list[Tensor], layers: Mapping[str, Any]) -> Raw:
    """Run a branch as upstream's ``forward_head``, and keep intermediate features.

    They are returned under *intermediate*, where the layers are cut. A branch has at each level two blocks and a 1x1
    convolution; the cut is after the first block. middles: for boxes and for scores a list of (N, C, H, W), one for
    each level.
    """
    found: Raw = {"feats": inputs, "middles": {}}
    for output, name in HEADS.items():
        intermediate = [level[0](x) for level, x in zip(layers[name], inputs, strict=True)]
        found[output] = torch.cat(rest(layers[name], intermediate), -1)
        found["middles"][output] = intermediate
    return found


def rest(levels: Any, intermediate: list[Tensor]) -> list[Tensor]:
    """Run the layers behind the cut of `split`.

    They turn a list of (N, C, H, W) into a list of (N, C', H W).
    """
    return [level[1:](x).flatten(2) for level, x in zip(levels, intermediate, strict=True)]


def adapters(loss: CrossedLoss, student: Any, teacher: Any) -> nn.ModuleDict:
    """Build the trainable adapters of *loss* between two networks' heads.

    For each output, there is one at each level.
    """
    ours, theirs = (model.model[-1].one2many for model in (student, teacher))
    return nn.ModuleDict(
        {
            output: nn.ModuleList(
                loss.build(width(own[0]), width(other[0])) for own, other in zip(ours[name], theirs[name], strict=True)
            )
            for output, name in HEADS.items()
        }
    )


def width(block: nn.Module) -> int:
    """Return the number of output channels of a head's block.

    They are those of its last convolution.
    """
    return [module.out_channels for module in block.modules() if isinstance(module, nn.Conv2d)][-1]


def cross_heads(adapted: Any, student: Raw, teacher: Raw, head: Any) -> Raw:
    """Run the teacher's *head* on the student's features.

    Gradient flows to student and adapters. Each channel is given the mean and the deviation that the teacher's own
    features have, over batch and space. The head's layers run in their own precision and never in autocast's, so that
    both sides round alike.
    """
    found: Raw = {"feats": student["feats"]}
    for output, name in HEADS.items():
        levels = head.one2many[name]
        dtype = next(levels.parameters()).dtype
        pairs = zip(adapted[output], student["middles"][output], teacher["middles"][output], strict=True)
        aligned = [align(adapter(ours), theirs).to(dtype) for adapter, ours, theirs in pairs]
        with torch.autocast(aligned[0].device.type, enabled=False):
            found[output] = torch.cat(rest(levels, aligned), -1)
    return found


def align(student: Tensor, teacher: Tensor) -> Tensor:
    """Match each channel's mean and deviation to *teacher*'s.

    Both maps are (N, C, H, W), float32.
    """
    theirs = wide(teacher).detach()
    mean = theirs.mean((0, 2, 3), keepdim=True)
    variance = (theirs - mean).square().mean((0, 2, 3), keepdim=True)
    return standardise(student) * variance.sqrt() + mean


Raw = dict[str, Any]
"""Raw output of one branch: boxes (N, 4R, A), scores (N, K, A) and the feature maps the head read."""


@dataclass(frozen=True, slots=True)
class FeatureLayers:
    """Layer index of each level in one network."""

    layers: Mapping[Level, int]

    @classmethod
    def of(cls, model: Any) -> FeatureLayers:
        """Find the layers that the feature levels come from.

        They are the inputs of the Detect head, and the last layer of the backbone.
        """
        head = dict(zip(head_levels(model), model.model[-1].f, strict=True))
        return cls({Level.BACKBONE: len(model.yaml["backbone"]) - 1, **head})


def forward(
    model: Any,
    images: Tensor,
    *,
    levels: Collection[Level] | None = None,
    head: bool = True,
    intermediate: bool = False,
) -> tuple[dict[Level, Tensor], dict[str, Raw]]:
    """Run *model* on *images*; return its features and raw branches.

    *images* are (N, 3, H, W); the features are those of each of *levels* (None: all). This is explicit instead of
    hooks, so that networks stay free of state that copies and pickles would carry. Layers that neither *levels* nor the
    *head* need are not computed. *intermediate*: whether one2many gives its intermediate ones.
    """
    wanted = {
        index: level for level, index in FeatureLayers.of(model).layers.items() if levels is None or level in levels
    }
    needed = required_layers(model, {*wanted, *([len(model.model) - 1] if head else [])})
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
    return features, raw_branches(last, _inputs(last.f, x, outputs), intermediate=intermediate) if head else {}


def required_layers(model: Any, targets: set[int]) -> set[int]:
    """Return the layers that *targets* read from, and *targets* themselves.

    They are read directly or through others.
    """
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


def raw_branches(head: Any, inputs: list[Tensor], *, intermediate: bool = False) -> dict[str, Raw]:
    """Return the head's raw branches by name, without decoding.

    They are one2many, and one2one where there is one. In training the one2one branch reads detached features, as
    upstream's head does. With *intermediate*, one2many tells what it computed on the way, see `split`.
    """
    many = split(inputs, head.one2many) if intermediate else head.forward_head(inputs, **head.one2many)
    branches = {"one2many": many}
    if getattr(head, "one2one_cv2", None) is not None:
        detached = [x.detach() for x in inputs] if head.training else inputs
        branches["one2one"] = head.forward_head(detached, **head.one2one)
    return branches


def upstream_form(branches: dict[str, Raw]) -> Any:
    """Return raw branches as upstream's criterion takes them."""
    return branches if "one2one" in branches else branches["one2many"]


def first(branches: dict[str, Raw], number: int) -> dict[str, Raw]:
    """Return the raw branches of the first *number* images.

    They hold what the criterion reads of these images alone.
    """
    return {
        name: {
            "boxes": raw["boxes"][:number],
            "scores": raw["scores"][:number],
            "feats": [x[:number] for x in raw["feats"]],
        }
        for name, raw in branches.items()
    }


class Decoder:
    """Decoder of boxes to input pixels; keeps the last shape's anchors.

    *kept* are the indices of the levels that count, of all those that *strides* name; None for all.
    """

    def __init__(self, strides: Tensor, kept: Sequence[int] | None = None) -> None:
        self._kept = kept
        self._strides = strides if kept is None else strides[list(kept)]
        self._key: Any = None
        self._anchors = self._scales = torch.empty(0)

    def __call__(self, raw: Raw, classes: Tensor | None, *, boxes: bool = True) -> Predictions:
        """Return the branch over A anchors, reduced to *classes* (K indices; None keeps all) in their order.

        Without *boxes* they are left out: to decode them costs more than some losses do.
        """
        scores = self.kept(raw["scores"], raw["feats"])  # N nc A
        scores = scores if classes is None else scores.index_select(1, classes)
        sides = self.kept(raw["boxes"], raw["feats"]).unflatten(1, (4, -1))  # type: ignore[no-untyped-call]  # N 4 R A
        return Predictions(
            scores=scores.transpose(1, 2),  # N A K
            boxes=self._boxes(sides.float(), self._features(raw["feats"])) if boxes else sides.new_empty(0),
            distances=sides.permute(0, 3, 1, 2),  # N A 4 R
        )

    def points(self, raw: Raw) -> Tensor:
        """Return the centres of the branch's anchors in input pixels, (A, 2)."""
        anchors, scales = self._grid(self._features(raw["feats"]))
        return anchors * scales

    def kept(self, values: Tensor, features: list[Tensor]) -> Tensor:
        """Return *values* (N, ..., A) at the anchors of the levels that count."""
        if self._kept is None:
            return values
        parts = values.split_with_sizes([feature.shape[-2] * feature.shape[-1] for feature in features], dim=-1)
        return torch.cat([parts[index] for index in self._kept], -1)

    def _features(self, features: list[Tensor]) -> list[Tensor]:
        return features if self._kept is None else [features[index] for index in self._kept]

    def _boxes(self, sides: Tensor, features: list[Tensor]) -> Tensor:
        """Expected distance of each side, as corners x1, y1, x2, y2 in pixels: (N, 4, R, A) to (N, A, 4)."""
        anchors, scales = self._grid(features)
        bins = sides.shape[2]
        ticks = torch.arange(bins, dtype=sides.dtype, device=sides.device)[:, None]
        # A sum and not a product of matrices, which autocast would compute in half precision: a third of a pixel.
        expected = (sides.softmax(2) * ticks).sum(2) if bins > 1 else sides.squeeze(2)  # N 4 A
        corners: Tensor = dist2bbox(expected.transpose(1, 2), anchors, xywh=False) * scales
        return corners

    def _grid(self, features: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Anchor points (A, 2) in cells and the stride of each (A, 1)."""
        key = [(*f.shape[-2:], f.device) for f in features]
        if key != self._key:
            anchors, scales = make_anchors([f.float() for f in features], self._strides.to(features[0].device), 0.5)
            self._key, self._anchors, self._scales = key, anchors, scales
        return self._anchors, self._scales


def common_levels(student: Any, teacher: Any) -> tuple[Level, ...]:
    """Return the levels that both heads read, from fine to coarse.

    Anchors and feature maps correspond at these alone.

    Raises:
        TeacherMismatch: there are none.

    """
    ours, theirs = head_levels(student), head_levels(teacher)
    found = tuple(level for level in ours if level in theirs)
    if not found:
        message = f"student and teacher have no level in common: {', '.join(ours)} and {', '.join(theirs)}"
        raise TeacherMismatch(message, hint="a teacher whose head reads levels that the student's reads too")
    return found


def decoder_of(model: Any, levels: Sequence[Level]) -> Decoder:
    """Return the decoder of *model*'s branches at some of its *levels*."""
    own = head_levels(model)
    return Decoder(model.stride, None if own == tuple(levels) else [own.index(level) for level in levels])
