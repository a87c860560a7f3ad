"""Count how often the bound on what a teacher can be worth has held, from finished jobs and measured recipes.

``python benchmarks/bound.py PATH...``: a path is a ``report.json``, a folder in which they are looked for, or the
document of ``benchmarks/quality.py``. Where that has no figures by class the bound is the teacher's mAP50-95 less
plain's of the same seed, which is at most what the classes would give: a gain within it is within theirs.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any


@dataclass(frozen=True)
class Checked:
    """One distilled student beside its bound, in mAP50-95."""

    source: str
    run: str
    basis: str
    """What the teacher was set against: the control, or what was known before (``start``, ``none``, ``epoch N``)."""
    most: float
    gained: float
    held: bool | None
    """None where the gain is above the bound by no more than chance makes."""


def of_report(path: Path) -> Iterator[Checked]:
    """Yield the bounds of a finished job; none where teacher or control were not measured."""
    document = json.loads(path.read_text(encoding="utf-8"))
    worth = document["result"].get("worth") if "verdict" in document else None  # runs keep stages by that name, too
    if worth is None:
        return
    name, gained = document["name"], worth["gained"]
    yield Checked(str(path), name, worth["basis"], worth["most"], gained, worth["held"])
    if (before := worth.get("foretold")) is not None:
        yield Checked(str(path), name, before["basis"], before["most"], gained, worth["foretold_held"])


UNTAUGHT = ("plain", "class_weights", "equal_steps", "pseudo", "equal_time", "long", "placebo", "self")
"""Arms of ``quality.py`` whose student no teacher teaches, or none that knows more than it."""


def of_quality(path: Path) -> Iterator[Checked]:
    """Yield the bounds of each distilled student of ``benchmarks/quality.py``, by plain's end and a quarter of it."""
    document = json.loads(path.read_text(encoding="utf-8"))
    teachers = {name: one["teacher"] for name, one in document.get("sets", {"": document}).items()}
    by = {(run.get("set", ""), run["recipe"], run["seed"]): run for run in document["runs"]}
    for (given, arm, seed), run in by.items():
        images, colon, what = arm.rpartition(":")
        beside = by.get((given, f"{images}{colon}plain", seed))
        if beside is None or what.partition("=")[0] in UNTAUGHT:
            continue
        name, gained = " ".join(filter(None, (given, arm, str(seed)))), score(run) - score(beside)
        quarter = max(1, len(beside["curve"]) // 4)
        early = max(point[1] or 0.0 for point in beside["curve"][:quarter])
        lead = class_lead(teachers[given], beside)
        for basis, most in (
            ("control", max(0.0, score(teachers[given]) - score(beside)) if lead is None else lead),
            (f"epoch {quarter}", max(0.0, teachers[given]["map50_95"] - early)),  # both on the validation images
        ):
            yield Checked(str(path), name, basis, most, gained, gained <= most or None)


def score(one: dict[str, Any]) -> float:
    """Return the mAP50-95 by which a run or a teacher is judged."""
    judged: float = one.get("final", one)["map50_95"]
    return judged


def class_lead(teacher: dict[str, Any], plain: dict[str, Any]) -> float | None:
    """Return the mean over the classes of the teacher's lead, or 0 where it is behind; None without such figures."""
    theirs, alone = (one.get("final", {}).get("per_class") for one in (teacher, plain))
    return fmean(max(0.0, ap - alone.get(name, 0.0)) for name, ap in theirs.items()) if theirs and alone else None


def checked(paths: Sequence[Path]) -> list[Checked]:
    """Return the bounds of all runs that the *paths* name or hold."""
    found: list[Checked] = []
    for path in paths:
        files = sorted(path.rglob("report.json")) if path.is_dir() else [path]
        for file in files:
            found += of_report(file) if file.name == "report.json" else of_quality(file)
    return found


def counts(found: Sequence[Checked]) -> dict[str, dict[str, Any]]:
    """Return by basis how often the bound held, was broken and could not be told, and how far above the gain it was."""
    bases = dict.fromkeys("epoch" if one.basis.startswith("epoch") else one.basis for one in found)
    by = {basis: [one for one in found if one.basis.partition(" ")[0] == basis] for basis in bases}
    return {
        basis: {
            "runs": len(ones),
            "held": sum(one.held is True for one in ones),
            "broken": sum(one.held is False for one in ones),
            "not_told": sum(one.held is None for one in ones),
            "share_held": sum(one.held is True for one in ones) / len(ones),
            "mean_most": fmean(one.most for one in ones),
            "mean_gained": fmean(one.gained for one in ones),
        }
        for basis, ones in by.items()
    }


def main() -> None:
    """Print a line for each run, and the counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="+", type=Path)
    parser.add_argument("--json", type=Path, help="write runs and counts here")
    arguments = parser.parse_args()
    found = checked(arguments.paths)
    if not found:
        parser.error("none of these holds a run with teacher and control: name report.json files or their folders")
    for one in found:
        held = {True: "held", False: "broken", None: "not told"}[one.held]
        print(f"{one.run:28s} {one.basis:9s} at most {100 * one.most:+5.1f}  gained {100 * one.gained:+5.1f}  {held}")
    summary = counts(found)
    for basis, entry in summary.items():
        print(
            f"by {basis}: held in {entry['held']} of {entry['runs']} runs ({entry['share_held']:.0%}), broken in "
            f"{entry['broken']}; at most {100 * entry['mean_most']:+.1f}, gained {100 * entry['mean_gained']:+.1f} "
            "points on average"
        )
    if arguments.json is not None:
        from provenance import provenance, write_json  # beside this file

        runs = [{**asdict(one), "source": Path(one.source).name} for one in found]
        write_json(arguments.json, {"counts": summary, "runs": runs, **provenance()})


if __name__ == "__main__":
    main()
