"""Distillations broken on purpose: the contract ends them, and without it the rules name what is wrong."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import broken_runs
import pytest
from broken_runs import CASES, Listener
from retort.errors import NotDistilling

pytestmark = pytest.mark.train

FEW = 3
"""Epochs in which a broken run is named; a healthy one takes longer to show that it is none."""


@pytest.fixture
def broken(scenes: Path, knows: Path, tmp_path: Path) -> Callable[..., Listener]:
    def run(name: str, *, checked: bool, epochs: int = FEW) -> Listener:
        return broken_runs.run(CASES[name], knows, scenes, tmp_path, checked=checked, epochs=epochs)

    return run


@pytest.mark.parametrize("name", sorted(CASES.keys() - {"healthy"}))
def test_a_broken_run_is_named_correctly(name: str, broken: Callable[..., Listener]) -> None:
    findings = broken(name, checked=False).findings

    assert broken_runs.named(CASES[name], findings) is not None, findings
    assert {f.rule for f in findings if f.verdict == "critical"} <= set(CASES[name].named_by)


def test_a_healthy_run_gets_no_critical_verdict(broken: Callable[..., Listener], tmp_path: Path) -> None:
    listener = broken("healthy", checked=True, epochs=12)

    assert [f for f in listener.findings if f.verdict == "critical"] == []
    first, last = listener.metrics[1], listener.metrics[12]
    assert (last["health/kl_foreground"] or 9) < (first["health/kl_foreground"] or 0)
    assert (last["health/cosine_P3"] or 0) > (first["health/cosine_P3"] or 9)
    assert first["health/teacher_agreement"] == last["health/teacher_agreement"]
    assert (tmp_path / "health.npz").is_file()


@pytest.mark.parametrize(
    ("name", "said"),
    [("teacher_in_train_mode", "the teacher is in train mode"), ("frozen_projector", "projector .* is not trained")],
)
def test_the_contract_ends_what_is_dead_before_it_trains(
    name: str, said: str, broken: Callable[..., Listener], tmp_path: Path
) -> None:
    with pytest.raises(NotDistilling, match=said) as caught:
        broken(name, checked=True)
    assert caught.value.code == "not_distilling"
    assert caught.value.hint
    assert not (tmp_path / "weights" / "best.pt").exists()


def test_a_student_better_than_its_teacher_is_refused_where_the_setting_says_so(
    knows: Path, scenes: Path, published: Callable[..., Path], tmp_path: Path
) -> None:
    weak = published("yolo11n")
    student = Path(shutil.copy(knows, tmp_path / "student.pt"))
    for setting in ("refuse", "warn"):
        spec = broken_runs.HEALTHY.model_copy(update={"weak_teacher": setting, "assignment": "student"})
        plan = broken_runs.plan(scenes, tmp_path / setting, epochs=1)
        made = broken_runs.Sound(
            replace(plan, weights=student), listener := Listener(), teacher=weak, distillation=spec
        )
        try:
            if setting == "refuse":
                with pytest.raises(NotDistilling, match="weaker than its student") as caught:
                    made.train()
                assert caught.value.code == "not_distilling"
                assert "retort advise" in (caught.value.hint or "")
            else:
                made.train()
                assert any("weaker than its student" in message for message in listener.said)
                assert "student_overtook" in {finding.rule for finding in listener.findings}
        finally:
            made.close()
