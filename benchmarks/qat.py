"""What INT8 loses: calibrated alone, and trained on by labels, under the float student, and under a teacher.

    python benchmarks/qat.py --data cells=DIR --data flags=DIR --student-weights pretrained-yolov8n.pt
        --student-epochs 40 --teacher cells=teacher.pt --json FILE

A student is trained here until it has learned, from ``--student-weights``, or is given: ``--student NAME=FILE``, the
published network of that set. Every file is measured as it runs, in squares, on the test images where a set has them
and else on the validation images, by which the epoch of a training is chosen: by mAP50-95, and by how far its scores
and boxes are from the float student's, where that sees something. Trainings are paired by their seeds. What is finished
is kept in ``--work`` and in the JSON file and is not made again: stop it and start it as often as you like.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import statistics
import time
from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from retort.training import environment

environment.prepare(Path.home() / ".cache" / "retort-benchmarks")

import torch  # noqa: E402
from provenance import provenance, write_json  # noqa: E402
from quality_runs import Printer, key_of  # noqa: E402
from quality_sets import StudySet, named_number, named_path  # noqa: E402
from quality_summary import interval, joined, p_value  # noqa: E402
from retort.constants import Role  # noqa: E402
from retort.files import sha256_of  # noqa: E402
from retort.spec import TrainingSpec  # noqa: E402
from retort.training import models  # noqa: E402
from retort.training.config import TrainConfig  # noqa: E402
from retort.training.evaluate import Conditions, RuntimeAsModule, accuracy  # noqa: E402
from retort.training.export import openvino  # noqa: E402
from retort.training.export.calibration import choose  # noqa: E402
from retort.training.export.folding import folded  # noqa: E402
from retort.training.export.form import Form, metadata  # noqa: E402
from retort.training.export.onnx import export_onnx  # noqa: E402
from retort.training.export.qat import QATConfig, train_aware  # noqa: E402
from retort.training.export.quantization import CalibratedGraph, difference  # noqa: E402
from retort.training.inference import Runtime, load_folded, load_onnx, prepare, wrap_network  # noqa: E402
from retort.training.trainer import fit  # noqa: E402

Measured = dict[str, Any]
UNTRAINED = ("float", "calibrated", "symmetric", "openvino")
"""What is made of a student without a training: it is the same for every seed."""
BUDGET = 0.003
"""mAP50-95 that INT8 may lose against its float self: 0.3 points."""


class Subject:
    """One set, its student and what is made of it."""

    def __init__(self, name: str, path: Path, options: argparse.Namespace) -> None:
        self.name, self.options = name, options
        self.folder: Path = options.work / name
        self.given = StudySet.lay_out(name, path, self.folder / "data", test_share=0.0, labels=1.0)
        self.data_yaml = self.given.data_yaml("all")
        self.form = Form((options.imgsz, options.imgsz))
        self.judged = Conditions(
            self.data_yaml, imgsz=options.imgsz, device=options.device, square=True, loader_workers=0
        )
        self.student = self._student()
        self.teacher: Path | None = options.teacher.get(name)
        self.key = [sha256_of(self.student), self.given.digest, options.imgsz, options.batch]

    def _student(self) -> Path:
        """Return the given student, or the last epoch's of one trained here: nothing was chosen among its epochs."""
        options = self.options
        if self.name in options.student:
            return Path(options.student[self.name])
        epochs = options.set_epochs.get(self.name, options.student_epochs)
        training = TrainingSpec.model_validate(
            {"imgsz": options.imgsz, "batch": options.batch, "nominal_batch": options.batch, "close_mosaic": 5,
             "checkpoint_every": 10_000, "head_lr_multiplier": 1.0}
        )  # fmt: skip
        start = options.student_weights
        key = key_of(epochs, training.model_dump(mode="json"), self.given.digest, start and sha256_of(start))
        path = self.folder / f"student-{key}.pt"
        if not path.exists():
            printer = Printer(f"{self.name} student")
            plan = TrainConfig(
                role=Role.STUDENT, model="yolov8n", weights=start, data_yaml=self.data_yaml, epochs=epochs,
                training=training, folder=self.folder / "training", device=options.device,
            )  # fmt: skip
            fitted = fit(plan, printer)
            assert fitted.last is not None, "it is kept on this machine"
            write_json(path.with_suffix(".json"), {"epochs": epochs, "curve": printer.curve})
            shutil.move(fitted.last, path)
            shutil.rmtree(plan.folder, ignore_errors=True)
        return path

    @cached_property
    def facts(self) -> Measured:
        """What a reader needs to know of set, student and teacher."""
        told, curve = {"data": self.given.facts()}, self.student.with_suffix(".json")
        student = {"sha256": sha256_of(self.student), **(json.loads(curve.read_text()) if curve.exists() else {})}
        if self.teacher is None:
            return {**told, "student": student}
        weights = sum(weight.numel() for weight in models.load(self.teacher).parameters())
        teacher = {"sha256": sha256_of(self.teacher), "num_weights": weights, **self.taught_by()}
        return {**told, "student": student, "teacher": teacher}

    @cached_property
    def names(self) -> dict[int, str]:
        """Classes of the student."""
        return dict(models.load(self.student).names)

    def map(self, runtime: Runtime) -> float:
        """Return the mAP50-95 of what runs on the validation images."""
        return accuracy(RuntimeAsModule(runtime, self.names), self.judged).map

    def figures(self, runtime: Runtime) -> Measured:
        """Measure what runs, on the images that judge."""
        split: Any = self.given.split
        found = accuracy(RuntimeAsModule(runtime, self.names), dataclasses.replace(self.judged, split=split))
        images = sorted((self.data_yaml.parent / "images" / split).iterdir())
        seen = torch.cat([prepare(image, self.options.imgsz)[0] for image in images])
        expected = wrap_network(load_folded(self.student)).run_all(seen)
        error = difference(expected, runtime.run_all(seen), imgsz=self.options.imgsz)
        per_class = {name: round(ap["ap"], 5) for name, ap in found.per_class.items()}
        return {"map50_95": found.map, "map50": found.map50, "error": round(error, 6), "per_class": per_class}

    def float(self) -> Measured:
        """Measure the student in PyTorch."""
        return self.figures(wrap_network(load_folded(self.student)))

    def taught_by(self) -> Measured:
        """Measure the teacher in PyTorch."""
        assert self.teacher is not None, "it is not asked for"
        network = load_folded(self.teacher)
        split: Any = self.given.split
        judged = dataclasses.replace(self.judged, split=split)
        found = accuracy(RuntimeAsModule(wrap_network(network), dict(models.load(self.teacher).names)), judged)
        return {"map50_95": found.map, "map50": found.map50}

    def ranged(self) -> CalibratedGraph:
        """Return its float graph with ranges over training images."""
        path = self.folder / "float.onnx"
        export_onnx(self.student, path, self.options.imgsz)
        images = choose(self.data_yaml.parent, list(self.names.values()), number=300, seed=0)
        return CalibratedGraph(path, images, self.form)

    def calibrated(self) -> Measured:
        """Calibrate alone, for onnxruntime."""
        path = self.folder / "calibrated.onnx"
        self.ranged().write(path)
        return self.figures(load_onnx(path))

    def symmetric(self) -> Measured:
        """Calibrate alone with symmetric ranges, as TensorRT insists and as training simulates."""
        path = self.folder / "symmetric.onnx"
        self.ranged().write(path, symmetric=True)
        return self.figures(load_onnx(path))

    def openvino(self) -> Measured:
        """Calibrate alone by NNCF, for OpenVINO."""
        path = self.folder / "openvino"
        shutil.rmtree(path, ignore_errors=True)
        about = metadata(models.load(self.student), self.form)
        openvino.quantize_openvino(self.ranged(), path, kept=(), metadata=about)
        return self.figures(openvino.load(path))

    def trained(self, teacher: Path | None, seed: int) -> Measured:
        """Train on with simulated INT8."""
        given, began = self.options, time.monotonic()
        config = QATConfig(
            data_yaml=self.data_yaml, imgsz=given.imgsz, batch=given.batch, epochs=given.epochs, device=given.device,
            seed=seed, on_batch=lambda: None, judge=self.map, teacher=teacher,
        )  # fmt: skip
        found = train_aware(self.student, config, self.folder / "aware")
        path = self.folder / "aware.onnx"
        path.write_bytes(folded(found.graph.read_bytes()))
        return {
            **self.figures(load_onnx(path)),
            "maps": list(found.maps),
            "best_epoch": found.best_epoch,
            "integer_share": found.integer_share,
            "size_bytes": path.stat().st_size,
            "seconds": round(time.monotonic() - began, 1),
        }

    def measurements(self, seed: int) -> dict[str, tuple[list[Any], Callable[[], Measured]]]:
        """Return what is measured for a seed, by arm: the facts that decide it, and how."""
        found: dict[str, tuple[list[Any], Callable[[], Measured]]] = {
            name: ([name], getattr(self, name)) for name in UNTRAINED
        }
        for name, teacher in {"labels": None, "student": self.student, "teacher": self.teacher}.items():
            if name == "teacher" and teacher is None:
                continue
            facts = [name, seed, self.options.epochs, teacher and sha256_of(teacher)]
            found[name] = facts, partial(self.trained, teacher, seed)
        return found


