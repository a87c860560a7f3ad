"""A run with several seeds and all arms: real training, killed in between, gone on with by another attempt."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from core.answers import answers
from core.runs import Ended, document, start
from retort.constants import Role
from retort.pipeline.answers import Repetitions, TrainedArms, TrainedNetwork
from retort.pipeline.context import find, half
from retort.protocol.events import AnyEvent, ArtifactEvent, FinishedEvent, LogEvent, MetricEvent, ProgressEvent
from retort.spec import JobSpec, parse_spec
from sharing import Once

pytestmark = pytest.mark.train


def repeated(event: AnyEvent, role: str) -> bool:
    """Return True if it tells of an epoch of the repetition with seed 8."""
    told = isinstance(event, MetricEvent) and event.role is Role.JOB
    return told and any(name.startswith(f"seed-8/{role}/") for name in event.values)


def live(home: Path) -> list[tuple[str, int, int]]:
    """Kill the run while the placebo trains, among the arms, and let a second attempt finish."""
    training = {"epochs": 1, "imgsz": 64, "batch": "auto", "close_mosaic": 0, "seed": 7, "seeds": 2}
    arms = ["class_weights", "assignment", "placebo", "self", "equal_time"]
    spec = {**document(home), "training": training, "exports": [], "arms": arms}
    killed = start(home, spec, attempt=1)
    killed.until(lambda event: isinstance(event, ArtifactEvent) and event.name == "arm-assignment.pt")
    killed.kill()
    finished = start(home, spec, attempt=2)
    return [running.ended().told() for running in (killed, finished)]


@pytest.fixture(scope="session")
def life(trained: Once) -> tuple[Ended, Ended]:
    """Killed while the placebo trained, and finished by a second attempt."""
    _, (killed, finished) = trained("seeds", live)
    return Ended.of(killed), Ended.of(finished)


def result(running: Ended) -> dict[str, Any]:
    return next(event.result.model_dump(mode="json") for event in running.said() if isinstance(event, FinishedEvent))


def test_every_seed_is_trained_once_whatever_was_killed(life: tuple[Ended, Ended]):
    killed, finished = life
    for role in ("student", "control"):
        assert any(repeated(event, role) for event in killed.said())
        assert not any(repeated(event, role) for event in finished.said())
    published = {event.name for event in finished.said() if isinstance(event, ArtifactEvent)}
    assert {"student.pt", "control.pt", "student-seed-8.pt", "control-seed-8.pt"} <= published


def test_the_result_has_each_seed_and_what_can_be_said_of_both(life: tuple[Ended, Ended]):
    found = result(life[1])
    first, second = found["seeds"]["runs"]
    assert (first["seed"], second["seed"]) == (7, 8)
    assert first["student"]["map"] == found["roles"]["student"]["map"]
    over = found["seeds"]["statistics"]["map"]
    gains = [run["student"]["map"] - run["control"]["map"] for run in (first, second)]
    assert over["num_seeds"] == 2
    assert over["difference"]["mean"] == pytest.approx(sum(gains) / 2)
    judged = found["verdict"]
    assert judged["difference"] == found["gain"]["map"] == over["difference"]["mean"]
    assert (judged["interval"]["over"], judged["interval"]["number"]) == ("seeds", 2)
    assert judged == json.loads((life[1].workdir / "artifacts" / "report.json").read_text())["verdict"]
    assert over["difference"]["low"] <= over["difference"]["mean"] <= over["difference"]["high"]


def test_the_repetitions_are_other_networks_and_their_curves_stand_apart(life: tuple[Ended, Ended]):
    artifacts = life[1].workdir / "artifacts"
    weights = [(artifacts / f"student{seed}.pt").read_bytes() for seed in ("", "-seed-8")]
    assert weights[0] != weights[1]
    report = json.loads((artifacts / "report.json").read_text())
    assert "seed-8/control/val/mAP50-95" in report["curves"]["job"]
    assert report["curves"]["student"]["val/mAP50-95"]["step"] == [0, 1]
    assert report["manifest"]["seeds"] == [7, 8]
    page = Path(artifacts / "report.html").read_text()
    assert "Seed by seed" in page
    assert "2 seeds" in page


ARMS = ("class_weights", "assignment", "placebo", "self", "equal_time")


def test_what_distillation_changes_at_once_is_told_apart_by_arms_that_change_one_thing(life: tuple[Ended, Ended]):
    found = result(life[1])
    assert tuple(one["arm"] for one in found["arms"]) == ARMS
    for one in found["arms"]:
        assert one["difference"] == found["roles"]["student"]["map"] - one["figures"]["map"]
        assert one["interval"]["over"] == "images"
        assert one["training_s"] > 0
        assert (life[1].workdir / "artifacts" / one["path"]).is_file()
        assert one["sentence"] in (life[1].workdir / "artifacts" / "report.json").read_text()
    outcomes = {one["name"]: one["status"] for one in found["extras"]}
    assert all(outcomes[f"arm-{arm.replace('_', '-')}"] == "done" for arm in ARMS)
    page = (life[1].workdir / "artifacts" / "report.html").read_text()
    assert "what the difference shows" in page


def test_every_arm_is_trained_once_whatever_was_killed(life: tuple[Ended, Ended]):
    told = [
        {name.split("/")[0] for event in one.said() if isinstance(event, MetricEvent) for name in event.values}
        for one in life
    ]
    assert {"arm-class-weights", "arm-assignment"} <= told[0]
    assert told[1] & {"arm-class-weights", "arm-assignment"} == set()
    assert "arm-equal-time" in told[1]
    published = {event.name: event for event in life[1].said() if isinstance(event, ArtifactEvent)}
    assert {published[f"arm-{arm.replace('_', '-')}.pt"].metadata["arm"] for arm in ARMS} == set(ARMS)


def test_the_arms_are_counted_in_the_progress_of_the_job(life: tuple[Ended, Ended]):
    spec = parse_spec(json.loads((life[1].workdir / "spec.json").read_text()))
    assert isinstance(spec, JobSpec)
    stages = {stage.name: stage.module for stage in find() if stage.module.applies(spec)}
    assert stages["arms"].cost(spec) > 4 * stages["control"].cost(spec)
    told = [event.progress for event in life[1].said() if isinstance(event, ProgressEvent)]
    assert told == sorted(told)
    assert told[-1] == pytest.approx(1)


def test_a_batch_that_the_run_finds_is_that_of_every_training_and_is_told(life: tuple[Ended, Ended]):
    found, kept = result(life[1])["training"], answers(life[1].workdir)
    assert (found["batch"], found["batch_found"]["batch"]) == (16, 16)
    distilled, repeated, arms = kept["distill"], kept["repeat"], kept["arms"]
    assert isinstance(distilled, TrainedNetwork)
    assert isinstance(repeated, Repetitions)
    assert isinstance(arms, TrainedArms)
    others = [run.student for run in repeated.runs] + [run.network for run in arms.runs]
    assert {one.batch for one in (distilled, *others)} == {16}
    reason = found["batch_found"]["reason"]
    assert any(isinstance(event, LogEvent) and event.message == reason for event in life[0].said())
    assert reason in (life[1].workdir / "artifacts" / "report.html").read_text()


def test_half_of_a_found_batch_is_what_the_gpus_can_share():
    assert [half(batch, gpus) for batch, gpus in ((16, 1), (15, 1), (24, 4), (12, 4), (2, 1), (4, 4))] == [
        8, 7, 12, 4, 2, 4,
    ]  # fmt: skip
