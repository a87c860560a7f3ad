"""One distilled step between all families: what flows, what does not, and that it equals upstream's."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from core.training.pictures import NAMES
from retort.errors import ModelError, TeacherMismatch
from retort.losses import LOSS_KINDS
from retort.spec import DistillationSpec
from retort.training import models
from retort.training.distillation import feature_taps
from retort.training.distillation.distiller import Distiller, distillation_loss, make_distiller, run_teachers
from retort.training.distillation.feature_taps import FeatureLayers
from retort.training.distillation.teacher import Teacher
from retort.training.models import ClassMap
from retort.training.ultralytics_api import ModelEMA
from torch.utils._python_dispatch import TorchDispatchMode
from ultralytics.cfg import get_cfg
from ultralytics.nn.distill_model import DistillationModel

CPU = torch.device("cpu")
FAMILIES = ("yolov8", "yolo11", "yolo12", "yolo26")
KINDS = tuple(sorted(LOSS_KINDS))
WIDE = {0: "cat", 1: "blue", 2: "red", 3: "dog", 4: "green"}
"""A teacher's classes: the student's in another order, and others."""


def student_of(model: str) -> Any:
    network = models.build(model, names=NAMES, weights=None, seed=0)
    network.args = get_cfg()
    return network


def join(student: Any, teacher: Any, *losses: dict[str, Any], **fields: Any) -> Distiller:
    plain = {"warmup_epochs": 0, "decay": "none", "stop_with_mosaic": False}
    spec = DistillationSpec.model_validate(
        {"losses": losses, "balance": "none", "assignment": "student", "schedule": plain, **fields}
    )
    made = make_distiller(student, teacher, spec, device=CPU, epochs=10, close_mosaic=0, seed=0)
    made.train()
    return made


@pytest.mark.parametrize("theirs", FAMILIES)
@pytest.mark.parametrize("ours", FAMILIES)
def test_every_loss_teaches_across_families_widths_and_classes(
    ours: str, theirs: str, published: Callable[..., Path], batch: dict[str, Any]
) -> None:
    teacher = models.load(published(f"{theirs}s" if ours == theirs else f"{theirs}n", names=WIDE))
    kinds = [kind for kind in KINDS if kind != "dfl" or "yolo26" not in {ours, theirs}]
    model = join(student_of(f"{ours}n"), teacher, *({"kind": kind} for kind in kinds))
    assert model.teacher is not None
    before = deepcopy(model.teacher.model.state_dict())

    loss, items = model(batch)
    loss[-1].backward()  # the distillation loss alone

    for kind in kinds:
        assert torch.isfinite(items[f"kd/{kind}"]), kind
        assert items[f"kd/{kind}"] > 0, kind
    torch.testing.assert_close(loss[-1].detach(), items["kd_loss"] * len(batch["img"]))
    head = model.student_model.model[-1]
    first = model.student_model.model[0]
    for part in (first, head.cv2, head.cv3, *model.projectors.values()):
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in part.parameters())
    assert not any(module.training for module in model.teacher.model.modules())
    assert all(not p.requires_grad and p.grad is None for p in model.teacher.model.parameters())
    for name, value in model.teacher.model.state_dict().items():
        assert torch.equal(value, before[name]), name


class Listening(TorchDispatchMode):
    """Notes the operators whose result a GPU could only give after all its work is done."""

    WAITING = frozenset({"_local_scalar_dense", "nonzero", "masked_select", "_unique2", "equal", "is_nonzero"})

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = function.name().removeprefix("aten::").split(".")[0]
        if name in self.WAITING:
            self.heard.append(name)
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("balance", ["none", "task_loss", "gradient"])
def test_a_distilled_step_never_waits_for_the_device(
    balance: str, published: Callable[..., Path], batch: dict[str, Any]
) -> None:
    kinds = ({"kind": kind} for kind in KINDS)
    model = join(student_of("yolov8n"), models.load(published("yolo11n", names=WIDE)), *kinds, balance=balance)
    features, branches = feature_taps.forward(model.student_model, batch["img"], intermediate=True)
    task = torch.stack([raw["scores"].sigmoid().mean() for raw in branches.values()]).sum()
    for _ in range(2):  # in the first one anchors are made, which may wait
        with Listening() as listening:
            lessons = run_teachers(model.slots, batch["img"])
            loss, _ = distillation_loss(model.slots, lessons, (features, branches), task, model.projectors)
            loss.backward(retain_graph=True)
    assert listening.heard == []
    with Listening() as listening:  # it would hear
        assert float(loss.detach()) > 0
        assert bool((loss > 0).any())
    assert set(listening.heard) == {"_local_scalar_dense"}


def test_a_one2one_branch_learns_from_a_one2one_branch_only(
    published: Callable[..., Path], batch: dict[str, Any]
) -> None:
    loss = {"kind": "class_logits"}
    for teacher, wanted in (("yolo26n", True), ("yolo11n", False)):
        model = join(student_of("yolo26n"), models.load(published(teacher)), loss)
        model(batch)[0][-1].backward()
        grads = [
            bool(p.grad is not None and p.grad.abs().sum() > 0)
            for p in model.student_model.model[-1].one2one_cv3.parameters()
        ]
        assert set(grads) == {wanted}, teacher


def test_the_teacher_is_nowhere_but_beside_the_student(published: Callable[..., Path]) -> None:
    teacher = models.load(published("yolo11s"))
    student = student_of("yolov8n")
    alone = sum(p.numel() for p in student.parameters())
    model = join(student, teacher, {"kind": "pearson"})
    adapters = sum(p.numel() for p in model.projectors.parameters())
    for copy in (model, deepcopy(model), ModelEMA(model).ema, pickle.loads(pickle.dumps(model))):  # noqa: S301
        assert sum(p.numel() for p in copy.parameters()) == alone + adapters
        assert {key.split(".")[0] for key in copy.state_dict()} == {"student_model", "projectors"}
    assert deepcopy(model).teacher is None
    assert deepcopy(model).objective is None
    assert model.teacher is not None


def test_the_native_recipe_is_upstreams(published: Callable[..., Path], batch: dict[str, Any]) -> None:
    for ours, theirs in (("yolov8n", "yolo11s"), ("yolo26n", "yolo26n")):
        student = student_of(ours)
        teacher = models.load(published(theirs))
        student.args.imgsz = 64
        upstream = DistillationModel(deepcopy(teacher), deepcopy(student))
        model = join(student, teacher, **DistillationSpec(recipe="native").model_dump(include={"losses"}))
        for own, other in zip(model.projectors.values(), upstream.projector, strict=True):
            own.load_state_dict(other.state_dict())
        upstream.train()
        expected = upstream(deepcopy(batch))[1]["dis_loss"]
        found = model(batch)[1]["kd_loss"]
        torch.testing.assert_close(found, expected.squeeze(), rtol=1e-4, atol=0)


def test_folding_changes_nothing_that_the_teacher_says(published: Callable[..., Path], batch: dict[str, Any]) -> None:
    from retort.training.distillation import feature_taps

    for name in ("yolov8n", "yolo12n", "yolo26n"):
        plain = models.load(published(name))
        lesson = Teacher(plain, device=CPU)(batch["img"])
        with torch.no_grad():
            features, branches = feature_taps.forward(plain, batch["img"])
        for level in features:
            torch.testing.assert_close(lesson.features[level], features[level], rtol=1e-3, atol=1e-4)
        assert lesson.branches.keys() == branches.keys()


def test_taps_find_each_networks_own_layers(published: Callable[..., Path]) -> None:
    found = {name: FeatureLayers.of(models.load(published(name))).layers for name in ("yolov8n", "yolo11n", "yolo12n")}
    assert [list(layers.values()) for layers in found.values()] == [[9, 15, 18, 21], [10, 16, 19, 22], [8, 14, 17, 20]]


def test_without_common_classes_only_features_can_be_taught(published: Callable[..., Path]) -> None:
    stranger = models.load(published("yolo11n", names={0: "cat", 1: "dog"}))
    join(student_of("yolov8n"), stranger, {"kind": "pearson"})
    with pytest.raises(TeacherMismatch, match="class_logits needs class names in common"):
        join(student_of("yolov8n"), stranger, {"kind": "class_logits"})


def test_softmax_is_refused_for_a_single_common_class(published: Callable[..., Path]) -> None:
    narrow = models.load(published("yolo11n", names={0: "red", 1: "dog"}))
    with pytest.raises(TeacherMismatch, match="always zero for a single class"):
        join(student_of("yolov8n"), narrow, {"kind": "softmax_kl"})


def test_dfl_is_refused_where_bins_differ(published: Callable[..., Path]) -> None:
    with pytest.raises(TeacherMismatch, match="student has 16, teacher 1") as caught:
        join(student_of("yolov8n"), models.load(published("yolo26n")), {"kind": "dfl"})
    assert "box_giou" in str(caught.value.hint)


@pytest.mark.parametrize("theirs", ["yolo26n", "yolo11n"])
@pytest.mark.parametrize("ours", ["yolo26n", "yolov8n"])
def test_the_balanced_recipe_teaches_whatever_the_heads_and_the_classes(
    ours: str, theirs: str, published: Callable[..., Path], batch: dict[str, Any]
) -> None:
    for names in (WIDE, {0: "cat", 1: "blue"}):  # all of the student's classes, and one of them
        teacher = models.load(published(theirs, names=names))
        spec = DistillationSpec()
        model = make_distiller(student_of(ours), teacher, spec, device=CPU, epochs=10, close_mosaic=0, seed=0)
        model.train()
        assert model.objective is not None
        assert model.objective.assigns == (names is WIDE)
        model.objective.epoch = 1.0
        loss, items = model(batch)
        loss.sum().backward()
        for label in model.objective.labels:
            assert items[f"kd/{label}"] > 0, label


def test_classes_are_paired_by_name() -> None:
    found = ClassMap.between({0: "red", 1: "Moon", 2: "blue"}, {0: "blue", 1: "cat", 2: "RED", 3: "red"})
    assert found.student is not None
    assert found.teacher is not None
    assert (found.student.tolist(), found.teacher.tolist()) == ([0, 2], [3, 0])
    assert ClassMap.between(NAMES, dict(NAMES)) == ClassMap(None, None, 3)


TWINS = {0: "Car", 1: "car"}


def test_classes_that_differ_by_a_capital_letter_are_taught_judged_and_measured_one_to_one(
    published: Callable[..., Path], batch: dict[str, Any]
) -> None:
    assert ClassMap.between(TWINS, dict(TWINS)) == ClassMap(None, None, 2)
    swapped = ClassMap.between(TWINS, {0: "car", 1: "Car"})
    assert swapped.teacher is not None
    assert swapped.teacher.tolist() == [1, 0]
    teacher = models.load(published("yolov8n", names=TWINS))
    student = models.build("yolov8n", names=TWINS, weights=None, seed=0)
    student.args = get_cfg()
    model = join(student, teacher, {"kind": "class_logits"})
    assert model.objective is not None
    assert model.objective.warning is None
    model.objective.epoch = 1.0
    loss, _ = model({**batch, "cls": torch.tensor([[0.0], [1.0]])})
    assert loss.isfinite().all()


def test_classes_that_a_teacher_names_nearly_are_told_and_not_mixed(published: Callable[..., Path]) -> None:
    teacher = models.load(published("yolov8n", names={0: "Red", 1: "green", 2: "b lue"}))
    model = join(student_of("yolov8n"), teacher, {"kind": "class_logits"})
    assert model.objective is not None
    assert model.objective.classes.size == 1
    assert "'red' of the data is 'Red' there" in str(model.objective.warning)
    with pytest.raises(TeacherMismatch) as caught:
        join(student_of("yolov8n"), models.load(published("yolov8n", names={0: "RED"})), {"kind": "class_logits"})
    assert "write 'RED' in data.yaml" in str(caught.value.hint)


@pytest.mark.parametrize("names", [[*NAMES.values()], tuple(NAMES.values()), {"0": "red", 1: "green", 2: "blue"}])
def test_a_network_may_keep_its_names_as_a_list(published: Callable[..., Path], tmp_path: Path, names: Any) -> None:
    checkpoint = torch.load(published("yolov8n"), weights_only=False)
    checkpoint["model"].names = names
    torch.save(checkpoint, tmp_path / "listed.pt")
    teacher = models.load(tmp_path / "listed.pt")
    assert teacher.names == NAMES
    assert join(student_of("yolov8n"), teacher, {"kind": "pearson"}).teacher is not None


def test_a_network_without_a_name_for_each_class_is_refused(published: Callable[..., Path], tmp_path: Path) -> None:
    checkpoint = torch.load(published("yolov8n"), weights_only=False)
    checkpoint["model"].names = ["red"]
    torch.save(checkpoint, tmp_path / "short.pt")
    with pytest.raises(ModelError, match="3 classes, and names for 1"):
        models.load(tmp_path / "short.pt")


def test_no_distillation_outside_training_and_at_weight_zero(
    published: Callable[..., Path], batch: dict[str, Any]
) -> None:
    schedule = {"warmup_epochs": 2, "decay": "none", "floor": 0.0, "stop_with_mosaic": False}
    model = join(student_of("yolov8n"), models.load(published("yolo11n")), {"kind": "pearson"}, schedule=schedule)
    loss, items = model(batch)
    assert loss[-1] == 0
    assert {name for name in items if name.startswith("kd")} == {"kd/pearson", "kd/weight", "kd_loss"}
    assert model.objective is not None
    model.objective.epoch = 1.0
    assert model(batch)[1]["kd/weight"] == pytest.approx(0.5)
    model.eval()
    with torch.no_grad():
        assert len(model(batch)[0]) == 3  # box, class, dfl


def test_balance_makes_the_weight_the_share_of_the_task_loss(
    published: Callable[..., Path], batch: dict[str, Any]
) -> None:
    losses = [{"kind": "pearson", "weight": 0.5}, {"kind": "channel_l2", "weight": 0.1}]
    model = join(student_of("yolov8n"), models.load(published("yolo11n")), *losses, balance="task_loss")
    _, items = model(batch)
    task = sum(float(items[name]) for name in ("box_loss", "cls_loss", "dfl_loss"))
    assert float(items["kd/pearson"]) == pytest.approx(0.5 * task, rel=1e-4)
    assert float(items["kd/channel_l2"]) == pytest.approx(0.1 * task, rel=1e-4)


def test_two_terms_of_one_kind_have_two_names(published: Callable[..., Path], batch: dict[str, Any]) -> None:
    losses = [{"kind": "pearson", "levels": ["P3"]}, {"kind": "pearson", "levels": ["backbone"]}]
    model = join(student_of("yolov8n"), models.load(published("yolo11n")), *losses)
    assert {"kd/pearson", "kd/pearson.2"} <= model(batch)[1].keys()
