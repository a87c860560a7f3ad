"""The stage that asks the teacher ahead of time: once for all runs, sound or anew, and on from where it was stopped."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from core.runs import document
from core.training.pictures import NAMES, draw
from random_teacher import make_opinionated
from retort.data.inputs import Inputs
from retort.data.prepare import prepare
from retort.errors import Stopped, TeacherMismatch
from retort.labelling import ahead
from retort.pipeline.answers import CachedTeaching
from retort.pipeline.context import Context
from retort.protocol.events import ArtifactEvent, LogEvent
from retort.protocol.journal import Journal, read
from retort.protocol.workdir import Heartbeat
from retort.settings import Settings
from retort.spec import JobSpec, parse_spec
from retort.stages import arms, teach_ahead
from retort.training.data.teacher_cache import TeacherCache


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a teacher, and images with labels and without."""
    from retort.training import models

    folder = tmp_path_factory.mktemp("home")
    network = models.build("yolov8n", names=NAMES, weights=None, seed=1)
    make_opinionated(network)
    (folder / "models").mkdir()
    models.publish(network, folder / "models" / "teacher.pt", names=NAMES, imgsz=64)
    draw(folder / "data", num_train=6, num_val=2)
    draw(folder / "more", num_train=3, num_val=1, seed=9)
    return folder


class Asking:
    """Runs of the stage with one folder for what they leave each other."""

    def __init__(self, home: Path, folder: Path) -> None:
        self._home, self._folder = home, folder
        self.shared = folder / "caches"

    def spec(self, **changes: Any) -> JobSpec:
        """Return the spec of a run."""
        fields = document(self._home, **changes)
        fields["data"] = {"path": str(self._home / "data")} | changes.get("data", {})
        fields["training"] = document(self._home)["training"] | changes.get("training", {})
        fields["teacher"] = {"weights": "teacher.pt", "cache": True} | changes.get("teacher", {})
        return cast("JobSpec", parse_spec(fields))

    def __call__(
        self, name: str, *, stop_at: float | None = None, **changes: Any
    ) -> tuple[CachedTeaching, list[str], Path]:
        """Run the stage in the folder *name*; return its answer, what was logged, and the folder."""
        spec, workdir, stop = self.spec(**changes), self._folder / name, threading.Event()
        attempt = 1 + len(list(workdir.glob("journal-*")))
        prepare(
            spec, Settings(home=self._home, fetch_weights=False), workdir, attempt=attempt, device="cpu",
            teacher_caches=self.shared,
        )  # fmt: skip

        def tell(fraction: float) -> None:
            if stop_at is not None and fraction >= stop_at:
                stop.set()

        path = workdir / f"journal-{attempt}.jsonl"
        with Journal(path) as journal:
            context = Context(
                spec, Inputs.load(workdir), workdir, journal, stop, {}, tell, Heartbeat(workdir), "teach_ahead", "",
            )  # fmt: skip
            answer = teach_ahead.run(context)
        events = read(path)[0]
        assert [event.name for event in events if isinstance(event, ArtifactEvent)] == ["teacher-cache.npz"]
        return answer, [event.message for event in events if isinstance(event, LogEvent)], workdir


@pytest.fixture
def asking(home: Path, tmp_path: Path) -> Asking:
    return Asking(home, tmp_path)


def test_what_one_run_has_asked_another_takes(asking: Asking) -> None:
    first, said, workdir = asking("first")
    assert first.figures.num_images == 6
    assert first.figures.num_boxes > 0
    assert not first.figures.reused
    assert first.figures.size_bytes == (workdir / first.path).stat().st_size
    assert any(one.startswith("the teacher was asked ahead of time") for one in said)
    second, said, other = asking("second", training={"seed": 5})
    assert second.figures.reused
    assert second.figures.digest == first.figures.digest
    assert "the teacher was asked by an earlier run: 6 images" in said
    assert (other / second.path).read_bytes() == (workdir / first.path).read_bytes()


