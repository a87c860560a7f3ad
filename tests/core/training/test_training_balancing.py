"""What a weight means: a share of the task loss, or of its gradient."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from retort.training.distillation.balancing import (
    CALIBRATION_STEPS,
    EVERY,
    FIRST_STEPS,
    LARGEST_SCALE,
    MEMORY,
    ClassMass,
    GradientBalance,
    TaskLossBalance,
    gradient_norm,
)
from support.images import sure


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


def steps(balance: GradientBalance, x: torch.Tensor, number: int, task: float, term: float) -> list[float]:
    """Take *number* steps whose gradients have these sizes; return the scale of each."""
    return [float(balance(x.sum() * task, [x.sum() * term], [x])) for _ in range(number)]


def test_the_balance_follows_gradients_that_change_within_an_epoch_of_few_steps() -> None:
    """It was measured every 32 steps and remembered over 8 measurements: 13 epochs of 19 steps late."""
    x = torch.ones(3, requires_grad=True)
    balance = GradientBalance(steps_per_epoch=19)
    before = steps(balance, x, 3 * 19, 6, 2)
    after = steps(balance, x, 2 * 19, 1, 2)  # pretrained weights: the task's gradient falls to a sixth

    assert before == pytest.approx([3.0] * len(before))
    assert after[-1] == pytest.approx(0.5, rel=1.0)  # what is asked for, and not ten times as much
    assert steps(balance, x, 2 * 19, 1, 2)[-1] == pytest.approx(0.5, rel=0.15)


def test_each_of_the_first_steps_is_measured_then_some_in_each_epoch() -> None:
    measured = []
    x = torch.ones(3, requires_grad=True)
    balance = GradientBalance(steps_per_epoch=80)
    for step in range(FIRST_STEPS + 40):
        before = balance.state()["measured_at"]
        steps(balance, x, 1, 1, 1)
        if balance.state()["measured_at"] != before:
            measured.append(step)

    assert measured == [*range(FIRST_STEPS), *range(FIRST_STEPS + 9, FIRST_STEPS + 40, 10)]


def test_long_epochs_are_measured_as_seldom_as_every_32_steps() -> None:
    balance = GradientBalance(steps_per_epoch=5000)

    assert (balance.every, balance.memory) == (EVERY[1], MEMORY[1]) == (32, 256)


def test_a_term_without_gradient_is_bounded_and_an_overflow_is_forgotten() -> None:
    x = torch.ones(3, requires_grad=True)
    balance = GradientBalance()
    assert balance(x.sum(), [torch.tensor(1.0)], [x]).tolist() == [LARGEST_SCALE]

    balance = GradientBalance()
    balance(x.sum() * 6, [x.sum() * 2], [x])
    assert balance(x.sum() * float("inf"), [x.sum() * 2], [x]).tolist() == pytest.approx([3.0])


@pytest.mark.parametrize("kind", [TaskLossBalance, GradientBalance])
@pytest.mark.parametrize("bad", [float("inf"), float("nan")])
def test_a_first_measurement_that_is_not_finite_poisons_nothing(
    kind: type[TaskLossBalance | GradientBalance], bad: float
) -> None:
    x = torch.ones(3, requires_grad=True)
    balance = kind()

    assert balance(x.sum() * bad, [x.sum() * 2, x.sum() * bad], [x]).tolist() == [0.0, 0.0]
    for _ in range(3):
        found = balance(x.sum() * 6, [x.sum() * 2, x.sum()], [x])
    assert found.tolist() == pytest.approx([3.0, 6.0])


@pytest.mark.parametrize("kind", [TaskLossBalance, GradientBalance])
def test_a_first_batch_of_background_only_makes_no_term_loud(
    kind: type[TaskLossBalance | GradientBalance],
) -> None:
    """One term was 23 times too loud for 31 steps."""
    x = torch.ones(3, requires_grad=True)
    balance = kind()

    assert balance(x.sum() * 6, [x.sum() * 0.01], [x], objects=False).tolist() == [0.0]
    assert balance(x.sum() * 6, [x.sum() * 2], [x]).tolist() == pytest.approx([3.0])
    assert balance(x.sum() * 6, [x.sum() * 0.01], [x], objects=False).tolist() == pytest.approx([3.0])


@pytest.mark.parametrize("kind", [TaskLossBalance, GradientBalance])
def test_a_balance_goes_on_from_its_state_and_begins_anew_from_an_older_form_of_it(
    kind: type[TaskLossBalance | GradientBalance],
) -> None:
    x = torch.ones(3, requires_grad=True)
    first, second, older = kind(), kind(), kind()
    for factor in (6, 7, 8):
        first(x.sum() * factor, [x.sum() * 2], [x])
    second.restore(first.state(), torch.device("cpu"))
    older.restore({"steps": 90, "measured": 3, "norms": [1.0, 2.0], "scales": [1.0]}, torch.device("cpu"))

    assert second.state() == first.state()
    assert older(x.sum() * 6, [x.sum() * 2], [x]).tolist() == pytest.approx([3.0])


def test_measuring_leaves_the_gradients_of_the_step_alone() -> None:
    x = torch.ones(3, requires_grad=True)
    value = (x**2).sum()
    gradient_norm(value, [x])

    assert x.grad is None
    value.backward()
    assert x.grad is not None
    assert x.grad.tolist() == [2, 2, 2]


def test_the_weight_of_a_class_is_taken_over_batches() -> None:
    mass = ClassMass()
    for _ in range(200):
        mass.add(sure(9, 1))
    one = replace(sure(9, 0), mass=mass.mean())

    mean = mass.mean()
    assert mean is not None
    assert mean.tolist() == pytest.approx([9, 1])
    assert one.class_weights(1.0).tolist() == pytest.approx(sure(9, 1).class_weights(1.0).tolist())

    resumed = ClassMass()
    resumed.restore(mass.state(), torch.device("cpu"))
    mass.add(sure(3, 4))
    resumed.add(sure(3, 4))
    assert mass.state() == resumed.state()
