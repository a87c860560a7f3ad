"""The protocol of quality studies: arms, splits, parts of the labels, paired statistics, records, and going on."""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
from pathlib import Path

import core.conftest  # noqa: F401  # prepares the environment
import pilots
import pretrain
import pytest
import quality
import quality_records as records
import quality_summary as summary
import sets
import torch
from quality_arms import Arm, equal_epochs, ordered, treatment
from quality_runs import key_of
from quality_sets import StudySet, chosen, decided, named_path
from quality_study import Study, cost_of, key_facts, renewed
from quality_teacher import StudyTeacher, mixture, row
from retort.spec import DistillationSpec, TrainingSpec
from retort.training import models
from retort.training.data.teacher_cache import TeacherCache
from retort.training.detection import Detection
from scipy import stats

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sets.write(tmp_path_factory.mktemp("sets") / "shapes", sets.shapes(), {"train": 20, "val": 4}).parent


def run_of(seed: int, final: float, *, recipe: str = "plain", best: float | None = None, **classes: float) -> dict:
    return {
        "recipe": recipe, "seed": seed, "map50": 0.5, "map50_95": final if best is None else best, "seconds": 60.0,
        "last_map50_95": final, "final": {"map50_95": final, "per_class": classes}, "curve": [[0.1, 0.1], [0.5, final]],
    }  # fmt: skip


# Arms


@pytest.mark.parametrize(
    ("text", "images", "what"),
    [
        ("plain", "labelled", "plain"),
        ("equal_steps", "repeated", "plain"),
        ("pseudo", "pseudo", "plain"),
        ("pseudo:balanced", "pseudo", "balanced"),
        ("unlabelled:native", "unlabelled", "native"),
        ("few_labels:cached", "few_labels", "cached"),
        ("a/b.json", "labelled", "a/b.json"),
    ],
)
def test_an_arm_says_its_images_and_its_teaching(text: str, images: str, what: str) -> None:
    assert (Arm.read(text).images, Arm.read(text).what) == (images, what)


def test_an_unknown_use_of_images_is_refused() -> None:
    with pytest.raises(ValueError, match="labelled, repeated, pseudo, few_labels, unlabelled, all, not as guessed"):
        Arm.read("guessed:plain")


def no_cost(name: str) -> float:
    raise AssertionError(name)


def test_arms_are_written_out_by_the_job_s_own_means() -> None:
    balanced = DistillationSpec()
    assert treatment(Arm.read("plain"), 12, no_cost).spec is None
    assert treatment(Arm.read("long"), 12, no_cost).epochs == 36
    assert treatment(Arm.read("long=1.5"), 11, no_cost).epochs == 17
    weights = treatment(Arm.read("class_weights"), 12, no_cost)
    assert (weights.spec, weights.teacher, weights.class_balance) == (None, None, balanced.class_balance)
    alone = treatment(Arm.read("assignment"), 12, no_cost)
    assert (alone.spec, alone.teacher, alone.terms) == (balanced, "teacher", False)
    placebo = treatment(Arm.read("placebo"), 12, no_cost)
    assert (placebo.spec, placebo.teacher, placebo.terms) == (balanced, "placebo", True)
    own = treatment(Arm.read("self"), 12, no_cost)
    assert (own.spec, own.teacher) == (balanced, "self")
    assert treatment(Arm.read("native"), 12, no_cost).spec == DistillationSpec(recipe="native")
    ahead = treatment(Arm.read("cached"), 12, no_cost)
    assert (ahead.spec, ahead.teacher, ahead.cached) == (balanced, "teacher", True)


def test_equal_time_trains_for_as_long_as_the_taught_arm_took() -> None:
    costs = {"plain": 60.0, "balanced": 95.0, "native": 70.0, "pseudo": 100.0, "pseudo:balanced": 250.0}
    assert treatment(Arm.read("equal_time"), 12, costs.__getitem__).epochs == 19
    assert treatment(Arm.read("equal_time=native"), 12, costs.__getitem__).epochs == 14
    assert treatment(Arm.read("pseudo:equal_time"), 12, costs.__getitem__).epochs == 30
    assert equal_epochs(12, 60.0, 1.0) == 1


