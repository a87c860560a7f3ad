"""Time the search for copies between the images of two splits: python benchmarks/copies.py FOLDER [FIRST SECOND].

Images are drawn into FOLDER, 320 x 240 pixels of eight fixed cameras, and used again by a later call. What each part
took is printed, in seconds of one core, and what 5,000 x 1,000 images would take: opening grows with the images, the
rest with the pairs.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image
from retort.data import copies

GOAL = (5000, 1000)


def scene(number: int) -> Image.Image:
    """Return a frame of one of eight cameras, with things that move."""
    camera, frame = np.random.default_rng(number % 8), np.random.default_rng(number)
    ground = Image.fromarray(camera.integers(0, 255, (12, 16, 3), dtype=np.uint8))
    pixels = np.asarray(ground.resize((320, 240), Image.Resampling.BICUBIC)).copy()
    for _ in range(12):
        left, top, width, height = *frame.integers(0, (280, 200)), *frame.integers(10, 60, 2)
        pixels[top : top + height, left : left + width] = frame.integers(0, 255, 3)
    return Image.fromarray(pixels)


def drawn(folder: Path, numbers: range) -> list[Path]:
    """Draw the images that are not there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number:05d}.jpg" for number in numbers]
    for number, path in zip(numbers, paths, strict=True):
        if not path.exists():
            scene(number).save(path, quality=90)
    return paths


def main(folder: str, first: str = "1500", second: str = "300") -> None:
    """Print what each part takes, and what it would take for the goal."""
    sizes = int(first), int(second)
    began = time.process_time()
    paths = drawn(Path(folder), range(sum(sizes)))
    print(f"drawing: {time.process_time() - began:.1f} s")
    began = time.process_time()
    views, others = (copies.view_images(part, lambda: None) for part in (paths[: sizes[0]], paths[sizes[0] :]))
    opened = time.process_time() - began
    began = time.process_time()
    found = copies.find_copies(views, others, lambda: None)
    searched = time.process_time() - began
    goal = opened * sum(GOAL) / sum(sizes) + searched * GOAL[0] * GOAL[1] / (sizes[0] * sizes[1])
    print(
        f"opening {sum(sizes)}: {opened:.1f} s; searching {sizes[0]} x {sizes[1]}: {searched:.1f} s, {len(found)} found"
    )
    print(f"{GOAL[0]} x {GOAL[1]}: about {goal / 60:.0f} minutes")


if __name__ == "__main__":
    main(*sys.argv[1:])
