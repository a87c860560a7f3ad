"""Resample the validation images for the interval of a difference of mAP."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retort.spec.verdict import Resampled

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

_RECALLS = np.linspace(0, 1, 101)
"""The recalls at which upstream reads the curve, as COCO does."""
_WORK = 1_500_000_000
"""Elementary steps of a bootstrap: some ten seconds on one core."""
FEWEST, MOST = 200, 500
"""Resamples: as many as the work allows."""


@dataclass(frozen=True, eq=False)
class Matches:
    """Predictions and objects of each validation image, and which predictions are right.

    It is all that mAP is made of, so the mAP of any choice of images can be told without running the network again.
    """

    image: Counts
    """(N,) of each prediction."""
    right: NDArray[np.bool_]
    """(N, T) whether it matches an object, at each of T thresholds of IoU, the lowest first."""
    score: NDArray[np.float32]
    """(N,) its confidence."""
    label: Counts
    """(N,) its class."""
    true_image: Counts
    """(M,) of each object."""
    true_label: Counts
    """(M,) its class."""
    num_images: int

    @classmethod
    def of(cls, stats: Mapping[str, Sequence[Any]]) -> Matches:
        """Take over what upstream's metrics hold before they are summed up: lists by image."""
        predictions = [len(scores) for scores in stats["conf"]]
        objects = [len(labels) for labels in stats["target_cls"]]
        images = np.arange(len(predictions))
        return cls(
            image=np.repeat(images, predictions),
            right=np.concatenate(stats["tp"]).astype(bool),
            score=np.concatenate(stats["conf"]).astype(np.float32),
            label=np.concatenate(stats["pred_cls"]).astype(np.int64).reshape(-1),
            true_image=np.repeat(images, objects),
            true_label=np.concatenate(stats["target_cls"]).astype(np.int64).reshape(-1),
            num_images=len(predictions),
        )


class Judge:
    """The judge's sums over any choice of images, prepared once for a network.

    A chosen image counts as often as it was drawn, exactly as if it stood so often in the data set.
    """

    def __init__(self, matches: Matches) -> None:
        self._matches = matches
        self._num_thresholds = matches.right.shape[1]
        order = np.argsort(-matches.score)  # upstream's, so that equal scores stand in its order
        self._classes = [
            _ClassMatches(matches.image[mine], matches.right[mine], label)
            for label in np.unique(matches.true_label)
            for mine in [order[matches.label[order] == label]]
        ]

    @property
    def num_images(self) -> int:
        """Images that are drawn from."""
        return self._matches.num_images

    @property
    def work(self) -> int:
        """Elementary steps of one resample, roughly."""
        return len(self._matches.image) + int(self._matches.right.sum()) + 60 * 101 * 10 * len(self._classes)

    def map(self, drawn: Counts) -> tuple[float, float]:
        """Return mAP50 and mAP50-95 where each image counts as often as *drawn* (images,) says."""
        true = np.bincount(self._matches.true_label, weights=drawn[self._matches.true_image]).astype(np.int64)
        found = [one.ap(drawn, int(true[one.label])) for one in self._classes if true[one.label]]
        if not found:
            return 0.0, 0.0
        ap = np.array(found)  # classes that the choice has, thresholds
        return float(ap[:, 0].mean()), float(ap.mean())

    def aps(self, drawn: Counts) -> Floats:
        """Return AP50-95 of each class (classes,), NaN without an object.

        Classes are in the order of their numbers.
        """
        true = np.bincount(self._matches.true_label, weights=drawn[self._matches.true_image]).astype(np.int64)
        found = [one.ap(drawn, number).mean() if (number := int(true[one.label])) else np.nan for one in self._classes]
        return np.array(found, dtype=np.float64)


class _ClassMatches:
    """The predictions of one class in order of their scores, and which are right at each threshold."""

    def __init__(self, image: Counts, right: NDArray[np.bool_], label: int) -> None:
        self.label = int(label)
        self._image = image
        self._right = [np.flatnonzero(column) for column in right.T]

    def ap(self, drawn: Counts, num_true: int) -> Floats:
        """Return AP at each threshold."""
        times = drawn[self._image]
        before = np.cumsum(times) - times  # predictions ranked above each
        return np.array([_average_precision(times[right], before[right], num_true) for right in self._right])