def test_equal_time_comes_last_and_needs_its_pair() -> None:
    assert [arm.name for arm in quality.arms("equal_time,plain,balanced")] == ["plain", "balanced", "equal_time"]
    with pytest.raises(ValueError, match="needs the time of balanced"):
        ordered([Arm.read("plain"), Arm.read("equal_time")])


def test_costs_on_a_shared_cpu_are_the_quickest_epoch_s() -> None:
    cost = {"seconds": 100.0, "processor_seconds": 40.0, "quiet_seconds": 30.0}
    assert cost_of({"cost": cost, "device": "cpu"}) == 30.0
    assert cost_of({"cost": cost, "device": "cuda"}) == 100.0
    assert cost_of({"seconds": 7.0}) == 7.0
    assert cost_of({"cost": {**cost, "asking_seconds": 4.0}, "device": "cpu"}) == 34.0, "one job bears all looks"


# Data


def test_a_part_is_chosen_by_names_alone() -> None:
    names = [f"{number}.jpg" for number in range(40)]
    tenth = chosen(names, 0.1, "labels")
    assert len(tenth) == 4
    assert tenth == chosen(reversed(names), 0.1, "labels")
    assert set(tenth) <= set(chosen(names, 0.5, "labels"))
    assert tenth != chosen(names, 0.1, "test")
    assert len(chosen(names, 0.001, "labels")) == 1


def test_a_whole_set_keeps_its_digest_and_so_the_keys_of_earlier_runs(drawn: Path, tmp_path: Path) -> None:
    whole = StudySet.lay_out("a", drawn, tmp_path / "a", test_share=0, labels=1)
    again = StudySet.lay_out("a", drawn, tmp_path / "b", test_share=0, labels=1)
    other = StudySet.lay_out("a", drawn, tmp_path / "c", test_share=0, labels=0.5)
    assert whole.digest == again.digest != other.digest
    assert whole.split == "val"
    assert whole.data_yaml("labelled") == whole.data_yaml("all")


def test_the_test_split_is_held_apart(drawn: Path, tmp_path: Path) -> None:
    given = StudySet.lay_out("a", drawn, tmp_path / "a", test_share=0.25, labels=0.2)
    folder = given.data_yaml("all").parent
    held = {path.name for path in (folder / "images" / "test").iterdir()}
    assert given.split == "test"
    assert given.counts == {"train": 15, "val": 4, "test": 5}
    assert len(given.labelled) == 3
    assert len(given.rest) == 12
    assert not held & {*given.labelled, *given.rest}
    assert {path.stem for path in (folder / "labels" / "test").iterdir()} == {Path(name).stem for name in held}


def test_labelled_images_are_repeated_until_the_steps_are_equal(drawn: Path, tmp_path: Path) -> None:
    given = StudySet.lay_out("a", drawn, tmp_path / "a", test_share=0, labels=0.15)
    few = given.data_yaml("labelled").parent
    many = given.data_yaml("repeated").parent
    assert len(list((few / "images" / "train").iterdir())) == len(given.labelled) == 3
    assert len(list((many / "images" / "train").iterdir())) == 20
    shown = {path.resolve().name for path in (many / "images" / "train").iterdir()}
    assert shown == set(given.labelled)
    for image in (many / "images" / "train").iterdir():
        label = many / "labels" / "train" / f"{image.stem}.txt"
        assert label.resolve().stem == image.resolve().stem
    assert {path.name for path in given.rest_folder().iterdir()} == set(given.rest)


def test_pseudo_labels_and_doubtful_boxes_are_told_apart(drawn: Path, tmp_path: Path) -> None:
    given = StudySet.lay_out("a", drawn, tmp_path / "a", test_share=0, labels=0.15)
    sure, doubtful, nothing = given.rest[:3]
    box = [1.0, 0.5, 0.5, 0.2, 0.2]
    found = {sure: [[*box, 0.9], [*box, 0.3], [*box, 0.1]], doubtful: [[*box, 0.3]], nothing: []}
    boxes = decided(found, 0.5, 0.25)
    assert list(boxes) == [sure]
    folder = given.data_yaml("pseudo", boxes).parent
    assert {path.name for path in (folder / "images" / "train").iterdir()} == {*given.labelled, sure}
    line = "1 0.500000 0.500000 0.200000 0.200000\n"
    assert (folder / "labels" / "train" / f"{Path(sure).stem}.txt").read_text() == line
    assert (folder / "ignore" / "train" / f"{Path(sure).stem}.txt").read_text() == line


