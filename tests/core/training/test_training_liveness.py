"""The liveness contract on single steps: each way of being dead is told, and looking changes nothing."""

from __future__ import annotations

import math
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from core.training.pictures import NAMES
from PIL import Image
from retort.errors import NotDistilling
from retort.losses import Predictions
from retort.spec import DistillationSpec
from retort.training import models
from retort.training.distillation.distiller import Distiller, make_distiller
from retort.training.health import checks
from retort.training.health.checks import LivenessChecks
from retort.training.health.metrics import Probe, _fitted, binary_kl, cka, iou, untaught_kl
from retort.training.health.naming import confusion, judge
from retort.training.health.rules import PERMUTED_CRITICAL, PERMUTED_WARNING
from retort.training.ultralytics_api import LetterBox
from torch.distributions import Bernoulli, kl_divergence
from ultralytics.cfg import get_cfg


@pytest.fixture
def model(published: Callable[..., Path]) -> Distiller:
    student = models.build("yolov8n", names=NAMES, weights=None, seed=0)
    student.args = get_cfg()
    losses = [{"kind": "class_logits"}, {"kind": "pearson", "levels": ["P3"]}]
    spec = DistillationSpec.model_validate({"losses": losses, "balance": "none"})
    teacher = models.load(published("yolo11n"))
    made = make_distiller(student, teacher, spec, device=torch.device("cpu"), epochs=10, close_mosaic=0, seed=0)
    return made.train()


def stepper(model: Distiller, lr: float = 0.1) -> torch.optim.SGD:
    return torch.optim.SGD(model.parameters(), lr=lr)


def test_a_live_distillation_passes_and_looking_changes_nothing(model: Distiller, batch: dict[str, Any]) -> None:
    contract, before = LivenessChecks(model), deepcopy(model.state_dict())
    state = torch.get_rng_state()
    contract.start(model, stepper(model))
    shares = checks.check_gradients(model, batch)

    assert shares.keys() == {"class_logits", "pearson"}
    assert min(shares.values()) > checks.LEAST_SHARE
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(module.training for module in model.modules())


def test_an_optimizer_without_projectors_or_with_the_teacher_is_refused(model: Distiller) -> None:
    with pytest.raises(NotDistilling, match=r"projector 1_P3\.weight is not trained"):
        checks.check_optimizer(model, torch.optim.SGD(model.student_model.parameters(), lr=0.1))
    with pytest.raises(NotDistilling, match="is not trained"):
        checks.check_optimizer(model, stepper(model, lr=0.0))
    with pytest.raises(NotDistilling, match="nothing of the student"):
        checks.check_optimizer(model, torch.optim.SGD(model.projectors.parameters(), lr=0.1))
    assert model.teacher is not None
    everything = [*model.parameters(), *model.teacher.model.parameters()]
    with pytest.raises(NotDistilling, match="parameters of the teacher"):
        checks.check_optimizer(model, torch.optim.SGD(everything, lr=0.1))


def test_a_teacher_that_trains_learns_or_changes_is_found(model: Distiller) -> None:
    assert model.teacher is not None
    teacher = model.teacher.model
    expected = checks.checksum(teacher)
    checks.check_teacher(teacher, expected)
    teacher.model[3].train()
    with pytest.raises(NotDistilling, match=r"train mode \(\d+ modules, such as model"):
        checks.check_teacher(teacher, expected)
    teacher.eval()
    first = next(teacher.parameters())
    first.requires_grad_()
    with pytest.raises(NotDistilling, match="gradients reach the teacher"):
        checks.check_teacher(teacher, expected)
    first.requires_grad_(requires_grad=False)
    first[0, 0, 0, 0] += 1e-3
    with pytest.raises(NotDistilling, match="weights have changed"):
        checks.check_teacher(teacher, expected)


