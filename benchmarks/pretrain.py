"""Train pretrained starts without any download: on all sets at hand but those that are to judge.

    python benchmarks/pretrain.py --data NAME=DIR --data NAME=DIR ... --leave-out NAME --out DIR

The training images of all sets are joined, and their classes by name; what is left out has no image there, in no
split. For each of ``--models`` it writes ``pretrained-MODEL.pt`` beside a ``pretrained.json`` that says from what it
was made. One that is there and was made alike is kept; an interrupted training goes on.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from retort.training import environment

environment.prepare(Path.home() / ".cache" / "retort-benchmarks")

import yaml  # noqa: E402
from provenance import provenance, write_json  # noqa: E402
from quality_runs import Printer, key_of  # noqa: E402
from quality_sets import named_path  # noqa: E402
from retort.constants import MAP, MAP50, Role  # noqa: E402
from retort.data import datasets  # noqa: E402
from retort.data.datasets import Dataset  # noqa: E402
from retort.data.labels import label_of  # noqa: E402
from retort.spec import TrainingSpec  # noqa: E402
from retort.training.config import TrainConfig  # noqa: E402
from retort.training.trainer import fit  # noqa: E402


def joined_names(sets: dict[str, Dataset]) -> tuple[str, ...]:
    """Return the classes of all sets, each name once, in the order of the sets."""
    return tuple(dict.fromkeys(name for dataset in sets.values() for name in dataset.names))


def join(sets: dict[str, Dataset], folder: Path) -> Path:
    """Lay the sets' training and validation images out as one set with all classes; return its ``data.yaml``."""
    names = joined_names(sets)
    shutil.rmtree(folder, ignore_errors=True)
    for split in ("train", "val"):
        for kind in ("images", "labels"):
            (folder / kind / split).mkdir(parents=True)
        for set_name, dataset in sets.items():
            numbers = [names.index(name) for name in dataset.names]
            for image in getattr(dataset, split):
                stem = f"{set_name}-{image.stem}"
                (folder / "images" / split / f"{stem}{image.suffix}").symlink_to(image.resolve())
                label = label_of(dataset.root, image)
                text = label.read_text() if label.is_file() else ""
                (folder / "labels" / split / f"{stem}.txt").write_text(renumbered(text, numbers))
    digest = hashlib.sha256(" ".join(dataset.digest for dataset in sets.values()).encode()).hexdigest()
    description = {
        "path": str(folder.absolute()), "train": "images/train", "val": "images/val",
        "names": dict(enumerate(names)), "digest": digest,
    }  # fmt: skip
    (folder / "data.yaml").write_text(yaml.safe_dump(description, sort_keys=False, allow_unicode=True))
    return folder / "data.yaml"


def renumbered(text: str, numbers: list[int]) -> str:
    """Return a label file's text in the joined set's classes."""
    rows = (line.split() for line in text.splitlines() if line.strip())
    return "".join(f"{numbers[int(float(first))]} {' '.join(rest)}\n" for first, *rest in rows)


def main() -> None:
    """Join the sets and train what is missing."""
    options = parse()
    given = dict(options.data)
    if unknown := set(options.leave_out) - given.keys():
        raise SystemExit(f"--leave-out {', '.join(sorted(unknown))}: no such set among --data {', '.join(given)}")
    kept = {name: path for name, path in given.items() if name not in options.leave_out}
    sets = {name: datasets.locate(str(path.resolve()), [Path("/")]) for name, path in kept.items()}
    data_yaml = join(sets, options.out / "joined")
    digests = {name: dataset.digest for name, dataset in sets.items()}
    record = options.out / "pretrained.json"
    known: dict[str, Any] = json.loads(record.read_text())["networks"] if record.exists() else {}
    for model in options.models:
        training = spec(options)
        key = key_of(model, options.epochs, training.model_dump(mode="json"), digests)
        path = options.out / f"pretrained-{model}.pt"
        if path.exists() and known.get(model, {}).get("key") == key:
            continue
        plan = TrainConfig(
            role=Role.TEACHER, model=model, weights=None, data_yaml=data_yaml, epochs=options.epochs,
            training=training, folder=options.out / f"training-{key}",
            device="0" if options.device == "cuda" else "cpu",
        )  # fmt: skip
        printer = Printer(model)
        fitted = fit(plan, printer)
        assert fitted.last is not None, "this machine has kept it"
        shutil.copy(fitted.last, path)
        known[model] = {
            "key": key, "epochs": options.epochs, "imgsz": options.imgsz,
            "map50": fitted.metrics[MAP50], "map50_95": fitted.metrics[MAP],
            "last_map50_95": printer.curve[-1][1] if printer.curve else None,
            "seconds": round(fitted.duration_s or 0.0), "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }  # fmt: skip
        facts = {
            "sets": {name: {"digest": one.digest, "num_train": one.num_train} for name, one in sets.items()},
            "left_out": options.leave_out, "num_classes": len(joined_names(sets)),
        }  # fmt: skip
        write_json(record, {"networks": known, **facts, **provenance()})


def spec(options: argparse.Namespace) -> TrainingSpec:
    """Return how the networks are trained."""
    return TrainingSpec.model_validate(
        {
            "epochs": options.epochs,
            "imgsz": options.imgsz,
            "batch": options.batch,
            "nominal_batch": options.batch,
            "optimizer": "AdamW",
            "lr": options.lr,
            "close_mosaic": max(1, options.epochs // 8),
            "checkpoint_every": 10_000,
            "head_lr_multiplier": 1.0,
        }
    )


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=named_path, action="append", required=True, metavar="NAME=DIR")
    parser.add_argument(
        "--leave-out", action="append", default=[], metavar="NAME", help="a set that judges; repeatable"
    )
    parser.add_argument("--models", type=lambda text: text.split(","), default=["yolov8n", "yolov8s"])
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--imgsz", type=int, default=160)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--lr", type=float, default=0.0015, help="of AdamW: auto's is too low for so many classes")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--out", type=Path, default=Path("runs/pretrained"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