def test_the_recipe_for_few_labels_marks_what_the_teacher_labelled(drawn: Path, tmp_path: Path) -> None:
    given = StudySet.lay_out("a", drawn, tmp_path / "a", test_share=0, labels=0.5)
    sure, weak = given.rest[:2]
    (tmp_path / "t.pt").write_bytes(b"weights")
    teacher = StudyTeacher(tmp_path / "t.pt", 64, tmp_path, given, "cpu")
    rows = {file: [] for file in given.rest} | {
        sure: [[0.0, 0.5, 0.5, 0.2, 0.2, 0.95]] * 30, weak: [[0.0, 0.5, 0.5, 0.2, 0.2, 0.2]]
    }  # fmt: skip
    (tmp_path / f"boxes-{teacher.digest[:16]}-64-0.1.json").write_text(json.dumps(rows))
    boxes = teacher.few_labels()
    assert list(boxes) == [sure], "below 0.3 nothing is a label, whatever the shares"
    folder = given.data_yaml("few_labels", boxes).parent
    assert (folder / "pseudo-labelled.txt").read_text() == Path(sure).stem
    assert not (given.data_yaml("pseudo", boxes).parent / "pseudo-labelled.txt").exists()
    assert (mixture(20).share, mixture(20).burn_in, mixture(20).ramp) == (0.5, 2, 4)


def teacher_of(given: StudySet, folder: Path) -> StudyTeacher:
    """A network of random weights that knows the set's classes."""
    names, weights = dict(enumerate(given.names)), folder / "t.pt"
    models.publish(models.build("yolov8n", names=names, weights=None, seed=0), weights, names=names, imgsz=64)
    return StudyTeacher(weights, 64, folder, given, "cpu")


def test_the_teacher_is_asked_ahead_once_about_all_training_images(drawn: Path, tmp_path: Path) -> None:
    given = StudySet.lay_out("a", drawn, tmp_path / "a", test_share=0.2, labels=0.25)
    teacher = teacher_of(given, tmp_path)
    path = teacher.cache(("flip",))
    found = TeacherCache.load(path)
    assert (len(found.images), found.origin.imgsz, found.origin.views) == (given.counts["train"], 64, ("flip",))
    written = path.stat().st_mtime_ns
    assert (teacher.cache(("flip",)), path.stat().st_mtime_ns) == (path, written)
    assert teacher.asking_cost(("flip",)) > 0
    assert teacher.cache(()) != path


def test_a_detection_becomes_a_row_in_the_data_s_classes(drawn: Path) -> None:
    image = next((drawn / "images" / "train").iterdir())
    found = Detection(-10.0, 40.0, 80.0, 120.0, 0.75, 2)
    assert row(found, image, {2: 5}) == [5.0, 0.25, 0.5, 0.5, 0.5, 0.75]


def test_sets_are_named(drawn: Path) -> None:
    assert named_path(f"mine={drawn}") == ("mine", drawn)
    assert named_path(str(drawn)) == ("shapes", drawn)
    with pytest.raises(argparse.ArgumentTypeError, match="does not exist"):
        named_path("mine=/nowhere")


# Statistics


def test_interval_and_p_are_student_s() -> None:
    values = [0.01, 0.03, 0.02, 0.05]
    expected = stats.ttest_1samp(values, 0)
    span = expected.confidence_interval(0.95)
    assert summary.interval(values) == pytest.approx([span.low, span.high])
    assert summary.p_value(values) == pytest.approx(expected.pvalue)
    assert summary.interval([0.1]) is None
    assert summary.p_value([0.1]) is None


def test_sign_test() -> None:
    assert summary.sign_test([0.1] * 8) == pytest.approx(2 / 2**8)
    assert summary.sign_test([0.1, 0.2, -0.1]) == pytest.approx(1.0)
    assert summary.sign_test([0.0, 0.1]) == pytest.approx(1.0)  # a tie says nothing
    assert summary.sign_test([0.0]) is None