def summary(runs: list[Measured]) -> dict[str, Any]:
    """Return for each arm of one set its mean, and what it is above float, calibration and the other trainings."""
    arms = dict.fromkeys(run["arm"] for run in runs)
    values = {arm: {run["seed"]: run["map50_95"] for run in runs if run["arm"] == arm} for arm in arms}
    found: dict[str, Any] = {}
    for arm, mine in values.items():
        others = ("float", "calibrated") if arm in UNTRAINED else ("float", "calibrated", "labels", "student")
        before = [other for other in others if other in values and arm not in {other, "float"}]
        above = {other: compared(mine, values[other]) for other in before}
        found[arm] = {
            "num_seeds": len(mine),
            "mean": statistics.fmean(mine.values()),
            "errors": [run["error"] for run in runs if run["arm"] == arm],
            **{f"minus_{other}": one for other, one in above.items()},
        }
        if "float" in above:
            found[arm]["within_budget"] = sum(value >= -BUDGET for value in above["float"]["by_seed"])
    return found


def compared(mine: dict[int | None, float], theirs: dict[int | None, float]) -> dict[str, Any]:
    """Return what one arm is above another, seed by seed; what has no seed stands beside each."""
    apart = [value - (theirs[None] if None in theirs else theirs[seed])
             for seed, value in mine.items() if None in theirs or seed in theirs]  # fmt: skip
    mean = statistics.fmean(apart) if apart else None
    return {"mean": mean, "interval": interval(apart) if apart else None, "p": p_value(apart) if apart else None,
            "by_seed": apart}  # fmt: skip


