"""What labels, unlabelled images and terms brought is told apart by the one judge."""

from __future__ import annotations

from typing import Any

import pytest
from results import result
from retort.constants import MAP
from retort.report.arms import judged
from retort.report.parts import parts
from retort.report.result import over_seeds
from retort.report.verdict import Noise, verdict
from retort.spec.arms import ArmName, MeasuredArm
from retort.spec.figures import TrainedFigures
from retort.spec.verdict import Resampled, Verdict
from stored_results import PARTS, role

FLAT = dict.fromkeys(range(11), 0.4)


def around(difference: float) -> Resampled:
    """The images leave a point open to either side."""
    return Resampled(low=difference - 0.01, high=difference + 0.01, level=0.95, num_images=500, num_resamples=500)


def judge(student: float, control: float, arms: dict[ArmName, float], **more: Any) -> Verdict:
    """The verdict of a job with these arms, whose curves are flat unless given."""
    curves = more.pop("curves", {"student": {MAP: FLAT}, "control": {MAP: FLAT}})
    measured = tuple(
        MeasuredArm(
            arm=arm, figures=TrainedFigures.model_validate(role(score)), path=f"arm-{arm}.pt", training_s=1.0,
            resampled=around(student - score), resampled_control=around(control - score),
        )
        for arm, score in arms.items()
    )  # fmt: skip
    found = result(student=student, control=control, **more)
    found = found.model_copy(update={"arms": judged(found.roles.student, measured, curves, 2.0)})
    noise = Noise(resampled=around(student - control))
    return verdict(found, noise, parts(found, measured, curves, noise))


def test_labels_that_paid_are_told_although_the_terms_bought_nothing():
    said = judge(0.512, 0.51, {"labelled_only": 0.45})
    assert said.kind == "none", "of student against control, as ever"
    labels, terms, whole = said.parts
    assert [(one.part, one.network, one.less, one.kind) for one in said.parts] == [
        ("pseudo_labels", "control", "labelled_only", "gain"),
        ("terms", "student", "control", "none"),
        ("whole", "student", "labelled_only", "gain"),
    ]
    assert labels.difference + terms.difference == pytest.approx(whole.difference)
    assert (terms.difference, terms.interval) == (said.difference, said.interval)
    assert said.sentence.startswith(
        "The teacher's labels gained +6.0 points of mAP50-95 over the labelled images alone"
    )
    assert "It is not shown that the distillation terms help: +0.2 points" in said.sentence
    assert "did not help" not in said.sentence


def test_labels_that_cost_and_terms_that_gained_are_each_named():
    said = judge(0.6, 0.5, {"labelled_only": 0.58})
    assert [one.kind for one in said.parts] == ["loss", "gain", "none"]
    assert said.kind == "gain"
    assert "The teacher's labels did not help: -8.0 points" in said.sentence
    assert "The distillation terms gained +10.0 points of mAP50-95 against the undistilled control" in said.sentence


def test_unlabelled_images_are_told_apart_from_the_terms():
    said = judge(0.55, 0.45, {"without_unlabelled": 0.46}, **PARTS["unlabelled images"])
    assert [(one.part, one.network, one.less, round(one.difference, 3), one.kind) for one in said.parts] == [
        ("terms", "without_unlabelled", "control", 0.01, "none"),
        ("unlabelled", "student", "without_unlabelled", 0.09, "gain"),
        ("whole", "student", "control", 0.1, "gain"),
    ]
    terms = said.parts[0].interval
    assert terms is not None
    assert terms.low < 0.01 < terms.high, "the bootstrap of control less arm, turned around"
    assert said.sentence.startswith("Distillation gained +10.0 points"), "which has both in it"
    assert "the unlabelled images gained +9.0 points" in said.sentence
    assert not any("never saw" in caveat for caveat in said.caveats), "the parts tell it"


def test_labels_images_and_terms_add_up_to_the_whole():
    said = judge(0.6, 0.5, {"labelled_only": 0.4, "without_unlabelled": 0.56}, **PARTS["unlabelled images"])
    assert [one.part for one in said.parts] == ["pseudo_labels", "terms", "unlabelled", "whole"]
    *pieces, whole = (one.difference for one in said.parts)
    assert sum(pieces) == pytest.approx(whole)


def test_without_an_arm_that_tells_them_apart_there_are_no_parts_and_the_sentence_is_as_it_was():
    said = judge(0.55, 0.45, {"placebo": 0.46}, **PARTS["unlabelled images"])
    assert said.parts == ()
    assert said.sentence.startswith("Distillation gained")
    assert any("never saw" in caveat for caveat in said.caveats)


def test_the_interval_of_a_part_is_wider_where_its_networks_were_still_learning():
    rising = {step: 0.05 * step for step in range(11)}
    settled = judge(0.51, 0.51, {"labelled_only": 0.45}).parts[0]
    learning = judge(
        0.51, 0.51, {"labelled_only": 0.45},
        curves={"control": {MAP: FLAT}, "job": {f"arm-labelled-only/{MAP}": rising}},
    ).parts[0]  # fmt: skip
    assert settled.interval is not None
    assert learning.interval is not None
    assert learning.interval.low < settled.interval.low
    assert (settled.kind, learning.kind) == ("gain", "none")


def test_with_several_seeds_the_terms_are_over_them_and_the_labels_are_of_the_first():
    over = over_seeds([(0.52, 0.50), (0.53, 0.50), (0.51, 0.49)])
    assert over is not None
    seeds = {"runs": [], "statistics": {"map50": None, "map": over.model_dump()}}
    labels, terms, whole = judge(0.52, 0.50, {"labelled_only": 0.44}, seeds=seeds).parts
    assert terms.interval is not None
    assert terms.interval.over == "seeds"
    assert terms.difference == pytest.approx(over.difference.mean)
    assert "3 seeds" in terms.sentence
    for one in (labels, whole):
        assert one.interval is not None
        assert one.interval.over == "images"
        assert "one seed" in one.sentence