def test_each_set_has_the_same_say() -> None:
    found = summary.joined({"a": [0.02, 0.04], "b": [-0.02, -0.01, -0.03]})
    assert found["mean"] == pytest.approx(0.005)
    assert found["worst_set"] == ["b", pytest.approx(-0.02)]
    assert (found["sets_above"], found["num_sets"], found["pairs_above"], found["num_pairs"]) == (1, 2, 2, 5)
    one = summary.joined({"a": [0.02, 0.04, 0.03]})
    assert one["interval"] == pytest.approx(summary.interval([0.02, 0.04, 0.03]))
    assert summary.joined({"a": [0.02, 0.04], "b": [0.1]})["interval"] is None


def test_welch_of_equal_groups_is_the_t_test_of_all() -> None:
    low, high, p = summary.welch([[1.0, 2.0, 3.0], [2.0, 3.0, 4.0]])
    error = math.sqrt(2 * (1 / 3) / 4)
    assert (low, high) == pytest.approx(stats.t.interval(0.95, 4, loc=2.5, scale=error))
    assert p == pytest.approx(2 * stats.t.sf(2.5 / error, 4))


def test_a_summary_judges_by_final_figures_and_names_the_worst_class() -> None:
    runs = [
        run_of(0, 0.40, best=0.48, cat=0.5, dog=0.3), run_of(1, 0.42, best=0.44, cat=0.5, dog=0.3),
        run_of(0, 0.43, best=0.45, recipe="balanced", cat=0.4, dog=0.46),
        run_of(1, 0.46, best=0.47, recipe="balanced", cat=0.44, dog=0.48),
    ]  # fmt: skip
    found = summary.summary(runs, teacher={"map50_95": 0.5}, epochs=2)["balanced"]
    assert found["minus_plain"] == pytest.approx(0.035)
    assert found["minus_plain_by_seed"] == pytest.approx([0.03, 0.04])
    assert found["minus_plain_best"] == pytest.approx(0.0)
    assert found["worst_class"] == ["cat", pytest.approx(-0.08)]
    assert found["minutes"] == 1.0


def test_committed_runs_of_the_earlier_protocol_still_count() -> None:
    stored = json.loads((RESULTS / "quality-bccd-160-cpu.json").read_text())
    found = summary.summary(stored["runs"], teacher=stored["teacher"], epochs=100)
    assert found["balanced"]["minus_plain_best"] == pytest.approx(stored["summary"]["balanced"]["minus_plain"])


# Going on


def facts_of(**changed: object) -> dict:
    training = TrainingSpec(imgsz=96, seed=1).model_dump(mode="json")
    spec = DistillationSpec().model_dump(mode="json")
    return {
        "student": "yolov8n", "epochs": 3, "training": training, "data": "d", "distillation": spec, "teacher": "t",
        "extras": {}, **changed,
    }  # fmt: skip


def test_a_run_without_further_facts_has_the_key_of_earlier_studies() -> None:
    facts = facts_of()
    assert key_facts(facts) == ("yolov8n", 3, facts["training"], "d", facts["distillation"], "t")
    assert key_of(*key_facts(facts)) != key_of(*key_facts(facts_of(extras={"start": "s"})))


def test_a_kept_run_is_known_when_the_spec_has_a_new_field() -> None:
    facts = facts_of()
    older = facts_of(training={name: value for name, value in facts["training"].items() if name != "cos_lr"})
    assert key_of(*key_facts(older)) != key_of(*key_facts(facts))
    assert renewed({"facts": older, "key": "old"})["key"] == key_of(*key_facts(facts))
    assert renewed({"key": "without facts"}) == {"key": "without facts"}


def test_finished_runs_are_found_in_folder_and_file(tmp_path: Path) -> None:
    options = quality.parse(["--work", str(tmp_path / "work"), "--json", str(tmp_path / "result.json")])
    assert quality.known_runs(options) == {}
    (tmp_path / "result.json").write_text(json.dumps({"runs": [{"key": "a"}]}))
    (options.work / "runs").mkdir()
    (options.work / "runs" / "b.json").write_text(json.dumps({"key": "b"}))
    assert quality.known_runs(options).keys() == {"a", "b"}


