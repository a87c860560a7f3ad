"""Find the boxes around COCO's polygons and run-length encoded masks."""

from __future__ import annotations

from itertools import accumulate, chain
from typing import Any, NoReturn

from retort.data.conversion.objects import around
from retort.errors import DataError
from retort.review.models import Corners


def box_around(segmentation: Any, place: str) -> Corners | None:
    """Return the corners of the box around a COCO *segmentation*, or None.

    Raises:
        DataError: it is neither polygons nor a mask; the message names *place*.

    """
    if not segmentation:
        return None
    try:
        if isinstance(segmentation, dict):
            return _mask(segmentation)
        numbers = [float(value) for value in chain.from_iterable(segmentation)]
    except (TypeError, ValueError, KeyError, IndexError, OverflowError):
        _refuse(place)
    if len(numbers) < 4 or len(numbers) % 2:
        _refuse(place)
    return around(list(zip(numbers[::2], numbers[1::2], strict=True)))


def size_of_mask(annotation: dict[str, Any]) -> tuple[int, int] | None:
    """Return width and height of the mask that replaces a box, or None."""
    segmentation = annotation.get("segmentation")
    if any(annotation.get("bbox") or ()) or not isinstance(segmentation, dict):
        return None
    height, width = (int(side) for side in segmentation["size"])
    return width, height


def _refuse(place: str) -> NoReturn:
    hint = "polygons as [[x1, y1, x2, y2, …]], or a mask as {size, counts}; or give a bbox"
    raise DataError(f"{place}: segmentation is neither polygons nor a mask", hint=hint)


def _mask(mask: dict[str, Any]) -> Corners | None:
    """Return the box around the set pixels of a mask, which runs down its columns."""
    height, width = (int(side) for side in mask["size"])
    counts = mask["counts"]
    runs = _unpacked(counts) if isinstance(counts, str) else [int(count) for count in counts]
    if height <= 0 or width <= 0 or min(runs, default=0) < 0 or sum(runs) > height * width:
        raise ValueError
    ends = list(accumulate(runs))
    stretches = [(begin, end) for begin, end in zip(ends[::2], ends[1::2], strict=False) if end > begin]
    if not stretches:
        return None
    left, right = stretches[0][0] // height, (stretches[-1][1] - 1) // height + 1
    whole = any(begin // height != (end - 1) // height for begin, end in stretches)
    top = 0 if whole else min(begin % height for begin, _ in stretches)
    bottom = height if whole else max((end - 1) % height for _, end in stretches) + 1
    return float(left), float(top), float(right), float(bottom)


def _unpacked(text: str) -> list[int]:
    """Unpack COCO's compressed counts: groups of five bits, each from the third on as a difference."""
    counts: list[int] = []
    at = 0
    while at < len(text):
        value, shift, more = 0, 0, True
        while more:
            group = ord(text[at]) - 48
            if not 0 <= group < 64:
                raise ValueError
            value |= (group & 0x1F) << shift
            more, at, shift = bool(group & 0x20), at + 1, shift + 5
            if not more and group & 0x10:
                value |= -1 << shift
        counts.append(value + counts[-2] if len(counts) > 2 else value)
    return counts
