"""Compare an export's output with PyTorch's, and the boxes that come of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from retort.training.export.form import Form
from retort.training.inference import CPU, IOU, Runtime, load_folded, prepare, wrap_network
from retort.training.ultralytics_api import box_iou, nms

if TYPE_CHECKING:
    from torch import Tensor

TOLERANCE = 1e-3
"""Largest difference of equal outputs in float32: of scores, and of coordinates relative to the image."""


@dataclass(frozen=True)
class Comparison:
    """Differences between an export and its network."""

    max_relative_error: float
    """Largest difference in the raw output, or of final boxes: of a score, or of a coordinate relative to the image."""
    num_images: int
    num_boxes: int
    """Boxes after NMS that PyTorch gives."""
    num_unequal: int
    """Boxes of either side, after NMS, that the other side does not see at the same place before it."""
    num_ties: int = 0
    """Boxes that only one side keeps although both see them: NMS had to choose between equals."""

    @property
    def equal(self) -> bool:
        """Whether the raw outputs agree, and so do the boxes that come of them.

        Which of two equal boxes NMS keeps is chance, and no difference.
        """
        return self.num_unequal == 0 and self.max_relative_error <= TOLERANCE


def compare(
    weights: Path, runtime: Runtime, images: Sequence[Path], form: Form | int, *, conf: float = 0.25
) -> Comparison:
    """Compare *runtime* with the network of *weights* on *images*.

    Raw outputs are compared, and boxes after the same NMS; of a form that gives final boxes, these.

    Raises:
        ModelError: the weights cannot be loaded.
        DataError: a file is not an image.

    """
    form = Form((form, form)) if isinstance(form, int) else form
    network, found = wrap_network(load_folded(weights, nms_free=form.nms_free)), Comparison(0.0, 0, 0, 0)
    for image in images:
        pixels, _ = prepare(image, form.shape)
        ours, theirs = network.run_all(pixels).to(CPU)[0], runtime.run_all(pixels).to(CPU)[0]
        one = (
            compare_boxes(ours, theirs, form)
            if form.final
            else compare_outputs(ours, theirs, imgsz=max(form.shape), conf=conf)
        )
        found = Comparison(
            max(found.max_relative_error, one.max_relative_error),
            found.num_images + 1,
            found.num_boxes + one.num_boxes,
            found.num_unequal + one.num_unequal,
            found.num_ties + one.num_ties,
        )
    return found


def compare_boxes(raw: Tensor, theirs: Tensor, form: Form) -> Comparison:
    """Compare final boxes of one image with those of our raw output.

    They are (n, 6), and the raw output is (4 + K, A). A box of one side that is missing on the other is no difference
    where NMS or a threshold had to choose between equals: theirs is one of ours before NMS, or ours lies beneath an
    equal one of theirs.
    """
    ending = form.ending()
    assert ending is not None
    whole = ending(raw[None].float())[0]
    if whole.shape != theirs.shape or not bool(theirs.isfinite().all()):
        return Comparison(float("inf"), 1, int((whole[:, 4] > 0).sum()), int((whole[:, 4] > 0).sum()))
    ours, found = whole[whole[:, 4] > 0], theirs[theirs[:, 4] > 0].float()
    away = _distances(ours, found, max(form.shape))
    lost = [at for at in range(len(ours)) if not bool((away[at] <= TOLERANCE).any())]
    added = [at for at in range(len(found)) if not bool((away[:, at] <= TOLERANCE).any())]
    anchors = _anchor_boxes(raw)
    chosen = [at for at in added if _is_anchor(anchors, found[at], max(form.shape))]
    hidden = [at for at in lost if _yields(ours[at], found, form)]
    matched = away.amin(1)[away.amin(1) <= TOLERANCE] if len(ours) and len(found) else away.new_zeros(0)
    return Comparison(
        max_relative_error=float(matched.max()) if len(matched) else 0.0,
        num_images=1,
        num_boxes=len(ours),
        num_unequal=len(lost) - len(hidden) + len(added) - len(chosen),
        num_ties=len(hidden) + len(chosen),
    )


def _distances(ours: Tensor, theirs: Tensor, side: int) -> Tensor:
    """Return how far each box of ours is from each of theirs: in place, relative to the image, or in score."""
    away = (ours[:, None, :5] - theirs[None, :, :5]).abs()  # n m 5
    away[..., :4] /= side
    found: Tensor = away.amax(-1)
    return found.masked_fill(ours[:, None, 5] != theirs[None, :, 5], float("inf"))


def _anchor_boxes(raw: Tensor) -> Tensor:
    """Return the boxes of all anchors of one image as two corners, and their scores by class: (A, 4 + K)."""
    centre, half = raw[:2], raw[2:4] / 2
    return torch.cat([centre - half, centre + half, raw[4:]]).T


def _is_anchor(anchors: Tensor, box: Tensor, side: int) -> bool:
    """Return True if an anchor has this box and score."""
    score = (anchors[:, 4 + int(box[5])] - box[4]).abs()
    place = (anchors[:, :4] - box[:4]).abs().amax(1) / side
    return bool((torch.maximum(score, place) <= TOLERANCE).any())


def _yields(box: Tensor, theirs: Tensor, form: Form) -> bool:
    """Return True if the other side may leave out a box: another one is as good, or a threshold is as near."""
    full = len(theirs) >= form.max_det and bool(box[4] <= theirs[:, 4].min() + TOLERANCE)
    if form.nms_free or full:
        return full
    if box[4] <= form.conf + TOLERANCE:
        return True
    rivals = theirs[(theirs[:, 5] == box[5]) & (theirs[:, 4] >= box[4] - TOLERANCE)]
    return bool((box_iou(box[None, :4], rivals[:, :4]) >= form.iou - TOLERANCE).any())


def compare_outputs(ours: Tensor, theirs: Tensor, *, imgsz: int, conf: float) -> Comparison:
    """Compare the raw outputs (4 + K, A) of one image."""
    mine, others = _kept(ours, conf), _kept(theirs, conf)
    lost, chosen = _unmatched(ours, theirs, mine, others, imgsz)
    added, chosen_too = _unmatched(theirs, ours, others, mine, imgsz)
    error = difference(ours, theirs, imgsz)
    return Comparison(error, 1, len(mine), lost + added, chosen + chosen_too)


def difference(ours: Tensor, theirs: Tensor, imgsz: int) -> float:
    """Return the largest difference of two raw outputs (4 + K, A).

    Coordinates count relative to the image, scores as they are. Outputs of other shapes, or that are not finite, differ
    without bound.
    """
    if ours.shape != theirs.shape or not bool(theirs.isfinite().all()):
        return float("inf")
    away = (ours.float() - theirs.float()).abs()
    away[:4] /= imgsz
    return float(away.max())


def _kept(raw: Tensor, conf: float) -> Tensor:
    """Return the anchors whose boxes NMS keeps."""
    _, (kept,) = nms.non_max_suppression(raw[None].clone(), conf, IOU, max_time_img=10.0, return_idxs=True)
    anchors: Tensor = kept.flatten()
    return anchors


def _unmatched(ours: Tensor, theirs: Tensor, kept: Tensor, others: Tensor, imgsz: int) -> tuple[int, int]:
    """Count the boxes *kept* of one side that the other does not see, and those that only NMS has chosen."""
    if ours.shape != theirs.shape:
        return len(kept), 0
    chosen = set(others.tolist())
    alike = [bool(difference(ours[:, [at]], theirs[:, [at]], imgsz) <= TOLERANCE) for at in kept.tolist()]
    ties = sum(same and at not in chosen for at, same in zip(kept.tolist(), alike, strict=True))
    return alike.count(False), ties