def test_what_decides_a_run_changes_its_key(drawn: Path, tmp_path: Path) -> None:
    teacher, start = tmp_path / "teacher.pt", tmp_path / "start.pt"
    teacher.write_bytes(b"teacher")
    start.write_bytes(b"start")
    given = StudySet.lay_out("a", drawn, tmp_path / "work" / "a" / "data", test_share=0, labels=0.5)

    def keys(*arguments: str) -> list[str]:
        options = quality.parse(["--teacher", str(teacher), "--work", str(tmp_path / "work"), *arguments])
        study = Study(given, options, {})
        texts = ("plain", "long", "class_weights", "assignment", "placebo", "self", "balanced", "equal_steps",
                 "cached", "few_labels:plain", "pseudo")  # fmt: skip
        facts = [study.facts(treatment(Arm.read(text), 3, no_cost), seed) for text in texts for seed in (0, 1)]
        return [key_of(*key_facts(one)) for one in facts]

    random, pretrained = keys(), keys("--student-weights", str(start))
    assert len({*random, *pretrained}) == len(random) + len(pretrained)
    assert random == keys()
    loose = keys("--least", "0.4")
    assert [one != other for one, other in zip(random, loose, strict=True)] == [False] * 20 + [True] * 2


# The pilot


@pytest.mark.parametrize(
    ("text", "tried"),
    [("piloted", "balanced"), ("piloted=cached=native", "cached=native"), ("piloted=placebo", "placebo")],
)
def test_a_piloted_arm_is_the_arm_that_it_tries_but_for_the_pilot(text: str, tried: str) -> None:
    found = treatment(Arm.read(text), 12, no_cost)
    assert found.piloted
    assert found == dataclasses.replace(treatment(Arm.read(tried), 12, no_cost), piloted=True)
    few = treatment(Arm.read(f"few_labels:{text}"), 12, no_cost)
    assert few == dataclasses.replace(found, images="few_labels")


@pytest.mark.parametrize("text", ["piloted=plain", "piloted=long=2", "piloted=piloted", "repeated:piloted"])
def test_a_pilot_of_what_no_teacher_does_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"a pilot tries|held apart"):
        Arm.read(text)


def test_harm_is_counted_by_seed_and_over_sets() -> None:
    plain = [run_of(seed, 0.4) for seed in range(4)]
    lost = [run_of(seed, 0.4 + value, recipe="balanced") for seed, value in enumerate((0.01, -0.0029, -0.0031, -0.1))]
    found = summary.summary([*plain, *lost], teacher={"map50_95": 0.6}, epochs=2)
    assert found["balanced"]["harm"] == 2
    assert "harm" not in found["plain"]
    both = {name: {"summary": found, "teacher": {"map50_95": 0.6}, "data": {}} for name in "ab"}
    over = summary.over_sets(dict.fromkeys("ab", found))
    assert over["balanced"]["minus_plain"]["harm"] == 4
    told = summary.table({"sets": both, "over_sets": over}).splitlines()
    assert told[4].split()[:6] == ["balanced", "4", "0.3760", "0.3760", "1.0", "2"]
    assert told[-1].endswith("harm in 4")


def test_decisions_and_harm_are_counted_where_runs_are_known() -> None:
    def pilot(decision: str, difference: float, alone: float | None, chosen: float | None) -> dict:
        interval = {"low": difference - 0.2, "high": difference + 0.2}
        arms = [{"arm": "plain"}, {"arm": "recipe", "difference": difference, "interval": interval}]
        figures = {"decision": decision, "arms": arms}
        cost, above = {"processor_seconds": 90.0}, {"without": alone, "with": chosen}
        return {"figures": figures, "cost": cost, "minus_plain": above}

    found = pilots.counted(
        [pilot("stopped", -0.1, -0.05, 0.0), pilot("stopped", 0.1, 0.02, 0.0), pilot("go", 0.3, None, None)]
    )
    assert found["decisions"] == {"stopped": 2, "go": 1}
    assert found["harm_without"] == {"runs": 2, "below": 1}
    assert found["harm_with"] == {"runs": 2, "below": 0}
    assert (found["largest_difference"], found["processor_minutes"]) == (0.3, 1.5)
    assert found["needed_difference"] == pytest.approx([0.2, 0.2])


