"""The pictures that people look at: all, or a sample that is spread over classes and scores."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

from retort.review.pictures import Picture
from retort.spec import PseudoLabelsSpec


def chosen(pictures: Sequence[Picture], wanted: PseudoLabelsSpec, seed: int) -> tuple[Picture, ...]:
    """Return the pictures to look at, by name.

    All are those that are trained on, and those on which nothing was found. A sample is of the former only, and
    systematic: every n-th of them, from a random start, in the order of their rarest class and their lowest score. So
    each has the same chance, and each class and score the share in the sample that it has in the whole.
    """
    if wanted.review == "all":
        return tuple(sorted((one for one in pictures if one.left_out in {None, "empty"}), key=lambda one: one.image))
    used = [picture for picture in pictures if picture.left_out is None]
    number = min(wanted.sample, len(used))
    if number == 0:
        return ()
    common = Counter(box.name for picture in used for box in picture.kept)
    ordered = sorted(used, key=lambda one: _place(one, common))
    step = len(ordered) / number
    start = random.Random(seed).random()  # noqa: S311 - the same sample for the same seed
    drawn = [ordered[int((start + index) * step)] for index in range(number)]
    return tuple(sorted(drawn, key=lambda one: one.image))


def _place(picture: Picture, common: Counter[str]) -> tuple[int, str, float, str]:
    """Order by the rarest class on the picture, then by the least certain box, then by name."""
    rarest = min((box.name for box in picture.kept), key=lambda name: (common[name], name))
    return common[rarest], rarest, min(box.score for box in picture.kept), picture.image
