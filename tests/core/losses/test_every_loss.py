"""What holds for every loss: it registers by being a file, stays finite, computes wide and teaches only the student."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import retort.losses
import torch
from retort.losses import LOSS_KINDS, FeatureLoss, HeadLoss, Loss, Predictions
from support.images import make_confidence, make_features, make_predictions

SETTINGS = [
    {"kind": "channel_wise", "temperature": 4.0, "normalize": False},
    {"kind": "class_logits", "temperature": 2.0, "beta": 2.0},
    {"kind": "class_logits", "beta": 0.0},
    {"kind": "cross_kd", "beta": 2.0, "box_weight": 0.5},
    {"kind": "dfl", "temperature": 10.0},
    {"kind": "softmax_kl", "temperature": 1.0},
]
"""Other settings than the defaults, under which the derivative is another formula."""
EVERY = pytest.mark.parametrize("loss", [cls() for _, cls in sorted(LOSS_KINDS.items())], ids=lambda loss: loss.kind)


def compute(loss: Loss, student: list[torch.Tensor], teacher: list[torch.Tensor]) -> torch.Tensor:
    """Call a loss of either sort on what *inputs* gave."""
    if isinstance(loss, HeadLoss):
        return loss(Predictions(*student), Predictions(*teacher))
    assert isinstance(loss, FeatureLoss)
    return loss(student[0], teacher[0], teacher[1])


def inputs(loss: Loss, seed: int, dtype: torch.dtype = torch.float64) -> list[torch.Tensor]:
    if isinstance(loss, HeadLoss):
        made = make_predictions(seed, dtype=dtype)
        return [made.scores, made.boxes, made.distances]
    return [make_features(seed, dtype=dtype), make_confidence(seed, dtype=dtype)]


def leaves(tensors: list[torch.Tensor]) -> list[torch.Tensor]:
    return [tensor.clone().requires_grad_() for tensor in tensors]


def used(loss: Loss) -> int:
    """Which student tensor carries the gradient: scores, boxes, distances, or the features."""
    return {"box_giou": 1, "dfl": 2}.get(type(loss).model_fields["kind"].default, 0)


def test_every_file_in_the_package_is_a_loss_and_its_kind_is_the_files_name():
    folder = Path(retort.losses.__file__).parent
    files = {path.stem for path in folder.glob("*.py")} - {"__init__", "base"}

    assert files == set(LOSS_KINDS)
    assert all(cls.__module__ == f"retort.losses.{kind}" for kind, cls in LOSS_KINDS.items())


@EVERY
def test_the_gradient_is_the_derivative(loss: Loss):
    student, teacher = leaves(inputs(loss, 0)), inputs(loss, 1)
    place = used(loss)

    def of(tensor: torch.Tensor) -> torch.Tensor:
        return compute(loss, [*student[:place], tensor, *student[place + 1 :]], teacher)

    assert torch.autograd.gradcheck(of, (student[place],), eps=1e-6, atol=1e-5)


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_the_gradient_is_the_derivative_under_other_settings(settings: dict[str, Any]):
    loss = LOSS_KINDS[settings["kind"]].model_validate(settings)
    test_the_gradient_is_the_derivative(loss)


@EVERY
def test_it_is_a_finite_scalar_that_is_not_negative_and_teaches_the_student(loss: Loss):
    student = leaves(inputs(loss, 0))

    value = compute(loss, student, inputs(loss, 1))
    value.backward()

    gradient = student[used(loss)].grad
    assert value.shape == ()
    assert float(value.detach()) > 0
    assert gradient is not None
    assert float(gradient.abs().sum()) > 0


@EVERY
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_the_result_is_float32_and_close_whatever_precision_comes_in(loss: Loss, dtype: torch.dtype):
    exact = float(compute(loss, inputs(loss, 0), inputs(loss, 1)))

    found = compute(loss, inputs(loss, 0, dtype), inputs(loss, 1, dtype))

    assert found.dtype is torch.float32
    assert float(found) == pytest.approx(exact, rel={torch.float16: 1e-2, torch.bfloat16: 1e-1}.get(dtype, 1e-5))


@EVERY
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_autocast_does_not_narrow_it(loss: Loss, dtype: torch.dtype):
    student, teacher = inputs(loss, 0, dtype), inputs(loss, 1, dtype)
    plain = compute(loss, student, teacher)

    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = compute(loss, student, teacher)

    assert found.dtype is torch.float32
    assert float(found) == pytest.approx(float(plain), rel=1e-6)


@EVERY
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("size", [0.0, 1e4, -1e4])
def test_extreme_inputs_stay_finite_with_their_gradients(loss: Loss, dtype: torch.dtype, size: float):
    def extreme(seed: int, sign: float) -> list[torch.Tensor]:
        first, *rest = inputs(loss, seed, dtype)
        return [
            torch.full_like(first, sign * size) + first * (size != 0),
            *(rest if seed else [rest[0] * 80, *rest[1:]]),
        ]

    student = leaves(extreme(0, 1))
    value = compute(loss, student, extreme(1, -1))
    value.backward()

    assert bool(value.isfinite())
    assert all(bool(tensor.grad.isfinite().all()) for tensor in student if tensor.grad is not None)


@EVERY
def test_it_is_zero_where_student_and_teacher_agree(loss: Loss):
    same = inputs(loss, 1)

    assert float(compute(loss, same, same)) == pytest.approx(0, abs=1e-9)


@EVERY
def test_it_is_a_value(loss: Any):
    assert type(loss).model_validate(loss.model_dump(mode="json")) == loss
    assert hash(loss) == hash(loss.model_copy())
    with pytest.raises(ValueError, match="frozen"):
        loss.weight = 2.0


@pytest.mark.parametrize("kind", sorted(kind for kind, cls in LOSS_KINDS.items() if issubclass(cls, FeatureLoss)))
def test_its_projector_maps_student_channels_to_the_teachers_and_can_be_trained(kind: str):
    loss: Any = LOSS_KINDS[kind]()
    projector = loss.build(3, 7)

    projected = projector(make_features(0, dtype=torch.float32))
    loss(projected, make_features(1, 2, 7, 4, 5, dtype=torch.float32), make_confidence(dtype=torch.float32)).backward()

    assert projected.shape == (2, 7, 4, 5)
    assert all(weights.grad is not None for weights in projector.parameters())


@pytest.mark.parametrize("kind", sorted(LOSS_KINDS))
def test_importing_a_loss_does_not_import_torch(kind: str):
    code = f"import sys, retort.losses.{kind}; sys.exit('torch' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
