"""A run whose teacher labels images: it waits for people, and goes on elsewhere with what they have decided."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from core.answers import answers
from core.runs import Ended, document, start
from core.training.conftest import make_opinionated
from core.training.pictures import NAMES, draw
from PIL import Image
from retort.constants import Role
from retort.data.inputs import Inputs
from retort.labelling import predict
from retort.pipeline.context import Context
from retort.pipeline.results import key_of_stage
from retort.protocol.events import AwaitingReviewEvent, FailedEvent, FinishedEvent, LogEvent, SavedEvent, StageEvent
from retort.protocol.journal import Journal
from retort.protocol.workdir import Heartbeat
from retort.review.models import Decisions, ImageDecision, PseudoLabels, Reviewed, ReviewSet
from retort.spec import JobSpec
from retort.stages.distill import train_config
from retort.training.data.ignore_regions import read as band
from sharing import Once

pytestmark = pytest.mark.train

WANTED = {"confidence": 0.8, "ignore_from": 0.3, "review": "sample", "sample": 3, "check_labels": True}


@dataclass
class Wait:
    """A job whose first attempt was killed in mid-labelling, and whose second waits for people."""

    home: Path
    spec: dict[str, Any]
    killed: Ended
    waiting: Ended

    @property
    def workdir(self) -> Path:
        return self.waiting.workdir

    def labels(self) -> PseudoLabels:
        return PseudoLabels.model_validate_json((self.workdir / "artifacts/pseudo-labels.json").read_bytes())

    def proposals(self) -> ReviewSet:
        return ReviewSet.model_validate_json((self.workdir / "artifacts/review.json").read_bytes())


def teacher(path: Path) -> Path:
    """A network with random weights that finds something on every image."""
    from retort.training import models
    from retort.training.models import publish

    network = models.build("yolo11n", names=NAMES, weights=None, seed=1)
    make_opinionated(network)
    path.parent.mkdir()
    publish(network, path, names=NAMES, imgsz=64)
    return path


def begin(home: Path) -> list[Any]:
    """Kill the first attempt in mid-labelling, and let the second go on until it waits."""
    spec = document(home)
    teacher(home / "models/sure.pt")
    more = draw(home / "more", num_train=6, num_val=2, seed=5).parent / "images"
    (home / "more/labels/train/5.txt").unlink()
    shutil.copy(home / "data/images/val/0.png", more / "leak.png")
    shutil.copy(more / "train/0.png", more / "twice.png")
    (more / "broken.png").write_bytes((more / "train/1.png").read_bytes()[:200])
    spec |= {
        "teacher": {"weights": "sure.pt"},
        "training": {**spec["training"], "epochs": 1},
        "pseudo_labels": {"path": str(more), **WANTED},
        "exports": [],
    }
    killed = start(home, spec, attempt=1)
    killed.until(lambda event: isinstance(event, StageEvent) and event.stage == "pseudo_label")
    killed.kill()
    waiting = start(home, spec, attempt=2)
    return [spec, killed.ended().told(), waiting.ended().told()]


@pytest.fixture(scope="session")
def wait(trained: Once) -> Wait:
    home, (spec, killed, waiting) = trained("labels", begin)
    return Wait(home, spec, Ended.of(killed), Ended.of(waiting))


def test_a_run_that_waits_for_people_says_so_last_and_exits_with_3(wait: Wait):
    assert wait.waiting.code == 3, wait.waiting.log()
    last = wait.waiting.said()[-1]
    assert isinstance(last, AwaitingReviewEvent)
    assert last.num_images == 3


def test_what_would_leak_or_teach_twice_is_left_out_and_said_loudly(wait: Wait):
    reasons = {one.image: (one.left_out, one.like) for one in wait.labels().pictures if one.left_out}
    assert reasons == {"leak": ("validation", "0.png"), "twice": ("duplicate", "train-0")}
    told = [event for event in wait.waiting.said() if isinstance(event, LogEvent) and event.level == "warning"]
    assert any("1 images are copies of validation images" in event.message for event in told)
    assert any("broken.png" in event.message for event in told)


def test_labels_are_boxes_from_the_threshold_on_and_doubts_those_below(wait: Wait):
    labels = wait.labels()
    used = [one for one in labels.pictures if one.left_out is None]
    assert len(used) == 8
    assert {one.file for one in used} == {f"train/{n}.png" for n in range(6)} | {f"val/{n}.png" for n in range(2)}
    for one in used:
        assert one.kept
        assert one.doubtful
        assert min(box.score for box in one.kept) >= 0.8 > max(box.score for box in one.doubtful)
        assert min(box.score for box in one.doubtful) >= 0.3
        assert {box.name for box in (*one.kept, *one.doubtful)} <= set(NAMES.values())


def test_the_figures_say_how_good_the_labels_seem_to_be(wait: Wait):
    figures = wait.labels().figures
    used = [one for one in wait.labels().pictures if one.left_out is None]
    assert figures.num_images == 11
    assert figures.left_out.model_dump() == {
        "validation": 1,
        "training": 0,
        "duplicate": 1,
        "empty": 0,
        "unreadable": 1,
    }
    assert figures.num_boxes == sum(len(one.kept) for one in used)
    assert figures.agreement is not None
    assert figures.existing is not None
    assert figures.agreement.num_images == 7, "one of the eight has no label, the copies are not compared"
    assert figures.agreement.recall.total == 21, "three rectangles on each"
    assert figures.existing.num_boxes == 36
    assert figures.existing.num_suspect == len(wait.labels().suspects) > 0


def test_what_is_to_be_looked_at_is_published_without_the_data(wait: Wait):
    proposals = wait.proposals()
    assert (proposals.mode, len(proposals.pictures), proposals.classes) == ("sample", 3, tuple(NAMES.values()))
    for one in proposals.pictures:
        with Image.open(wait.workdir / f"artifacts/review/{one.image}.jpg") as image:
            assert image.size == (one.width, one.height) == (96, 96)
    known = {one.image: one for one in wait.labels().pictures}
    assert all(one.kept == known[one.image].kept for one in proposals.pictures)


def go_on(wait: Wait, elsewhere: Path) -> tuple[str, int, int]:
    """Bring what was saved and decided to another folder, and start the next attempt there."""
    workdir = elsewhere / "work"
    saved = [event for event in wait.waiting.said() if isinstance(event, SavedEvent)][-1]
    for file in saved.files:
        (workdir / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(wait.workdir / file, workdir / file)
    (workdir / "decisions.json").write_text(Decisions(decisions=decisions(wait.proposals())).model_dump_json())
    return start(wait.home, wait.spec, attempt=3, workdir=workdir).ended().told()


@pytest.fixture(scope="session")
def done(wait: Wait, trained: Once) -> Ended:
    """The next attempt, on another machine, after one picture was accepted, one rejected and one edited."""
    return Ended.of(trained("labels-elsewhere", lambda folder: go_on(wait, folder))[1])


def decisions(proposals: ReviewSet) -> tuple[ImageDecision, ...]:
    accepted, rejected, edited = proposals.pictures
    return (
        ImageDecision(image=accepted.image, decision="accept", at=1.0),
        ImageDecision(image=rejected.image, decision="reject", at=2.0),
        ImageDecision(image=edited.image, decision="edit", boxes=(edited.kept[0].plain(),), reviewer="ann", at=3.0),
    )


def test_it_goes_on_elsewhere_with_what_was_decided(wait: Wait, done: Ended):
    assert done.code == 0, done.log()
    told = [event.stage for event in done.said() if isinstance(event, StageEvent)]
    assert told == ["review", "distill", "control", "arms", "evaluate", "report"]
    reviewed = Reviewed.model_validate_json((done.workdir / "artifacts/pseudo-labels-reviewed.json").read_bytes())
    accepted, rejected, edited = wait.proposals().pictures
    by = {one.image: one for one in reviewed.pictures}
    assert rejected.image not in by
    assert len(by) == 7
    assert (by[accepted.image].boxes, by[accepted.image].by) == (accepted.plain(), "reviewer")
    assert (by[edited.image].boxes, by[edited.image].ignored) == ((edited.kept[0].plain(),), ())


def test_the_result_has_the_precision_of_what_people_saw_with_its_interval(wait: Wait, done: Ended):
    last = done.said()[-1]
    assert isinstance(last, FinishedEvent)
    found = last.result.model_dump(mode="json")["pseudo_labels"]
    accepted, rejected, edited = (len(one.kept) for one in wait.proposals().pictures)
    shares = found["review"]["precision"]
    assert (shares["right"], shares["total"]) == (accepted + 1, accepted + rejected + edited)
    assert shares["low"] < shares["value"] < shares["high"]
    assert (found["num_trained"], found["num_used"]) == (7, 8)
    manifest = json.loads((done.workdir / "artifacts/manifest.json").read_text())
    assert manifest["pseudo_labels"]["reviewed_precision"] == shares
    html = (done.workdir / "artifacts/report.html").read_text()
    assert "Labels by the teacher" in html
    assert f"n = {shares['total']}" in html


def test_what_the_labels_brought_is_told_by_an_arm_of_as_many_steps(done: Ended):
    last = done.said()[-1]
    assert isinstance(last, FinishedEvent)
    found = last.result.model_dump(mode="json")
    assert [one["arm"] for one in found["arms"]] == ["labelled_only"]
    assert [one["part"] for one in found["verdict"]["parts"]] == ["pseudo_labels", "terms", "whole"]
    kept = answers(done.workdir)
    (arm,), control = kept["arms"].runs, kept["control"]
    assert (arm.network.epochs, arm.network.batch) == (control.epochs, control.batch)
    told = [event.message for event in done.said() if isinstance(event, LogEvent)]
    assert "12 labelled images make up epochs of 19" in told
    html = (done.workdir / "artifacts/report.html").read_text()
    assert "What brought what" in html


def context(running: Ended, **results: object) -> Iterator[Context]:
    workdir = running.workdir
    kept = answers(workdir)
    with Journal(workdir / "journal-9.jsonl") as said:
        yield Context(
            JobSpec.model_validate_json((workdir / "spec.json").read_text()), Inputs.load(workdir), workdir, said,
            threading.Event(), {**kept, **results}, lambda _: None, Heartbeat(workdir), "extra", "key",
        )  # fmt: skip


@pytest.fixture
def after(done: Ended) -> Iterator[Context]:
    """The view of a stage that comes after the review."""
    yield from context(done)


def test_student_and_control_are_trained_on_the_same_labelled_and_accepted_images(wait: Wait, after: Context):
    laid = []
    for role in (Role.STUDENT, Role.CONTROL):
        data = train_config(after, role).data_yaml
        folder = data.parent
        described = yaml.safe_load(data.read_text())
        assert (described["path"], described["names"]) == (str(folder), NAMES)
        files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        laid.append(files)
    assert laid[0] == laid[1]
    names = {Path(name).stem for name in laid[0] if name.startswith("images/train/")}
    rejected = wait.proposals().pictures[1].image
    pseudo = {name for name in names if name.startswith("pseudo-")}
    assert len(names) == 12 + 7
    assert f"pseudo-{rejected}" not in pseudo
    assert {Path(name).stem for name in laid[0] if name.startswith("labels/train/")} == names
    assert laid[0]["images/train/pseudo-train-0.png"] == (wait.home / "more/images/train/0.png").read_bytes()


def test_labels_and_doubts_are_written_as_label_files_and_doubts_only_where_there_are_some(wait: Wait, after: Context):
    folder = train_config(after, Role.STUDENT).data_yaml.parent
    accepted, _, edited = wait.proposals().pictures
    rows = [line.split() for line in (folder / f"labels/train/pseudo-{accepted.image}.txt").read_text().splitlines()]
    assert len(rows) == len(accepted.kept)
    first = accepted.kept[0]
    assert int(rows[0][0]) == list(NAMES.values()).index(first.name)
    x, y, width, height = map(float, rows[0][1:])
    assert (x - width / 2, y - height / 2, x + width / 2, y + height / 2) == pytest.approx(
        (first.x1, first.y1, first.x2, first.y2), abs=1e-6
    )
    ignored = (folder / f"ignore/train/pseudo-{accepted.image}.txt").read_text().splitlines()
    assert len(ignored) == len(accepted.doubtful)
    assert all(len(line.split()) == 5 for line in ignored)
    (read,) = band([next(str(path) for path in folder.glob(f"images/train/pseudo-{accepted.image}.*"))])
    assert len(read) == len(accepted.doubtful)  # as the training reads them
    assert not (folder / f"ignore/train/pseudo-{edited.image}.txt").exists()
    assert not list((folder / "ignore/train").glob("[0-9]*"))


def test_a_name_that_the_data_set_has_already_is_given_to_nobody_else(after: Context, tmp_path: Path):
    shutil.copytree(after.inputs.data_yaml.parent, tmp_path / "data", symlinks=True)
    for kind, suffix in (("images", ".png"), ("labels", ".txt")):
        (tmp_path / f"data/{kind}/train/0{suffix}").rename(tmp_path / f"data/{kind}/train/Pseudo-TRAIN-0{suffix}")
    after.inputs = after.inputs.model_copy(update={"data_yaml": tmp_path / "data/data.yaml"})
    folder = train_config(after, Role.STUDENT).data_yaml.parent
    assert len(list((folder / "images/train").iterdir())) == 12 + 7
    assert (folder / "labels/train/pseudo-train-0-2.txt").is_file()


def test_the_teachers_own_training_never_sees_them(after: Context):
    assert not [path for path in (after.inputs.data_yaml.parent / "images/train").iterdir() if "pseudo" in path.name]


def test_images_that_an_earlier_attempt_has_seen_are_not_looked_at_again(after: Context, tmp_path: Path):
    images = [
        Path(shutil.copy(path, tmp_path)) for path in sorted((after.inputs.data_yaml.parent / "images/val").iterdir())
    ]
    sizes = [(96, 96)] * len(images)
    first = list(predict.detect(after, images, sizes, conf=0.5, kind="new"))
    for image in images:
        image.unlink()
    assert list(predict.detect(after, images, sizes, conf=0.5, kind="new")) == first
    after.key = "another job's"
    with pytest.raises(Exception, match="cannot be read"):
        list(predict.detect(after, images, sizes, conf=0.5, kind="new"))


def test_other_decisions_have_the_review_done_again_and_nothing_before_it(after: Context):
    other = after.inputs.model_copy(update={"decisions": "0" * 64})
    for stage, same in (("train_teacher", True), ("pseudo_label", True), ("review", False)):
        keys = {key_of_stage("job", stage, found) for found in (after.inputs, other)}
        assert (len(keys) == 1) is same


def test_decisions_that_are_malformed_end_the_run_with_their_place(wait: Wait, tmp_path: Path):
    workdir = Path(shutil.copytree(wait.workdir, tmp_path / "work", symlinks=True))
    (workdir / "decisions.json").write_text('{"decisions": [{"image": "a"}]}')
    running = start(wait.home, wait.spec, attempt=3, workdir=workdir)
    assert running.wait() == 1
    last = running.said()[-1]
    assert isinstance(last, FailedEvent)
    assert last.failure.code == "bad_data"
    assert "decisions.json: decisions.0" in last.failure.message


def test_a_review_that_is_half_done_asks_for_the_rest(wait: Wait, tmp_path: Path):
    workdir = Path(shutil.copytree(wait.workdir, tmp_path / "work", symlinks=True))
    (workdir / "decisions.json").write_text(Decisions(decisions=decisions(wait.proposals())[:2]).model_dump_json())
    running = start(wait.home, wait.spec, attempt=3, workdir=workdir)
    assert running.wait() == 3
    last = running.said()[-1]
    assert isinstance(last, AwaitingReviewEvent)
    assert last.num_images == 1
