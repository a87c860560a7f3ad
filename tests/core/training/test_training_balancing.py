"""What a weight means: a share of the task loss, or of its gradient."""

from __future__ import annotations

import pytest
import torch
from retort.training.distillation.balancing import (
    CALIBRATION_STEPS,
    LARGEST_SCALE,
    MEASURE_EVERY,
    GradientBalance,
    TaskLossBalance,
    gradient_norm,
)


def test_the_share_of_the_task_loss_freezes_after_the_first_steps_and_never_explodes() -> None:
    balance = TaskLossBalance()
    for _ in range(CALIBRATION_STEPS):
        scales = balance(torch.tensor(6.0), [torch.tensor(2.0), torch.tensor(0.0)], [])
    assert scales.tolist() == [3.0, LARGEST_SCALE]
    assert torch.equal(balance(torch.tensor(100.0), [torch.tensor(1.0), torch.tensor(1.0)], []), scales)


def length(value: torch.Tensor, at: list[torch.Tensor]) -> torch.Tensor:
    found = torch.autograd.grad(value, at, retain_graph=True, allow_unused=True)
    return torch.cat([gradient.flatten() for gradient in found if gradient is not None]).norm()


def test_the_gradients_of_scaled_terms_are_as_long_as_the_tasks() -> None:
    torch.manual_seed(0)
    shared = [torch.rand(2, 3, 4, 4, requires_grad=True), torch.rand(2, 5, 2, 2, requires_grad=True)]
    task = sum((x**2).sum() for x in shared) * 7
    terms = [(shared[0] ** 3).mean(), (shared[1].exp()).sum() * 50]

    scales = GradientBalance()(task, terms, shared)

    norms = [length(value, shared) for value in (task, scales[0] * terms[0], scales[1] * terms[1])]
    torch.testing.assert_close(norms[1], norms[0])
    torch.testing.assert_close(norms[2], norms[0])


def test_the_share_of_the_gradient_is_measured_again() -> None:
    x = torch.ones(3, requires_grad=True)
    balance = GradientBalance()
    first = balance(x.sum() * 6, [x.sum() * 2], [x])
    for _ in range(MEASURE_EVERY - 1):
        kept = balance(x.sum() * 100, [x.sum()], [x])
    later = balance(x.sum() * 12, [x.sum() * 2], [x])

    assert first.tolist() == kept.tolist() == pytest.approx([3.0])
    assert later.tolist() == pytest.approx([4.5])  # the mean of 6 and 12 over the mean of 2 and 2


def test_a_term_without_gradient_is_bounded_and_an_overflow_is_forgotten() -> None:
    x = torch.ones(3, requires_grad=True)
    balance = GradientBalance()
    assert balance(x.sum(), [torch.tensor(1.0)], [x]).tolist() == [LARGEST_SCALE]

    balance = GradientBalance()
    balance(x.sum() * 6, [x.sum() * 2], [x])
    for _ in range(MEASURE_EVERY - 1):
        balance(x.sum(), [x.sum()], [x])
    assert balance(x.sum() * float("inf"), [x.sum() * 2], [x]).tolist() == pytest.approx([3.0])


def test_measuring_leaves_the_gradients_of_the_step_alone() -> None:
    x = torch.ones(3, requires_grad=True)
    value = (x**2).sum()
    gradient_norm(value, [x])

    assert x.grad is None
    value.backward()
    assert x.grad is not None
    assert x.grad.tolist() == [2, 2, 2]