def result_of(subjects: list[Subject], runs: list[Measured], options: argparse.Namespace) -> dict[str, Any]:
    """Return what the runs so far say, set by set and over all sets."""
    sets: dict[str, Any] = {}
    for subject in subjects:
        if mine := [run for run in runs if run["set"] == subject.name]:
            sets[subject.name] = {**subject.facts, "summary": summary(mine)}
    over: dict[str, Any] = {}
    for arm in ("calibrated", "labels", "student", "teacher"):
        known = {name: one["summary"][arm]["minus_float"]["by_seed"]
                 for name, one in sets.items() if arm in one["summary"]}  # fmt: skip
        if known:
            over[arm] = {"minus_float": joined(known)}
    told = ("imgsz", "batch", "epochs", "seeds", "student_epochs", "set_epochs")
    settings = {name: getattr(options, name) for name in told}
    return {"over_sets": over, "sets": sets, "runs": runs, "settings": settings, **provenance()}


def main() -> None:
    """Measure what is missing; write and print after every measurement."""
    options = parse()
    stored = json.loads(options.json.read_text())["runs"] if options.json.exists() else []
    known: dict[str, Measured] = {run["key"]: run for run in stored}
    subjects = [Subject(name, path, options) for name, path in options.data]
    runs: list[Measured] = []
    for seed in range(options.seeds):
        for subject in subjects:
            for arm, (facts, measure) in subject.measurements(seed).items():
                if arm in UNTRAINED and seed:
                    continue
                key = key_of(*subject.key, *facts)
                known[key] = known.get(key) or {"key": key, "commit": provenance()["commit"], **measure()}
                runs.append({"set": subject.name, "arm": arm, "seed": None if arm in UNTRAINED else seed, **known[key]})
                write_json(options.json, result_of(subjects, runs, options))
                print(f"{subject.name}, {arm}, seed {seed}: {known[key]['map50_95']:.4f}", flush=True)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=named_path, action="append", required=True, metavar="NAME=DIR",
                        help="a set in YOLO layout; repeatable")  # fmt: skip
    parser.add_argument("--student", type=named_path, action="append", default=[], metavar="NAME=FILE",
                        help="the student of a set; left out, one is trained")  # fmt: skip
    parser.add_argument("--student-weights", type=Path, help="what that training starts from; left out, random")
    parser.add_argument("--student-epochs", type=int, default=40)
    parser.add_argument("--set-epochs", type=named_number, action="append", default=[], metavar="NAME=EPOCHS",
                        help="for one set, in place of --student-epochs; repeatable")  # fmt: skip
    parser.add_argument("--teacher", type=named_path, action="append", default=[], metavar="NAME=FILE",
                        help="the teacher of a set; left out, that arm is not measured")  # fmt: skip
    parser.add_argument("--imgsz", type=int, default=160)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=3, help="of the training with simulated INT8")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--work", type=Path, default=Path("runs/qat"))
    parser.add_argument("--json", type=Path, required=True)
    options = parser.parse_args()
    for name in ("student", "teacher", "set_epochs"):
        given = dict(getattr(options, name))
        if unknown := given.keys() - dict(options.data).keys():
            parser.error(f"--{name.replace('_', '-')} {unknown.pop()}: no such set among --data")
        setattr(options, name, given)
    options.work = options.work.resolve()
    return options


if __name__ == "__main__":
    main()
