"""Trainings that are killed, stopped, out of disk or already done, and what the next attempt makes of them."""

from __future__ import annotations

import errno
import io
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from core.runs import document
from core.training import attempts
from core.training.attempts import notes
from core.training.pictures import Notebook, draw
from retort.constants import MAP, Role
from retort.data.inputs import Inputs
from retort.data.prepare import prepare
from retort.errors import Stopped, TransientError
from retort.pipeline import history
from retort.pipeline.answers import TrainedNetwork
from retort.pipeline.context import Context
from retort.pipeline.failures import explain
from retort.protocol import journal
from retort.protocol.journal import Journal
from retort.protocol.workdir import Heartbeat
from retort.settings import Settings
from retort.spec import DistillationSpec, TrainingSpec, parse_spec
from retort.stages import control
from retort.training import checkpoint
from retort.training.checkpoint import CheckpointStore
from retort.training.config import TeacherConfig, TrainConfig
from retort.training.distillation.balancing import TaskLossBalance
from retort.training.trainer import TrainingLoop, fit
from sharing import Once

# 16 images in batches of 6 are 3 batches an epoch, and a step takes 2: gradients wait over the end of an epoch.
TRAINING = {"imgsz": 64, "batch": 6, "nominal_batch": 12, "close_mosaic": 1, "checkpoint_every": 2, "optimizer": "SGD"}
EPOCHS = 4
KILLS: list[dict[str, int]] = [{"batches": 5, "saved": 1}, {"writing": 3}, {"batches": 2}]
"""In the second epoch; while the state after the third is written beside the fourth; in the redone third."""


@dataclass
class Lives:
    """The same training in one life, and in four; the last attempt of each found it complete."""

    whole: Path
    killed: Path
    ends: list[int]
    longer: Path
    """The whole one, extended by two epochs."""
    longer_killed: Path
    """The same, killed in the first of them."""
    longest: Path
    """The longer one, extended by an epoch."""


