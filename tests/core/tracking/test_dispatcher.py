"""The feed of trackers: what is passed on, and TensorBoard's files as a run without a service writes them."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from core.tracking import records
from results import result
from retort import heatmaps
from retort.cli.run import tracked
from retort.constants import HEATMAPS, Role
from retort.protocol.events import ArtifactEvent, FailedEvent, LogEvent, MetricEvent, RunFailure
from retort.settings import Settings
from retort.spec import RECIPES, parse_spec
from retort.spec.outcome import ExtraOutcome
from retort.spec.result import Result, parse_result
from retort.tracking.dispatcher import COMMAND, TrackerDispatcher
from retort.tracking.session import TrackerConfig, figures, flat, tracker_configs
from stored_results import advice, candidate, stored

PATIENCE_S = 60.0
ATTENTIVE = """import sys
for line in sys.stdin:
    print("{}", file=open("heard", "a"))
    print('{"error": null}', flush=True)
"""
SLOW = (sys.executable, "-c", "import sys; [print('{\"error\": null}', flush=True) for _ in sys.stdin]")


def feed_of(
    folder: Path, *, attempt: int = 1, reached: Any = None, command: Any = COMMAND, **tracking: Any
) -> TrackerDispatcher:
    document = {"name": "x", "data": {"path": "/data"}, "teacher": {"weights": "a.pt"}, "tracking": tracking}
    settings = Settings(home=folder / "home")
    tags = {"dataset_digest": "d"}
    wanted = tracker_configs(
        parse_spec(document), settings, job_id="job", attempt=attempt, tags=tags, event_files=folder / "logs"
    )
    return TrackerDispatcher(wanted, folder, reached=reached or {}, timeout_s=PATIENCE_S, command=command)


def measured(step: int, **values: float | None) -> MetricEvent:
    return MetricEvent(n=step, at=1_000_000.0 + step, role=Role.STUDENT, step=step, values=values)


def ended(feed: TrackerDispatcher, result: Result | None = None, failure: RunFailure | None = None) -> list[str]:
    feed.end(result, failure)
    while feed.busy():
        feed.wait(0.1)
    return feed.troubles()


def test_event_files_are_written_while_the_run_speaks(tmp_path: Path):
    feed = feed_of(tmp_path)
    feed.on_event(measured(1, loss=1.0, map=None))
    feed.on_event(LogEvent(n=2, at=0.0, message="hello"))
    feed.on_event(measured(2, loss=0.5))

    assert ended(feed, result(student=0.25)) == []

    found = records.scalars(tmp_path / "logs")
    assert found["student/loss"] == {1: 1.0, 2: 0.5}
    assert found["job/student/map"] == {0: 0.25}
    assert "dataset_digest: d" in records.texts(tmp_path / "logs")["tags"]


def test_a_later_attempt_writes_beside_the_earlier_and_repeats_no_step(tmp_path: Path):
    first = feed_of(tmp_path)
    first.on_event(measured(1, loss=1.0))
    first.on_event(measured(2, loss=0.5))
    assert ended(first) == []

    second = feed_of(tmp_path, attempt=2, reached={("student", "loss"): 2})
    second.on_event(measured(2, loss=9.0, late=1.0))
    second.on_event(measured(3, loss=0.25))
    assert ended(second) == []

    assert records.scalars(tmp_path / "logs")["student/loss"] == {1: 1.0, 2: 0.5, 3: 0.25}
    assert records.scalars(tmp_path / "logs")["student/late"] == {2: 1.0}


def test_the_articles_kl_loss_is_drawn_under_the_articles_name_too(tmp_path: Path):
    kind = RECIPES["article"]["losses"][0]["kind"]
    feed = feed_of(tmp_path)
    feed.on_event(measured(1, **{f"train/kd/{kind}": 0.75, "train/kd/channel_l2": 0.5}))
    feed.on_event(measured(2, **{f"train/kd/{kind}": None}))

    assert ended(feed) == []

    assert records.scalars(tmp_path / "logs") == {
        f"student/train/kd/{kind}": {1: 0.75},
        "student/train/KL_loss": {1: 0.75},
        "student/train/kd/channel_l2": {1: 0.5},
    }


def sheet(folder: Path, epoch: int) -> ArtifactEvent:
    """Draw an epoch's sheet of maps as a training does, and announce it."""
    path = folder / f"{epoch}.jpg"
    drawn = heatmaps.sheet(maps(shift=epoch / 10))
    path.write_bytes(heatmaps.jpeg(drawn))
    about = {"epoch": epoch, "width": drawn.width, "height": drawn.height}
    return ArtifactEvent(
        n=epoch, at=float(epoch), name=f"{HEATMAPS}epoch-{epoch:04d}.jpg", role=Role.STUDENT, path=path.name,
        metadata=about,
    )  # fmt: skip


