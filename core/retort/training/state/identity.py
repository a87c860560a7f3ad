"""Which training a state belongs to: its plan, its teacher and its data, as digests."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from retort.checksums import sha256_of
from retort.spec import DistillationSpec
from retort.training.plan import Plan, Teaching
from retort.training.upstream import version


def of(
    plan: Plan, distillation: DistillationSpec | None, teachers: Iterable[Path], data: Mapping[str, Any]
) -> dict[str, str]:
    """Return what must be the same for a state to be trained on: one digest or version for each part.

    *data* is upstream's description of the data set. Where the files lie and which device trains does not count.
    """
    chosen = {key: value for key, value in asdict(plan).items() if key in {"role", "model", "epochs"}}
    chosen["teaching"] = _teaching(plan.teaching)
    chosen["training"] = plan.training.model_dump(mode="json")
    chosen["distillation"] = None if distillation is None else distillation.model_dump(mode="json")
    return {
        "plan": hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest(),
        "initial weights": "" if plan.weights is None else sha256_of(plan.weights),
        "teacher": " ".join(sha256_of(path) for path in teachers),
        "data": _data(data),
        "software": f"ultralytics {version}, torch {torch.__version__}",
    }


def differences(found: Mapping[str, str], wanted: Mapping[str, str]) -> list[str]:
    """Name the parts in which two identities differ."""
    return [part for part in wanted if found.get(part) != wanted[part]]


def _teaching(teaching: Teaching) -> list[Any]:
    """Tell apart what each teacher has to say, in which size it sees, and how many images have no labels."""
    more = teaching.unlabelled
    said = [(teaching.weight, teaching.imgsz), *((one.weight, one.imgsz) for one in teaching.further)]
    return [said, None if more is None else (more.ratio, sorted(path.name for path in more.folder.iterdir()))]


def _data(data: Mapping[str, Any]) -> str:
    """Digest class names, the images' names and sizes, and the labels' bytes."""
    digest = hashlib.sha256(json.dumps([str(name) for _, name in sorted(data["names"].items())]).encode())
    for split in ("train", "val"):
        places = data[split] if isinstance(data[split], list) else [data[split]]
        for place in map(Path, places):
            for path in _files(place):
                digest.update(f"{split} {path.name} {path.stat().st_size}\n".encode())
                if path.suffix == ".txt":
                    digest.update(path.read_bytes())
    return digest.hexdigest()


def _files(place: Path) -> Iterator[Path]:
    """List a folder of images and that of its labels, or a list of images."""
    if place.is_file():
        yield place
        return
    folders = [place, Path("labels".join(str(place).rsplit("images", 1)))]
    for folder in dict.fromkeys(folders):
        yield from (path for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix != ".cache")
