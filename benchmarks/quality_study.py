"""One data set of a study: its teacher, and the trainings under it."""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import shutil
import time
from pathlib import Path
from typing import Any

from provenance import provenance, write_json
from quality_arms import Arm, Treatment, treatment
from quality_pilot import piloted
from quality_runs import Printer, key_of
from quality_sets import LABELLED_BY_TEACHER, Boxes, StudySet
from quality_teacher import FEW_LABELS, StudyTeacher, mixture
from retort.constants import MAP, MAP50, Role
from retort.spec import DistillationSpec, TrainingSpec
from retort.training import arms
from retort.training.config import TeacherConfig, TrainConfig, UnlabelledConfig
from retort.training.evaluate import Conditions, Split, evaluate
from retort.training.trainer import fit

Run = dict[str, Any]


class NotRunError(Exception):
    """A run that is not finished, in a study that trains nothing."""


class Study:
    """One data set, one teacher, and the runs under it."""

    def __init__(self, given: StudySet, options: argparse.Namespace, runs: dict[str, Run]) -> None:
        self.given, self.options = given, options
        self.epochs: int = dict(options.set_epochs).get(given.name, options.epochs)
        self.work: Path = options.work / given.name
        self.runs = runs
        """Finished runs by key, of all sets."""
        self.device = "0" if options.device == "cuda" else "cpu"
        side = options.teacher_imgsz or options.imgsz
        self.teacher = StudyTeacher(self._teacher(side), side, self.work, given, self.device)

    def training(self, seed: int, imgsz: int | None = None) -> TrainingSpec:
        """Return how every network here is trained."""
        given = self.options
        return TrainingSpec.model_validate(
            {
                "imgsz": imgsz or given.imgsz,
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
        """Return the finished run of an arm, which is trained where none is known.

        Raises:
            NotRunError: none is known, and nothing is to be trained.

        """
        given = treatment(arm, self.epochs, lambda name: cost_of(self.run(Arm.read(name), seed)))
        found = self.run_of(given, seed, f"{self.given.name} {arm.name} seed {seed}")
        return {**found, "set": self.given.name, "recipe": arm.name, "seed": seed}

    def run_of(self, given: Treatment, seed: int, name: str) -> Run:
        """Return the finished run of a treatment, which is trained, and told of as *name*, where none is known."""
        key = key_of(*key_facts(self.facts(given, seed)))
        if key not in self.runs and self.options.known:
            raise NotRunError(name)
        if key not in self.runs:
            found = piloted(self, given, seed, key) if given.piloted else self._train(name, given, seed, key)
            self.runs[key] = found
            write_json(self.options.work / "runs" / f"{key}.json", found)
        return self.runs[key]

    def facts(self, given: Treatment, seed: int) -> dict[str, Any]:
        """Return all that decides a run."""
        labelled = given.images in LABELLED_BY_TEACHER
        taught = given.spec is not None or labelled
        extras: dict[str, Any] = dict(given.extras)
        if self.options.student_weights:
            extras["start"] = hashlib.sha256(self.options.student_weights.read_bytes()).hexdigest()
        if self.given.rest:
            extras["images"] = given.images
        if given.images == "pseudo":
            extras["labels"] = [self.options.least, self.options.ignore_from]
        if given.images == "few_labels":
            extras["labels"] = FEW_LABELS
        if taught and self.teacher.imgsz != self.options.imgsz:
            extras["teacher_imgsz"] = self.teacher.imgsz
        if given.cached:
            extras["views"] = sorted(self.options.views)
        return {
            "student": self.options.student,
            "epochs": given.epochs,
            "training": self.training(seed).model_dump(mode="json"),
            "data": self.given.digest,
            "distillation": None if given.spec is None else given.spec.model_dump(mode="json"),
            "teacher": self.teacher.digest if taught else None,
            "extras": extras,
        }

    def _train(self, name: str, given: Treatment, seed: int, key: str) -> Run:
        printer = Printer(name)
        plan = self.plan_of(given, seed, key)
        shutil.rmtree(plan.folder, ignore_errors=True)  # what an interrupted one has cost is not known
        teacher = self.shown_teacher(given, plan)
        began, spent = time.monotonic(), time.process_time()
        fitted = fit(plan, printer, teacher=teacher, distillation=self.spec_of(given, plan))
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
                **({"asking_seconds": self.teacher.asking_cost(self.options.views)} if given.cached else {}),
            },
            "device": self.options.device,
            "key": key,
            "facts": self.facts(given, seed),
            "commit": provenance()["commit"],
        }
        shutil.rmtree(plan.folder, ignore_errors=True)
        return found

    def final(self, weights: Path, data_yaml: Path, imgsz: int | None = None) -> dict[str, Any]:
        """Measure what a study is judged by.

        With test images it is the network that was best on the validation images, on the test images; without, the
        last epoch's network on the validation images, among which nothing has then been chosen.
        """
        split: Split = "test" if self.given.split == "test" else "val"
        conditions = Conditions(data_yaml, imgsz=imgsz or self.options.imgsz, device=self.device, split=split)
        found = evaluate(weights, conditions).accuracy
        assert found is not None, "it was trained on these classes"
        per_class = {name: round(ap["ap"], 5) for name, ap in found.per_class.items()}
        return {"map50": found.map50, "map50_95": found.map, "per_class": per_class, "split": split}

    def plan_of(self, given: Treatment, seed: int, key: str) -> TrainConfig:
        """Return the plan of a treatment, trained in a folder by its *key*."""
        boxes = self._boxes(given.images) if self.given.rest else None
        data_yaml = self.given.data_yaml("labelled" if given.images == "unlabelled" else given.images, boxes)
        plan = self.plan(Role.STUDENT, self.options.student, given.epochs, data_yaml, key)
        real = given.teacher in {"teacher", "misnamed"}
        side = self.teacher.imgsz if real and self.teacher.imgsz != self.options.imgsz else None
        teaching = TeacherConfig(ema=given.teacher == "self", imgsz=side)
        if given.images == "unlabelled" and given.spec is not None and given.terms:
            shown = UnlabelledConfig(self.given.rest_folder(), 1.0, self.given.digest)
            teaching = dataclasses.replace(teaching, unlabelled=shown)
        if given.cached:
            teaching = dataclasses.replace(teaching, cache=self.teacher.cache(self.options.views), imgsz=None)
        return dataclasses.replace(
            plan, weights=self.options.student_weights, training=self.training(seed), class_balance=given.class_balance,
            terms=given.terms, teaching=teaching, watched=given.terms and given.teacher == "teacher",
            mixture=mixture(given.epochs) if boxes and given.images == "few_labels" else None,
        )  # fmt: skip

    def _boxes(self, images: str) -> Boxes | None:
        if images == "pseudo":
            return self.teacher.pseudo_labels(self.options.least, self.options.ignore_from)
        return self.teacher.few_labels() if images == "few_labels" else None

    def plan(self, role: Role, model: str, epochs: int, data_yaml: Path, folder: str) -> TrainConfig:
        """Return the plan of one training."""
        return TrainConfig(
            role=role, model=model, weights=None, data_yaml=data_yaml, epochs=epochs, training=self.training(0),
            folder=self.work / "trainings" / folder, device=self.device,
        )  # fmt: skip

    def shown_teacher(self, given: Treatment, plan: TrainConfig) -> Path | None:
        """Return the teacher's weights; none where there is no such file."""
        if given.teacher == "misnamed":
            return self.teacher.misnamed()
        if given.teacher != "placebo":
            return self.teacher.weights if given.teacher == "teacher" else None
        path = self.work / f"placebo-{plan.folder.name}.pt"
        if not path.exists():
            arms.write_placebo(plan, dict(enumerate(self.given.names)), self.teacher.weights, path)
        return path

    def spec_of(self, given: Treatment, plan: TrainConfig) -> DistillationSpec | None:
        """Return the spec; no other teacher is given labels to assign that the real one would not assign."""
        if given.teacher in {"teacher", "misnamed"} or given.spec is None:
            return given.spec
        names = dict(enumerate(self.given.names))
        if arms.assigns(plan, names, self.teacher.weights, given.spec):
            return given.spec
        return given.spec.model_copy(update={"assignment": "student"})

    def _teacher(self, imgsz: int) -> Path:
        """Return the teacher: the given file, or one trained here once, on the labelled images alone."""
        given = self.options
        if given.teacher.endswith(".pt"):
            return Path(given.teacher).resolve()
        epochs = dict(given.set_teacher_epochs).get(self.given.name, given.teacher_epochs or 2 * self.epochs)
        facts = [given.teacher, epochs, self.training(0, imgsz).model_dump(mode="json"), self.given.digest]
        if given.teacher_weights:
            facts.append(hashlib.sha256(given.teacher_weights.read_bytes()).hexdigest())
        path: Path = given.work / f"teacher-{key_of(*facts)}.pt"
        if not path.exists():
            plan = self.plan(Role.TEACHER, given.teacher, epochs, self.given.data_yaml("repeated"), path.stem)
            plan = dataclasses.replace(plan, weights=given.teacher_weights, training=self.training(0, imgsz))
            fitted = fit(plan, Printer(f"{self.given.name} teacher {given.teacher}"))
            shutil.copy(fitted.weights, path.with_suffix(".part"))
            path.with_suffix(".part").replace(path)
            shutil.rmtree(plan.folder, ignore_errors=True)
        return path

    def measured_teacher(self) -> dict[str, Any]:
        """Return what the teacher reaches at its own side, on the validation images and where the study is judged.

        It is kept beside the teacher.
        """
        imgsz = self.teacher.imgsz
        side = "" if imgsz == self.options.imgsz else f"-{imgsz}"
        path = self.work / f"measured-{self.teacher.digest[:16]}{side}.json"
        if not path.exists():
            data_yaml, weights = self.given.data_yaml("labelled"), self.teacher.weights
            found = evaluate(weights, Conditions(data_yaml, imgsz=imgsz, device=self.device)).accuracy
            assert found is not None, "it knows these classes"
            final = self.final(weights, data_yaml, imgsz)
            told = {"map50": found.map50, "map50_95": found.map, "final": final, "sha256": self.teacher.digest}
            write_json(path, {**told, "imgsz": imgsz})
        measured: dict[str, Any] = json.loads(path.read_text())
        return measured


def cost_of(run: Run) -> float:
    """Return what a run has cost, for arms of equal time.

    On a CPU that others share it is its quickest epoch, in seconds of the processor, times its epochs: even these
    seconds are twice as many when others compete for caches. One whose teacher was asked ahead of time bears all looks.
    """
    if "cost" not in run:
        return float(run["seconds"])
    cost = run["cost"]
    steps = cost.get("quiet_seconds", cost["processor_seconds"]) if run["device"] == "cpu" else cost["seconds"]
    return float(steps + cost.get("asking_seconds", 0.0))


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
