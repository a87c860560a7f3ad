"""Hold a part of the labelled training images apart, to measure on."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from retort.documents import parse_document


@dataclass(frozen=True, slots=True)
class HeldApart:
    """A data set whose validation images are training images that were held apart."""

    data_yaml: Path
    num_train: int
    num_held_apart: int


def choose(labels: Mapping[str, frozenset[int]], share: float, seed: int) -> frozenset[str]:
    """Return *share* of the images, of every class about as large a part.

    *labels* are the classes of each image by its stem. An image stands for the rarest of its classes; of those that
    stand for one class, as many are drawn as its share is, rounded.
    """
    counts = Counter(label for found in labels.values() for label in found)
    groups: dict[int, list[str]] = {}
    for stem, found in labels.items():
        groups.setdefault(min(found, key=lambda label: (counts[label], label), default=-1), []).append(stem)
    return frozenset(
        stem for group in groups.values() for stem in sorted(group, key=_draw(seed))[: round(share * len(group))]
    )


def _draw(seed: int) -> Callable[[str], bytes]:
    return lambda stem: hashlib.sha256(f"{seed} {stem}".encode()).digest()


def hold_apart(data_yaml: Path, labelled: Iterable[str], folder: Path, *, share: float, seed: int) -> HeldApart:
    """Lay out a dataset that validates on a *share* of its training images.

    The data of *data_yaml* are laid out in the empty *folder*. Only images whose stem is among *labelled* are held
    apart; all others stay for training, with their labels and their regions that are neither labels nor background.
    The validation images of *data_yaml* are not there.
    """
    given = data_yaml.parent
    images = {path.stem: path for path in (given / "images/train").iterdir()}
    known = {stem: _classes(given / "labels/train" / f"{stem}.txt") for stem in sorted(labelled) if stem in images}
    held = choose(known, share, seed)
    for stem, image in images.items():
        part = "val" if stem in held else "train"
        _lay(image, given, folder, part)
    description: dict[str, Any] = parse_document(data_yaml.read_bytes())
    digest = hashlib.sha256("\n".join([str(description.get("digest")), *sorted(held)]).encode()).hexdigest()
    kept = {key: value for key, value in description.items() if key != "test"}
    changed = {**kept, "path": str(folder), "train": "images/train", "val": "images/val", "digest": digest}
    target = folder / "data.yaml"
    target.write_text(yaml.safe_dump(changed, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return HeldApart(target, len(images) - len(held), len(held))


def _classes(path: Path) -> frozenset[int]:
    """Return the classes of one label file; none without it."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return frozenset(int(float(line.split()[0])) for line in lines if line.strip())


def _lay(image: Path, given: Path, folder: Path, part: str) -> None:
    """Link one image into its part, with copies of the files that belong to it."""
    target = folder / "images" / part
    target.mkdir(parents=True, exist_ok=True)
    (target / image.name).symlink_to(image.resolve())
    for kind in ("labels", "ignore"):
        text = given / kind / "train" / f"{image.stem}.txt"
        if text.is_file():
            place = folder / kind / part
            place.mkdir(parents=True, exist_ok=True)
            (place / text.name).write_bytes(text.read_bytes())
