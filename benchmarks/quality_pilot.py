"""What a job's pilot decides on an arm of a study, by the job's own trainings and rule; and the run that follows."""

from __future__ import annotations

import dataclasses
import json
import shutil
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from provenance import provenance, write_json
from quality_arms import PLAIN, Treatment
from quality_runs import Printer, key_of, read_matches, write_matches
from retort.report import pilot as rule
from retort.report.pilot_trainings import ShortTraining, ShortTrainings, decided, measured, plan_short
from retort.spec.pilot import PilotArm, PilotArmName, PilotFigures
from retort.training.evaluate import Conditions
from retort.training.trainer import fit

if TYPE_CHECKING:
    from quality_study import Study

Run = dict[str, Any]


def piloted(study: Study, given: Treatment, seed: int, key: str) -> Run:
    """Return the run that the pilot chooses: that of the arm, of less of it, or plain's; with the pilot's own cost."""
    pilot = decision(study, given, seed, key)
    found = study.run_of(chosen(given, pilot), seed, f"{study.given.name} {pilot['figures']['decision']} seed {seed}")
    cost = {name: round(found["cost"][name] + spent, 2) for name, spent in pilot["cost"].items()}
    if given.cached:
        cost["asking_seconds"] = study.teacher.asking_cost(study.options.views)
    return {
        **found, "pilot": pilot, "chosen": found["key"], "key": key, "facts": study.facts(given, seed), "cost": cost,
        "seconds": round(found["seconds"] + pilot["cost"]["seconds"], 1), "commit": provenance()["commit"],
    }  # fmt: skip


def chosen(given: Treatment, pilot: Run) -> Treatment:
    """Return what is done after a pilot of a treatment."""
    assert given.spec is not None, "a pilot tries a distillation"
    taught = rule.followed(PilotFigures.model_validate(pilot["figures"]).decision, given.spec)
    if taught is None:
        return Treatment(given.epochs, given.images)
    return dataclasses.replace(given, spec=taught, piloted=False)


def decision(study: Study, given: Treatment, seed: int, key: str) -> Run:
    """Return what the pilot decides, and what its trainings have cost."""
    path = study.work / "pilots" / f"{key}.json"
    if not path.exists():
        folder = study.work / "pilots" / f"{key}-data"
        shutil.rmtree(folder, ignore_errors=True)
        tried = _Tried(study, given, seed, key)
        stems = [Path(file).stem for file in study.given.labelled]
        short = plan_short(tried.plain, tried.distillation, stems, folder)
        found = short if isinstance(short, PilotFigures) else decided(short, partial(tried, short), _told)
        shutil.rmtree(folder, ignore_errors=True)
        write_json(path, {"figures": found.model_dump(mode="json"), "cost": tried.cost})
    kept: Run = json.loads(path.read_text())
    return kept


def _told(sentence: str, arm: PilotArm) -> None:
    print(sentence, "" if arm.difference is None else f"{100 * arm.difference:+.1f} points", flush=True)


class _Tried:
    """The short trainings of one arm and seed; that of plain is made once for all arms."""

    def __init__(self, study: Study, given: Treatment, seed: int, key: str) -> None:
        self._study, self._given, self._seed = study, given, seed
        self._plan = study.plan_of(given, seed, key)
        self.plain = study.plan_of(Treatment(given.epochs, given.images), seed, key)
        distillation = study.spec_of(given, self._plan)
        assert distillation is not None, "a pilot tries a distillation"
        self.distillation = distillation
        self.cost = {"seconds": 0.0, "processor_seconds": 0.0, "quiet_seconds": 0.0}

    def __call__(self, short: ShortTrainings, name: PilotArmName, number: int) -> ShortTraining:  # noqa: ARG002
        spec, given = short.taught(name), dataclasses.replace(self._given, piloted=False, epochs=short.plain.epochs)
        given = Treatment(given.epochs, given.images) if spec is None else dataclasses.replace(given, spec=spec)
        facts = self._study.facts(given, self._seed)
        facts["training"] = short.plain.training.model_dump(mode="json")
        path = self._study.work / "pilots" / f"{key_of('short', rule.HELD_APART, facts)}.json"
        if not path.exists():
            self._train(short, given, PLAIN if spec is None else name, path)
        kept = json.loads(path.read_text())
        self.cost = {name: round(value + kept["cost"][name], 2) for name, value in self.cost.items()}
        matches = read_matches(path.with_suffix(".npz"))
        return ShortTraining(kept["map50"], kept["map"], matches, kept["cost"]["seconds"])

    def _train(self, short: ShortTrainings, given: Treatment, name: str, path: Path) -> None:
        printer = Printer(f"{self._study.given.name} pilot {name} seed {self._seed}")
        folder = self._study.work / "trainings" / path.stem
        shutil.rmtree(folder, ignore_errors=True)
        plan, teacher = dataclasses.replace(short.plain, folder=folder), None
        if given.spec is not None:
            plan = dataclasses.replace(plan, teaching=self._plan.teaching)
            teacher = self._study.shown_teacher(given, plan)
        began, spent = time.monotonic(), time.process_time()
        fitted = fit(plan, printer, teacher=teacher, distillation=given.spec)
        seconds, cpu = time.monotonic() - began, time.process_time() - spent
        assert fitted.last is not None, "it is kept on this machine"
        conditions = Conditions(plan.data_yaml, imgsz=plan.training.imgsz, device=self._study.device)
        map50, found, matches = measured(fitted.last, conditions, short.held)
        write_matches(path.with_suffix(".npz"), matches)
        cost = {
            "seconds": round(seconds, 1), "processor_seconds": round(cpu, 1),
            "quiet_seconds": round(plan.epochs * min(printer.epoch_seconds), 2),
        }  # fmt: skip
        write_json(path, {"map50": map50, "map": found, "cost": cost})
        shutil.rmtree(folder, ignore_errors=True)
