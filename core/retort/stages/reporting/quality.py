"""What the data set is like: how many boxes of each class there are, and what is doubtful in it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from retort.intake import checkup
from retort.spec.result import DataFinding, DataQuality, SplitFigures
from retort.stages.context import Context

MOST_IMAGES = 20_000
"""A larger set is not looked through again: that is what ``retort data check`` is for."""


def data_quality(context: Context) -> DataQuality | None:
    """Return the numbers of images and boxes by split and class, and the findings; None where the set is not read."""
    dataset = context.inputs.dataset
    root = Path(dataset.root)
    if dataset.num_train + dataset.num_val > MOST_IMAGES or not (root / "data.yaml").is_file():
        return None
    context.pulse.beat("setup")
    found = checkup.check(str(root), [root])
    if found.names != dataset.names or not found.splits:
        return None
    return DataQuality(
        splits={
            split: SplitFigures(
                num_images=held.num_images,
                num_backgrounds=held.num_backgrounds,
                boxes=dict(zip(found.names, held.boxes, strict=True)),
            )
            for split, held in found.splits.items()
        },
        findings=tuple(DataFinding(**asdict(finding)) for finding in found.findings),
    )
