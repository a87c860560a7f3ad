"""Each rule of health, on histories that call for each of its verdicts."""

from __future__ import annotations

import json
from typing import Any

import pytest
from retort.spec import DistillationSpec
from retort.training.config import RuleFinding
from retort.training.health.rules import CALM, RULES, RuleEngine, RuleInputs, distillation_drowns_task

Values = dict[str, float | None]
FINE: Values = {
    "train/loss": 5.0, "train/kd/weight": 1.0, "val/mAP50-95": 0.3,
    "health/teacher_shift": 1e-6, "health/projector_step": 0.01, "health/teacher_agreement": 0.95,
    "health/teacher_permuted": 0.0, "health/kl_untaught": 2.5, "health/background_expected": 0.2,
    "health/kl_foreground": 0.5, "health/kl_background": 0.01, "health/kl_dfl": 0.1, "health/box_iou": 0.8,
    "health/background_share": 0.2, "health/cosine_P3": 0.95, "health/grad_cosine": 0.3, "health/grad_ratio": 0.5,
    "health/foreground_anchors": 40.0,
}  # fmt: skip
FACTS = RuleInputs(teacher_map=0.5)


def history(name: str, *values: float | None, **others: float | None) -> list[Values]:
    fixed = {f"health/{key}": value for key, value in others.items()}
    return [{**FINE, **fixed, name if "/" in name else f"health/{name}": value} for value in values]


def falling(start: float, factor: float, epochs: int) -> list[float]:
    return [start * factor**epoch for epoch in range(epochs)]


def away(*losses: float) -> list[Values]:
    """Histories of the task loss with a student that leaves its teacher at the end."""
    seen = history("train/loss", *losses)
    return [*seen[:-1], {**seen[-1], "health/kl_foreground": 1.5}]


def poor(seen: list[Values]) -> list[Values]:
    """The same, with a student that finds hardly anything."""
    return [{**values, "val/mAP50-95": 0.01} for values in seen]


def losing(seen: list[Values]) -> list[Values]:
    """The same, with a student that loses points."""
    return [{**values, "val/mAP50-95": 0.4 * 0.8**epoch} for epoch, values in enumerate(seen)]