def test_a_teacher_that_sees_none_of_the_classes_is_refused_before_anything_is_trained(
    asking: Asking, home: Path
) -> None:
    """Found with a YOLO of COCO that saw doughnuts alone, and a job that failed in its first epoch."""
    from retort.training import models

    names = {**NAMES, len(NAMES): "donut"}
    network = models.build("yolov8n", names=names, weights=None, seed=1)
    make_opinionated(network)
    for level in network.model[-1].cv3:
        level[-1].bias.data[: len(NAMES)] = -60.0
        level[-1].weight.data[: len(NAMES)] = 0.0
    models.publish(network, home / "models" / "blind.pt", names=names, imgsz=64)
    with pytest.raises(TeacherMismatch, match=r"sees none of .* on 6 images: its \d+ boxes are of donut$"):
        asking("blind", teacher={"weights": "blind.pt"})


@pytest.mark.parametrize(
    "spoil", [lambda content: content[: len(content) // 2], lambda content: b"something else" + content]
)
def test_a_damaged_file_is_told_and_the_teacher_is_asked_anew(asking: Asking, spoil: Callable[[bytes], bytes]) -> None:
    first, _, workdir = asking("first")
    (kept,) = asking.shared.glob("*.npz")
    kept.write_bytes(spoil(kept.read_bytes()))
    second, said, other = asking("second")
    assert not second.figures.reused
    assert any("cannot be used: it cannot be read" in one and "it is asked anew" in one for one in said)
    assert (other / second.path).read_bytes() == (workdir / first.path).read_bytes()
    assert TeacherCache.load(kept).digest == first.figures.digest


def test_a_file_of_something_else_is_not_taken(asking: Asking) -> None:
    first, _, _ = asking("first")
    flipped, _, _ = asking("flipped", teacher={"views": ["flip"]})
    assert flipped.figures.digest != first.figures.digest
    one, other = (asking.shared / f"{found.figures.digest}.npz" for found in (first, flipped))
    shutil.copyfile(other, one)
    second, said, _ = asking("second")
    assert not second.figures.reused
    assert any("it is of another teacher, other views or other images" in one for one in said)


def test_images_without_labels_are_asked_about_too(asking: Asking, home: Path) -> None:
    more, _, _ = asking("more", data={"unlabelled": {"path": str(home / "more" / "images" / "train")}})
    assert more.figures.num_images == 9


def test_a_run_that_was_stopped_goes_on_with_the_images_that_are_left(
    asking: Asking, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, _, _ = asking("whole")
    shutil.rmtree(asking.shared)
    monkeypatch.setattr(ahead, "_AT_A_TIME", 2)
    with pytest.raises(Stopped):
        asking("stopped", stop_at=0.3)
    stopped = asking.shared.parent / "stopped"
    (part,) = stopped.glob("work/ahead-*/*.npz")
    asked_at = part.stat().st_mtime_ns
    answer, _, _ = asking("stopped")
    assert part.stat().st_mtime_ns == asked_at  # it was not asked again
    assert len(list(part.parent.iterdir())) == 3
    assert answer.figures.digest == whole.figures.digest
    found, expected = (TeacherCache.load(asking.shared.parent / name / answer.path) for name in ("stopped", "whole"))
    assert np.array_equal(found.corners, expected.corners)
    assert np.array_equal(found.probabilities, expected.probabilities)


def test_the_arm_of_the_students_own_average_has_no_cache_and_learns_what_the_cache_could_teach(
    asking: Asking, tmp_path: Path
) -> None:
    """It loaded the cache, which it does not use, and had terms and assignment that the student has not under it."""
    answer, _, workdir = asking("first")
    with Journal(tmp_path / "arms.jsonl") as journal:
        context = Context(
            asking.spec(arms=["self"]), Inputs.load(workdir), workdir, journal, threading.Event(),
            {"teach_ahead": answer}, lambda _: None, Heartbeat(workdir), "arms", "",
        )  # fmt: skip
        made = arms._prepared(context, "self")
    assert made.plan.teaching.ema
    assert made.plan.teaching.cache is None
    assert made.distillation is not None
    assert [loss.kind for loss in made.distillation.losses] == ["class_logits", "dfl"]
    assert made.distillation.assignment == "student"