def test_a_misnamed_teacher_is_the_teacher_with_other_names(drawn: Path, tmp_path: Path) -> None:
    teacher = teacher_of(StudySet.lay_out("a", drawn, tmp_path / "a", test_share=0, labels=1), tmp_path)
    moved, own = models.load(teacher.misnamed()), models.load(teacher.weights)
    assert list(moved.names.values()) == [*list(own.names.values())[1:], own.names[0]]
    assert all(torch.equal(a, b) for a, b in zip(moved.parameters(), own.parameters(), strict=True))


@pytest.mark.train
def test_what_a_pilot_stops_is_plain_s_run_and_the_pilot_s_time(tmp_path: Path) -> None:
    drawn = sets.write(tmp_path / "shapes", sets.shapes(), {"train": 104, "val": 2}).parent
    given = StudySet.lay_out("shapes", drawn, tmp_path / "work" / "shapes" / "data", test_share=0, labels=1)
    weights = teacher_of(given, tmp_path).weights
    settings = f"--epochs 20 --imgsz 64 --batch 32 --close-mosaic 0 --teacher {weights} --work {tmp_path / 'work'}"
    study = Study(given, quality.parse(settings.split()), {})
    facts = study.facts(treatment(Arm.read("plain"), 20, no_cost), 0)
    cost = {"seconds": 50.0, "processor_seconds": 40.0, "quiet_seconds": 30.0}
    plain = {**run_of(0, 0.4), "cost": cost, "key": key_of(*key_facts(facts)), "facts": facts, "device": "cpu"}
    study.runs[plain["key"]] = plain
    found = study.run(Arm.read("piloted"), 0)
    figures = found["pilot"]["figures"]
    assert (figures["decision"], figures["epochs"]) == ("stopped", 2)
    assert [one["arm"] for one in figures["arms"]] == ["plain", "recipe", "lowered"]
    assert figures["num_train"] + figures["num_held_apart"] == 104
    assert (found["final"], found["chosen"], found["recipe"]) == (plain["final"], plain["key"], "piloted")
    assert found["seconds"] == pytest.approx(60.0 + sum(one["training_s"] for one in figures["arms"]), abs=0.1)
    assert cost_of(found) == pytest.approx(30.0 + found["pilot"]["cost"]["quiet_seconds"])
    assert renewed(found)["key"] == found["key"] != plain["key"]
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "work" / "shapes" / "pilots").iterdir()}
    assert len(kept) == 1 + 2 * 3
    again = Study(given, quality.parse(settings.split()), {plain["key"]: plain}).run(Arm.read("piloted"), 0)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "work" / "shapes" / "pilots").iterdir()} == kept
    assert again == found


# Records


def result_of(*differences: float, arm: str = "balanced") -> dict:
    runs = [run_of(seed, 0.4) for seed in range(len(differences))]
    runs += [run_of(seed, 0.4 + value, recipe=arm) for seed, value in enumerate(differences)]
    found = summary.summary(runs, teacher={"map50_95": 0.6}, epochs=2)
    return {
        "sets": {"cells": {"summary": found}},
        "settings": {"student_weights": "n.pt"},
        "commit": "0123456789abcdef",
    }


def test_a_record_is_written_where_chance_is_unlikely() -> None:
    found = records.row(result_of(0.03, 0.031, 0.029), "log.json", arm="balanced", against="plain", name="cells")
    assert found.startswith("| cells | n.pt | balanced | plain | +3.00 | +2.75 to +3.25 | ")
    assert found.endswith("| 3 | 0123456789 | [log.json](results/log.json) |")
    later = found.replace("+3.00", "+4.00")
    table = records.with_row(records.with_row(records.HEAD, found), later)
    assert table == records.HEAD + later + "\n"


@pytest.mark.parametrize(
    ("differences", "why"),
    [
        ((0.01, 0.05, -0.01), "p is 0.4"),
        ((-0.03, -0.031, -0.029), "no gain"),
        ((0.03, 0.031), "2 seeds"),
    ],
)
def test_what_chance_could_have_made_is_no_record(differences: tuple[float, ...], why: str) -> None:
    with pytest.raises(records.NoRecordError, match=why):
        records.row(result_of(*differences), "log.json", arm="balanced", against="plain", name=None)


