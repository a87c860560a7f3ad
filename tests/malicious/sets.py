"""Write a small data set in which one file is malicious."""

from __future__ import annotations

from pathlib import Path

from PIL import Image


def write_set(root: Path) -> Path:
    """Two pictures to learn from and one to measure on."""
    for number, split in enumerate(("train", "train", "val")):
        for kind in ("images", "labels"):
            (root / kind / split).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 16), (number * 50, 0, 0)).save(root / f"images/{split}/{number}.png")
        (root / f"labels/{split}/{number}.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    (root / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [a]\n")
    return root
