"""Each rule of health, on histories that call for each of its verdicts."""

from __future__ import annotations

from typing import Any

import pytest
from retort.training.health.rules import RULES, RuleEngine, RuleInputs

Values = dict[str, float | None]
FINE: Values = {
    "train/loss": 5.0, "train/kd/weight": 1.0, "val/mAP50-95": 0.3,
    "health/teacher_shift": 1e-6, "health/projector_step": 0.01, "health/teacher_agreement": 0.95,
    "health/kl_foreground": 0.5, "health/kl_background": 0.01, "health/kl_dfl": 0.1, "health/box_iou": 0.8,
    "health/background_share": 0.2, "health/cosine_P3": 0.95, "health/grad_cosine": 0.3, "health/grad_ratio": 0.5,
    "health/foreground_anchors": 40.0,
}  # fmt: skip
FACTS = RuleInputs(teacher_map=0.5, temperature=1.0)


def history(name: str, *values: float | None, **others: float | None) -> list[Values]:
    fixed = {f"health/{key}": value for key, value in others.items()}
    return [{**FINE, **fixed, name if "/" in name else f"health/{name}": value} for value in values]


def falling(start: float, factor: float, epochs: int) -> list[float]:
    return [start * factor**epoch for epoch in range(epochs)]


CASES: dict[str, list[tuple[str, list[Values]]]] = {
    "teacher_not_frozen": [
        ("critical", history("teacher_shift", 0.3)),
        ("healthy", history("teacher_shift", 0.005)),
    ],
    "projector_frozen": [("critical", history("projector_step", 0.0)), ("healthy", history("projector_step", 1e-4))],
    "classes_mismatched": [
        ("critical", history("teacher_agreement", 0.1)),
        ("warning", history("kl_foreground", 2.5, teacher_agreement=None)),
        ("healthy", history("kl_foreground", 2.5, box_iou=0.4)),
    ],
    "loss_exploding": [
        ("critical", history("train/loss", None)),
        ("critical", history("kl_background", 1e9)),
        ("critical", history("train/loss", 5, 5, 5, 5, 5, 21)),
        ("warning", history("train/loss", 5, 5, 5, 5, 5, 11)),
        ("healthy", history("train/loss", 4, 15, 20, 19, 17, 14)),  # as a loss from random weights does
    ],
    "background_dominates": [
        ("critical", history("background_share", 0.94)),
        ("warning", history("background_share", 0.7)),
        ("healthy", history("background_share", 0.31)),
    ],
    "foreground_kl_stuck": [
        ("warning", history("kl_foreground", *[2.0] * 11)),
        ("critical", history("kl_foreground", *[2.0] * 51)),
        ("healthy", history("kl_foreground", *falling(3, 0.95, 20))),
        ("healthy", history("kl_foreground", *[0.5] * 60)),
    ],
    "foreground_kl_slow": [
        ("warning", history("kl_foreground", *falling(3, 0.998, 50))),
        ("healthy", history("kl_foreground", *falling(3, 0.97, 50))),
    ],
    "foreground_kl_jitters": [
        ("warning", history("kl_foreground", 0.1, 0.2, 0.1, 0.2, 0.1, 0.2, 0.1, 0.2)),
        ("healthy", history("kl_foreground", 0.20, 0.19, 0.19, 0.18, 0.19, 0.18, 0.17, 0.17)),
    ],
    "cosine_flat": [
        ("warning", history("cosine_P3", *[0.1] * 11)),
        ("healthy", history("cosine_P3", *[0.1 + 0.01 * epoch for epoch in range(11)])),
        ("healthy", history("cosine_P3", *[0.95] * 11)),
    ],
    "gradient_conflict": [
        ("critical", history("grad_cosine", *[-0.6] * 5)),
        ("warning", history("grad_cosine", *[-0.2] * 5)),
        ("healthy", history("grad_cosine", -0.2, 0.0, -0.05, 0.3, 0.1)),
    ],
    "distillation_drowns_task": [
        ("critical", history("grad_ratio", 30, 40, 30)),
        ("warning", history("grad_ratio", 7, 7, 7)),
        ("healthy", history("grad_ratio", 1, 90, 1)),
    ],
    "distillation_too_weak": [
        ("warning", history("grad_ratio", *[0.001] * 3)),
        ("healthy", [{**FINE, "health/grad_ratio": 0.005, "train/kd/weight": 0.05}] * 3),  # by the schedule's wish
    ],
    "student_overtook": [("warning", history("val/mAP50-95", 0.51)), ("healthy", history("val/mAP50-95", 0.49))],
    "teacher_sees_nothing": [
        ("warning", history("foreground_anchors", 0)),
        ("healthy", history("foreground_anchors", 1)),
    ],
}


@pytest.mark.parametrize(
    ("name", "verdict", "seen"), [(name, verdict, seen) for name, cases in CASES.items() for verdict, seen in cases]
)
def test_a_rule_says_what_its_history_calls_for(name: str, verdict: str, seen: list[Values]) -> None:
    (rule,) = (rule for rule in RULES if rule.name == name)
    opinion = rule.judge(seen, FACTS)
    assert opinion is not None
    assert opinion[0] == verdict, opinion[1]


def test_every_rule_is_tried() -> None:
    assert set(CASES) == {rule.name for rule in RULES}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_a_rule_without_anything_to_judge_by_is_silent(rule: Any) -> None:
    opinion = rule.judge([{"train/loss": 1.0}], RuleInputs())
    assert opinion is None or opinion[0] == "healthy"


def test_a_verdict_is_told_once_with_its_grounds_and_again_when_it_changes() -> None:
    judge = RuleEngine(FACTS)
    told = [judge.update(epoch, {**FINE, "health/background_share": share}) for epoch, share in enumerate(
        (0.2, 0.9, 0.9, 0.7, 0.2, 0.2), start=1)]  # fmt: skip
    assert [[(f.rule, f.verdict, f.epoch) for f in findings] for findings in told] == [
        [], [("background_dominates", "critical", 2)], [], [("background_dominates", "warning", 4)],
        [("background_dominates", "healthy", 5)], [],
    ]  # fmt: skip
    finding = told[1][0]
    assert "90%" in finding.message
    assert "temperature" in finding.cause
    assert finding.advice
    assert finding.values == {
        "health/background_share": 0.9, "health/kl_background": 0.01, "health/kl_foreground": 0.5,
    }  # fmt: skip
