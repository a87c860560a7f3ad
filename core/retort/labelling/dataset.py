"""Build the training dataset: labelled and pseudo-labelled images."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from retort.constants import PSEUDO_LABELLED
from retort.documents import parse_document
from retort.pipeline.context import ARTIFACTS, Context
from retort.review.models import LABELS, REVIEWED, Box, Labelled, PseudoLabels, Reviewed, effective_labels

FOLDER = "data"
PREFIX = "pseudo-"


def data_yaml(context: Context) -> Path:
    """Return the training ``data.yaml``, rewritten where there are pseudo-labels.

    Beside ``images/train`` and ``labels/train`` there may be ``ignore/train``: in the same form, for some images, boxes
    that are neither labels nor background. A list names the pseudo-labelled images.
    """
    labelled = _labelled(context)
    if labelled is None:
        return context.inputs.data_yaml
    folder = context.folder(FOLDER)
    given = context.inputs.data_yaml.parent
    for kind in ("images", "labels"):
        for split in (path.name for path in (given / kind).iterdir() if path.name in {"train", "val", "test"}):
            _link(given / kind / split, folder / kind / split)
    facts = context.inputs.to_label
    assert facts is not None, "intake has found them"
    files = {path.stem: path for path in (facts.folder / "images").iterdir()}
    numbers = {name: number for number, name in enumerate(context.inputs.dataset.names)}
    _add(folder, [(one, files[one.image].resolve()) for one in labelled], numbers)
    description: dict[str, Any] = parse_document(context.inputs.data_yaml.read_bytes())
    target = folder / "data.yaml"
    digest = hashlib.sha256(f"{description.get('digest')} {facts.digest}".encode()).hexdigest()
    changed = {**description, "path": str(folder), "digest": digest}
    target.write_text(yaml.safe_dump(changed, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return target


def num_pseudo_labelled(context: Context) -> int:
    """Return how many images student and control are trained on beside the data set's."""
    return len(_labelled(context) or ())


def _labelled(context: Context) -> tuple[Labelled, ...] | None:
    """Return the pictures to train on beside the data set's; None where the job has no pseudo-labels."""
    folder = context.workdir / ARTIFACTS
    if "review" in context.results:
        return Reviewed.model_validate_json((folder / REVIEWED).read_bytes()).pictures
    if "pseudo_label" in context.results:
        found = PseudoLabels.model_validate_json((folder / LABELS).read_bytes()).pictures
        return tuple(one for picture in found if (one := effective_labels(picture, None)) is not None)
    return None


def _link(source: Path, target: Path) -> None:
    target.mkdir(parents=True)
    for path in source.iterdir():
        if path.suffix != ".cache":
            (target / path.name).symlink_to(path.resolve())


def _add(folder: Path, pictures: Sequence[tuple[Labelled, Path]], numbers: Mapping[str, int]) -> None:
    """Put each picture beside the data set's, under a name that none of those has."""
    images, labels, ignore = (folder / kind / "train" for kind in ("images", "labels", "ignore"))
    taken, added = {path.stem.casefold() for path in images.iterdir()}, []
    for picture, file in pictures:
        stem, number = f"{PREFIX}{picture.image}", 1
        while stem.casefold() in taken:
            number += 1
            stem = f"{PREFIX}{picture.image}-{number}"
        taken.add(stem.casefold())
        added.append(stem)
        (images / f"{stem}{file.suffix.lower()}").symlink_to(file)
        (labels / f"{stem}.txt").write_text(_lines(picture.boxes, numbers))
        if picture.ignored:
            ignore.mkdir(parents=True, exist_ok=True)
            (ignore / f"{stem}.txt").write_text(_lines(picture.ignored, numbers))
    (folder / PSEUDO_LABELLED).write_text("\n".join(added), encoding="utf-8")


def _lines(boxes: Sequence[Box], numbers: Mapping[str, int]) -> str:
    """Write boxes as a label file holds them: class, centre, width and height."""
    rows = (
        (numbers[box.name], (box.x1 + box.x2) / 2, (box.y1 + box.y2) / 2, box.x2 - box.x1, box.y2 - box.y1)
        for box in boxes
    )
    return "".join(f"{number} {x:.7f} {y:.7f} {width:.6f} {height:.6f}\n" for number, x, y, width, height in rows)