def test_a_term_that_teaches_nothing_is_found_on_the_first_batch(model: Distiller, batch: dict[str, Any]) -> None:
    assert model.objective is not None
    terms = model.objective.terms

    def broken(change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[..., list[torch.Tensor]]:
        return lambda *given: [change(terms(*given)[0]), terms(*given)[1]]

    for change, said in (
        (lambda term: term * 0, "class_logits is 0"),
        (lambda term: term * float("nan"), "class_logits is not finite"),
        (lambda term: term.detach() + 1, "class_logits does not change the student's gradient"),
        (lambda term: term.detach() + 1e-12 * term, "does not change"),
    ):
        model.objective.terms = broken(change)  # type: ignore[method-assign]
        with pytest.raises(NotDistilling, match=said):
            checks.check_gradients(model, batch)


def test_a_projector_that_no_gradient_reaches_is_found(model: Distiller, batch: dict[str, Any]) -> None:
    class Blocked(torch.nn.Module):
        def __init__(self, inner: torch.nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.inner(x).detach() + x.mean(1, keepdim=True)

    model.projectors["1_P3"] = Blocked(model.projectors["1_P3"])
    with pytest.raises(NotDistilling, match="no gradient reaches the projector 1_P3"):
        checks.check_gradients(model, batch)


def test_a_projector_whose_gradient_is_not_finite_is_told_from_one_that_none_reaches(
    model: Distiller, batch: dict[str, Any]
) -> None:
    weight = next(model.projectors["1_P3"].parameters())
    weight.register_hook(lambda found: found * float("nan"))
    with pytest.raises(NotDistilling, match="gradient of the projector 1_P3 is not finite"):
        checks.check_gradients(model, batch)


def test_an_epoch_whose_term_was_zero_is_dead_unless_the_schedule_was_silent() -> None:
    weights = {"pearson": 0.2, "unused": 0.0}
    checks.check_terms({"kd/weight": 0.5, "kd/pearson": 0.1, "kd/unused": 0.0}, weights)
    checks.check_terms({"kd/weight": 0.0, "kd/pearson": 0.0}, weights)
    with pytest.raises(NotDistilling, match="pearson is 0"):
        checks.check_terms({"kd/weight": 0.5, "kd/pearson": 0.0}, weights)
    with pytest.raises(NotDistilling, match="pearson is 0"):
        checks.check_terms({"kd/weight": 0.5}, weights)
    with pytest.raises(NotDistilling, match="pearson is not finite"):
        checks.check_terms({"kd/weight": 0.5, "kd/pearson": float("nan")}, weights)


def test_binary_kl_is_that_of_independent_classes() -> None:
    ours, theirs = torch.randn(2, 2, 5, 3, generator=torch.Generator().manual_seed(0)) * 3
    expected = kl_divergence(Bernoulli(logits=theirs), Bernoulli(logits=ours)).sum(-1)
    torch.testing.assert_close(binary_kl(ours, theirs), expected)


def test_iou_and_cka_are_what_they_are_by_hand() -> None:
    a, b = torch.tensor([[0.0, 0, 2, 2], [0, 0, 1, 1]]), torch.tensor([[1.0, 1, 3, 3], [4, 4, 5, 5]])
    torch.testing.assert_close(iou(a, b), torch.tensor([1 / 7, 0.0]))
    x = torch.randn(2, 4, 6, 6, generator=torch.Generator().manual_seed(0))
    turned = torch.linalg.qr(torch.randn(4, 4, generator=torch.Generator().manual_seed(1)))[0]
    assert float(cka(x, 3 * torch.einsum("oc,nchw->nohw", turned, x) + 1)) == pytest.approx(1, abs=1e-4)


def test_labels_move_with_their_image_into_the_letterbox() -> None:
    import numpy as np

    image = np.zeros((40, 80, 3), np.uint8)
    image[10:30, 20:60] = 255  # centre (0.5, 0.5), half of each side
    white = LetterBox((64, 64), auto=False)(image=image)[..., 0] == 255
    rows, columns = white.any(1).nonzero()[0], white.any(0).nonzero()[0]
    box = _fitted([[0.5, 0.5, 0.5, 0.5]], (40, 80), 64)[0] * 64
    assert box.tolist() == [32, 32, 32, 16]
    assert (columns[0], columns[-1] + 1, rows[0], rows[-1] + 1) == (16, 48, 24, 40)


def test_names_are_compared_by_the_datas_numbers_for_found_objects_only() -> None:
    boxes = torch.tensor([[[0.0, 0, 32, 32], [32, 32, 64, 64], [0, 32, 32, 64]]])
    scores = torch.tensor([[[5.0, -5], [-5, 5], [-5, -5]]])
    theirs = Predictions(scores=scores, boxes=boxes, distances=torch.zeros(1, 3, 4, 1))
    centres = torch.tensor([[0.25, 0.25, 0.5, 0.5], [0.75, 0.75, 0.5, 0.5], [0.25, 0.75, 0.5, 0.5]])
    labels = {"cls": torch.tensor([[2.0], [2.0], [7.0]]), "bboxes": centres, "batch_idx": torch.zeros(3)}
    probe = Probe(torch.zeros(1, 3, 64, 64), labels)

    assert confusion(theirs, torch.tensor([2, 7]), probe).tolist() == [[1, 1], [0, 0]]  # the third is not found
    assert confusion(theirs, torch.tensor([3, 4]), probe).tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize(
    ("counts", "permuted"),
    [
        ([[0, 20, 0], [0, 0, 20], [20, 0, 0]], True),  # turned round
        ([[300, 2, 0], [0, 1, 9], [1, 12, 0]], True),  # two rare classes exchanged beside a frequent one
        ([[300, 2, 0], [9, 1, 0], [12, 0, 0]], False),  # a weak teacher that calls all the most frequent one
        ([[11, 9, 0], [10, 10, 0], [3, 3, 4]], False),  # and one that confuses two
        ([[0, 12, 0, 0], [0, 2, 2, 0], [0, 0, 3, 0], [0, 0, 0, 3]], False),  # and one that takes a class for another
        ([[0, 12, 0, 0], [0, 1, 1, 0], [0, 0, 0, 9], [1, 0, 0, 3]], False),  # or two
        ([[0, 20, 0], [0, 0, 0], [0, 0, 4]], False),  # all of one class by a name of which nothing was found
        ([[0, 20], [0, 0]], True),  # two exchanged, of which one is found
        ([[0, 9, 0, 0], [0, 0, 9, 0], [0, 0, 0, 0], [0, 0, 0, 50]], True),  # three turned round, of which two are
        ([[1, 2], [1, 0]], False),  # too few to say
        ([[5]], False),
    ],
)
def test_names_are_permuted_only_where_a_permutation_explains_more_than_chance(
    counts: list[list[int]], permuted: bool
) -> None:
    found = judge(torch.tensor(counts, dtype=torch.float32))

    assert found is not None
    assert (found.permuted > PERMUTED_CRITICAL) == permuted
    assert permuted or found.permuted < PERMUTED_WARNING


def test_what_there_is_to_learn_is_the_kl_of_a_student_that_knows_frequencies_only() -> None:
    teacher = torch.full((1, 100, 1), -20.0)
    teacher[0, 0] = 20.0

    found = untaught_kl(teacher, teacher[..., 0] > 0)

    assert float(found) == pytest.approx(math.log(100), rel=1e-3)  # sure of what it believes in at one per cent


def test_the_probe_is_of_images_with_objects_spread_over_the_set(tmp_path: Path) -> None:
    draw_images(tmp_path, 40)
    blank, object_ = torch.zeros(0), torch.zeros(1)
    labels = [
        {"im_file": str(tmp_path / f"{number:02d}.png"), "cls": blank if number < 8 else object_,
         "bboxes": torch.zeros(0 if number < 8 else 1, 4)}
        for number in range(40)
    ]  # fmt: skip
    dataset = SimpleNamespace(labels=labels)

    probe = Probe.of(dataset, imgsz=32, device=torch.device("cpu"), most=4)

    assert [round(float(image.mean()) * 255) for image in probe.images] == [8, 16, 24, 32]
    assert probe.batch["batch_idx"].tolist() == [0, 1, 2, 3]
    few = Probe.of(SimpleNamespace(labels=labels[:9]), imgsz=32, device=torch.device("cpu"), most=4)
    assert [round(float(image.mean()) * 255) for image in few.images] == [8, 0, 2, 5]


def draw_images(folder: Path, number: int) -> None:
    """Write grey images, each as bright as its number."""
    for index in range(number):
        Image.new("RGB", (32, 32), (index, index, index)).save(folder / f"{index:02d}.png")
