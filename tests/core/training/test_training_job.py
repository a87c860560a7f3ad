"""One whole job with all kinds of teaching: a larger input for its own teacher, a second teacher, unlabelled images."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from core.runs import Ended, document, start
from core.training.pictures import draw
from core.training.test_training_distillation import WIDE
from retort.data.inputs import Inputs
from retort.files import sha256_of
from retort.pipeline import results
from retort.protocol.events import FinishedEvent, LogEvent, MetricEvent, StageEvent
from retort.spec import JobSpec
from sharing import Once

pytestmark = pytest.mark.train


@dataclass
class Done:
    run: Ended
    result: dict[str, Any]

    def artifact(self, name: str) -> Any:
        text = (self.run.workdir / "artifacts" / name).read_text()
        return json.loads(text) if name.endswith(".json") else text


def live(home: Path, published: Callable[..., Path]) -> tuple[str, int, int]:
    """Run the job from beginning to end."""
    (home / "models").mkdir()
    shutil.copy(published("yolo26n", names=WIDE), home / "models" / "second.pt")
    shutil.copy(published("yolov8n", names={0: "cat"}), home / "models" / "stranger.pt")
    spec = document(home)
    draw(home / "data" / "more", num_train=6, num_val=2, seed=7)
    spec["data"]["unlabelled"] = {"path": str(home / "data" / "more" / "images"), "ratio": 0.5}
    spec["teacher"] |= {
        "imgsz": 96,
        "weight": 2.0,
        "ensemble": [{"weights": "second.pt"}, {"weights": "stranger.pt", "weight": 0.5, "imgsz": 128}],
    }
    plain = {"warmup_epochs": 0, "decay": "none", "stop_with_mosaic": False}
    spec["distillation"] = {"losses": [{"kind": "pearson"}, {"kind": "score_weighted_l2"}], "schedule": plain}
    run = start(home, spec | {"control": False, "exports": []})
    try:
        for stage in ("distill", "evaluate", "report"):  # each has its own patience: the machine may be busy
            run.until(lambda event, stage=stage: isinstance(event, StageEvent) and event.stage == stage)
        assert run.wait() == 0, run.log()
    finally:
        if run.process.poll() is None:
            run.kill()
    return run.ended().told()


@pytest.fixture(scope="session")
def done(trained: Once, published: Callable[..., Path]) -> Done:
    run = Ended.of(trained("job", lambda home: live(home, published))[1])
    last = run.said()[-1]
    assert isinstance(last, FinishedEvent)
    return Done(run, last.result.model_dump(mode="json"))


def test_each_teacher_is_measured_at_its_own_size(done: Done):
    assert {role: found["imgsz"] for role, found in done.result["roles"].items()} == {
        "teacher": 96, "start": 64, "student": 64,
    }  # fmt: skip
    second, stranger = done.result["ensemble"]
    assert (second["model"], second["weight"], second["imgsz"]) == ("second", 1.0, 64)
    assert 0 <= second["map"] <= second["map50"] <= 1
    assert (stranger["weight"], stranger["imgsz"], stranger["map"]) == (0.5, 128, None)
    said = [event.message for event in done.run.said() if isinstance(event, LogEvent)]
    assert any(message.startswith("the mAP of stranger.pt is not measured") for message in said)


def test_each_term_is_the_weighted_mean_over_the_teachers_and_is_in_the_loss_once(done: Done):
    epochs = [
        event.values
        for event in done.run.said()
        if isinstance(event, MetricEvent) and event.role == "student" and "train/kd_loss" in event.values
    ]
    assert len(epochs) == 2
    for values in epochs:
        for term in ("pearson", "score_weighted_l2"):
            apart = [float(values[f"train/kd/{term}@{number}"] or 0) for number in (1, 2, 3)]
            assert min(apart) > 0
            expected = (2.0 * apart[0] + 1.0 * apart[1] + 0.5 * apart[2]) / 3.5
            assert values[f"train/kd/{term}"] == pytest.approx(expected, rel=1e-4)
        terms = ("train/box_loss", "train/cls_loss", "train/dfl_loss", "train/kd_loss")
        assert values["train/loss"] == pytest.approx(sum(values[name] or 0 for name in terms), rel=1e-5)


def test_manifest_and_report_name_all_teachers_and_the_unlabelled_images(done: Done):
    manifest = done.artifact("manifest.json")
    second = done.run.workdir.parent / "models" / "second.pt"
    assert manifest["ensemble"][0]["sha256"] == sha256_of(second)
    assert manifest["unlabelled"]["num_images"] == 8
    assert manifest["unlabelled"]["ratio"] == 0.5
    assert set(manifest["starting_weights"]) == {"second.pt", "stranger.pt"}
    caveats = done.artifact("report.json")["verdict"]["caveats"]
    assert any("8 unlabelled images, which its control never saw" in caveat for caveat in caveats)
    page = done.artifact("report.html")
    assert "further teacher" in page
    assert "8 images that only the distilled student saw" in page


def test_what_a_stage_has_done_holds_for_the_same_unlabelled_images_and_teachers_only(done: Done):
    spec = JobSpec.model_validate_json((done.run.workdir / "spec.json").read_text())
    inputs = Inputs.load(done.run.workdir)
    assert inputs.unlabelled is not None
    key = results.key_of(spec, inputs)
    other = inputs.model_copy(update={"unlabelled": inputs.unlabelled.model_copy(update={"digest": "0" * 64})})
    swapped = inputs.model_copy(update={"sources": {**inputs.sources, "second.pt": inputs.sources["stranger.pt"]}})
    assert len({key, results.key_of(spec, other), results.key_of(spec, swapped)}) == 3
