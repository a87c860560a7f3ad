"""How often the verdict claims a difference where there is none: networks that differ by their seed alone.

    python benchmarks/null_runs.py --data DIR --name NAME --json FILE [--seeds 12] [--weights FILE.pt]

No network here has a teacher, so none of a pair can have gained anything by it: each pair of two is a student and a
control between which nothing but chance stands. Every pair is given to the verdict as a job of one seed, and random
groups of pairs as jobs of three and five. Finished trainings are kept in ``--work``: stop it and start it as often as
you like. Without ``--data`` it draws scenes of handwritten digits.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import time
from collections import Counter
from collections.abc import Callable
from functools import cache
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from retort.training import environment

environment.prepare(Path.home() / ".cache" / "retort-benchmarks")

import numpy as np  # noqa: E402
from provenance import provenance, write_json  # noqa: E402
from quality_runs import Printer, key_of, read_matches, write_matches  # noqa: E402
from retort.constants import MAP, Role  # noqa: E402
from retort.data import datasets, demo  # noqa: E402
from retort.report.result import over_seeds  # noqa: E402
from retort.report.verdict import Noise, image_interval, kind_of, rise, seed_interval  # noqa: E402
from retort.spec import TrainingSpec  # noqa: E402
from retort.spec.verdict import LEVEL, Resampled  # noqa: E402
from retort.training import models  # noqa: E402
from retort.training.bootstrap import MOST, Judge, interval, maps  # noqa: E402
from retort.training.config import TrainConfig  # noqa: E402
from retort.training.evaluate import Conditions, run_validation  # noqa: E402
from retort.training.trainer import fit  # noqa: E402

DECIDES = ("model", "weights", "epochs", "imgsz", "batch", "lr")
"""Options that decide how a network ends."""
GROUPS = 2000
"""Jobs of several seeds that are drawn from the networks."""


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
        "cpu_seconds": round(time.process_time() - started, 1), "key": key, "commit": provenance()["commit"],
    }  # fmt: skip


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
        facts = [getattr(options, name) for name in DECIDES]
        key = key_of(*(fact.name if isinstance(fact, Path) else fact for fact in facts), dataset.digest, seed)
        path = options.work / "runs" / f"{key}.json"
        if not path.exists():
            write_json(path, train(options, data_yaml, seed, key))
        found.append(json.loads(path.read_text()))
    return found


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a data set in YOLO layout")
    parser.add_argument("--name", default="digits", help="of the data set, in the JSON file, which may hold several")
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


def single(options: argparse.Namespace, one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Judge two networks as student and control of a job with one seed."""
    curves = {
        role.value: {MAP: {epoch: point[1] for epoch, point in enumerate(run["curve"], start=1)}}
        for role, run in ((Role.STUDENT, one), (Role.CONTROL, other))
    }
    images, difference = resampled(options, one["key"], other["key"]), one["map"] - other["map"]
    judged = image_interval(difference, Noise(images, rise(curves)))
    assert judged is not None, "the images were resampled"
    return {
        "seeds": [one["seed"], other["seed"]], "difference": difference, "rise": rise(curves),
        "images": [images.low, images.high], "interval": [judged.low, judged.high], "kind": kind_of(judged),
        "num_images": images.num_images,
    }  # fmt: skip


@cache
def drawn(path: Path) -> np.ndarray:
    """Return mAP50-95 of one network over other choices of the images, worked out once."""
    kept = path.with_suffix(".npy")
    if not kept.exists():
        np.save(kept, maps(Judge(read_matches(path)), MOST, 0))
    return np.asarray(np.load(kept))


def resampled(options: argparse.Namespace, one: str, other: str) -> Resampled:
    """Return the interval over images of two networks, as ``resample`` does."""
    first, second = (options.work / "runs" / f"{key}.npz" for key in (one, other))
    num_images = read_matches(first).num_images
    return interval(drawn(first) - drawn(second), level=LEVEL, num_images=num_images)


def several(runs: list[dict[str, Any]], pairs: list[dict[str, Any]], number: int) -> dict[str, Any] | None:
    """Judge random jobs of so many seeds, each of networks that stand in it once; None where there are too few."""
    if len(runs) < 2 * number:
        return None
    random, kinds, by_t = np.random.default_rng(0), Counter[str](), 0
    known = {tuple(pair["seeds"]): pair for pair in (*pairs, *map(_mirrored, pairs))}
    for _ in range(GROUPS):
        students, controls = random.permutation(len(runs))[: 2 * number].reshape(2, number)
        scores = [(runs[one]["map"], runs[other]["map"]) for one, other in zip(students, controls, strict=True)]
        over = over_seeds(scores)
        assert over is not None, "there are two pairs at least"
        first = known[runs[students[0]]["seed"], runs[controls[0]]["seed"]]
        kinds[kind_of(seed_interval(over, first["difference"], Noise(_images(first))))] += 1
        by_t += not over.difference.low <= 0 <= over.difference.high
    published = GROUPS - kinds["none"]
    return {"jobs": GROUPS, "published": published, "share": published / GROUPS, "share_by_t_alone": by_t / GROUPS}


def _mirrored(pair: dict[str, Any]) -> dict[str, Any]:
    """Return the same pair with student and control exchanged."""
    low, high = pair["images"]
    return {**pair, "seeds": pair["seeds"][::-1], "difference": -pair["difference"], "images": [-high, -low]}


def _images(pair: dict[str, Any]) -> Resampled:
    low, high = pair["images"]
    return Resampled(low=low, high=high, level=LEVEL, num_images=pair["num_images"], num_resamples=MOST)


def counted(options: argparse.Namespace, runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return how many verdicts would have been published as a gain or a loss."""
    pairs = [single(options, one, other) for one, other in combinations(runs, 2)]

    def share(is_published: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        published = sum(map(is_published, pairs))
        return {"jobs": len(pairs), "published": published, "share": published / len(pairs)}

    scores = [run["map"] for run in runs]
    return {
        "num_seeds": len(runs),
        "mean": statistics.fmean(scores),
        "deviation_of_difference": statistics.stdev(scores) * 2**0.5,
        "mean_rise": statistics.fmean(pair["rise"] for pair in pairs),
        "one_seed": share(lambda pair: pair["kind"] != "none"),
        "one_seed_by_half_a_point": share(lambda pair: abs(pair["difference"]) >= 0.005),
        "one_seed_by_images_alone": share(lambda pair: not pair["images"][0] <= 0 <= pair["images"][1]),
        **{f"{number}_seeds": several(runs, pairs, number) for number in (2, 3, 5)},
        "pairs": pairs,
    }


def main() -> None:
    """Train what is missing, count, write and print."""
    options = parse()
    runs = trained(options)
    result = counted(options, runs)
    shown = {name: value for name, value in vars(options).items() if name not in {"json", "work", "data"}}
    settings = {name: value.name if isinstance(value, Path) else value for name, value in shown.items()}
    kept = json.loads(options.json.read_text()) if options.json and options.json.exists() else {"sets": {}}
    kept["sets"][options.name] = {**result, "runs": runs, "settings": settings}
    if options.json:
        write_json(options.json, {**kept, **provenance()})
    for kind, found in result.items():
        if isinstance(found, dict):
            told = f"{found['published']:5d} of {found['jobs']:5d} published: {found['share']:.1%}"
            print(f"{options.name}  {kind:26s} {told}")


if __name__ == "__main__":
    main()
