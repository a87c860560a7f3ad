"""What distillation buys: the same student by several recipes, paired by seed, under one teacher.

    python benchmarks/quality.py --data DIR --recipes plain,native,article,balanced --seeds 3 --json FILE

All runs have equal epochs, equal batches of training images, and per seed equal initial weights. ``plain`` has no
teacher; the others are recipes of the spec. Finished runs are kept in ``--work`` and in the JSON file and are not run
again: stop it and start it as often as you like. Without ``--data`` it draws scenes of handwritten digits.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import time
from pathlib import Path
from typing import Any

from retort.training import environment

environment.prepare(Path.home() / ".cache" / "retort-benchmarks")

from provenance import provenance, write_json  # noqa: E402
from quality_summary import summary, table  # noqa: E402
from retort.constants import MAP, MAP50, Role  # noqa: E402
from retort.data import (  # noqa: E402
    datasets,
    demo,
)
from retort.spec import DistillationSpec, TrainingSpec  # noqa: E402
from retort.training.config import TrainCallback, TrainConfig  # noqa: E402
from retort.training.evaluate import (  # noqa: E402
    Conditions,
    evaluate,
)
from retort.training.trainer import fit  # noqa: E402


class Printer(TrainCallback):
    """A watcher that prints a line for each epoch and keeps the curve."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.curve: list[list[float | None]] = []
        self._started = time.monotonic()

    def metric(self, step: int, values: dict[str, float | None]) -> None:
        """Keep mAP50 and mAP50-95."""
        if step == 0:
            return
        self.curve.append([values.get(MAP50), values.get(MAP)])
        spent = time.monotonic() - self._started
        print(f"{self.name} epoch {step}: mAP50-95 {values.get(MAP) or 0:.4f} after {spent:.0f} s", flush=True)

    def checkpoint(self, *_: Any) -> None:
        """Nothing is kept of it."""

    def progress(self, _: float) -> None:
        """Not shown."""

    def log(self, message: str, level: str = "info", **_: Any) -> None:
        """Print it."""
        print(f"{self.name} {level}: {message}", flush=True)

    def health(self, finding: Any) -> None:
        """Print a verdict."""
        print(f"{self.name} {finding.verdict} {finding.rule}: {finding.message}", flush=True)

    def stop_requested(self) -> bool:
        """Never."""
        return False


class Study:
    """One data set, one teacher, and the runs under it."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.work: Path = options.work
        self.work.mkdir(parents=True, exist_ok=True)
        source = options.data or self.scenes()
        dataset = datasets.locate(str(source.resolve()), [Path("/")])
        self.digest = dataset.digest
        overlay = self.work / "data"
        shutil.rmtree(overlay, ignore_errors=True)
        self.data_yaml = datasets.overlay(dataset, overlay)
        self.facts = {"digest": dataset.digest, "num_train": dataset.num_train, "num_val": dataset.num_val}

    def scenes(self) -> Path:
        """Draw the scenes of digits, where an earlier start has not."""
        drawn = self.work / f"digits-{self.options.imgsz}"
        return drawn / "data.yaml" if drawn.exists() else demo.write(drawn, imgsz=self.options.imgsz)

    def training(self, seed: int) -> TrainingSpec:
        """How every network here is trained."""
        given = self.options
        return TrainingSpec.model_validate(
            {
                "imgsz": given.imgsz,
                "batch": given.batch,
                "nominal_batch": given.nominal_batch or given.batch,
                "optimizer": given.optimizer,
                "lr": given.lr,
                "close_mosaic": given.close_mosaic,
                "checkpoint_every": 10_000,
                "seed": seed,
                "head_lr_multiplier": 1.0,
            }
        )

    def plan(self, role: Role, model: str, epochs: int, seed: int, folder: str) -> TrainConfig:
        """Return the plan of one training, in an empty folder."""
        place = self.work / "trainings" / folder
        shutil.rmtree(place, ignore_errors=True)
        return TrainConfig(
            role=role, model=model, weights=None, data_yaml=self.data_yaml, epochs=epochs, training=self.training(seed),
            folder=place, device="0" if self.options.device == "cuda" else "cpu",
        )  # fmt: skip

    def teacher(self) -> Path:
        """Return the teacher: the given file, or one trained here once."""
        given = self.options
        if given.teacher.endswith(".pt"):
            return Path(given.teacher).resolve()
        epochs = given.teacher_epochs or 2 * given.epochs
        name = key_of(given.teacher, epochs, self.training(0).model_dump(mode="json"), self.digest)
        path = self.work / f"teacher-{name}.pt"
        if not path.exists():
            plan = self.plan(Role.TEACHER, given.teacher, epochs, 0, "teacher")
            fitted = fit(plan, Printer(f"teacher {given.teacher}"))
            shutil.copy(fitted.weights, path.with_suffix(".part"))
            path.with_suffix(".part").replace(path)
        return path

    def run(self, recipe: str, seed: int, teacher: Path, key: str) -> dict[str, Any]:
        """Train and measure one student."""
        given = self.options
        printer = Printer(f"{recipe} seed {seed}")
        plan = self.plan(Role.STUDENT, given.student, given.epochs, seed, key)
        spec = specification(recipe)
        started = time.monotonic()
        fitted = fit(plan, printer, teacher=None if spec is None else teacher, distillation=spec)
        found = {
            "recipe": recipe,
            "seed": seed,
            "map50": fitted.metrics[MAP50],
            "map50_95": fitted.metrics[MAP],
            "best_epoch": fitted.best_epoch,
            "last_map50_95": printer.curve[-1][1],
            "curve": printer.curve,
            "seconds": round(time.monotonic() - started, 1),
            "key": key,
            "commit": provenance()["commit"],
        }
        shutil.rmtree(plan.folder, ignore_errors=True)
        return found


def specification(recipe: str) -> DistillationSpec | None:
    """Return the recipe's spec; none for plain. A path to a JSON file is a spec of one's own."""
    if recipe == "plain":
        return None
    if recipe.endswith(".json"):
        return DistillationSpec.model_validate(json.loads(Path(recipe).read_text()))
    return DistillationSpec.model_validate({"recipe": recipe})


def key_of(*facts: Any) -> str:
    """Identify a run by all that decides it."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def known_runs(options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Return the finished runs by key, from the working folder and from the JSON file."""
    found: dict[str, dict[str, Any]] = {}
    if options.json and options.json.exists():
        found.update({run["key"]: run for run in json.loads(options.json.read_text())["runs"]})
    for path in (options.work / "runs").glob("*.json"):
        found[path.stem] = json.loads(path.read_text())
    return found


