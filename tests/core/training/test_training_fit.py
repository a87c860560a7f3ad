"""Whole trainings on a tiny data set."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from core.training.pictures import NAMES, Notebook, draw
from retort.constants import MAP, MAP50, Role
from retort.errors import Diverged, Stopped
from retort.spec import DistillationSpec, TrainingSpec
from retort.training import benchmark, models
from retort.training.benchmark import MOST, TURN
from retort.training.config import TrainConfig, TrainResult
from retort.training.environment import num_cores
from retort.training.evaluate import Conditions, Published, evaluate, speeds
from retort.training.trainer import TrainingLoop, fit
from sharing import Once

# Upstream sums the gradients of 64 images before it steps: one batch, one step, one epoch here.
TRAINING = TrainingSpec(imgsz=96, batch=64, close_mosaic=1, checkpoint_every=2, optimizer="SGD", head_lr_multiplier=3.0)
BALANCED = DistillationSpec()


@pytest.fixture(scope="module")
def plan(data_yaml: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    return TrainConfig(
        role=Role.STUDENT, model="yolov8n", weights=None, data_yaml=data_yaml, epochs=3, training=TRAINING,
        folder=tmp_path_factory.mktemp("runs"), device="cpu",
    )  # fmt: skip


def run(plan: TrainConfig, name: str, notebook: Notebook, **teaching: Any) -> TrainResult:
    return fit(replace(plan, folder=plan.folder / name), notebook, **teaching)


@pytest.fixture(scope="module")
def teaching(published: Callable[..., Path]) -> dict[str, Any]:
    return {"teacher": published("yolo11n"), "distillation": BALANCED}


def into(folder: Path, plan: TrainConfig, **teaching: Any) -> tuple[TrainResult, Notebook]:
    """Train on pictures of the training's own."""
    notebook, own = Notebook(), draw(folder / "data", num_train=16, num_val=6)
    return run(replace(plan, folder=folder, data_yaml=own), "run", notebook, **teaching), notebook


@pytest.fixture(scope="module")
def distilled(plan: TrainConfig, teaching: dict[str, Any], trained: Once) -> tuple[TrainResult, Notebook]:
    made: tuple[TrainResult, Notebook] = trained("distilled", lambda folder: into(folder, plan, **teaching))[1]
    return made


@pytest.fixture(scope="module")
def plain(plan: TrainConfig, trained: Once) -> tuple[TrainResult, Notebook]:
    control = replace(plan, role=Role.CONTROL)
    made: tuple[TrainResult, Notebook] = trained("plain", lambda folder: into(folder, control))[1]
    return made


@pytest.mark.train
def test_every_epoch_says_all_it_measured(
    distilled: tuple[TrainResult, Notebook], plain: tuple[TrainResult, Notebook]
) -> None:
    task = {"train/box_loss", "train/cls_loss", "train/dfl_loss", "train/loss", "val/box_loss", "val/cls_loss"}
    rates = {"lr/weight", "lr/bn", "lr/bias", "lr/weight_x3", "lr/bn_x3", "lr/bias_x3"}
    common = task | rates | {"val/dfl_loss", "val/precision", "val/recall", MAP50, MAP}
    terms = {f"train/kd/{label}" for label in ("class_logits", "dfl", "pearson", "weight")} | {"train/kd_loss"}
    compared = {"teacher/mAP50", "teacher/mAP50-95"}
    always = (
        "teacher_shift",
        "foreground_anchors",
        "kl_background",
        "kl_untaught",
        "cosine_P3",
        "cosine_P4",
        "cosine_P5",
    )
    terms |= {f"health/{name}" for name in always}
    terms |= {f"health/grad_agreement_{label}" for label in ("class_logits", "dfl", "pearson")}
    # The ramp begins at zero.
    taught = {
        f"health/{name}"
        for name in ("grad_ratio", "grad_cosine", "background_share", "background_expected", "projector_step")
    }
    measured = {"val/precision", "val/recall", MAP50, MAP}
    found = {step: _without_the_seen(values) for step, values in distilled[1].metrics.items()}
    assert [set(found[step]) for step in (0, 1, 2, 3)] == [
        measured | compared, common | terms, common | terms | taught | compared, common | terms | taught,
    ]  # fmt: skip
    assert [set(plain[1].metrics[step]) for step in (0, 1, 2, 3)] == [measured, common, common, common]
    assert plain[1].metrics[0].items() <= distilled[1].metrics[0].items()
    for values in (*found.values(), *plain[1].metrics.values()):
        assert all(value is not None and math.isfinite(value) for value in values.values())
    last = found[2]
    parts = [last[f"train/{name}"] for name in ("box_loss", "cls_loss", "dfl_loss", "kd_loss")]
    assert last["train/loss"] == pytest.approx(sum(value or 0 for value in parts))
    assert found[1]["lr/weight_x3"] == pytest.approx(3 * (found[1]["lr/weight"] or 0))


