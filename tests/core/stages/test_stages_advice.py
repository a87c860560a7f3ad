"""The rules say of a teacher what its figures allow, and refuse one that is weaker than its student."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from retort.report import advice
from retort.report.advice import AdviceConditions, Measured, ModelFigures, TeacherVerdict, Unusable, answer, judge
from retort.report.worth import bound
from retort.spec.advised import AdviceData, AdviceResult, AdviceStudent, StepCost
from retort.spec.figures import NetworkFigures
from stored_results import role

CLASSES = tuple("abcdefghij")


def network(title: str, score: float | None, *, gflops: float = 30.0, **changes: Any) -> ModelFigures:
    """A network that is as good in every class."""
    per_class = {} if score is None else dict.fromkeys(CLASSES, score)
    figures = ModelFigures(
        title=title, map=score, per_class=per_class, num_parameters=round(gflops * 1e5), gflops=gflops, attention=0.02,
        num_known=10, num_others=0, num_wanted=10, step_ratio=1 + gflops / 100,
    )  # fmt: skip
    return replace(figures, **changes)


STUDENT = network("yolov8n", 0.40, gflops=8.7)
SOUND = network("street-yolo11s", 0.50, gflops=21.5)


def judged(teacher: ModelFigures, student: ModelFigures = STUDENT, best: float = 0.5) -> TeacherVerdict:
    return judge(student, teacher, best=best)


def said(judged: TeacherVerdict, *words: str) -> bool:
    return all(any(word in reason for reason in judged.reasons) for word in words)


def test_a_sound_teacher_one_size_up_is_recommended_with_its_reasons():
    found = judged(SOUND)
    assert found.verdict == "recommended"
    assert found.reasons == (
        "It is better than the student by 10.0 points of mAP50-95: 0.500 against 0.400.",
        "It is at least as good as the student in every class.",
        "It is one or two sizes up: 2.5 times the student's FLOPs.",
        "Its classes are the data's.",
        "A training step with it takes 1.22 times as long as without a teacher.",
    )


def test_a_teacher_that_is_no_yolo_is_judged_without_its_operations_and_sent_where_it_comes_from():
    found = judged(network("detr", 0.5, gflops=0.0, num_parameters=9, boxes_alone=True, num_others=3, step_ratio=None))
    assert found.verdict == "possible"
    assert said(found, "was not trained on this data: train it on this data first, where it comes from", "no features")
    assert not said(found, "FLOPs")
    other = replace(SOUND, boxes_alone=True, gflops=0.0)
    assert judged(other).verdict == "recommended"


@pytest.mark.parametrize("score", [0.399, 0.2])
def test_a_teacher_weaker_than_the_student_is_refused(score: float):
    found = judged(network("weak", score))
    assert found.verdict == "refused"
    assert said(found, "weaker than the student", "Train it longer")


def test_a_teacher_that_is_hardly_better_has_little_to_teach():
    for score, verdict in ((0.40, "possible"), (0.404, "possible"), (0.406, "recommended")):
        assert judged(network("alike", score)).verdict == verdict
    assert said(judged(network("alike", 0.4)), "hardly better")


def test_what_a_teacher_can_be_worth_is_told_and_where_it_is_next_to_nothing_what_can_bring_more():
    def worthy(teacher: ModelFigures) -> ModelFigures:
        return replace(teacher, worth=bound(teacher.per_class, STUDENT.per_class, basis="fit", epochs=25))

    found = judged(worthy(SOUND))
    assert (found.verdict, said(found, "at most +10.0 points", "after 25 epochs without")) == ("recommended", True)
    found = judged(worthy(network("alike", 0.403)))
    assert (found.verdict, said(found, "at most +0.3 points", "Images without labels")) == ("possible", True)
    uneven = replace(
        network("uneven", 0.4), per_class={**dict.fromkeys(CLASSES[:5], 0.44), **dict.fromkeys(CLASSES[5:], 0.36)}
    )
    found = judged(worthy(uneven))
    assert (found.verdict, said(found, "at most +2.0 points")) == ("possible", True)
    assert not said(found, "Images without labels"), "it leads by four points in half of the classes"


def weak_in(number: int, by: float) -> ModelFigures:
    worse = {name: STUDENT.per_class[name] - by for name in CLASSES[:number]}
    return replace(SOUND, per_class={**SOUND.per_class, **worse})


def test_a_teacher_clearly_weaker_in_many_classes_is_refused_however_good_its_mean():
    found = judged(weak_in(2, 0.06))
    assert found.verdict == "refused"
    assert said(found, "clearly weaker than the student in 2 of 10 classes", "a, b")


def test_a_teacher_clearly_weaker_in_one_class_of_ten_is_possible():
    found = judged(weak_in(1, 0.06))
    assert found.verdict == "possible"
    assert said(found, "clearly weaker than the student in a")


def test_a_teacher_slightly_weaker_in_some_classes_is_recommended_and_they_are_named():
    slightly = weak_in(4, 0.04)
    assert judged(slightly).verdict == "recommended"
    assert said(judged(slightly), "clearly weaker than the student in no class")
    assert advice.weaker(STUDENT, slightly) == ["a", "b", "c", "d"]


def test_the_weakest_classes_come_first():
    teacher = replace(SOUND, per_class={**SOUND.per_class, "c": 0.1, "a": 0.3})
    assert advice.weaker(STUDENT, teacher) == ["c", "a"]
    assert advice.differences(STUDENT, teacher)["c"] == pytest.approx(-0.3)


@pytest.mark.parametrize(
    ("gflops", "verdict", "word"),
    [
        (8.7, "possible", "no larger"),
        (10.3, "possible", "no larger"),
        (10.5, "recommended", "one or two sizes up"),
        (113.0, "recommended", "one or two sizes up"),
        (114.0, "possible", "far larger"),
        (257.8, "possible", "far larger"),
    ],
)
def test_one_or_two_sizes_up_is_measured_in_flops(gflops: float, verdict: str, word: str):
    found = judged(network("teacher", 0.5, gflops=gflops))
    assert found.verdict == verdict
    assert said(found, word)


@pytest.mark.parametrize(
    ("changes", "verdict", "word"),
    [
        (
            {"map": None, "num_known": 0, "num_others": 80, "per_class": {}},
            "refused",
            "knows none of the data's classes",
        ),
        ({"num_known": 7}, "possible", "knows 7 of the data's 10 classes"),
        ({"num_others": 70}, "possible", "70 classes that the data does not have"),
        ({"attention": 0.28}, "possible", "built on attention"),
    ],
)
def test_other_classes_and_another_kind_of_network_speak_against_a_teacher(
    changes: dict[str, Any], verdict: str, word: str
):
    found = judged(replace(SOUND, **changes))
    assert found.verdict == verdict
    assert said(found, word)


def test_attention_teaches_attention():
    assert judged(replace(SOUND, attention=0.29), replace(STUDENT, attention=0.27)).verdict == "recommended"


UNMEASURED = network("yolov8n", None, gflops=8.7)


def test_under_an_unmeasured_student_the_candidates_are_compared_among_themselves():
    assert judged(SOUND, UNMEASURED).verdict == "recommended"
    assert said(judged(SOUND, UNMEASURED), "the student's is not known")
    behind = judged(SOUND, UNMEASURED, best=0.56)
    assert behind.verdict == "possible"
    assert said(behind, "Another candidate is better by 6.0 points")


def test_a_network_that_finds_nothing_teaches_nobody():
    assert judged(network("empty", 0.0), UNMEASURED, best=0.0).verdict == "refused"
    assert judged(network("empty", 0.0), network("empty too", 0.0, gflops=8.7), best=0.0).verdict == "refused"


def test_of_candidates_that_teach_alike_the_cheapest_is_taken():
    candidates = [network("m", 0.505, gflops=68.0), network("s", 0.50, gflops=21.5), network("n", 0.45, gflops=12.0)]
    assert advice.choose([(one, judged(one)) for one in candidates]) == 1
    assert advice.choose([(one, judged(one)) for one in candidates[2:]]) == 0
    assert advice.choose([(network("weak", 0.1), judged(network("weak", 0.1)))]) is None


CONDITIONS = AdviceConditions(AdviceData(names=CLASSES, num_val=9, num_shared=0, digest="d"), 64, 4, "cpu")


def about(student: ModelFigures) -> AdviceStudent:
    shape = {"num_parameters": student.num_parameters, "gflops": student.gflops}
    return AdviceStudent(model="yolov8n", weights=None, map50=None, map=student.map, per_class={}, **shape)


def shown(figures: ModelFigures) -> Measured:
    known = NetworkFigures.model_validate(role(figures.map))
    ratio = figures.step_ratio or 1.0
    step = StepCost(alone_s=1.0, taught_s=ratio, num_steps=3, ratio=ratio)
    return Measured(f"{figures.title}.pt", figures.title, known, step, figures)


def advise(*candidates: ModelFigures, student: ModelFigures = STUDENT) -> AdviceResult:
    return answer((about(student), student), [shown(one) for one in candidates], CONDITIONS)


def test_the_answer_names_the_one_to_take_and_sets_it_beside_the_others():
    found = advise(network("x", 0.52, gflops=257.8), SOUND, network("m", 0.505, gflops=68.0), network("weak", 0.3))
    assert [one.verdict for one in found.candidates] == ["possible", "recommended", "recommended", "refused"]
    assert found.recommended is not None
    assert found.recommended.weights == "street-yolo11s.pt"
    assert "Beside m it is 0.5 points behind, and a step takes 0.72 times as long." in found.recommended.reasons
    assert found.sentence == "Take street-yolo11s."
    assert found.candidates[3].capacity.gflops == pytest.approx(30 / 8.7)


def test_where_none_is_recommended_the_answer_says_what_is_left():
    possible = advise(network("x", 0.52, gflops=257.8), network("weak", 0.3))
    assert possible.recommended is None
    assert possible.sentence.startswith("None is recommended; x would be possible")
    assert advise(network("weak", 0.3)).sentence.startswith("None of them should teach this student")
    assert "The student's mAP is not known" in advise(SOUND, student=UNMEASURED).sentence


def test_a_candidate_that_cannot_be_loaded_is_refused_and_hinders_no_other():
    broken = Unusable("b.pt", "b", "weights file b.pt cannot be loaded: no such class")
    found = answer((about(STUDENT), STUDENT), [broken, shown(SOUND)], CONDITIONS)
    assert found.candidates[0].verdict == "refused"
    assert "cannot be loaded" in found.candidates[0].reasons[0]
    assert found.recommended is not None
    assert found.recommended.title == "street-yolo11s"
