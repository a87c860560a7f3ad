"""Weighted boxes fusion over several views of an image (Solovyev et al., 2021)."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

OVERLAP = 0.55
"""IoU from which boxes of several views are one; the paper's."""
_INSIDE = 0.99
"""Part of a box that a view must show to have a say in it."""


def fuse(
    corners: Array, probabilities: Array, views: Array, windows: Array, *, overlap: float = OVERLAP
) -> tuple[Array, Array]:
    """Return the merged boxes and their class probabilities, the most certain first.

    Boxes are taken in the order of their scores; each joins the merged box that it overlaps most, from *overlap* on,
    of those that its own view has not joined, or begins one. A merged box is the mean of its members weighted by their
    scores, and so are its probabilities without weights; these count as 0 for each view that shows the place and has
    found nothing, as in the paper, which keeps one class a box where this keeps the whole vector.

    Args:
        corners: (n, 4), x1 y1 x2 y2 as parts of the image's sides.
        probabilities: (n, K), of the classes.
        views: (n,), the number of the view that has found each.
        windows: (V, 4), what part of the image each view shows.
        overlap: see above.

    """
    order = np.argsort(-probabilities.max(1, initial=0), kind="stable")
    merged: list[_Merged] = []
    places = np.zeros((0, 4))
    for box, classes, view in zip(corners[order], probabilities[order].astype(np.float64), views[order], strict=True):
        found = _best(places, box, [int(view) in one.views for one in merged], overlap)
        if found is None:
            merged.append(_Merged(int(view), box, classes))
            places = np.concatenate([places, merged[-1].box[None]])
        else:
            merged[found].add(int(view), box, classes)
            places[found] = merged[found].box
    if not merged:
        return corners, probabilities
    seen = np.maximum(_num_shown(places, windows), [len(one.views) for one in merged])
    mean = np.stack([one.classes for one in merged]) / seen[:, None]
    final = np.argsort(-mean.max(1), kind="stable")
    return places[final].astype(np.float32), mean[final].astype(np.float32)


class _Merged:
    """A box with its members so far."""

    def __init__(self, view: int, box: Array, classes: Array) -> None:
        self.views: set[int] = set()
        self._weighted, self._weight = np.zeros(4), 0.0
        self.classes = np.zeros_like(classes)
        """The sum of the members' probabilities."""
        self.add(view, box, classes)

    def add(self, view: int, box: Array, classes: Array) -> None:
        """Take one more member."""
        score = float(classes.max())
        self.views.add(view)
        self._weighted = self._weighted + score * box.astype(np.float64)
        self._weight += score
        self.classes = self.classes + classes

    @property
    def box(self) -> Array:
        """The mean of its members."""
        return self._weighted / self._weight


def _best(places: Array, box: Array, taken: list[bool], overlap: float) -> int | None:
    """Return which merged box *box* joins, of those that are not *taken*; None for none."""
    if not len(places):
        return None
    found = np.where(taken, 0.0, iou(places, box))
    best = int(found.argmax())
    return best if found[best] >= overlap else None


def iou(boxes: Array, other: Array) -> Array:
    """Return the IoU of each of *boxes* (n, 4) with *other* (4,): (n,)."""
    size = (np.minimum(boxes[:, 2:], other[2:]) - np.maximum(boxes[:, :2], other[:2])).clip(min=0)
    shared = size.prod(1)
    area, own = (boxes[:, 2:] - boxes[:, :2]).prod(1), float((other[2:] - other[:2]).prod())
    found: Array = shared / np.maximum(area + own - shared, 1e-12)
    return found


def _num_shown(boxes: Array, windows: Array) -> Array:
    """Return how many of *windows* show each box, (n,)."""
    low = np.maximum(boxes[:, None, :2], windows[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], windows[None, :, 2:])
    part = (high - low).clip(min=0).prod(-1) / np.maximum((boxes[:, 2:] - boxes[:, :2]).prod(1)[:, None], 1e-12)
    found: Array = (part >= _INSIDE).sum(1)
    return found