def _without_the_seen(values: dict[str, float | None]) -> dict[str, float | None]:
    """Leave out what is measured only where the teacher sees something, which one with random weights may not."""
    seen = {f"health/{name}" for name in ("kl_foreground", "kl_dfl", "box_iou", "teacher_agreement")}
    return {name: value for name, value in values.items() if name not in seen}


@pytest.mark.train
def test_all_cores_are_used(plan: TrainConfig) -> None:
    torch.set_num_threads(1)
    with pytest.raises(Stopped):
        run(plan, "cores", Notebook(stop_after=1))
    assert torch.get_num_threads() == num_cores()


@pytest.mark.train
def test_checkpoints_are_published_with_the_teachers_map_beside(
    distilled: tuple[TrainResult, Notebook], plain: tuple[TrainResult, Notebook]
) -> None:
    fitted, notebook = distilled
    assert [(epoch, path.name) for epoch, path, _ in notebook.checkpoints] == [
        (2, "student-epoch-0002.pt"), (3, "student-epoch-0003.pt"),
    ]  # fmt: skip
    assert set(notebook.checkpoints[0][2]) == {MAP50, MAP, "teacher/mAP50", "teacher/mAP50-95"}
    assert set(plain[1].checkpoints[0][2]) == {MAP50, MAP}
    for path in (fitted.weights, notebook.checkpoints[0][1]):
        network = models.load(path)
        assert network.names == NAMES
        assert sum(p.numel() for p in network.parameters()) == 3_011_433
        assert b"teacher" not in path.read_bytes()
    assert (fitted.epochs, fitted.best_epoch) == (3, 3)
    assert fitted.metrics[MAP] == notebook.metrics[3][MAP]
    assert notebook.fractions == pytest.approx([1 / 3, 2 / 3, 1])


@pytest.mark.train
def test_the_teacher_changes_the_student_but_not_where_it_starts(
    distilled: tuple[TrainResult, Notebook], plain: tuple[TrainResult, Notebook]
) -> None:
    ours, theirs = distilled[1].metrics, plain[1].metrics
    assert ours[1]["train/box_loss"] == theirs[1]["train/box_loss"]
    assert ours[1]["train/cls_loss"] == theirs[1]["train/cls_loss"]
    assert ours[3]["train/cls_loss"] != theirs[3]["train/cls_loss"]


@pytest.mark.train
@pytest.mark.parametrize(("kind", "rounding"), [("class_logits", 0.0), ("pearson", 0.0)])
def test_a_teacher_without_a_say_leaves_the_training_as_it_was(
    kind: str, rounding: float, plan: TrainConfig, plain: tuple[TrainResult, Notebook], teaching: dict[str, Any]
) -> None:
    whisper = DistillationSpec.model_validate(
        {"losses": [{"kind": kind, "weight": 1e-30}], "balance": "none", "assignment": "student"}
    )
    notebook = Notebook()
    fitted = run(plan, f"whisper-{kind}", notebook, teacher=teaching["teacher"], distillation=whisper)
    ours, theirs = (models.load(path).state_dict() for path in (fitted.weights, plain[0].weights))
    for name, value in ours.items():  # another consumer of a feature map is another order of summation
        torch.testing.assert_close(value, theirs[name], rtol=rounding, atol=rounding)
    for epoch in (1, 2, 3):
        assert notebook.metrics[epoch]["train/cls_loss"] == pytest.approx(plain[1].metrics[epoch]["train/cls_loss"])


