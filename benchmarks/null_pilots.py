"""What seeds do to the short trainings of a pilot: networks without a teacher that differ by their seed alone.

    python benchmarks/null_pilots.py --data NAME=DIR --weights FILE.pt --epochs 25 --seeds 8 --json FILE

For each set training images are held apart once, as a job's pilot does it, and the short training of ``plain`` is made
with so many seeds. It tells how the noise grows with mAP and falls with steps (``core/retort/report/pilot.py``). The
trainings of a pilot differ by less: they share start and batches. Finished trainings are kept in ``--work``, sets of
earlier calls in the JSON file.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import statistics
import time
from pathlib import Path
from typing import Any

from retort.training import environment

environment.prepare(Path.home() / ".cache" / "retort-benchmarks")

from provenance import provenance, write_json  # noqa: E402
from quality_runs import Printer, key_of, read_matches, write_matches  # noqa: E402
from quality_sets import StudySet, named_number, named_path  # noqa: E402
from retort.constants import Role  # noqa: E402
from retort.report.pilot_trainings import ShortTraining, ShortTrainings, measured, plan_short  # noqa: E402
from retort.spec import DistillationSpec, TrainingSpec  # noqa: E402
from retort.spec.pilot import PilotFigures  # noqa: E402
from retort.training.config import TrainConfig  # noqa: E402
from retort.training.evaluate import Conditions  # noqa: E402
from retort.training.trainer import fit  # noqa: E402


def planned(name: str, path: Path, options: argparse.Namespace) -> ShortTrainings:
    """Return the plan of a pilot's short trainings on a set."""
    given = StudySet.lay_out(name, path, options.work / name / "data", test_share=0.0, labels=1.0)
    epochs = dict(options.set_epochs).get(name, options.epochs)
    training = TrainingSpec.model_validate(
        {
            "imgsz": options.imgsz, "batch": options.batch, "nominal_batch": options.batch, "optimizer": "auto",
            "close_mosaic": options.close_mosaic, "checkpoint_every": 10_000, "seed": 0, "head_lr_multiplier": 1.0,
        }
    )  # fmt: skip
    plan = TrainConfig(
        role=Role.STUDENT, model=options.model, weights=options.weights, data_yaml=given.data_yaml("labelled"),
        epochs=epochs, training=training, folder=options.work / name / "training", device="cpu",
    )  # fmt: skip
    folder = options.work / name / "held-apart"
    shutil.rmtree(folder, ignore_errors=True)
    short = plan_short(plan, DistillationSpec(), [Path(file).stem for file in given.labelled], folder)
    if isinstance(short, PilotFigures):
        raise SystemExit(f"{name}: {short.sentence}")
    return short


def trained(short: ShortTrainings, seed: int, path: Path) -> ShortTraining:
    """Return the short training of a seed, which is made where it is not kept."""
    if not path.exists():
        printer, began = Printer(f"{path.parent.parent.name} seed {seed}"), time.process_time()
        training = short.plain.training.model_copy(update={"seed": seed})
        shutil.rmtree(short.plain.folder, ignore_errors=True)
        fitted = fit(dataclasses.replace(short.plain, training=training), printer)
        assert fitted.last is not None, "it is kept on this machine"
        conditions = Conditions(short.plain.data_yaml, imgsz=training.imgsz, device="cpu")
        map50, found, matches = measured(fitted.last, conditions, short.held)
        write_matches(path.with_suffix(".npz"), matches)
        spent = round(time.process_time() - began, 1)
        write_json(path, {"map50": map50, "map": found, "processor_seconds": spent})
    kept = json.loads(path.read_text())
    matches = read_matches(path.with_suffix(".npz"))
    return ShortTraining(kept["map50"], kept["map"], matches, kept["processor_seconds"])


def counted(short: ShortTrainings, runs: list[ShortTraining]) -> dict[str, Any]:
    """Return how far the networks differ, also over what the rule scales its noise by."""
    scores = [one.map for one in runs]
    mean, deviation = statistics.fmean(scores), statistics.stdev(scores) * 2**0.5
    return {
        "epochs": short.plain.epochs,
        "of_epochs": short.whole,
        "num_steps": short.num_steps,
        "num_train": short.held.num_train,
        "num_held_apart": short.held.num_held_apart,
        "mean": mean,
        "deviation_of_difference": deviation,
        "scaled": deviation * short.num_steps**0.5 / (mean * (1 - mean)),
        "runs": [{"map": one.map, "processor_seconds": one.training_s} for one in runs],
    }


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=named_path, action="append", required=True, metavar="NAME=DIR")
    parser.add_argument("--weights", type=Path, help="to begin with; left out, random ones")
    parser.add_argument("--model", default="yolov8n")
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=25, help="of the whole job, of which a pilot has a tenth")
    parser.add_argument("--set-epochs", type=named_number, action="append", default=[], metavar="NAME=EPOCHS")
    parser.add_argument("--imgsz", type=int, default=160)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--close-mosaic", type=int, default=5)
    parser.add_argument("--work", type=Path, default=Path("runs/null-pilots"))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    options.work = options.work.resolve()
    return options


def main() -> None:
    """Train what is missing, count, write and print."""
    options = parse()
    kept = json.loads(options.json.read_text()) if options.json and options.json.exists() else {"sets": {}}
    shown = {name: value for name, value in vars(options).items() if name not in {"json", "work", "data"}}
    settings = {name: value.name if isinstance(value, Path) else value for name, value in shown.items()}
    for name, path in options.data:
        short = planned(name, path, options)
        facts = (options.model, settings["weights"], short.whole, short.plain.training.model_dump(mode="json"))
        runs = [
            trained(short, seed, options.work / name / "runs" / f"{key_of(*facts, seed)}.json")
            for seed in range(options.seeds)
        ]
        found = counted(short, runs)
        kept["sets"][f"{name}, {found['of_epochs']} epochs, {settings['weights'] or 'random'}"] = found
        if options.json:
            write_json(options.json, {**kept, "settings": settings, **provenance()})
        told = {name: value for name, value in found.items() if name != "runs"}
        print(name, json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
