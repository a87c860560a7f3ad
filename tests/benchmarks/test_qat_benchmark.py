"""What the benchmark of INT8 says of its measurements."""

from __future__ import annotations

from typing import Any

import pytest
import qat


def run(arm: str, seed: int | None, value: float) -> dict[str, Any]:
    return {"arm": arm, "seed": seed, "map50_95": value, "error": 0.01}


def test_trainings_are_paired_by_seed_and_what_has_no_seed_stands_beside_each() -> None:
    found = qat.summary(
        [
            run("float", None, 0.500), run("calibrated", None, 0.496),
            run("labels", 0, 0.490), run("student", 0, 0.498), run("labels", 1, 0.498), run("student", 1, 0.494),
        ]
    )  # fmt: skip
    assert found["student"]["minus_labels"]["by_seed"] == pytest.approx([0.008, -0.004])
    assert found["student"]["minus_float"]["by_seed"] == pytest.approx([-0.002, -0.006])
    assert (
        found["student"]["minus_float"]["interval"][0]
        < -0.006
        < -0.002
        < found["student"]["minus_float"]["interval"][1]
    )
    assert found["student"]["within_budget"] == 1
    assert found["calibrated"]["minus_float"]["by_seed"] == pytest.approx([-0.004])
    assert found["calibrated"]["minus_float"]["interval"] is None
    assert "minus_labels" not in found["calibrated"]
