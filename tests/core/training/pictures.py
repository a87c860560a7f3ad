"""A data set of coloured rectangles, and a watcher that writes down what it is told."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from retort.spec.hardware import Optimisation
from retort.training.config import RuleFinding, TrainCallback

NAMES = {0: "red", 1: "green", 2: "blue"}
SIDE = 96


def draw(folder: Path, *, num_train: int, num_val: int, seed: int = 0) -> Path:
    """Write the data set below *folder* and return its data.yaml."""
    rng = np.random.default_rng(seed)
    for split, number in (("train", num_train), ("val", num_val)):
        for kind in ("images", "labels"):
            (folder / kind / split).mkdir(parents=True)
        for index in range(number):
            pixels, rows = scene(rng)
            Image.fromarray(pixels).save(folder / "images" / split / f"{index}.png")
            (folder / "labels" / split / f"{index}.txt").write_text("\n".join(rows))
    path = folder / "data.yaml"
    path.write_text(f"path: {folder}\ntrain: images/train\nval: images/val\nnames: {list(NAMES.values())}\n")
    return path


def scene(rng: np.random.Generator) -> tuple[np.ndarray, list[str]]:
    """Three rectangles, each in one pure colour, on noise."""
    pixels = rng.integers(90, 140, (SIDE, SIDE, 3), dtype=np.uint8)
    rows = []
    for _ in range(3):
        colour = int(rng.integers(0, len(NAMES)))
        width, height = rng.integers(16, 40, 2)
        x, y = rng.integers(0, SIDE - width), rng.integers(0, SIDE - height)
        pixels[y : y + height, x : x + width] = 0
        pixels[y : y + height, x : x + width, colour] = 255
        centre = ((x + width / 2) / SIDE, (y + height / 2) / SIDE)
        rows.append(f"{colour} {centre[0]} {centre[1]} {width / SIDE} {height / SIDE}")
    return pixels, rows


@dataclass
class Notebook(TrainCallback):
    """A watcher that remembers, and asks to stop after so many batches."""

    stop_after: int | None = None
    metrics: dict[int, dict[str, float | None]] = field(default_factory=dict)
    checkpoints: list[tuple[int, Path, dict[str, float | None]]] = field(default_factory=list)
    fractions: list[float] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    findings: list[RuleFinding] = field(default_factory=list)
    optimisations: tuple[Optimisation, ...] = ()

    def metric(self, step: int, values: dict[str, float | None]) -> None:
        self.metrics[step] = values

    def checkpoint(self, epoch: int, path: Path, metrics: dict[str, float | None]) -> None:
        self.checkpoints.append((epoch, path, metrics))

    def progress(self, fraction: float) -> None:
        self.fractions.append(fraction)

    def log(self, message: str, level: str = "info", **data: Any) -> None:  # noqa: ARG002
        self.said.append(f"{level}: {message}")

    def health(self, finding: RuleFinding) -> None:
        self.findings.append(finding)

    def optimised(self, found: tuple[Optimisation, ...]) -> None:
        self.optimisations = found

    def stop_requested(self) -> bool:
        return self.stop_after is not None and len(self.fractions) >= self.stop_after
