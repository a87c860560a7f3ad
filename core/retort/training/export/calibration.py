"""Choose INT8 calibration images, balanced by class, or from a folder."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from retort.errors import DataError
from retort.exports.base import ENOUGH_IMAGES, FEWEST_IMAGES
from retort.files import sha256_of
from retort.training.inference import prepare


@dataclass(frozen=True)
class Calibration:
    """Chosen calibration images, and the number that shows each class."""

    images: tuple[Path, ...]
    per_class: dict[str, int]
    """Images that show each class; empty where they have no labels."""
    wanted: int

    @property
    def warning(self) -> str | None:
        """Warning about too few calibration images, or None."""
        if len(self.images) >= ENOUGH_IMAGES:
            return None
        return f"{len(self.images)} calibration images are few: {ENOUGH_IMAGES} of the place of use are advised"

    def inputs(self, shape: tuple[int, int]) -> Iterator[np.ndarray]:
        """Yield each image as the network sees it.

        It is (1, 3, H, W) of this *shape*, float32 in 0..1.
        """
        for image in self.images:
            yield prepare(image, shape)[0].numpy()


def choose(data: Path, names: Sequence[str], *, number: int, seed: int) -> Calibration:
    """Choose *number* training images, balanced by class.

    They lie below *data*, an overlay; every class is seen as evenly as can be. Classes take turns, each with an image
    of its own that none has taken yet; background is one of them.

    Raises:
        DataError: too few training images are not validation images as well.

    """
    known = {sha256_of(image) for image in (data / "images" / "val").iterdir()}
    images = [image for image in sorted((data / "images" / "train").iterdir()) if sha256_of(image) not in known]
    if len(images) < FEWEST_IMAGES:
        raise DataError(
            f"INT8 needs at least {FEWEST_IMAGES} training images that are not validation images, and there are "
            f"{len(images)}",
            hint=f"add training images ({ENOUGH_IMAGES} are advised), or leave the INT8 exports out",
        )
    random.Random(seed).shuffle(images)  # noqa: S311 - a sample, not a secret
    shown = {image: _classes(data / "labels" / "train" / f"{image.stem}.txt") for image in images}
    lines = {kind: [image for image in images if kind in shown[image]] for kind in (*range(len(names)), None)}
    taken: dict[Path, None] = {}
    while len(taken) < min(number, len(images)):
        for line in lines.values():
            while line and line[0] in taken:
                line.pop(0)
            if line and len(taken) < number:
                taken[line.pop(0)] = None
    counts = Counter(names[kind] for image in taken for kind in shown[image] if kind is not None)
    return Calibration(tuple(taken), {name: counts[name] for name in names}, number)


def choose_unlabelled(folder: Path, *, number: int, seed: int) -> Calibration:
    """Choose *number* of the images in *folder*.

    Intake has laid them there, without validation images.
    """
    images = sorted(folder.iterdir())
    random.Random(seed).shuffle(images)  # noqa: S311 - a sample, not a secret
    return Calibration(tuple(images[:number]), {}, number)


def _classes(label: Path) -> set[int | None]:
    """Return the classes in a label file; None alone is background."""
    lines = label.read_text(encoding="utf-8-sig").splitlines() if label.is_file() else []
    return {int(float(line.split()[0])) for line in lines if line.strip()} or {None}
