"""The count of bounds that held reads what jobs and measured recipes leave."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import pytest
from house.source import ROOT
from stored_results import stored

BOUND = runpy.run_path(str(ROOT / "benchmarks" / "bound.py"))


def network(red: float, blue: float) -> dict[str, Any]:
    mean = (red + blue) / 2
    return {"map50_95": 0.9, "final": {"map50_95": mean, "per_class": {"red": red, "blue": blue}}, "curve": [[0, 0.1]]}


def test_each_taught_arm_of_a_study_is_set_beside_plain_of_its_seed_and_images(tmp_path: Path) -> None:
    arms = {
        ("plain", 0): (0.5, 0.4), ("balanced", 0): (0.54, 0.4), ("equal_time", 0): (0.9, 0.9),
        ("plain", 1): (0.5, 0.4), ("balanced", 1): (0.7, 0.4), ("pseudo:native", 0): (0.9, 0.9),
    }  # fmt: skip
    runs = [{"set": "street", "recipe": arm, "seed": seed, **network(*aps)} for (arm, seed), aps in arms.items()]
    path = tmp_path / "quality.json"
    path.write_text(json.dumps({"sets": {"street": {"teacher": network(0.6, 0.3)}}, "runs": runs}))

    found = [one for one in BOUND["checked"]([path]) if one.basis == "control"]

    assert [one.run for one in found] == ["street balanced 0", "street balanced 1"], "no plain has pseudo's images"
    assert [one.most for one in found] == pytest.approx([0.05, 0.05])
    assert [one.gained for one in found] == pytest.approx([0.02, 0.10])
    assert [one.held for one in found] == [True, None]


def test_a_finished_job_is_counted_by_what_its_report_says(tmp_path: Path) -> None:
    classes = {"red": {"teacher": 0.6, "plain": 0.5, "most": 0.1, "gained": 0.02}}
    before = {"most": 0.5, "basis": "none", "per_class": classes, "sentence": "It can."}
    worth = {
        "most": 0.1, "basis": "control", "per_class": classes, "sentence": "It could.", "gained": 0.02,
        "excess": -0.08, "held": False, "foretold": before, "foretold_held": True,
    }  # fmt: skip
    for place, told in (("artifacts", {"name": "job", "verdict": {}}), ("stages", {"key": "k"})):
        (tmp_path / place).mkdir()
        (tmp_path / place / "report.json").write_text(json.dumps({**told, "result": stored(worth=worth)}))

    counts = BOUND["counts"](BOUND["checked"]([tmp_path]))

    assert {basis: (one["runs"], one["held"], one["broken"]) for basis, one in counts.items()} == {
        "control": (1, 0, 1), "none": (1, 1, 0),
    }  # fmt: skip


def test_the_committed_studies_hold_the_bound_as_the_documentation_says() -> None:
    kept = [ROOT / "benchmarks" / "results" / f"quality-{name}-cpu.json" for name in ("bccd-160", "digits-96")]
    found = BOUND["counts"](BOUND["checked"](kept))["control"]
    assert (found["runs"], found["held"]) == (12, 12)
    page = (ROOT / "docs" / "worth.md").read_text(encoding="utf-8")
    assert f"at most {100 * found['mean_most']:+.1f} points, gained {100 * found['mean_gained']:+.1f}" in page
