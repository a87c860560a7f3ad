"""Jobs are compared by figures, by the fields that differ, and by classes."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from cli.commands import Retort
from retort.cli import render
from retort.report.comparison import MISSING, compare, differing
from rich.cells import cell_len
from rich.console import Console
from stored_results import stored

SPEC = {"name": "a", "data": {"path": "/data"}, "distillation": {"losses": [{"kind": "pearson", "weight": 1.0}]}}


def job(letter: str, result: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    best = {"val/mAP50": 0.3, "val/mAP50-95": 0.2}
    state = "running" if result is None else "succeeded"
    return {
        "id": f"job_{letter * 32}", "name": f"job-{letter}", "state": state, "best": best, "result": result,
        "spec": {**copy.deepcopy(SPEC), **spec},
    }  # fmt: skip


def test_only_fields_that_differ_are_told_by_the_paths_that_set_takes():
    losses = [{"kind": "pearson", "weight": 2.0}, {"kind": "logits"}]
    found = list(differing([SPEC, {**SPEC, "name": "b", "distillation": {"losses": losses}, "exports": []}]))

    assert {one.path: one.values for one in found} == {
        "distillation.losses.0.weight": (1.0, 2.0),
        "distillation.losses.1.kind": (MISSING, "logits"),
        "exports": (MISSING, []),
    }


def test_true_and_one_and_null_and_nothing_are_four_values():
    specs = [{"a": value} for value in (True, 1, None)] + [{}]

    assert [one.values for one in differing(specs)] == [(True, 1, None, MISSING)]
    assert next(differing([{"a": True}, {"a": 1}])).values == (True, 1)


def test_classes_stand_with_the_largest_difference_first_and_a_missing_one_has_none():
    one, two = stored(0.6, 0.45, 0.4), stored(0.6, 0.45, 0.4)
    two["roles"]["student"]["per_class"]["blue"]["ap"] = 0.2
    two["roles"]["student"]["per_class"]["green"] = {"ap50": 0.9, "ap": 0.9}
    found = compare([job("a", one), job("b", two), job("c")])

    assert [(row.name, row.values) for row in found.classes] == [
        ("blue", (0.45, 0.2, None)), ("green", (None, 0.9, None)), ("red", (0.45, 0.45, None)),
    ]  # fmt: skip
    assert found.same_images
    assert (found.jobs[2].is_final, found.jobs[2].map) == (False, 0.2)


@pytest.mark.parametrize("width", [80, 200])
def test_six_jobs_are_read_beside_each_other_with_their_intervals(width: int):
    others = stored(0.6, 0.45, 0.4)
    others["dataset"]["digest"] = "e" * 64
    found = compare([job(letter, stored(0.6, 0.45, 0.4), seed=letter) for letter in "abcde"] + [job("f", others)])
    console = Console(width=width, no_color=True)
    with console.capture() as capture:
        for part in render.comparison_parts(found):
            console.print(part)
    text = capture.get()

    assert max(map(cell_len, text.splitlines())) <= width
    assert text.count("-1.0") == text.count("+11.0") == 6
    assert "measured on different images" in " ".join(text.split())
    assert "no room for" not in text


def test_jobs_of_a_service_are_compared_and_what_cannot_be_is_refused(
    served: Retort, submitted: Callable[[str, int], str]
):
    ids = [submitted("finish", 1), submitted("finish", 2)]
    for job_id in ids:
        assert served("wait", job_id, "--timeout", 60).code == 0
    found = served("compare", *ids, "--json").json

    assert [one["id"] for one in found["jobs"]] == ids
    assert [(one["path"], one["values"]) for one in found["fields"]] == [("training.epochs", [1, 2])]
    assert found["jobs"][0]["verdict"]["interval"]["high"] == 0.11
    for wrong in ([ids[0]], [ids[0], ids[0]], [*ids, *ids, *ids, ids[0]], ["a.pt", "b.pt"]):
        refused = served("compare", *wrong, "--json")
        assert (refused.code, refused.error["code"]) == (4, "usage")
        assert refused.error["hint"]