def test_the_optimizer_holds_student_and_projectors_and_never_the_teacher(
    plan: TrainConfig, teaching: dict[str, Any]
) -> None:
    for optimizer in ("auto", "MuSGD"):
        training = TRAINING.model_copy(update={"optimizer": optimizer})
        made = TrainingLoop(
            replace(plan, training=training, folder=plan.folder / f"optimizer-{optimizer}"), Notebook(),
            teacher=teaching["teacher"], distillation=BALANCED,
        )  # fmt: skip
        made._setup_train()
        held = [id(p) for group in made.optimizer.param_groups for p in group["params"]]
        assert sorted(held) == sorted(id(p) for p in made.model.parameters())
        head = {id(p) for p in made.student.model[-1].parameters()}
        rates = {
            boosted: {g["initial_lr"] for g in made.optimizer.param_groups if (id(g["params"][0]) in head) == boosted}
            for boosted in (True, False)
        }
        assert len(rates[True]) == len(rates[False]) == 1
        assert rates[True].pop() == pytest.approx(3 * rates[False].pop())
        assert made.ema.ema.teacher is None
        made.close()


def test_no_tracking_service_is_ever_attached(plan: TrainConfig) -> None:
    made = TrainingLoop(replace(plan, folder=plan.folder / "callbacks"), Notebook(), teacher=None, distillation=None)
    attached = {hook.__module__ for hooks in made.callbacks.values() for hook in hooks}
    assert attached <= {"retort.training.trainer", "ultralytics.utils.events", "ultralytics.utils.callbacks.base"}
    made.close()


@pytest.mark.train
def test_it_stops_at_the_next_batch(plan: TrainConfig, data_yaml: Path) -> None:
    notebook = Notebook(stop_after=1)
    with pytest.raises(Stopped, match="epoch 1 of 3"):
        run(replace(plan, data_yaml=data_yaml), "stopped", notebook)
    assert len(notebook.fractions) == 1
    assert list(notebook.metrics) == [0]
    assert [path.name for path in (plan.folder / "stopped").rglob("*.pt")] == ["best-0000.pt"]


@pytest.mark.train
def test_a_training_that_leaves_the_finite_numbers_says_so_and_publishes_nothing(plan: TrainConfig) -> None:
    training = TRAINING.model_copy(update={"lr": 1.0, "grad_clip": 1000.0, "optimizer": "SGD"})
    notebook = Notebook()
    made = TrainingLoop(
        replace(plan, training=training, folder=plan.folder / "nan"), notebook, teacher=None, distillation=None
    )

    def poison(trainer: Any) -> None:
        with torch.no_grad():
            trainer.model.model[0].conv.weight.fill_(float("nan"))

    made.add_callback("on_train_batch_start", poison)
    with pytest.raises(Diverged, match="keeps leaving the finite numbers"):
        made.train()
    made.close()
    assert [line.split(":")[0] for line in notebook.said] == ["warning"] * 3
    assert notebook.checkpoints == []


@pytest.mark.train
def test_one_epoch_that_is_not_finite_is_done_again(plan: TrainConfig) -> None:
    notebook = Notebook()
    made = TrainingLoop(replace(plan, epochs=2, folder=plan.folder / "once"), notebook, teacher=None, distillation=None)
    poisoned: list[int] = []

    def poison(trainer: Any) -> None:
        if trainer.epoch == 1 and not poisoned:
            poisoned.append(1)
            with torch.no_grad():
                trainer.model.model[0].conv.weight.fill_(float("nan"))

    made.add_callback("on_train_batch_start", poison)
    made.train()
    made.close()
    assert len(notebook.said) == 1
    assert sorted(notebook.metrics) == [0, 1, 2]
    assert all(value is not None for values in notebook.metrics.values() for value in values.values())


@pytest.mark.train
def test_without_ema_the_last_weights_are_published(plan: TrainConfig) -> None:
    made = TrainingLoop(
        replace(plan, epochs=2, training=TRAINING.model_copy(update={"ema": False}), folder=plan.folder / "raw"),
        Notebook(), teacher=None, distillation=None,
    )  # fmt: skip
    made.train()
    live, average = made.model.state_dict(), made.ema.ema.state_dict()
    assert all(torch.allclose(value, average[name]) for name, value in live.items() if value.is_floating_point())
    made.close()


@pytest.mark.train
def test_a_yolo26_student_learns_from_yolo26(plan: TrainConfig, published: Callable[..., Path]) -> None:
    notebook = Notebook()
    fitted = run(
        replace(plan, model="yolo26n", epochs=2), "yolo26", notebook,
        teacher=published("yolo26n"), distillation=BALANCED,
    )  # fmt: skip
    assert {"train/l1_loss", "train/kd/dfl"} <= set(notebook.metrics[2])
    assert models.load(fitted.weights).model[-1].one2one_cv2 is not None


