"""One data set of a study: its teacher, and the trainings under it."""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image
from provenance import provenance, write_json
from quality_arms import Arm, Treatment, treatment
from quality_runs import Printer, key_of
from quality_sets import Boxes, StudySet, decided
from retort.constants import MAP, MAP50, Role
from retort.spec import DistillationSpec, TrainingSpec
from retort.training import arms, models
from retort.training.config import TeacherConfig, TrainConfig, UnlabelledConfig
from retort.training.detection import load_detector
from retort.training.evaluate import Conditions, Split, evaluate
from retort.training.models import ClassMap
from retort.training.trainer import fit

Run = dict[str, Any]


class Study:
    """One data set, one teacher, and the runs under it."""

    def __init__(self, given: StudySet, options: argparse.Namespace, runs: dict[str, Run]) -> None:
        self.given, self.options = given, options
        self.epochs: int = dict(options.set_epochs).get(given.name, options.epochs)
        self.work: Path = options.work / given.name
        self.runs = runs
        """Finished runs by key, of all sets."""
        self.device = "0" if options.device == "cuda" else "cpu"
        self.teacher = self._teacher()
        self.teacher_digest = hashlib.sha256(self.teacher.read_bytes()).hexdigest()

    def training(self, seed: int) -> TrainingSpec:
        """Return how every network here is trained."""
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

    def run(self, arm: Arm, seed: int) -> Run:
        """Return the finished run of an arm, which is trained where none is known."""
        given = treatment(arm, self.epochs, lambda name: cost_of(self.run(Arm.read(name), seed)))
        key = key_of(*key_facts(self.facts(given, seed)))
        if key not in self.runs:
            found = self._train(f"{self.given.name} {arm.name} seed {seed}", given, seed, key)
            self.runs[key] = found
            write_json(self.options.work / "runs" / f"{key}.json", found)
        return {**self.runs[key], "set": self.given.name, "recipe": arm.name, "seed": seed}

    def facts(self, given: Treatment, seed: int) -> dict[str, Any]:
        """Return all that decides a run."""
        taught = given.spec is not None or given.images == "pseudo"
        extras: dict[str, Any] = dict(given.extras)
        if self.options.student_weights:
            extras["start"] = hashlib.sha256(self.options.student_weights.read_bytes()).hexdigest()
        if self.given.rest:
            extras["images"] = given.images
        if given.images == "pseudo":
            extras["labels"] = [self.options.least, self.options.ignore_from]
        return {
            "student": self.options.student,
            "epochs": given.epochs,
            "training": self.training(seed).model_dump(mode="json"),
            "data": self.given.digest,
            "distillation": None if given.spec is None else given.spec.model_dump(mode="json"),
            "teacher": self.teacher_digest if taught else None,
            "extras": extras,
        }

    def _train(self, name: str, given: Treatment, seed: int, key: str) -> Run:
        printer = Printer(name)
        plan = self._plan(given, seed, key)
        shutil.rmtree(plan.folder, ignore_errors=True)  # what an interrupted one has cost is not known
        teacher = self._shown_teacher(given, plan)
        began, spent = time.monotonic(), time.process_time()
        fitted = fit(plan, printer, teacher=teacher, distillation=self._spec(given, plan))
        seconds, cpu = time.monotonic() - began, time.process_time() - spent
        assert fitted.last is not None, "it is kept on this machine"
        found = {
            "map50": fitted.metrics[MAP50],
            "map50_95": fitted.metrics[MAP],
            "best_epoch": fitted.best_epoch,
            "last_map50_95": printer.curve[-1][1],
            "final": self.final(fitted.weights if self.given.split == "test" else fitted.last, plan.data_yaml),
            "curve": printer.curve,
            "epochs": given.epochs,
            "seconds": round(seconds, 1),
            "cost": {
                "seconds": round(fitted.duration_s or seconds, 1),
                "processor_seconds": round(cpu, 1),
                "quiet_seconds": round(given.epochs * min(printer.epoch_seconds), 2),
            },
            "device": self.options.device,
            "key": key,
            "facts": self.facts(given, seed),
            "commit": provenance()["commit"],
        }
        shutil.rmtree(plan.folder, ignore_errors=True)
        return found

    def final(self, weights: Path, data_yaml: Path) -> dict[str, Any]:
        """Measure what a study is judged by.

        With test images it is the network that was best on the validation images, on the test images; without, the
        last epoch's network on the validation images, among which nothing has then been chosen.
        """
        split: Split = "test" if self.given.split == "test" else "val"
        conditions = Conditions(data_yaml, imgsz=self.options.imgsz, device=self.device, split=split)
        found = evaluate(weights, conditions).accuracy
        assert found is not None, "it was trained on these classes"
        per_class = {name: round(ap["ap"], 5) for name, ap in found.per_class.items()}
        return {"map50": found.map50, "map50_95": found.map, "per_class": per_class, "split": split}

    def _plan(self, given: Treatment, seed: int, key: str) -> TrainConfig:
        boxes = self.pseudo_labels() if given.images == "pseudo" and self.given.rest else None
        data_yaml = self.given.data_yaml("labelled" if given.images == "unlabelled" else given.images, boxes)
        plan = self.plan(Role.STUDENT, self.options.student, given.epochs, data_yaml, key)
        teaching = TeacherConfig(ema=given.teacher == "self")
        if given.images == "unlabelled" and given.spec is not None and given.terms:
            shown = UnlabelledConfig(self.given.rest_folder(), 1.0, self.given.digest)
            teaching = dataclasses.replace(teaching, unlabelled=shown)
        return dataclasses.replace(
            plan, weights=self.options.student_weights, training=self.training(seed), class_balance=given.class_balance,
            terms=given.terms, teaching=teaching, watched=given.terms and given.teacher == "teacher",
        )  # fmt: skip

    def plan(self, role: Role, model: str, epochs: int, data_yaml: Path, folder: str) -> TrainConfig:
        """Return the plan of one training."""
        return TrainConfig(
            role=role, model=model, weights=None, data_yaml=data_yaml, epochs=epochs, training=self.training(0),
            folder=self.work / "trainings" / folder, device=self.device,
        )  # fmt: skip

    def _shown_teacher(self, given: Treatment, plan: TrainConfig) -> Path | None:
        if given.teacher != "placebo":
            return self.teacher if given.teacher == "teacher" else None
        path = self.work / f"placebo-{plan.folder.name}.pt"
        if not path.exists():
            arms.write_placebo(plan, dict(enumerate(self.given.names)), self.teacher, path)
        return path

    def _spec(self, given: Treatment, plan: TrainConfig) -> DistillationSpec | None:
        """Return the spec; no other teacher is given labels to assign that the real one would not assign."""
        if given.teacher == "teacher" or given.spec is None:
            return given.spec
        names = dict(enumerate(self.given.names))
        if arms.assigns(plan, names, self.teacher, given.spec):
            return given.spec
        return given.spec.model_copy(update={"assignment": "student"})

    def _teacher(self) -> Path:
        """Return the teacher: the given file, or one trained here once, on the labelled images alone."""
        given = self.options
        if given.teacher.endswith(".pt"):
            return Path(given.teacher).resolve()
        epochs = given.teacher_epochs or 2 * self.epochs
        facts = [given.teacher, epochs, self.training(0).model_dump(mode="json"), self.given.digest]
        if given.teacher_weights:
            facts.append(hashlib.sha256(given.teacher_weights.read_bytes()).hexdigest())
        path: Path = given.work / f"teacher-{key_of(*facts)}.pt"
        if not path.exists():
            plan = self.plan(Role.TEACHER, given.teacher, epochs, self.given.data_yaml("repeated"), path.stem)
            plan = dataclasses.replace(plan, weights=given.teacher_weights)
            fitted = fit(plan, Printer(f"{self.given.name} teacher {given.teacher}"))
            shutil.copy(fitted.weights, path.with_suffix(".part"))
            path.with_suffix(".part").replace(path)
            shutil.rmtree(plan.folder, ignore_errors=True)
        return path

    def measured_teacher(self) -> dict[str, Any]:
        """Return what the teacher reaches, on the validation images and where the study is judged; kept beside it."""
        path = self.work / f"measured-{self.teacher_digest[:16]}.json"
        if not path.exists():
            data_yaml = self.given.data_yaml("labelled")
            found = evaluate(self.teacher, Conditions(data_yaml, imgsz=self.options.imgsz, device=self.device)).accuracy
            assert found is not None, "it knows these classes"
            final = self.final(self.teacher, data_yaml)
            write_json(
                path, {"map50": found.map50, "map50_95": found.map, "final": final, "sha256": self.teacher_digest}
            )
        measured: dict[str, Any] = json.loads(path.read_text())
        return measured

    def pseudo_labels(self) -> Boxes:
        """Return the teacher's boxes on the images without labels, as labels and doubtful ones."""
        least, doubtful = self.options.least, self.options.ignore_from
        path = self.work / f"boxes-{self.teacher_digest[:16]}-{min(least, doubtful):g}.json"
        if not path.exists():
            folder = self.given.folder / "all" / "images" / "train"
            numbers = class_numbers(self.teacher, self.given.names)
            images = [folder / file for file in self.given.rest]
            with load_detector(
                self.teacher, imgsz=self.options.imgsz, device=self.device, conf=min(least, doubtful)
            ) as detector:
                found = detector(images)
            boxes = {
                image.name: [row(box, image, numbers) for box in one] for image, one in zip(images, found, strict=True)
            }
            write_json(path, boxes)
        return decided(json.loads(path.read_text()), least, doubtful)