def test_the_table_of_records_holds_records_with_logs() -> None:
    rows = [line for line in records.RECORDS.read_text().splitlines() if line.startswith("| ")][1:]
    for line in rows:
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        log = json.loads((RESULTS / cells[-1].partition("](results/")[2].rstrip(")")).read_text())
        name = cells[0] if cells[0] in log["sets"] and len(log["sets"]) > 1 else None
        assert (
            records.row(log, cells[-1].partition("]")[0].lstrip("["), arm=cells[2], against=cells[3], name=name) == line
        )


# Sets and pretrained starts


def test_a_drawn_set_is_the_same_each_time_and_its_boxes_hold_their_figures(tmp_path: Path) -> None:
    drawing = sets.letters()
    first, second = (sets.write(tmp_path / name, drawing, {"train": 3, "test": 2}).parent for name in "ab")
    files = sorted(path.relative_to(first) for path in first.rglob("*.*") if path.is_file())
    assert len(files) == 11
    assert all((first / path).read_bytes() == (second / path).read_bytes() for path in files)
    lines = [line.split() for path in first.rglob("*.txt") for line in path.read_text().splitlines()]
    for number, *box in lines:
        x, y, width, height = map(float, box)
        assert 0 <= int(number) < 26
        assert x - width / 2 >= -1e-6
        assert y + height / 2 <= 1 + 1e-6


def test_emoji_need_their_packages() -> None:
    with pytest.raises(SystemExit, match="needs --emoji"):
        sets.drawing_of("food")


def test_joined_sets_share_classes_by_name(drawn: Path, tmp_path: Path) -> None:
    letters = sets.write(tmp_path / "letters", sets.letters(), {"train": 2, "val": 2}).parent
    given = {"letters": pretrain_set(letters), "shapes": pretrain_set(drawn), "again": pretrain_set(drawn)}
    assert len(pretrain.joined_names(given)) == 26 + 8
    folder = pretrain.join(given, tmp_path / "joined").parent
    assert len(list((folder / "images" / "train").iterdir())) == 2 + 20 + 20
    label = next((drawn / "labels" / "train").glob("*.txt"))
    mine = [line.split() for line in label.read_text().splitlines()]
    theirs = [line.split() for line in (folder / "labels" / "train" / f"shapes-{label.name}").read_text().splitlines()]
    assert theirs == [[str(int(number) + 26), *rest] for number, *rest in mine]


def pretrain_set(folder: Path) -> object:
    return pretrain.datasets.locate(str(folder), [Path("/")])


# One study, as small as there is


@pytest.mark.train
def test_a_study_runs_once_and_then_only_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = sets.write(tmp_path / "shapes", sets.shapes(), {"train": 8, "val": 4, "test": 4}).parent
    out = tmp_path / "result.json"
    settings = (
        "--seeds 1 --epochs 1 --imgsz 64 --batch 4 --close-mosaic 0 --labels 0.5 --least 0.001 --ignore-from 0.001"
    )
    teacher = "--teacher yolov8n --teacher-epochs 1 --arms equal_time,plain,balanced,pseudo,few_labels:plain"
    places = ["--data", str(drawn), "--work", str(tmp_path / "work"), "--json", str(out)]
    command = ["quality.py", *settings.split(), *teacher.split(), *places]
    monkeypatch.setattr("sys.argv", command)
    quality.main()
    first = json.loads(out.read_text())
    assert [run["recipe"] for run in first["runs"]] == [
        "plain",
        "balanced",
        "pseudo",
        "few_labels:plain",
        "equal_time",
    ]
    assert all(run["final"]["split"] == "test" for run in first["runs"])
    assert first["sets"]["shapes"]["data"]["num_labelled"] == 4
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "work" / "runs").iterdir()}
    assert len(kept) in {4, 5}, "equal time may be equal epochs, and then it is the plain run again"
    quality.main()
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "work" / "runs").iterdir()} == kept
    assert json.loads(out.read_text())["runs"] == first["runs"]