def _average_precision(times: Counts, before: Counts, num_true: int) -> float:
    """Return the area below upstream's curve; right predictions count *times*, after *before* predictions in all.

    Upstream's curve has a point at each prediction. Those that are wrong add none that is read: recall stays, and the
    envelope of precision is that of the next right one.
    """
    total = int(times.sum())
    if not total:
        return 0.0
    copy = np.arange(total) - np.repeat(np.cumsum(times) - times, times)  # 0, 1, .. within the copies of one
    rank = np.repeat(before, times) + copy + 1
    found = np.arange(1, total + 1)
    envelope = np.maximum.accumulate((found / rank)[::-1])[::-1]
    recall = found / (num_true + 1e-16)
    # Where wrong ones stand between two right ones, the curve falls at once, else in a line.
    falls = np.append(np.diff(rank) > 1, True)
    following = np.append(envelope[1:], 0.0)
    at = np.concatenate(([0.0], np.repeat(recall, 1 + falls), [1.0]))
    height = np.repeat(envelope, 1 + falls)
    height[np.cumsum(1 + falls)[falls] - 1] = following[falls]
    first = envelope[0] if rank[0] > 1 else 1.0
    return float(np.trapezoid(np.interp(_RECALLS, at, np.concatenate(([first], height, [0.0]))), _RECALLS))


def resample(ours: Matches, theirs: Matches, *, level: float, seed: int) -> Resampled:
    """Return the interval of mAP50-95, *ours* less *theirs*, over images.

    They are drawn with replacement, the same for both. The same arguments give the same interval. It holds what
    another validation set of this size might say of these two networks; what another training would have made of them
    it cannot know.
    """
    assert ours.num_images == theirs.num_images, "both are judged on the same images"
    first, second = Judge(ours), Judge(theirs)
    number = int(np.clip(_WORK // (first.work + second.work), FEWEST, MOST))
    differences = maps(first, number, seed) - maps(second, number, seed)
    return interval(differences, level=level, num_images=ours.num_images)


def maps(judge: Judge, number: int, seed: int) -> Floats:
    """Return mAP50-95 (number,) of *number* draws of the images.

    The draws are the same for every network.
    """
    return np.array([judge.map(drawn)[1] for drawn in _draws(judge.num_images, number, seed)])


def class_aps(matches: Matches, seed: int) -> Floats:
    """Return AP50-95 (draws, classes) for draws of the images.

    It is NaN where a draw has no object of a class. Draws and order of classes are those of every network that was
    judged on these images.
    """
    judge = Judge(matches)
    return np.array([judge.aps(drawn) for drawn in _draws(judge.num_images, FEWEST, seed)])


def best_of(aps: Sequence[Floats]) -> Floats:
    """Return mAP50-95 (draws,) where in each class the best of several networks counts.

    *aps* are their class APs (draws, classes); without any it is 0.
    """
    best = np.nan_to_num(np.max(aps, axis=0)) if len(aps) else np.zeros((FEWEST, 1))
    present = np.isfinite(aps[0]).sum(1) if len(aps) else np.ones(FEWEST)
    total: Floats = best.sum(1) / np.maximum(present, 1)
    return total


def _draws(size: int, number: int, seed: int) -> Iterator[Counts]:
    """Yield how often each of *size* images was drawn, *number* times."""
    random = np.random.default_rng(seed)
    for _ in range(number):
        yield np.bincount(random.integers(size, size=size), minlength=size)


def interval(differences: Floats, *, level: float, num_images: int) -> Resampled:
    """Return the percentile interval of resampled *differences*."""
    low, high = np.quantile(differences, [(1 - level) / 2, (1 + level) / 2])
    return Resampled(
        low=float(low), high=float(high), level=level, num_images=num_images, num_resamples=len(differences)
    )