@pytest.mark.train
def test_a_teacher_of_other_classes_is_not_measured_and_says_so(
    plan: TrainConfig, published: Callable[..., Path]
) -> None:
    notebook = Notebook()
    features = DistillationSpec(recipe="native")
    run(
        replace(plan, epochs=1), "stranger", notebook,
        teacher=published("yolo11n", names={0: "cat", 1: "dog"}), distillation=features,
    )  # fmt: skip
    assert any("knows none of the data's classes" in line for line in notebook.said)
    assert set(notebook.metrics[0]) == {"val/precision", "val/recall", MAP50, MAP}


@pytest.mark.train
def test_softmax_is_warned_about(plan: TrainConfig, teaching: dict[str, Any]) -> None:
    notebook = Notebook()
    run(
        replace(plan, epochs=1), "article", notebook,
        teacher=teaching["teacher"], distillation=DistillationSpec(recipe="article"),
    )  # fmt: skip
    assert any(line.startswith("warning: softmax_kl") for line in notebook.said)


def test_an_evaluation_says_what_a_network_can_do_and_costs(published: Callable[..., Path], data_yaml: Path) -> None:
    weights = published("yolov8n", names={0: "cat", 1: "blue", 2: "red", 3: "green"})
    conditions = Conditions(data_yaml, imgsz=96, device="cpu")
    found = evaluate(weights, conditions)
    assert found.accuracy is not None
    assert set(found.accuracy.per_class) <= set(NAMES.values())
    assert 0 <= found.accuracy.map <= found.accuracy.map50 <= 1
    assert sum(size["number"] or 0 for size in found.accuracy.by_size.values()) > 0
    assert found.size_bytes == weights.stat().st_size
    assert 3_000_000 < found.num_parameters < 3_100_000
    assert found.gflops > 0
    assert evaluate(published("yolov8n", names={0: "cat"}), conditions).accuracy is None


def test_a_turn_is_a_pause_one_run_that_does_not_count_and_five_that_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads that still waited for more of another network made an INT8 graph look four times as slow as alone."""
    done: list[str] = []
    monkeypatch.setattr(benchmark.time, "sleep", lambda _: done.append("pause"))
    cpu = torch.device("cpu")
    runtimes: Any = {name: SimpleNamespace(run=lambda _, name=name: done.append(name), device=cpu) for name in "ab"}
    images = dict.fromkeys(runtimes, torch.zeros(1))
    taken = benchmark._times_ms(runtimes, images, most=7, on_round=lambda: done.append("round"))
    turns = [["pause", *name * (1 + measured)] for measured in (5, 2) for name in "ab"]
    assert done == ["round", *turns[0], *turns[1], "round", *turns[2], *turns[3]]
    assert {name: len(times) for name, times in taken.items()} == {"a": 7, "b": 7}


def test_networks_take_turns_and_those_of_one_structure_share_their_time(
    published: Callable[..., Path], data_yaml: Path
) -> None:
    student, control = published("yolov8n"), published("yolov8n", seed=2)
    networks = {
        "student": Published(student, 64), "teacher": Published(published("yolo11n"), 64),
        "control": Published(control, 64), "larger": Published(student, 96),
    }  # fmt: skip
    rounds: list[int] = []
    picture = min((data_yaml.parent / "images/val").iterdir())
    found = speeds(networks, "cpu", picture=picture, on_round=lambda: rounds.append(1))
    assert found["student"] is found["control"]
    threads = torch.get_num_threads()
    ends = f"CPU, {threads} thread{'' if threads == 1 else 's'}"
    assert found["student"].timed_as == f"float32, eager, batch 1, 64 px, {ends}"
    assert found["larger"].timed_as == f"float32, eager, batch 1, 96 px, {ends}"
    assert len({id(speed) for speed in found.values()}) == 3
    assert 2 <= len(rounds) <= sum(MOST.values()) / TURN, "a round is a turn of each, for one image and for several"
    for speed in found.values():
        assert 0 < speed.latency_ms["p50"] <= speed.latency_ms["p90"]
        assert (speed.throughput["8"] or 0) > 0
        assert speed.peak_memory_bytes is None or speed.peak_memory_bytes >= 0
