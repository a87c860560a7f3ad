"""The verdict says what the figures allow, and no more."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from results import result
from retort.report.result import over_seeds
from retort.report.verdict import RISING_NOISE, SEED_NOISE, Noise, gap_closed, image_interval, rise, verdict
from retort.spec.verdict import Resampled, Verdict
from stored_results import EXPORTS, PARTS, role, stored

ROOT = Path(__file__).parents[3]
SMALL = Resampled(low=-0.001, high=0.001, level=0.95, num_images=5000, num_resamples=500)


def around(difference: float, reach: float, images: int = 500) -> Noise:
    """Noise of so many images, symmetric."""
    return Noise(
        Resampled(
            low=difference - reach, high=difference + reach, level=0.95, num_images=images, num_resamples=500
        )
    )  # fmt: skip


def judge(
    *, teacher: float | None = 0.6, student: float, control: float | None, reach: float = 0.001, **more: Any
) -> Verdict:
    difference = student - (control or 0.0)
    return verdict(result(teacher, student, control, **more), around(difference, reach))


def seeds(*differences: float, control: float = 0.4, spread: float = 0.0) -> dict[str, Any]:
    """Figures of several seeds, as they are stored."""
    controls = [control + spread * (-1) ** number for number in range(len(differences))]
    pairs = [(one + gained, one) for one, gained in zip(controls, differences, strict=True)]
    over = over_seeds(pairs)
    assert over is not None
    return {"runs": [], "statistics": {"map50": None, "map": over.model_dump()}}


def test_one_seed_that_gains_more_than_images_and_seeds_explain_is_a_gain_without_a_percentage():
    said = judge(student=0.5, control=0.4, reach=0.03)
    assert said.kind == "gain"
    assert said.sentence.startswith("Distillation gained +10.0 points of mAP50-95 against the undistilled control")
    assert "with one seed (95% interval" in said.sentence
    assert "over the images of this validation set" in said.sentence
    assert "another seed may differ" in said.sentence
    assert "gap" not in said.sentence
    assert said.gap_closed is None
    assert any("One seed is no proof" in caveat for caveat in said.caveats)


def test_classes_that_nothing_was_measured_of_are_named():
    dataset = {**stored()["dataset"], "names": ["red", "green", "blue", "grey"]}

    said = judge(student=0.5, control=0.4, dataset=dataset)

    (told,) = [caveat for caveat in said.caveats if "have no object" in caveat]
    assert told.startswith("2 of the 4 classes have no object in the validation images ('green', 'grey')")
    assert not any("have no object" in caveat for caveat in judge(student=0.5, control=0.4).caveats)


@pytest.mark.parametrize("several", [False, True])
def test_a_handful_of_images_proves_nothing_however_large_the_difference(several: bool):
    more = {"seeds": seeds(0.3, 0.31, 0.29)} if several else {}
    for images, kind in ((1, "none"), (3, "none"), (4, "gain")):
        said = verdict(result(0.8, 0.7, 0.4, **more), around(0.3, 0.0, images=images))
        assert said.kind == kind
        assert (said.interval is None) == (kind == "none")
        assert (f"and {images} validation images are too few to tell it from chance" in said.sentence) == (
            kind == "none"
        )


def test_seeds_that_agree_to_the_last_digit_tell_nothing_of_their_noise():
    said = verdict(result(0.8, 0.41, 0.4, seeds=seeds(0.01, 0.01, 0.01)), around(0.01, 0.001))

    assert said.kind == "none"
    assert said.gap_closed is None
    assert said.interval is not None
    assert said.interval.high - said.interval.low > 2 * SEED_NOISE
    assert "which agree to the last digit" in said.sentence
    assert "repetitions" not in said.sentence


def test_a_loss_is_told_as_plainly_as_a_gain():
    said = judge(student=0.3, control=0.4)
    assert said.kind == "loss"
    assert said.sentence.startswith("Distillation did not help: -10.0 points of mAP50-95 against")


@pytest.mark.parametrize("difference", [-0.015, -0.006, 0.0, 0.006, 0.015])
def test_what_seeds_alone_do_is_no_difference_however_many_images_there_are(difference: float):
    said = judge(student=0.4 + difference, control=0.4, reach=0.0)
    assert said.kind == "none"
    assert said.sentence.startswith(f"No difference is shown: {difference * 100:+.1f} points")


def test_recorded_seeds_of_recipes_without_a_shown_gain_are_not_published_one_by_one():
    recorded = json.loads((ROOT / "benchmarks" / "results" / "quality-bccd-160-cpu.json").read_text())["runs"]
    scores = {(run["recipe"], run["seed"]): run["map50_95"] for run in recorded}
    kinds = {
        (recipe, seed): judge(student=scores[recipe, seed], control=scores["plain", seed], reach=0.01).kind
        for recipe in ("native", "article", "balanced")
        for seed in range(3)
    }
    assert {kind for (recipe, _), kind in kinds.items() if recipe != "balanced"} == {"none"}
    assert [kinds["balanced", seed] for seed in range(3)] == ["gain", "gain", "gain"]


def test_few_images_allow_no_firm_word_on_a_difference_that_many_would_show():
    assert judge(student=0.46, control=0.4, reach=0.01).kind == "gain"
    twelve = verdict(result(0.6, 0.46, 0.4), around(0.06, 0.08, images=12))
    assert twelve.kind == "none"
    assert twelve.interval is not None
    assert (twelve.interval.over, twelve.interval.number) == ("images", 12)


def test_the_noise_of_images_and_of_seeds_adds_up_as_independent_noise_does():
    found = image_interval(0.1, around(0.1, 0.03))
    assert found is not None
    reach = (0.03**2 + (1.959964 * SEED_NOISE) ** 2) ** 0.5
    assert (found.low, found.high) == (pytest.approx(0.1 - reach), pytest.approx(0.1 + reach))
    assert found.seed_noise == pytest.approx(SEED_NOISE)


def test_networks_that_are_still_learning_differ_more_by_chance_which_widens_the_interval():
    still = Noise(SMALL, rise=0.1)
    found = image_interval(0.05, still)
    assert found is not None
    assert found.seed_noise == pytest.approx((SEED_NOISE**2 + (RISING_NOISE * 0.1) ** 2) ** 0.5)
    said = verdict(result(0.6, 0.45, 0.4), still)
    assert said.kind == "none"
    assert any("still learning: mAP50-95 rose by 10.0 points" in caveat for caveat in said.caveats)
    assert not any("still learning" in caveat for caveat in judge(student=0.45, control=0.4).caveats)


def test_the_rise_is_that_of_the_last_fifth_of_both_networks():
    climbing = {step: step / 100 for step in range(1, 11)}
    flat = {step: 0.3 if step > 1 else None for step in range(1, 11)}
    curves = {"student": {"val/mAP50-95": climbing}, "control": {"val/mAP50-95": flat}}
    assert rise(curves) == pytest.approx(0.01)
    assert rise({"student": {"val/mAP50-95": {1: 0.2}}}) == 0.2
    assert rise({}) == 0.0


def test_without_any_knowledge_of_its_noise_one_seed_shows_nothing():
    said = verdict(result(0.6, 0.5, 0.4), Noise())
    assert (said.kind, said.interval) == ("none", None)
    assert "nothing is known of its noise" in said.sentence


def test_without_a_control_nothing_is_claimed():
    said = judge(student=0.45, control=None)
    assert (said.kind, said.difference, said.interval) == ("unknown", None, None)
    assert "No control was trained" in said.sentence


def test_a_p_value_is_told_as_what_it_is():
    said = judge(student=0.5, control=0.4, seeds=seeds(0.05, -0.01, 0.02))
    assert said.kind == "none"
    assert (
        "if there were no effect, a difference at least this large would be seen in 37% of repetitions" in said.sentence
    )
    sure = verdict(result(0.6, 0.45, 0.4, seeds=seeds(0.05, 0.0501, 0.0499)), Noise())
    assert "would be seen in less than 0.1% of repetitions" in sure.sentence


def test_several_seeds_speak_for_their_mean_and_never_for_the_first():
    said = judge(student=0.4056, control=0.4, seeds=seeds(0.0056, 0.03, -0.02))
    assert said.difference == pytest.approx(0.0052)
    assert said.sentence.startswith("No difference is shown: +0.5 points of mAP50-95 against the undistilled control")
    assert "%" not in said.sentence.replace("95%", "").partition("would be seen in")[0]


def test_seeds_that_agree_on_a_dozen_images_prove_no_more_than_the_images_do():
    agreeing = result(0.6, 0.44, 0.4, seeds=seeds(0.04, 0.041, 0.039))
    said = verdict(agreeing, around(0.04, 0.08, images=12))
    assert said.kind == "none"
    assert said.interval is not None
    reach = (0.08**2 + (4.302653 * 0.001 / 3**0.5) ** 2) ** 0.5
    assert (said.interval.low, said.interval.high) == (pytest.approx(0.04 - reach), pytest.approx(0.04 + reach))
    assert (said.interval.over, said.interval.number) == ("seeds", 3)
    assert "over them and the images of this validation set" in said.sentence
    many = verdict(agreeing, around(0.04, 0.002, images=5000))
    assert many.kind == "gain"
    assert many.interval is not None
    assert many.interval.over == "seeds"


def test_a_share_of_the_gap_is_told_of_several_seeds_whose_interval_has_no_zero():
    said = judge(teacher=0.6, student=0.5, control=0.4, seeds=seeds(0.1, 0.101, 0.099))
    assert said.sentence.endswith("That is 50\N{NO-BREAK SPACE}% of the gap to the teacher.")
    assert said.gap_closed == pytest.approx(0.5)
    unsure = judge(teacher=0.6, student=0.5, control=0.4, seeds=seeds(0.1, -0.1, 0.2))
    assert unsure.gap_closed is None
    assert "gap" not in unsure.sentence


@pytest.mark.parametrize(
    ("teacher", "spread"), [(None, 0.0), (0.35, 0.0), (0.41, 0.0), (0.45, 0.0), (0.499, 0.0), (0.6, 0.15)]
)
def test_a_teacher_that_is_not_clearly_better_leaves_no_gap_of_which_a_share_could_be_told(
    teacher: float | None, spread: float
):
    found = result(teacher, 0.5, 0.4, seeds=seeds(0.1, 0.101, 0.099, spread=spread)).seeds
    assert found is not None
    assert gap_closed(found.statistics.map, teacher) is None
    said = judge(teacher=teacher, student=0.5, control=0.4, seeds=seeds(0.1, 0.101, 0.099, spread=spread))
    assert said.kind == "gain"
    assert "gap" not in said.sentence


def test_a_teacher_that_is_weaker_than_the_student_is_told():
    said = judge(teacher=0.35, student=0.45, control=0.4)
    assert any("teacher is weaker than the student" in caveat for caveat in said.caveats)
    unknown = judge(teacher=None, student=0.45, control=0.4).caveats
    assert any("no gap to it is known" in caveat for caveat in unknown)
    assert not any("weaker" in caveat or "hardly" in caveat for caveat in unknown)


def started(score: float | None, **changes: Any) -> dict[str, Any]:
    """Roles of which the start is known."""
    roles = stored(0.6, 0.45, 0.3)["roles"]
    return {"roles": {**roles, "start": role(score, epochs=None), **changes}}


def test_a_student_that_is_worse_than_its_start_is_told_first_and_is_a_loss_whatever_its_control_did():
    said = verdict(result(**started(0.476)), around(0.15, 0.01))
    assert said.kind == "loss"
    assert said.sentence.startswith(
        "The student ends 2.6 points of mAP50-95 below the weights that it began with (47.6, now 45.0). "
    )
    assert "+15.0 points of mAP50-95 against the undistilled control" in said.sentence


@pytest.mark.parametrize("start", [0.0, 0.45, None])
def test_a_start_that_was_not_better_is_not_spoken_of(start: float | None):
    assert verdict(result(**started(start)), around(0.15, 0.01)).sentence.startswith("Distillation gained +15.0")


def test_best_and_last_epoch_are_both_told_where_the_best_was_chosen_on_the_images_that_measure_it():
    last = {"map50": 0.5, "map": 0.44}
    student = role(0.45, last=last, best_epoch=2, split="val")
    control = role(0.3, last={"map50": 0.4, "map": 0.295}, best_epoch=1, split="val")
    told = verdict(result(**started(0.1, student=student, control=control)), around(0.15, 0.01)).caveats
    assert any(
        "for student and control alike; at the last epoch the student's mAP50-95 is 44.0, the control's 29.5" in caveat
        for caveat in told
    )
    tested = started(0.1, student=role(0.45, split="test", last=last), control=role(0.3, split="test"))
    said = verdict(result(**tested), around(0.15, 0.01, images=40))
    assert not any("last epoch" in caveat for caveat in said.caveats)
    assert "over the images of this test set" in said.sentence
    assert any("40 test images are few" in caveat for caveat in said.caveats)


def test_networks_that_have_learned_nothing_are_not_compared_in_earnest():
    said = judge(student=0.001, control=0.0, reach=0.0)
    assert said.kind == "none"
    assert "have hardly learned anything (0.1 and 0.0 mAP50-95)" in said.sentence
    assert any("hardly learned" in caveat for caveat in said.caveats)


def test_exports_that_did_not_pass_are_named_beside_the_verdict():
    exports = [EXPORTS[status] for status in ("passed", "over_budget", "needs")]
    told = judge(student=0.45, control=0.4, exports=exports).caveats
    assert any("2 of 3 exports did not pass" in caveat and "student-int8.onnx" in caveat for caveat in told)
    assert not any("exports" in caveat for caveat in judge(student=0.45, control=0.4, exports=exports[:1]).caveats)


def test_latencies_of_a_busy_machine_are_told_to_be_none():
    disturbed = {**EXPORTS["passed"], "latency_ms": {"p50": 4.0, "p90": 13.6}}
    told = judge(student=0.45, control=0.4, exports=[disturbed]).caveats
    assert any("The machine was busy while latencies were measured: one run in ten took 3.4" in one for one in told)
    quiet = judge(student=0.45, control=0.4, exports=[EXPORTS["passed"]]).caveats
    assert not any("busy" in caveat for caveat in quiet)


def test_latencies_of_a_gpu_whose_kernels_were_not_recorded_are_told_to_be_the_hosts():
    roles = stored()["roles"]
    how = "batch 1, 640 px, NVIDIA H200"
    told = {}
    for way in ("eager", "recorded"):
        student = {**roles["student"], "device": "cuda", "timed_as": f"float16, {way}, {how}"}
        told[way] = judge(student=0.45, control=0.4, roles={**roles, "student": student}).caveats
    assert any(f"Kernels could not be recorded (float16, eager, {how})" in caveat for caveat in told["eager"])
    assert not any("recorded" in caveat for caveat in told["recorded"])


def test_validation_on_training_images_is_named_as_what_it_is():
    dataset = {**stored()["dataset"], "num_shared": 128}
    said = judge(student=0.45, control=0.4, dataset=dataset)
    assert any("128 of the 500 validation images are also training images" in caveat for caveat in said.caveats)


def test_a_control_that_was_dropped_is_told_with_the_reason():
    why = "the job was finished early, before its twin"
    said = judge(student=0.45, control=None, control_dropped=why)
    assert "The job was finished early, before its twin, so what the" in said.sentence


def test_unlabelled_images_that_the_control_never_saw_are_told():
    assert not any("unlabelled" in caveat for caveat in judge(student=0.45, control=0.4).caveats)
    told = judge(student=0.45, control=0.4, **PARTS["unlabelled images"]).caveats
    assert any("30 unlabelled images, which its control never saw" in caveat for caveat in told)