def main() -> None:
    """Run what is missing; write and print after every run."""
    options = parse()
    study = Study(options)
    teacher = study.teacher()
    digest = hashlib.sha256(teacher.read_bytes()).hexdigest()
    conditions = Conditions(
        study.data_yaml, imgsz=options.imgsz, device="0" if options.device == "cuda" else "cpu",
    )  # fmt: skip
    measured = evaluate(teacher, conditions).accuracy
    assert measured is not None, "it was trained on these classes"
    known, runs = known_runs(options), []
    shown = {key: value for key, value in vars(options).items() if key not in {"json", "work", "data"}}
    for seed in options.seeds:
        for recipe in options.recipes:
            spec = specification(recipe)
            dumped = None if spec is None else spec.model_dump(mode="json")
            training = study.training(seed).model_dump(mode="json")
            facts = (options.student, options.epochs, training, study.digest, dumped, None if spec is None else digest)
            key = key_of(*facts)
            if key not in known:
                known[key] = study.run(recipe, seed, teacher, key)
                write_json(options.work / "runs" / f"{key}.json", known[key])
            runs.append(known[key])
            result = {
                "teacher": {"map50": measured.map50, "map50_95": measured.map, "sha256": digest},
                "summary": summary(runs, teacher=measured.map, epochs=options.epochs),
                "runs": runs,
                "settings": shown,
                "data": study.facts,
                **provenance(),
            }
            if options.json:
                write_json(options.json, result)
            print(table(result), flush=True)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a data set in YOLO layout, or its data.yaml")
    parser.add_argument(
        "--recipes", type=lambda text: text.split(","), default=["plain", "native", "article", "balanced"]
    )
    parser.add_argument("--seeds", type=seeds, default=[0, 1, 2], help="a number of seeds, or a list: 3 is 0,1,2")
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--imgsz", type=int, default=160)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--nominal-batch", type=int, help="images per step of the optimizer; left out, the batch")
    parser.add_argument("--optimizer", default="auto")
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--close-mosaic", type=int, default=10)
    parser.add_argument("--teacher", default="yolo11s", help="an architecture to train, or a .pt file")
    parser.add_argument("--teacher-epochs", type=int, help="left out, twice the students': it has learned to its end")
    parser.add_argument("--student", default="yolov8n")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--work", type=Path, default=Path("runs/quality"))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    options.work = options.work.resolve()
    return options


def seeds(text: str) -> list[int]:
    """Read ``3`` as three seeds from 0, ``4,5`` as those two, ``4,`` as that one."""
    return [int(part) for part in text.split(",") if part] if "," in text else list(range(int(text)))


if __name__ == "__main__":
    main()
