"""How often the verdict claims a difference where there is none: networks that differ by their seed alone.

    python benchmarks/null_runs.py --data DIR --json FILE [--seeds 12] [--weights FILE.pt]

No network here has a teacher, so none of a pair can have gained anything by it: each pair of two is a student and a
control between which nothing but chance stands. Every pair is given to the verdict as a job of one seed, and random
groups of pairs as jobs of three and five. Finished trainings are kept in ``--work``: stop it and start it as often as
you like. Without ``--data`` it draws scenes of handwritten digits.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from retort.training import environment

environment.prepare(Path.home() / ".cache" / "retort-benchmarks")

import numpy as np  # noqa: E402
from provenance import write_json  # noqa: E402
from quality import Printer, key_of  # noqa: E402
from retort.constants import MAP, Role  # noqa: E402
from retort.data import datasets, demo  # noqa: E402
from retort.spec import TrainingSpec  # noqa: E402
from retort.training import models  # noqa: E402
from retort.training.bootstrap import Matches  # noqa: E402
from retort.training.config import TrainConfig  # noqa: E402
from retort.training.evaluate import Conditions, run_validation  # noqa: E402
from retort.training.trainer import fit  # noqa: E402


def training(options: argparse.Namespace, seed: int) -> TrainingSpec:
    """Return how every network here is trained."""
    return TrainingSpec.model_validate(
        {
            "imgsz": options.imgsz, "batch": options.batch, "nominal_batch": options.batch, "optimizer": "AdamW",
            "lr": options.lr, "close_mosaic": 2, "checkpoint_every": 10_000, "seed": seed,
        }
    )  # fmt: skip


def train(options: argparse.Namespace, data_yaml: Path, seed: int, key: str) -> dict[str, Any]:
    """Train one network without a teacher and judge it; keep what it found in each image."""
    folder, printer = options.work / "trainings" / key, Printer(f"seed {seed}")
    shutil.rmtree(folder, ignore_errors=True)
    started = time.process_time()
    plan = TrainConfig(
        role=Role.CONTROL, model=options.model, weights=options.weights, data_yaml=data_yaml, epochs=options.epochs,
        training=training(options, seed), folder=folder, device="cpu",
    )  # fmt: skip
    fitted = fit(plan, printer)
    conditions = Conditions(data_yaml, imgsz=options.imgsz, batch=options.batch, device="cpu")
    with TemporaryDirectory() as place:
        judged = run_validation(models.load(fitted.weights), conditions, Path(place))
    assert judged.matches is not None, "it was judged"
    write_matches(options.work / "runs" / f"{key}.npz", judged.matches)
    shutil.rmtree(folder, ignore_errors=True)
    return {
        "seed": seed, "map50": float(judged.metrics.box.map50), "map": float(judged.metrics.box.map),
        "best_in_training": fitted.metrics[MAP], "best_epoch": fitted.best_epoch, "curve": printer.curve,
        "cpu_seconds": round(time.process_time() - started, 1), "key": key,
    }  # fmt: skip


def write_matches(path: Path, found: Matches) -> None:
    """Keep *found*."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **vars(found))


def read_matches(path: Path) -> Matches:
    """Read what ``write_matches`` has kept."""
    with np.load(path) as kept:
        return Matches(**{**kept, "num_images": int(kept["num_images"])})


def trained(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return all runs, and train those that are missing."""
    drawn = options.work / "digits"
    source = options.data or (drawn / "data.yaml" if drawn.exists() else demo.write(
        drawn, num_train=options.digits[0], num_val=options.digits[1], imgsz=options.imgsz
    ))  # fmt: skip
    dataset = datasets.locate(str(source.resolve()), [Path("/")])
    overlay = options.work / "data"
    shutil.rmtree(overlay, ignore_errors=True)
    data_yaml, found = datasets.overlay(dataset, overlay), []
    for seed in range(options.seeds):
        spec = training(options, seed).model_dump(mode="json")
        key = key_of(options.model, options.epochs, spec, dataset.digest, options.weights and options.weights.name)
        path = options.work / "runs" / f"{key}.json"
        if not path.exists():
            write_json(path, train(options, data_yaml, seed, key))
        found.append(json.loads(path.read_text()))
    return found


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a data set in YOLO layout")
    parser.add_argument("--digits", type=int, nargs=2, default=[160, 80], help="scenes to train and judge on")
    parser.add_argument("--weights", type=Path, help="to begin with; left out, random ones")
    parser.add_argument("--model", default="yolov8n")
    parser.add_argument("--seeds", type=int, default=12)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--imgsz", type=int, default=96)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--lr", type=float, default=0.002)
    parser.add_argument("--work", type=Path, default=Path("runs/null"))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    options.work = options.work.resolve()
    return options


def main() -> None:
    """Train what is missing, count, write and print."""
    for run in trained(parse()):
        print(run["seed"], run["map50"], run["map"], run["cpu_seconds"])


if __name__ == "__main__":
    main()
