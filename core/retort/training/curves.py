"""Gather the precision-recall curves and confusion matrices of judged networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from retort.spec.curves import ClassCurve, Curves, NetworkCurves
from retort.spec.curves import ConfusionMatrix as StoredConfusion
from retort.training.bootstrap import Matches
from retort.training.evaluate import FoundImage
from retort.training.ultralytics_api import ConfusionMatrix, compute_ap

MOST_CLASSES = 80
"""Classes that are kept."""
RECALLS = np.linspace(0, 1, 101)
"""The recalls at which upstream reads the curve for its AP."""
_DIGITS = 5


@dataclass(frozen=True, eq=False)
class Judged:
    """Matches and boxes of one validated network."""

    matches: Matches
    """All its boxes, each right or wrong."""
    images: Sequence[FoundImage]
    """Labels and its boxes from a score on."""
    letterbox: Literal["rectangle", "square", "shape"]


@dataclass(frozen=True, eq=False)
class _Curve:
    precision: NDArray[np.float64]
    """(101,)"""
    ap50: float
    number: int


def gather(networks: Mapping[str, Judged], names: Sequence[str], *, iou: float, score_from: float) -> Curves:
    """Return curves and matrices; the first network says which classes are kept."""
    curves = {network: _curves(judged.matches) for network, judged in networks.items()}
    first, judged = next(iter(curves.values())), next(iter(networks.values()))
    kept = _kept(first, len(names))
    return Curves(
        classes=tuple(names[label] for label in kept), num_classes=len(names), num_images=judged.matches.num_images,
        iou=iou, score_from=score_from,
        networks={
            network: NetworkCurves(
                map50=round(float(np.mean([one.ap50 for one in found.values()] or [0.0])), _DIGITS),
                mean=_rounded(np.mean([one.precision for one in found.values()] or [0 * RECALLS], axis=0)),
                classes=tuple(_told(names[label], found[label]) for label in kept if label in found),
                confusion=StoredConfusion(counts=_confusion(networks[network].images, names, kept, iou)),
                letterbox=networks[network].letterbox,
            )
            for network, found in curves.items()
        },
    )  # fmt: skip


def _kept(found: Mapping[int, _Curve], number: int) -> list[int]:
    """Return the classes to keep, in the data's order: those with the lowest AP50."""
    order = sorted(range(number), key=lambda label: (found[label].ap50 if label in found else 2.0, label))
    return sorted(order[:MOST_CLASSES])


def _curves(matches: Matches) -> dict[int, _Curve]:
    """Return the curve of each class that has labels, at an overlap of 0.5, as upstream sums up."""
    order = np.argsort(-matches.score)  # upstream's, so that equal scores stand in its order
    right, label = matches.right[order, 0], matches.label[order]
    labels, numbers = np.unique(matches.true_label, return_counts=True)
    return {int(one): _curve(right[label == one], int(number)) for one, number in zip(labels, numbers, strict=True)}


def _curve(right: NDArray[np.bool_], number: int) -> _Curve:
    if not len(right):
        return _Curve(np.zeros_like(RECALLS), 0.0, number)
    found = right.cumsum()
    area, precision, recall = compute_ap(found / (number + 1e-16), found / np.arange(1, len(right) + 1))
    return _Curve(np.interp(RECALLS, recall, precision), float(area), number)


def _told(name: str, curve: _Curve) -> ClassCurve:
    return ClassCurve(
        name=name, ap50=round(curve.ap50, _DIGITS), number=curve.number, precision=_rounded(curve.precision)
    )


def _rounded(values: Sequence[float] | NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(round(float(value), _DIGITS) for value in values)


def _confusion(
    images: Sequence[FoundImage], names: Sequence[str], kept: Sequence[int], iou: float
) -> tuple[tuple[int, ...], ...]:
    """Return label by row and seen class by column; classes that are not kept share one of each."""
    matrix = ConfusionMatrix(dict(enumerate(names)))
    for _, labels, boxes in images:
        truth = {"cls": torch.from_numpy(labels[:, 0]), "bboxes": torch.from_numpy(labels[:, 1:])}
        seen = {"conf": boxes[:, 0], "cls": boxes[:, 1], "bboxes": boxes[:, 2:]}
        matrix.process_batch({key: torch.from_numpy(value) for key, value in seen.items()}, truth, 0.0, iou)
    whole = matrix.matrix.T.astype(int)  # upstream's rows are what was seen
    place = np.full(len(names) + 1, len(kept))
    place[list(kept)] = np.arange(len(kept))
    place[-1] = len(kept) + 1
    folded = np.zeros((len(kept) + 2, len(kept) + 2), dtype=int)
    np.add.at(folded, (place[:, None], place[None, :]), whole)
    return tuple(tuple(map(int, row)) for row in folded)