def maps(*, shift: float) -> dict[str, Any]:
    """Arrays as a training leaves them, of two images, with a number that is none among them."""
    rng = np.random.default_rng(0)
    kl = rng.random((2, 8, 8)).astype(np.float16) + np.float16(shift)
    kl[0, 0, 0] = np.nan
    return {
        "images": rng.integers(0, 256, (2, 64, 64, 3), dtype=np.uint8), "kl_P3": kl,
        **{f"confidence_{level}": rng.random((2, side, side)) for level, side in (("P3", 8), ("P4", 4))},
        "cosine_backbone": rng.random((2, 4, 4)),
    }  # fmt: skip


def test_tensorboard_draws_the_maps_of_each_epoch_while_the_run_speaks(tmp_path: Path):
    from PIL import Image

    feed = feed_of(tmp_path)
    for epoch in (1, 2):
        feed.on_event(sheet(tmp_path, epoch))
        feed.on_event(measured(epoch, loss=1.0))

    assert ended(feed) == []

    [(tag, drawn)] = records.pictures(tmp_path / "logs").items()
    assert (tag, list(drawn)) == ("student/health/heatmaps", [1, 2])
    for epoch, (size, content) in drawn.items():
        assert content == (tmp_path / f"{epoch}.jpg").read_bytes()
        with Image.open(io.BytesIO(content)) as picture:
            assert picture.size == size == (4 * 160, 18 + 2 * 160)
    assert drawn[1] != drawn[2]


@pytest.mark.parametrize("files", [True, False])
def test_other_trackers_are_given_the_maps_with_files_alone(tmp_path: Path, files: bool):
    feed = feed_of(
        tmp_path,
        command=(sys.executable, "-c", ATTENTIVE),
        tensorboard=False,
        wandb={"project": "p", "artifacts": files},
    )
    feed.on_event(sheet(tmp_path, 1))
    feed.on_event(measured(1, loss=1.0))

    assert ended(feed) == []
    told = (tmp_path / "heard").read_text().splitlines()
    assert len(told) == 3 + files, "how it begins, the maps, the metric, and how it ended"


def test_how_it_failed_is_written_down(tmp_path: Path):
    assert ended(feed_of(tmp_path), failure=RunFailure(code="diverged", message="not a number")) == []

    assert "diverged: not a number" in records.texts(tmp_path / "logs")["failure"]


def test_a_tracker_whose_worker_was_killed_ends_and_keeps_what_it_was_told(tmp_path: Path):
    opening = TrackerConfig(
        kind="tensorboard", job_id="job", attempt=1, spec={"name": "x"}, tags={}, folder=tmp_path / "logs"
    )
    lines = f"{opening.model_dump_json()}\n{measured(1, loss=1.0).model_dump_json()}\n"

    ended = subprocess.run(COMMAND, input=lines.encode(), capture_output=True, timeout=PATIENCE_S, check=False)

    assert (ended.returncode, ended.stdout.count(b"null")) == (0, 2)
    assert records.scalars(tmp_path / "logs") == {"student/loss": {1: 1.0}}


def test_a_feed_that_is_closed_leaves_neither_process_nor_thread(tmp_path: Path):
    feed = feed_of(tmp_path)
    feed.on_event(measured(1, loss=1.0))
    (channel,) = feed._processes.values()
    while channel._lines.unfinished_tasks:  # until all has been answered
        channel.wait(0.01)

    feed.close()

    channel.wait(PATIENCE_S)
    assert not channel.busy
    assert channel._process is not None
    assert channel._process.returncode == -9
    assert feed.troubles() == []


def test_a_switch_that_is_off_starts_nothing(tmp_path: Path):
    feed = feed_of(tmp_path, tensorboard=False)
    feed.on_event(measured(1, loss=1.0))

    assert not feed.busy()
    assert ended(feed) == []
    assert not (tmp_path / "logs").exists()