def live(home: Path, teacher: Path) -> Lives:
    whole, killed = home / "whole", home / "killed"
    longer, longer_killed, longest = home / "longer", home / "longer-killed", home / "longest"
    added = {"extends": (str(whole), [EPOCHS]), "epochs": EPOCHS + 2}
    told = {
        "config_dir": str(home / "ultralytics"), "data_yaml": str(draw(home / "data", num_train=16, num_val=6)),
        "model": "yolo26n", "epochs": EPOCHS, "training": TRAINING, "teacher": str(teacher),
        "distillation": {"balance": "task_loss"},
        "attempts": [
            {"folder": str(whole)}, {"folder": str(whole)},
            *({"folder": str(killed), "die": die} for die in KILLS), {"folder": str(killed)}, {"folder": str(killed)},
            {"folder": str(longer), **added},
            {"folder": str(longer_killed), **added, "die": {"batches": 2}},
            {"folder": str(longer_killed), **added, "die": {"batches": 2}}, {"folder": str(longer_killed), **added},
            {"folder": str(longest), "extends": (str(longer), [EPOCHS, EPOCHS + 2]), "epochs": EPOCHS + 3},
        ],
    }  # fmt: skip
    (home / "told.json").write_text(json.dumps(told))
    done = subprocess.run(
        [sys.executable, str(attempts.HERE), str(home / "told.json")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return Lives(whole, killed, json.loads(done.stdout.splitlines()[-1]), longer, longer_killed, longest)


@pytest.fixture(scope="module")
def lives(trained: Once, published: Callable[..., Path]) -> Lives:
    made: Lives = trained("lives", lambda home: live(home, published("yolo26n")))[1]
    return made


def state(folder: Path) -> dict[str, Any]:
    """The newest state, whose checksum must be right."""
    _, content = next(CheckpointStore(folder / "states").read())
    assert content is not None
    found: dict[str, Any] = torch.load(io.BytesIO(content), weights_only=True)
    return found


def assert_same(ours: Any, theirs: Any, where: str) -> None:
    """Equal to the last bit, through dicts and lists."""
    if isinstance(ours, dict):
        assert ours.keys() == theirs.keys(), where
        for key in ours:
            assert_same(ours[key], theirs[key], f"{where}.{key}")
    elif isinstance(ours, list):
        for index, pair in enumerate(zip(ours, theirs, strict=True)):
            assert_same(*pair, f"{where}.{index}")
    elif isinstance(ours, torch.Tensor):
        assert torch.equal(ours, theirs), where
    else:
        assert ours == theirs, where


@pytest.mark.train
def test_three_kills_change_no_bit_of_weights_average_optimizer_and_balance(lives: Lives) -> None:
    assert lives.ends[:7] == [0, 0, -signal.SIGKILL, -signal.SIGKILL, -signal.SIGKILL, 0, 0]
    ours, theirs = state(lives.killed), state(lives.whole)
    assert ours["done"] == EPOCHS
    assert ours["criterion"] == EPOCHS
    assert ours["objectives"][0]["balance"]["steps"] == 3 * EPOCHS - 1  # all but the first, whose weight is 0
    best = ours["best"].pop("sha256"), theirs["best"].pop("sha256")  # the files carry their date
    assert all(best)
    assert all(found["stopping"].pop("spent_s") > 0 for found in (ours, theirs))  # by the clock
    assert_same(ours, theirs, "state")


def same_but_for_clocks(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    best = ours["best"].pop("sha256"), theirs["best"].pop("sha256")
    assert all(best)
    assert all(found["stopping"].pop("spent_s") > 0 for found in (ours, theirs))
    assert_same(ours, theirs, "state")


@pytest.mark.train
def test_an_extension_that_is_killed_twice_ends_in_the_same_bits(lives: Lives) -> None:
    assert lives.ends[7:11] == [0, -signal.SIGKILL, -signal.SIGKILL, 0]
    ours, theirs = state(lives.longer_killed), state(lives.longer)
    assert ours["done"] == ours["criterion"] == EPOCHS + 2
    same_but_for_clocks(ours, theirs)


@pytest.mark.train
def test_an_extension_goes_on_from_the_last_state_and_through_the_end_of_the_schedule_again(lives: Lives) -> None:
    before, after = dict(notes(lives.whole, "metrics")), dict(notes(lives.longer, "metrics"))
    assert sorted(after) == [EPOCHS + 1, EPOCHS + 2], "the start is not measured again"
    rates = [name for name in before[EPOCHS] if name.startswith("lr/")]
    assert rates
    for number in (1, 2):  # the warm-up of three epochs is over in the last epoch alone
        told = after[EPOCHS + number]
        assert all(told[name] > 0 for name in rates)
    assert [after[EPOCHS + 2][name] for name in rates] == pytest.approx([before[EPOCHS][name] for name in rates])
    assert all(after[EPOCHS + 1][name] > before[EPOCHS][name] for name in rates), "it rises once"
    assert state(lives.longer)["updates"] > state(lives.whole)["updates"], "the average goes on"


@pytest.mark.train
def test_an_extension_of_an_extension_keeps_the_length_of_the_first_schedule(lives: Lives) -> None:
    assert lives.ends[11] == 0
    told, first = dict(notes(lives.longest, "metrics")), dict(notes(lives.whole, "metrics"))
    assert list(told) == [EPOCHS + 3]
    rates = [name for name in first[EPOCHS] if name.startswith("lr/")]
    assert [told[EPOCHS + 3][name] for name in rates] == pytest.approx([first[EPOCHS][name] for name in rates])


@pytest.mark.train
def test_no_order_of_batches_repeats_and_a_redone_epoch_sees_what_it_saw_before(lives: Lives) -> None:
    orders: dict[int, list[list[str]]] = {}
    for epoch, batch in notes(lives.whole, "batches"):
        orders.setdefault(epoch, []).append(batch["sorted_of"])
    assert sorted(orders) == list(range(EPOCHS))
    assert [sum(map(len, order)) for order in orders.values()] == [16] * EPOCHS
    assert len({json.dumps(order) for order in orders.values()}) == EPOCHS
    redone: dict[int, list[list[str]]] = {}
    for epoch, batch in notes(lives.killed, "batches"):
        redone.setdefault(epoch, []).append(batch["sorted_of"])
    # Killed after 5 batches (in the 2nd epoch), while the 3rd was saved, and 2 batches on (in the 3rd again).
    beside = len(redone[3]) - 3  # batches of the 4th that were trained while the state after the 3rd was written
    assert 0 <= beside <= 3
    starts = {0: [3], 1: [2, 3], 2: [3, 2, 3], 3: [beside, 3]}
    """By epoch how many batches each of its beginnings came to."""
    assert {epoch: len(seen) for epoch, seen in redone.items()} == {epoch: sum(n) for epoch, n in starts.items()}
    for epoch, seen in redone.items():
        assert [orders[epoch][index] for number in starts[epoch] for index in range(number)] == seen


@pytest.mark.train
def test_every_epoch_is_told_and_those_told_twice_were_measured_alike(lives: Lives) -> None:
    whole = dict(notes(lives.whole, "metrics"))
    steps = [step for step, _ in notes(lives.killed, "metrics")]
    assert sorted(whole) == list(range(EPOCHS + 1))
    assert steps == [0, 1, 2, 3, 3, 4]  # the third was told before the kill in mid-save
    for step, values in notes(lives.killed, "metrics"):
        assert values == whole[step]
    assert sorted(epoch for epoch, _ in notes(lives.killed, "checkpoints")) == [2, 4]


@pytest.mark.train
def test_a_state_is_announced_once_it_is_on_the_disk_and_after_the_whole_training_all_are(lives: Lives) -> None:
    for folder in (lives.whole, lives.killed):
        told = notes(folder, "saved")
        assert all(about["whole"] for _, about in told), "nothing is told to be saved before it is durable"
        assert told[-1][0] == EPOCHS
    assert [epoch for epoch, _ in notes(lives.whole, "saved")] == list(range(1, EPOCHS + 1))


@pytest.mark.train
def test_what_is_complete_is_not_trained_again_and_gives_the_same_result(lives: Lives) -> None:
    for folder in (lives.whole, lives.killed):
        first, second = notes(folder, "fitted")
        assert first == second
        assert Path(first[1]["weights"]).is_file()
        assert notes(folder, "said")[-1][1]["message"] == f"all {EPOCHS} epochs were done by an earlier attempt"
    assert notes(lives.killed, "fitted")[0][1]["metrics"] == notes(lives.whole, "fitted")[0][1]["metrics"]


@pytest.mark.train
def test_two_generations_and_their_best_networks_are_kept_and_nothing_torn(lives: Lives) -> None:
    for folder in (lives.whole, lives.killed):
        assert CheckpointStore(folder / "states").numbers() == [EPOCHS, EPOCHS - 1]
        assert not list(folder.rglob("*.part"))
        assert 1 <= len(list((folder / "weights").iterdir())) <= 2


# One training that was stopped in its third epoch, and what may have happened to its folder since


def stop(home: Path, teacher: Path) -> tuple[TrainConfig, dict[str, Any], Notebook]:
    plan = TrainConfig(
        role=Role.STUDENT, model="yolov8n", weights=None, data_yaml=draw(home / "data", num_train=16, num_val=6),
        epochs=3, training=TrainingSpec.model_validate({**TRAINING, "batch": 16}), folder=home / "run", device="cpu",
    )  # fmt: skip
    teaching = {"teacher": Path(shutil.copy(teacher, home)), "distillation": DistillationSpec()}
    notebook = Notebook(stop_after=3)
    with pytest.raises(Stopped, match="epoch 3 of 3"):
        fit(plan, notebook, **teaching)
    return plan, teaching, notebook


@pytest.fixture(scope="module")
def at_stop(trained: Once, published: Callable[..., Path]) -> tuple[TrainConfig, dict[str, Any], Notebook]:
    made: tuple[TrainConfig, dict[str, Any], Notebook]
    made = trained("stopped", lambda home: stop(home, published("yolo11n")))[1]
    return made


@pytest.fixture(scope="module")
def plan(at_stop: tuple[TrainConfig, dict[str, Any], Notebook]) -> TrainConfig:
    return at_stop[0]


@pytest.fixture(scope="module")
def teaching(at_stop: tuple[TrainConfig, dict[str, Any], Notebook]) -> dict[str, Any]:
    return at_stop[1]


@pytest.fixture(scope="module")
def stopped(at_stop: tuple[TrainConfig, dict[str, Any], Notebook]) -> Notebook:
    return at_stop[2]


@pytest.fixture
def left(plan: TrainConfig, stopped: Notebook, tmp_path: Path) -> TrainConfig:
    """A copy of the stopped training."""
    assert sorted(stopped.metrics) == [0, 1, 2]
    return replace(plan, folder=Path(shutil.copytree(plan.folder, tmp_path / "run")))


def found(plan: TrainConfig, **teaching: Any) -> tuple[int | None, list[str]]:
    """After how many epochs a new attempt would go on, and what it says about it."""
    notebook = Notebook()
    made = TrainingLoop(plan, notebook, **teaching)
    state = made.recovery.find()
    made.close()
    return None if state is None else state["done"], notebook.said


def spoil(plan: TrainConfig, number: int) -> None:
    """Turn one bit in the middle of a state."""
    path = CheckpointStore(plan.folder / "states").path(number)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.train
def test_a_stopped_training_goes_on_after_its_last_whole_epoch_and_keeps_its_best(
    left: TrainConfig, stopped: Notebook, teaching: dict[str, Any]
) -> None:
    notebook = Notebook()
    made = TrainingLoop(left, notebook, **teaching)
    made.recovery.best(2).touch()
    outstanding = 2.0  # better than any epoch can be

    def praise(trainer: Any) -> None:
        trainer.best_fitness = outstanding

    made.add_callback("on_train_start", praise)
    made.train()
    fitted = made.result()
    made.close()
    assert sorted(notebook.metrics) == [3]
    assert notebook.said[-1] == "info: going on after epoch 2 of 3, which an earlier attempt has done"
    assert (fitted.epochs, fitted.best_epoch) == (3, 2)
    assert fitted.metrics[MAP] == stopped.metrics[2][MAP]
    assert fitted.weights.is_file()
    assert notebook.fractions == pytest.approx([1.0])


@pytest.mark.train
def test_of_two_generations_the_newest_whole_one_counts(left: TrainConfig, teaching: dict[str, Any]) -> None:
    assert found(left, **teaching) == (2, [])
    spoil(left, 2)
    message = "warning: the state after epoch 2 is damaged: going on from the one after epoch 1"
    assert found(left, **teaching) == (1, [message])
    spoil(left, 1)
    assert found(left, **teaching) == (
        None,
        ["warning: no state in the folder is whole and of this version: starting anew"],
    )
    assert found(left, **teaching) == (None, [])


def rewrite(plan: TrainConfig, number: int, without: str) -> None:
    """Write a state anew without one of its parts, as an earlier version wrote it."""
    store = CheckpointStore(plan.folder / "states")
    content = dict(store.read())[number]
    assert content is not None
    state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    del state[without]
    buffer = io.BytesIO()
    torch.save(state, buffer)
    store.write(number, buffer.getbuffer())


@pytest.mark.train
def test_a_state_of_a_version_that_did_not_measure_the_start_is_gone_on_with(
    left: TrainConfig, teaching: dict[str, Any]
) -> None:
    """It ended in a KeyError: start_metrics."""
    rewrite(left, 2, "start_metrics")
    notebook = Notebook()
    made = TrainingLoop(left, notebook, **teaching)
    state = made.recovery.find()
    assert state is not None
    checkpoint.load_results(made, state)
    made.close()
    assert (state["done"], made.start_metrics) == (2, {})
    assert made.best_metrics[MAP] is not None
    assert "KeyError" not in str(notebook.said)


@pytest.mark.train
@pytest.mark.parametrize("part", ["optimizer", "judge", "teacher_metrics"])
def test_a_state_of_another_layout_gives_way_to_the_one_before_it(
    part: str, left: TrainConfig, teaching: dict[str, Any]
) -> None:
    rewrite(left, 2, part)
    done, said = found(left, **teaching)
    assert done == 1
    assert "going on from the one after epoch 1" in said[0]


@pytest.mark.train
def test_a_state_whose_best_network_is_gone_does_not_count(left: TrainConfig, teaching: dict[str, Any]) -> None:
    (left.folder / "weights" / "best-0002.pt").write_bytes(b"something else")
    done, said = found(left, **teaching)
    assert done == 1
    assert "the state after epoch 2 is damaged" in said[0]


@pytest.mark.train
def test_a_state_of_another_way_of_teaching_is_refused(left: TrainConfig, teaching: dict[str, Any]) -> None:
    done, said = found(replace(left, teaching=TeacherConfig(imgsz=128)), **teaching)
    assert (done, said) == (None, ["warning: the state in the folder is of another plan: starting anew"])


@pytest.mark.train
@pytest.mark.parametrize("part", ["teacher", "plan", "data", "initial weights"])
def test_a_state_of_another_training_is_refused_by_name(
    part: str, left: TrainConfig, teaching: dict[str, Any], published: Callable[..., Path], tmp_path: Path
) -> None:
    other = left
    if part == "teacher":
        teaching = {**teaching, "teacher": published("yolo11n", seed=2)}
    elif part == "plan":
        other = replace(left, epochs=4)
    elif part == "data":
        copy = shutil.copytree(left.data_yaml.parent, tmp_path / "data")
        label = next((copy / "labels" / "train").iterdir())
        label.write_text(label.read_text().replace("0.", "0.0", 1))
        other = replace(left, data_yaml=copy / "data.yaml")
        other.data_yaml.write_text(left.data_yaml.read_text().replace(str(left.data_yaml.parent), str(copy)))
    else:
        other = replace(left, weights=published("yolov8n"))
    done, said = found(other, **teaching)
    assert (done, said) == (None, [f"warning: the state in the folder is of another {part}: starting anew"])
    assert not list((left.folder / "states").iterdir())


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let the system refuse longer files, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.train
def test_a_full_disk_leaves_the_states_before_and_is_worth_a_retry(left: TrainConfig, teaching: dict[str, Any]) -> None:
    made = TrainingLoop(left, Notebook(), **teaching)
    made._state = made.recovery.find()
    made._setup_train()
    with largest_file(5_000_000), pytest.raises(TransientError, match="the disk is full") as caught:
        made.recovery.save(made, 3)
    made.close()
    failure = explain(caught.value)
    assert (failure.code, failure.retryable) == ("disk_full", True)
    assert not list(left.folder.rglob("*.part"))
    assert found(left, **teaching) == (2, [])


@pytest.mark.train
def test_a_state_that_is_saved_beside_the_training_is_that_of_its_epoch(
    left: TrainConfig, teaching: dict[str, Any]
) -> None:
    notebook, told = Notebook(), list[str]()
    made = TrainingLoop(left, notebook, **teaching)
    made._state = made.recovery.find()
    made._setup_train()
    before = checkpoint.copied(checkpoint.capture(made, 3)["model"])
    made.recovery.start_saving(made, 3, then=lambda: told.append("saved"))
    with torch.no_grad():
        for parameter in made.model.parameters():
            parameter.add_(1.0)  # as a step of the next epoch does
    assert made.recovery.busy
    kept = made.recovery.find()  # which waits
    assert kept is not None
    assert (kept["done"], told) == (3, ["saved"])
    assert_same(dict(kept["model"]), dict(before), "model")
    made.close()


@pytest.mark.train
@pytest.mark.parametrize("part", ["state", "best network"])
def test_a_state_that_could_not_be_saved_is_not_announced_and_does_not_hide_why_the_training_ended(
    part: str, left: TrainConfig, teaching: dict[str, Any]
) -> None:
    notebook, told = Notebook(), list[str]()
    made = TrainingLoop(left, notebook, **teaching)
    made._state = made.recovery.find()
    made._setup_train()
    if part == "best network":
        made.recovery.add_best(3, {"weights": torch.zeros(1_500_000)})
    with largest_file(5_000_000):
        made.recovery.start_saving(made, 3, then=lambda: told.append("saved"))
        made.close()
    assert told == []
    assert not made.recovery.best(3).exists()
    assert notebook.said[-1] == (
        "warning: a state was not saved: the disk is full: the state after epoch 3 could not be written"
    )
    assert found(left, **teaching) == (2, [])


@pytest.mark.train
def test_a_device_without_room_leaves_the_states_before(left: TrainConfig, teaching: dict[str, Any]) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no device that is always full")
    made = TrainingLoop(left, Notebook(), **teaching)
    made._state = made.recovery.find()
    made._setup_train()
    (left.folder / "states" / f".00003.state.{os.getpid()}.part").symlink_to(full)  # where it is written first
    with pytest.raises(TransientError, match="the disk is full") as caught:
        made.recovery.save(made, 3)
    made.close()
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.__cause__.errno == errno.ENOSPC
    assert found(left, **teaching) == (2, [])


@pytest.mark.train
def test_a_stage_that_died_after_its_last_epoch_trains_nothing_again(tmp_path: Path) -> None:
    training = {"epochs": 1, "imgsz": 64, "batch": 12, "close_mosaic": 0}
    spec = parse_spec(document(tmp_path, training=training))
    workdir = tmp_path / "work"
    student = TrainedNetwork(
        model="yolov8n", weights="student.pt", metrics={}, epochs=1, planned_epochs=1, batch=12, best_epoch=1
    )
    told: list[list[str]] = []
    results = []
    for attempt in (1, 2):
        prepare(spec, Settings(home=tmp_path, fetch_weights=False), workdir, attempt=attempt, device="cpu")
        with Journal(workdir / f"journal-{attempt}.jsonl") as said:
            context = Context(
                spec, Inputs.load(workdir), workdir, said, threading.Event(), {"distill": student}, lambda _: None,
                Heartbeat(workdir), "control", "",
            )  # fmt: skip
            results.append(control.run(context))
            assert context.lasting == [workdir / "work" / "control"]
            told.append([event.type for event in journal.read(said.path)[0]])
    assert results[0] == results[1]
    assert told == [["metric", "metric", "saved", "artifact"], ["log", "artifact"]]  # the start, and the epoch
    assert history.curves(workdir)["control"]["val/mAP50"].keys() == {0, 1}


def test_a_balance_goes_on_exactly() -> None:
    stream = torch.Generator().manual_seed(0)
    draws = [torch.rand(4, generator=stream) for _ in range(60)]
    through, first = TaskLossBalance(), TaskLossBalance()
    for step, terms in enumerate(draws):
        expected = through(terms[0], list(terms[1:]), [])
        if step in {0, 20, 55}:
            second = TaskLossBalance()
            second.restore(json.loads(json.dumps(first.state())), torch.device("cpu"))
            first = second
        assert torch.equal(first(terms[0], list(terms[1:]), []), expected)


def test_a_generation_that_was_fallen_back_from_does_not_come_back(tmp_path: Path) -> None:
    generations = CheckpointStore(tmp_path)
    for number in (1, 2, 3):
        generations.write(number, b"%d" % number)
    assert generations.numbers() == [3, 2]
    generations.write(2, b"again")
    assert [(number, bytes(content or b"")) for number, content in generations.read()] == [(2, b"again")]
    assert [path.name for path in tmp_path.iterdir()] == ["00002.state"]
