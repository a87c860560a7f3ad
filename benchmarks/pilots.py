"""What pilots decide: the arms ``piloted=..`` of a study, without the long runs that follow.

    python benchmarks/pilots.py --data NAME=DIR --arms piloted=balanced,piloted=misnamed --seeds 5 --json FILE

It takes the options of ``quality.py`` and shares its working folder, so that a study goes on from these pilots. Harm is
counted where the long runs are known: of the arm without its pilot, and of what the pilot has chosen.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
from collections import Counter
from collections.abc import Iterable
from typing import Any

import quality
from provenance import provenance, write_json
from quality_arms import PLAIN, Arm, Treatment, treatment
from quality_pilot import chosen, decision
from quality_runs import key_of
from quality_sets import StudySet
from quality_study import Run, Study, key_facts
from quality_summary import HARM, figure


def told(study: Study, arm: Arm, seed: int) -> dict[str, Any]:
    """Return what the pilot of one arm and seed decides, and by how much known runs are above plain's."""
    given = treatment(arm, study.epochs, no_cost)
    key = key_of(*key_facts(study.facts(given, seed)))
    found = decision(study, given, seed, key)
    plain = known(study, Treatment(given.epochs, given.images), seed)
    runs = {
        "without": known(study, dataclasses.replace(given, piloted=False), seed),
        "with": known(study, chosen(given, found), seed),
    }
    above = {name: None if run is None or plain is None else figure(run) - figure(plain) for name, run in runs.items()}
    if above["with"] is None and chosen(given, found).spec is None:
        above["with"] = 0.0  # it is plain's run
    return {"set": study.given.name, "arm": arm.name, "seed": seed, **found, "minus_plain": above}


def no_cost(name: str) -> float:
    """Return what another arm has cost, which none here needs."""
    raise AssertionError(name)


def known(study: Study, given: Treatment, seed: int) -> Run | None:
    """Return the run of a treatment, if there is one."""
    return study.runs.get(key_of(*key_facts(study.facts(given, seed))))


def long_runs(study: Study) -> list[dict[str, Any]]:
    """Return what the known runs of the set reach, plain ones and taught ones."""
    mine = {run["key"]: run for run in study.runs.values() if run.get("facts", {}).get("data") == study.given.digest}
    return [
        {
            "seed": run["facts"]["training"]["seed"], "epochs": run["facts"]["epochs"], "final": figure(run),
            "recipe": (run["facts"]["distillation"] or {"recipe": PLAIN})["recipe"],
            "extras": {name: value for name, value in run["facts"]["extras"].items() if name != "start"}, "key": key,
        }
        for key, run in sorted(mine.items())
    ]  # fmt: skip


def counted(found: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Return decisions, harm with and without the pilot, minutes, and what a difference would have had to exceed."""
    found = list(found)
    above = {name: [one["minus_plain"][name] for one in found] for name in ("with", "without")}
    measured = {name: [value for value in values if value is not None] for name, values in above.items()}
    taught = [arm for one in found for arm in one["figures"]["arms"][1:]]
    needed = [arm["difference"] - arm["interval"]["low"] for arm in taught if "interval" in arm]
    return {
        "pilots": len(found),
        "decisions": dict(Counter(one["figures"]["decision"] for one in found)),
        "largest_difference": max((arm["difference"] for arm in taught), default=None),
        "needed_difference": [min(needed), max(needed)] if needed else None,
        "processor_minutes": statistics.fmean(one["cost"]["processor_seconds"] for one in found) / 60,
        **{
            f"harm_{name}": {"runs": len(values), "below": sum(value < -HARM for value in values)}
            for name, values in measured.items()
        },
    }


def result_of(found: list[dict[str, Any]], studies: list[Study], options: argparse.Namespace) -> dict[str, Any]:
    """Return all pilots, and the counts by set and arm."""
    cells = dict.fromkeys((one["set"], one["arm"]) for one in found)
    return {
        "counts": {
            f"{name} {arm}": counted(one for one in found if (one["set"], one["arm"]) == (name, arm))
            for name, arm in cells
        },
        "all": counted(found),
        "pilots": found,
        "sets": {
            study.given.name: {
                "data": study.given.facts(),
                "teacher": study.measured_teacher(),
                "epochs": study.epochs,
                "long_runs": long_runs(study),
            }
            for study in studies
        },
        "settings": quality.shown_settings(options),
        **provenance(),
    }


def main() -> None:
    """Make the pilots that are missing; write after each, and print."""
    options = quality.parse()
    found: list[dict[str, Any]] = []
    known_runs = quality.known_runs(options)
    studies = [Study(StudySet.of(name, path, options), options, known_runs) for name, path in options.data]
    for seed in options.seeds:
        for study in studies:
            for arm in (arm for arm in options.arms if arm.what == "piloted"):
                found.append(told(study, arm, seed))
                figures = found[-1]["figures"]
                print(f"{study.given.name} {arm.name} seed {seed}: {figures['sentence']}", flush=True)
                if options.json:
                    write_json(options.json, result_of(found, studies, options))
    for name, cell in result_of(found, studies, options)["counts"].items():
        print(
            f"{name:34s} {cell['decisions']}  harm {cell['harm_without']} without, {cell['harm_with']} with", flush=True
        )


if __name__ == "__main__":
    main()