def test_a_tracker_that_does_not_keep_up_is_switched_off_and_nobody_waits(tmp_path: Path):
    asleep = (sys.executable, "-c", "import time; time.sleep(600)")
    feed = feed_of(tmp_path, command=asleep)
    for step in range(1, 10_100):
        feed.on_event(measured(step, loss=1.0))

    assert feed.troubles() == ["TensorBoard is switched off for this attempt: it does not keep up with the run"]
    assert feed.troubles() == []
    (outcome,) = feed.outcomes()
    assert (outcome.name, outcome.status, outcome.code) == ("tensorboard", "failed", "tracker_failed")
    assert (outcome.reason, outcome.hint) == (
        "it does not keep up with the run",
        "tracking.log in the folder of the run",
    )
    feed.close()


def test_a_tracker_that_answers_what_no_tracker_answers_is_switched_off_and_told(tmp_path: Path):
    odd = (sys.executable, "-c", "import sys; [print([], flush=True) for _ in sys.stdin]")
    feed = feed_of(tmp_path, command=odd)
    feed.on_event(measured(1, loss=1.0))

    (trouble,) = ended(feed)
    assert trouble.startswith("TensorBoard is switched off for this attempt: list indices")


def test_an_event_that_cannot_be_passed_on_switches_the_trackers_off_and_is_no_failure(tmp_path: Path):
    feed = feed_of(tmp_path)
    feed.on_event(ArtifactEvent(n=1, at=0.0, name="student.pt", role=Role.STUDENT, path="\0"))

    assert ended(feed) == ["TensorBoard is switched off for this attempt: ValueError: embedded null byte"]


def test_trackers_that_cannot_be_opened_are_told_and_end_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    spec = parse_spec({"name": "x", "data": {"path": "/data"}, "teacher": {"weights": "a.pt"}})
    told: list[ExtraOutcome] = []
    with tracked(spec, Settings(home=tmp_path / "home"), tmp_path / "without inputs", 1, told) as feed:
        feed.on_event(measured(1, loss=1.0))
        assert ended(feed) == []
    assert "no tracker is told of this attempt" in capsys.readouterr().err
    assert [(one.name, one.status, one.code) for one in told] == [("tracking", "failed", "tracker_failed")]


def test_events_are_told_one_by_one_to_whoever_answers(tmp_path: Path):
    feed = feed_of(tmp_path, command=SLOW)
    for step in range(1, 200):
        feed.on_event(measured(step, loss=1.0))
    feed.on_event(ArtifactEvent(n=1, at=0.0, name="student.pt", role=Role.STUDENT, path="student.pt"))

    assert ended(feed) == []


def test_a_spec_is_flattened_by_dotted_paths():
    assert flat({"a": {"b": [1, {"c": None}]}, "d": True}) == {"a.b.0": 1, "a.b.1.c": None, "d": True}


def test_advice_has_no_figures():
    assert figures(parse_result(advice(candidate()))) == {}


def test_figures_are_the_numbers_of_each_role():
    told = figures(result(student=0.5, control=0.25))
    assert (told["student/map"], told["control/map"], told["teacher/latency_ms/p50"]) == (0.5, 0.25, 8.25)
    assert not any("model" in name or "device" in name for name in told)


def test_figures_of_classes_have_names_that_every_tracker_takes():
    classes = {"traffic light": 1.0, "a/b (old)": 2.0, "..": 3.0, "Größe": 4.0}
    told = stored()
    told["roles"]["student"]["per_class"] = {name: {"ap50": value, "ap": value} for name, value in classes.items()}
    found = figures(parse_result(told))
    assert {name: value for name, value in found.items() if "student/per_class" in name and name.endswith("ap")} == {
        "student/per_class/traffic light/ap": 1.0,
        "student/per_class/a_b _old_/ap": 2.0,
        "student/per_class/_/ap": 3.0,
        "student/per_class/Größe/ap": 4.0,
    }


def test_an_event_of_a_failure_is_not_passed_on_twice(tmp_path: Path):
    feed = feed_of(tmp_path)
    feed.on_event(FailedEvent(n=1, at=0.0, failure=RunFailure(code="x", message="y")))
    assert ended(feed, failure=RunFailure(code="x", message="y")) == []
    files = list((tmp_path / "logs").rglob("events.out.tfevents.*"))
    assert [sum("failure" in str(event) for event in records.events(path)) for path in files] == [1]