def row(box: Any, image: Path, numbers: Mapping[int, int]) -> list[float]:
    """Return a detection as class, centre, width and height as shares of the image's sides, and score."""
    with Image.open(image) as opened:
        width, height = opened.size
    x1, x2 = (min(1.0, max(0.0, x / width)) for x in (box.x1, box.x2))
    y1, y2 = (min(1.0, max(0.0, y / height)) for y in (box.y1, box.y2))
    return [float(numbers[box.class_id]), (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1, box.score]


def class_numbers(teacher: Path, names: tuple[str, ...]) -> dict[int, int]:
    """Return the data's class numbers by the teacher's."""
    network = models.load(teacher)
    classes = ClassMap.between(dict(enumerate(names)), network.names)
    if classes.teacher is None or classes.student is None:
        return {number: number for number in range(len(names))}
    return dict(zip(classes.teacher.tolist(), classes.student.tolist(), strict=True))


def cost_of(run: Run) -> float:
    """Return what a run has cost, for arms of equal time.

    On a CPU that others share it is its quickest epoch, in seconds of the processor, times its epochs: even these
    seconds are twice as many when others compete for caches.
    """
    if "cost" not in run:
        return float(run["seconds"])
    cost = run["cost"]
    return float(cost.get("quiet_seconds", cost["processor_seconds"]) if run["device"] == "cpu" else cost["seconds"])


def key_facts(facts: dict[str, Any]) -> tuple[Any, ...]:
    """Return what a run's key is made of; a run without further facts has the key that earlier studies gave it."""
    named = [facts[name] for name in ("student", "epochs", "training", "data", "distillation", "teacher")]
    return tuple(named) if not facts["extras"] else (*named, facts["extras"])


def renewed(run: Run) -> Run:
    """Return a run with the key that its settings have today: fields that are new since have their defaults."""
    facts = run.get("facts")
    if facts is None:
        return run
    training = TrainingSpec.model_validate(facts["training"]).model_dump(mode="json")
    given = facts["distillation"]
    spec = None if given is None else DistillationSpec.model_validate(given).model_dump(mode="json")
    facts = {**facts, "training": training, "distillation": spec}
    return {**run, "facts": facts, "key": key_of(*key_facts(facts))}
