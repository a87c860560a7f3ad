"""Sample images with boxes drawn on them, as JPEG data URIs."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps

from retort.review.boxes import MATCH_IOU, Corners, overlap

_SIDE = 400
"""Longer side of a picture in pixels; smaller images are enlarged, so that thin boxes can be told apart."""
COLORS = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7", "#FFFFFF")
"""By class: the palette of Okabe and Ito, which colour-blind people can tell apart, and white for its black."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A box to draw: its corners in pixels of the image, its class, and its score if a network found it."""

    box: Corners
    class_id: int
    score: float | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """One image as one party sees it."""

    title: str
    uri: str
    caption: str


def truth(image: Path, label: Path) -> list[Mark]:
    """Read the boxes of a label file in the pixels of its image."""
    if not label.is_file():
        return []
    width, height = _open(image).size
    marks: list[Mark] = []
    for line in label.read_text(encoding="utf-8-sig").splitlines():
        if columns := line.split():
            x, y, w, h = (float(value) for value in columns[1:5])
            box = ((x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height)
            marks.append(Mark(box, int(float(columns[0]))))
    return marks


def draw(image: Path, marks: Sequence[Mark], names: Sequence[str] | None = None) -> str:
    """Return *image* with *marks* on it, scaled, as a data URI; without *names* a legend says what colours mean."""
    picture = _open(image).convert("RGB")
    scale = _SIDE / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    picture = picture.resize(size, Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(picture, "RGBA")
    for mark in sorted(marks, key=lambda mark: mark.score or 0.0):
        left, top, right, bottom = (side * scale for side in mark.box)
        color = COLORS[mark.class_id % len(COLORS)]
        # A dark line around the coloured one keeps it visible on any ground.
        pen.rectangle((left - 1, top - 1, max(left, right) + 1, max(top, bottom) + 1), outline="#00000090", width=1)
        pen.rectangle((left, top, max(left, right), max(top, bottom)), outline=color, width=2)
        words = [names[mark.class_id]] if names else []
        if mark.score is not None:
            words.append(f"{mark.score:.2f}")
        if words:
            _tag(pen, " ".join(words)[:24], (left, top), color, picture.width)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=82, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _tag(pen: ImageDraw.ImageDraw, text: str, corner: tuple[float, float], color: str, width: int) -> None:
    """Write *text* above a box's corner, inside the picture of this *width*."""
    font = ImageFont.load_default(size=12)
    wide = pen.textlength(text, font=font) + 4
    x = max(0.0, min(corner[0], width - wide))
    y = corner[1] - 14 if corner[1] >= 14 else corner[1]
    pen.rectangle((x, y, x + wide, y + 14), fill=color)
    pen.text((x + 2, y), text, fill="black" if color != "#0072B2" else "white", font=font)


def compare(found: Sequence[Mark], expected: Sequence[Mark]) -> str:
    """Say in words how many of the *expected* boxes were found, at IoU 0.5 and with the right class."""
    right, wrong = matched(found, expected)
    return f"{right} of {len(expected)} found, {wrong} wrong"


def matched(found: Sequence[Mark], expected: Sequence[Mark]) -> tuple[int, int]:
    """Count the *expected* boxes that were found, at IoU 0.5 and with the right class, and the boxes that are wrong."""
    left = list(expected)
    wrong = 0
    for mark in sorted(found, key=lambda mark: -(mark.score or 0.0)):
        same = [
            other for other in left if other.class_id == mark.class_id and overlap(mark.box, other.box) >= MATCH_IOU
        ]
        if same:
            left.remove(max(same, key=lambda other: overlap(mark.box, other.box)))
        else:
            wrong += 1
    return len(expected) - len(left), wrong


def _open(image: Path) -> Image.Image:
    """Open an image as trainers see it: turned as its camera said."""
    with Image.open(image) as picture:
        return ImageOps.exif_transpose(picture)