CASES: dict[str, list[tuple[str, list[Values]]]] = {
    "teacher_not_frozen": [
        ("critical", history("teacher_shift", 0.3)),
        ("healthy", history("teacher_shift", 0.005)),
    ],
    "projector_frozen": [("critical", history("projector_step", 0.0)), ("healthy", history("projector_step", 1e-4))],
    "classes_mismatched": [
        ("critical", history("teacher_permuted", 4.0)),
        ("warning", history("teacher_permuted", 2.5)),
        ("healthy", history("teacher_agreement", 0.4)),  # a weak teacher, whose names are as they should be
        ("healthy", history("kl_foreground", 4.0, box_iou=0.9)),  # pretrained boxes, and a head without classes yet
    ],
    "loss_exploding": [
        ("critical", history("train/loss", None)),
        ("critical", history("kl_background", 1e9)),
        ("critical", away(5, 5, 5, 5, 5, 21)),
        ("warning", away(5, 5, 5, 5, 5, 11)),
        ("healthy", history("train/loss", 5, 5, 5, 5, 5, 11)),  # while the student comes nearer to the teacher
        ("healthy", history("train/loss", 4, 15, 20, 19, 17, 14)),  # as a loss from random weights does
    ],
    "background_dominates": [
        ("critical", history("background_share", 0.94)),
        ("warning", history("background_share", 0.975, background_expected=0.864)),  # softmax, of few objects
        ("warning", history("background_share", 0.7)),
        ("healthy", history("background_share", 0.31)),
        ("healthy", history("background_share", 0.9, background_expected=0.9)),  # the objects are learned
    ],
    "foreground_kl_stuck": [
        ("warning", poor(history("kl_foreground", *[2.4] * 11))),
        ("critical", poor(history("kl_foreground", *[2.4] * 51))),
        ("healthy", history("kl_foreground", *falling(3, 0.95, 20))),
        ("healthy", poor(history("kl_foreground", *[1.2] * 60))),  # a student that has learned what it can
        ("healthy", history("kl_foreground", *[2.4] * 60)),  # one that is surer than its teacher
    ],
    "foreground_kl_slow": [
        ("warning", poor(history("kl_foreground", *falling(2.2, 0.998, 51)))),
        ("healthy", history("kl_foreground", *falling(3, 0.97, 51))),
    ],
    "foreground_kl_jitters": [
        ("warning", history("kl_foreground", 0.7, 1.3, 0.7, 1.4, 0.6, 1.2, 0.7, 1.3)),
        ("healthy", history("kl_foreground", 0.20, 0.19, 0.19, 0.18, 0.19, 0.18, 0.17, 0.17)),
        ("healthy", history("kl_foreground", 0.1, 0.2, 0.1, 0.2, 0.1, 0.2, 0.1, 0.2)),  # of 2.5 nats to learn
    ],
    "cosine_flat": [
        ("warning", history("cosine_P3", *[0.1] * 11)),
        ("healthy", history("cosine_P3", *[0.1 + 0.01 * epoch for epoch in range(11)])),
        ("healthy", history("cosine_P3", *[0.95] * 11)),
    ],
    "gradient_conflict": [
        ("critical", losing(history("grad_cosine", *[-0.6] * 12, grad_ratio=1.0))),
        ("warning", losing(history("grad_cosine", *[-0.6] * 5))),  # whose first epochs go up and down
        ("warning", history("grad_cosine", *[-0.6] * 5)),  # as where the sum of both losses is least
        ("healthy", history("grad_cosine", *[-0.15] * 5)),
        ("healthy", history("grad_cosine", *[-0.6] * 5, grad_ratio=0.01)),  # nothing comes of it
        ("healthy", history("grad_cosine", -0.2, 0.0, -0.05, 0.3, 0.1)),
    ],
    "distillation_drowns_task": [
        ("critical", history("grad_ratio", 50, 60, 50)),
        ("warning", history("grad_ratio", 12, 12, 12)),
        ("healthy", history("grad_ratio", 1, 90, 1)),
    ],
    "distillation_too_weak": [
        ("warning", history("grad_ratio", *[0.001] * 3)),
        ("healthy", [{**FINE, "health/grad_ratio": 0.005, "train/kd/weight": 0.05}] * 3),  # by the schedule's wish
    ],
    "student_overtook": [("warning", history("val/mAP50-95", 0.52)), ("healthy", history("val/mAP50-95", 0.505))],
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


def told(engine: RuleEngine, *shares: float) -> list[list[RuleFinding]]:
    """Say what is told of each of some epochs with these shares of background."""
    values = [{**FINE, "health/background_share": share} for share in shares]
    return [engine.update(epoch, one) for epoch, one in enumerate(values, start=len(engine.history) + 1)]


def test_a_verdict_is_told_once_with_its_grounds_and_again_when_it_has_changed_for_good() -> None:
    found = told(RuleEngine(FACTS), 0.2, 0.92, 0.92, 0.2, 0.2, 0.2, 0.2)

    assert [[(f.rule, f.verdict, f.epoch) for f in findings] for findings in found] == [
        [], [("background_dominates", "critical", 2)], [], [], [], [("background_dominates", "healthy", 6)], [],
    ]  # fmt: skip
    finding = found[1][0]
    assert "92%" in finding.message
    assert "temperature" in finding.cause
    assert finding.advice
    assert finding.values == {
        "health/background_share": 0.92, "health/background_expected": 0.2, "health/kl_background": 0.01,
        "health/kl_foreground": 0.5,
    }  # fmt: skip


def test_a_withdrawal_reads_as_one_and_complains_of_nothing() -> None:
    finding = told(RuleEngine(FACTS), 0.9, *[0.2] * CALM)[-1][0]

    assert finding.message.startswith("healthy again: ")
    assert (finding.cause, finding.advice) == ("", "")


def test_a_value_about_a_threshold_is_not_warned_of_and_withdrawn_again_and_again() -> None:
    """A warning was given and withdrawn five times in 24 epochs."""
    findings = [f for one in told(RuleEngine(FACTS), *[0.7, 0.7, 0.4, 0.4] * 25) for f in one]
    assert [f.verdict for f in findings] == ["warning"]

    slower = [f for one in told(RuleEngine(FACTS), *([0.7] + [0.4] * 5) * 4) for f in one]
    assert [f.verdict for f in slower] == ["warning", "healthy", "warning"]


def test_a_resumed_training_knows_what_was_said_and_for_how_long_it_has_been_calm() -> None:
    first, second = RuleEngine(FACTS), RuleEngine(FACTS)
    told(first, 0.9, 0.2, 0.2)
    second.restore(json.loads(json.dumps(first.state())))

    assert [f.verdict for f in told(second, 0.2)[0]] == ["healthy"]


@pytest.mark.parametrize("rule", ["foreground_kl_stuck", "cosine_flat"])
def test_ten_epochs_of_two_steps_are_too_few_to_complain(rule: str) -> None:
    (found,) = (one for one in RULES if one.name == rule)
    seen = poor([{**FINE, "health/kl_foreground": 3.0, "health/cosine_P3": 0.1} for _ in range(20)])

    assert found.judge(seen, RuleInputs(steps_per_epoch=2)) is None
    large = found.judge(seen, RuleInputs(steps_per_epoch=100))
    assert large is not None
    assert large[0] == "warning"


def test_gradients_are_not_judged_before_the_warm_up_is_over() -> None:
    """From random weights hardly a label is assigned in the first steps, so that the task has no gradient."""
    seen = history("grad_ratio", *[12] * 8)

    assert distillation_drowns_task(seen, RuleInputs(steps_per_epoch=6)) is None
    later = distillation_drowns_task(seen * 3, RuleInputs(steps_per_epoch=6))
    assert later is not None
    assert later[0] == "warning"


def test_a_balance_by_shares_is_held_to_what_its_weights_ask_for() -> None:
    seen = history("grad_ratio", 8, 8, 8)
    for recipe, verdict in (("balanced", "healthy"), ("native", "warning")):
        inputs = RuleInputs(distillation=DistillationSpec.model_validate({"recipe": recipe}))
        found = distillation_drowns_task(seen, inputs)
        assert found is not None
        assert found[0] == verdict
