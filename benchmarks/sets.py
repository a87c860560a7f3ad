"""Draw detection sets from what packages ship: shapes, letters by fonts, emoji pasted into photographs.

    python benchmarks/sets.py --out DIR --emoji PACKAGE [--emoji PACKAGE] [--sets letters,shapes,food]

``shapes`` needs Pillow alone, ``letters`` the fonts of matplotlib, the others one or more unpacked npm packages of the
family ``emoji-datasource-*``, each of which draws the same emoji in its own way. Backgrounds are the photographs of
scikit-learn. A set is byte for byte the same for the same arguments, and has a test split that nothing is chosen by.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFont

Rng = np.random.Generator
Stamp = Callable[[Rng, int], Image.Image]
"""Draws one object about so many pixels large, RGBA."""

EMOJI = {
    "animals": ("animal-mammal", "animal-bird", "animal-marine", "animal-reptile", "animal-bug"),
    "food": ("food-fruit", "food-vegetable", "food-prepared", "food-sweet"),
    "travel": ("transport-ground", "transport-air", "transport-water"),
    "flags": ("country-flag",),
}
"""Subcategories of Unicode's emoji by set."""
STRAYS = ("clothing", "office", "tool", "household", "sky & weather")
"""Subcategories that belong to no set."""
NUM_EMOJI = 16
"""Classes of a set of emoji, evenly over its subcategories' emoji."""
CELL, BORDER = 64, 1
"""Pixels of an emoji in a sheet, and around it."""
SIDE = 160
"""Pixels of a scene."""
SPLITS = {"train": 300, "val": 80, "test": 120}
"""Scenes, where not told otherwise."""
SHAPES = ("circle", "square", "triangle", "diamond", "pentagon", "star", "ring", "cross")


@dataclass(frozen=True)
class Drawing:
    """What a set is drawn from."""

    names: tuple[str, ...]
    stamps: tuple[tuple[Stamp, ...], ...]
    """By class: the ways in which it is drawn."""
    strays: tuple[Stamp, ...] = ()
    """Things that are no object of the set."""


def shapes() -> Drawing:
    """Return plain figures, filled or as outlines."""
    return Drawing(SHAPES, tuple((_shape(name),) for name in SHAPES))


def _shape(name: str) -> Stamp:
    def stamp(rng: Rng, side: int) -> Image.Image:
        big = 4 * side
        mask = Image.new("L", (big, big))
        draw = ImageDraw.Draw(mask)
        width = max(4, big // 8)
        fill = 255 if rng.random() < 0.6 else None
        if name in {"circle", "ring"}:
            inside = fill if name == "circle" else None
            draw.ellipse(
                (2, 2, big - 3, big - 3), fill=inside, outline=255, width=width if name == "circle" else big // 4
            )
        else:
            draw.polygon(_corners(name, big), fill=fill, outline=255, width=width)
        picture = Image.new("RGBA", (big, big), (*_colour(rng), 0))
        picture.putalpha(mask)
        return picture.resize((side, side), Image.Resampling.LANCZOS)

    return stamp


def _corners(name: str, side: int) -> list[tuple[float, float]]:
    """Return the corners of a figure that fills a square of *side* pixels."""
    half = side / 2
    if name == "square":
        return [(2, 2), (side - 3, 2), (side - 3, side - 3), (2, side - 3)]
    if name == "cross":
        a, b = side / 3, 2 * side / 3
        return [
            (a, 0),
            (b, 0),
            (b, a),
            (side, a),
            (side, b),
            (b, b),
            (b, side),
            (a, side),
            (a, b),
            (0, b),
            (0, a),
            (a, a),
        ]
    number = {"triangle": 3, "diamond": 4, "pentagon": 5, "star": 10}[name]
    radii = [half * (0.45 if name == "star" and index % 2 else 1.0) for index in range(number)]
    angles = [2 * math.pi * index / number - math.pi / 2 for index in range(number)]
    return [(half + r * math.cos(a), half + r * math.sin(a)) for r, a in zip(radii, angles, strict=True)]


def letters() -> Drawing:
    """Return the capital letters, by the fonts that matplotlib ships."""
    import matplotlib as mpl

    folder = Path(mpl.get_data_path()) / "fonts" / "ttf"
    fonts = tuple(sorted(path for path in folder.glob("*.ttf") if path.stem.startswith(("DejaVu", "STIXGeneral"))))
    names = tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
    return Drawing(names, tuple(tuple(_glyph(name, font) for font in fonts) for name in names))


def _glyph(text: str, font: Path) -> Stamp:
    def stamp(rng: Rng, side: int) -> Image.Image:
        face = _face(font, 2 * side)
        left, top, right, bottom = face.getbbox(text)
        mask = Image.new("L", (int(right - left) + 4, int(bottom - top) + 4))
        ImageDraw.Draw(mask).text((2 - left, 2 - top), text, font=face, fill=255)
        picture = Image.new("RGBA", mask.size, (*_colour(rng), 0))
        picture.putalpha(mask)
        return picture.resize((max(4, mask.width // 2), max(4, mask.height // 2)), Image.Resampling.LANCZOS)

    return stamp


@cache
def _face(font: Path, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(font), size)


def emoji(which: str, packages: Sequence[Path]) -> Drawing:
    """Return emoji of one kind, as each of the *packages* draws them, with emoji of no set among them."""
    if not packages:
        raise SystemExit(f"the set {which} needs --emoji: an unpacked npm package of the family emoji-datasource-*")
    wanted = [one for kind in EMOJI[which] for one in _listed(packages[0], kind)]
    chosen = [wanted[round(index * (len(wanted) - 1) / (NUM_EMOJI - 1))] for index in range(NUM_EMOJI)]
    others = [one for kind in STRAYS for one in _listed(packages[0], kind)]
    return Drawing(
        tuple(chosen),
        tuple(tuple(_emoji(package, name) for package in packages) for name in chosen),
        tuple(_emoji(packages[0], name) for name in others),
    )


@cache
def _sheet(package: Path) -> tuple[dict[str, tuple[str, int, int]], Image.Image]:
    """Return where each emoji lies, with its subcategory, and the sheet of a package."""
    vendor = next(path.name for path in (package / "img").iterdir() if path.is_dir())
    rows = json.loads((package / "emoji.json").read_text(encoding="utf-8"))
    drawn = {
        row["short_name"]: (row["subcategory"], row["sheet_x"], row["sheet_y"])
        for row in rows
        if row[f"has_img_{vendor}"]
    }
    return drawn, Image.open(package / "img" / vendor / "sheets" / f"{CELL}.png").convert("RGBA")


def _listed(package: Path, kind: str) -> list[str]:
    return [name for name, (found, _, _) in _sheet(package)[0].items() if found == kind]


def _emoji(package: Path, name: str) -> Stamp:
    def stamp(rng: Rng, side: int) -> Image.Image:
        drawn, sheet = _sheet(package)
        _, column, row = drawn[name]
        pitch = CELL + 2 * BORDER
        left, top = column * pitch + BORDER, row * pitch + BORDER
        picture = sheet.crop((left, top, left + CELL, top + CELL)).resize((side, side), Image.Resampling.LANCZOS)
        return ImageEnhance.Color(picture).enhance(float(rng.uniform(0.4, 1.3)))

    return stamp


def _colour(rng: Rng) -> tuple[int, int, int]:
    red, green, blue = rng.integers(0, 256, 3).tolist()
    return red, green, blue


@cache
def _photographs() -> tuple[Image.Image, ...]:
    from sklearn.datasets import load_sample_images

    return tuple(Image.fromarray(picture) for picture in load_sample_images().images)


def background(rng: Rng) -> Image.Image:
    """Return a piece of a photograph, or uneven paper."""
    if rng.random() < 0.5:
        cells = int(rng.integers(2, 12))
        grid = np.clip(rng.integers(0, 256, 3) + rng.normal(0, 35, (cells, cells, 3)), 0, 255).astype(np.uint8)
        return Image.fromarray(grid).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    photographs = _photographs()
    picture = photographs[rng.integers(len(photographs))]
    side = int(rng.integers(SIDE // 2, 400))
    left, top = int(rng.integers(picture.width - side)), int(rng.integers(picture.height - side))
    piece = picture.crop((left, top, left + side, top + side)).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    piece = piece.rotate(90 * int(rng.integers(4)))
    return ImageEnhance.Brightness(piece).enhance(float(rng.uniform(0.5, 1.4)))


def scene(drawing: Drawing, rng: Rng) -> tuple[Image.Image, list[str]]:
    """Return one scene and the lines of its label file."""
    canvas = background(rng).convert("RGB")
    taken: list[tuple[int, int, int, int]] = []
    lines = []
    wanted: list[int | None] = [None] * int(rng.integers(0, 3)) if drawing.strays else []
    wanted += rng.integers(0, len(drawing.names), int(rng.integers(3, 9))).tolist()
    for number in wanted:
        ways = drawing.strays if number is None else drawing.stamps[number]
        picture = _turned(ways[rng.integers(len(ways))](rng, int(rng.uniform(0.11, 0.38) * SIDE)), rng)
        left, top = (int(rng.integers(0, SIDE - side)) for side in picture.size)
        box = (left, top, left + picture.width, top + picture.height)
        if any(_overlap(box, other) > 0.15 for other in taken):
            continue
        canvas.paste(picture, (left, top), picture)
        taken.append(box)
        if number is not None:
            x, y = (box[0] + box[2]) / 2 / SIDE, (box[1] + box[3]) / 2 / SIDE
            lines.append(f"{number} {x:.6f} {y:.6f} {picture.width / SIDE:.6f} {picture.height / SIDE:.6f}\n")
    grain = rng.normal(0, float(rng.uniform(0, 12)), (SIDE, SIDE, 3))
    return Image.fromarray(np.clip(np.asarray(canvas) + grain, 0, 255).astype(np.uint8)), lines


def _turned(picture: Image.Image, rng: Rng) -> Image.Image:
    """Lean, fade and crop an object to what is seen of it."""
    picture = picture.rotate(float(rng.uniform(-15, 15)), Image.Resampling.BICUBIC, expand=True)
    kept = float(rng.uniform(0.7, 1))
    picture.putalpha(picture.getchannel("A").point(lambda value: int(value * kept)))
    return picture.crop(picture.getchannel("A").point(lambda value: 255 * (value > 40)).getbbox())


def _overlap(one: tuple[int, int, int, int], other: tuple[int, int, int, int]) -> float:
    """Return the share of the smaller box that both cover."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    smaller = min((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return max(0, width) * max(0, height) / smaller


def write(folder: Path, drawing: Drawing, splits: dict[str, int], seed: int = 0) -> Path:
    """Write a set to *folder*, whole or not at all, and return its ``data.yaml``; one that is there is kept."""
    if (folder / "data.yaml").exists():
        return folder / "data.yaml"
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    own = int.from_bytes(hashlib.sha256(repr(drawing.names).encode()).digest()[:4])  # no two sets share a place
    for number, (split, count) in enumerate(splits.items()):
        for kind in ("images", "labels"):
            (part / kind / split).mkdir(parents=True)
        for index in range(count):
            picture, lines = scene(drawing, np.random.default_rng([seed, own, number, index]))
            picture.save(part / "images" / split / f"{split}-{index:05d}.jpg", quality=90)
            (part / "labels" / split / f"{split}-{index:05d}.txt").write_text("".join(lines))
    names = "".join(f"  {number}: {json.dumps(name)}\n" for number, name in enumerate(drawing.names))
    (part / "data.yaml").write_text("".join(f"{split}: images/{split}\n" for split in splits) + "names:\n" + names)
    part.rename(folder)
    return folder / "data.yaml"


def drawing_of(name: str, packages: Sequence[Path] = ()) -> Drawing:
    """Return what the set *name* is drawn from."""
    plain = {"shapes": shapes, "letters": letters}
    return plain[name]() if name in plain else emoji(name, packages)


def main() -> None:
    """Draw the sets that are missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--emoji", type=Path, action="append", default=[], help="an unpacked package; repeatable")
    parser.add_argument("--sets", type=lambda text: text.split(","), default=["shapes", "letters", *EMOJI])
    parser.add_argument("--train", type=int, default=SPLITS["train"], help="training scenes of each set")
    options = parser.parse_args()
    for name in options.sets:
        splits = {**SPLITS, "train": options.train}
        print(write(options.out / name, drawing_of(name, options.emoji), splits), flush=True)


if __name__ == "__main__":
    main()
