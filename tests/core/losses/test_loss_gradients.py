"""Terms that bring their gradients along, against autograd on the plain formula, and what they read and write."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from core.training.memory_passes import MemoryPasses
from retort import loss_gradients
from retort.loss_gradients import _moments_by_parts, decorrelation, divergence_sum, focal_sum, moments, product
from retort.losses import Predictions
from retort.losses.base import divergence, quality_focal
from retort.losses.class_logits import ClassLogits
from retort.losses.dfl import Dfl
from retort.losses.pearson import Pearson
from support.images import make_features

Make = Callable[..., Predictions]


def normal(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def agree(found: torch.Tensor, expected: torch.Tensor, *inputs: torch.Tensor) -> None:
    """Insist on equal values and, twice as a balance asks, on equal gradients of *inputs*."""
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    ours, again, theirs = (
        torch.autograd.grad(value, inputs, retain_graph=True) for value in (found * 3, found * 3, expected * 3)
    )
    for one, once_more, other in zip(ours, again, theirs, strict=True):
        assert torch.equal(one, once_more)
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("weights", [None, torch.tensor([0.5, 2.0, 7.0], dtype=torch.float64)], ids=["alike", "apart"])
def test_class_terms_have_autograds_gradient(weights: torch.Tensor | None):
    student, teacher = (4 * normal(2, 9, 3, seed=seed) for seed in (0, 1))
    student.requires_grad_()

    found = focal_sum(student, teacher.sigmoid(), weights)
    cells = quality_focal(student, teacher, temperature=1.0, beta=1.0)

    agree(found, (cells if weights is None else cells * weights).sum(), student)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_divergences_have_autograds_gradient(temperature: float):
    student, teacher = (3 * normal(2, 9, 4, 5, seed=seed) for seed in (0, 1))
    weights = normal(2, 9, seed=2).abs()
    student.requires_grad_()

    found = divergence_sum(student, teacher, weights, temperature)

    agree(found, (divergence(student, teacher, temperature).mean(-1) * weights).sum(), student)


def test_correlations_have_autograds_gradient_for_features_and_projector():
    features, teacher, weight = normal(60, 5, seed=0) + 3, normal(60, 7, seed=1) - 2, normal(7, 5, seed=2)
    features.requires_grad_()
    weight.requires_grad_()

    def standard(x: torch.Tensor) -> torch.Tensor:
        return (x - x.mean(0)) / (x.var(0, correction=0) + 1e-6).sqrt()

    expected = (standard(features @ weight.T) - standard(teacher)).square().mean() / 2

    agree(decorrelation(features, teacher, weight, 1e-6), expected, features, weight)


@pytest.mark.parametrize("rows", [1, 7, 60, 100])
def test_moments_taken_in_parts_are_those_of_the_whole(rows: int):
    x = normal(60, 3, seed=0) * torch.tensor([1e-3, 1.0, 50.0]) + torch.tensor([1000.0, 0.0, -3.0])

    mean, variance = _moments_by_parts(x, rows)

    torch.testing.assert_close(mean, x.mean(0))
    torch.testing.assert_close(variance, x.var(0, correction=0), rtol=1e-6, atol=0)
    torch.testing.assert_close(moments(x)[1], variance, rtol=1e-6, atol=0)


@pytest.fixture
def emulated(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A CPU that multiplies half precision as a GPU does, into float32."""
    library = torch.library.Library("aten", "IMPL")
    library.impl("mm.dtype", lambda a, b, dtype: a.to(dtype) @ b.to(dtype), "CPU")
    monkeypatch.setattr(loss_gradients, "_on_cpu", lambda _: False)
    yield
    library._destroy()


def test_a_card_whose_library_cannot_add_up_in_float32_multiplies_wide(monkeypatch: pytest.MonkeyPatch):
    """A product that is an optimization on one card must not end a job on another; want of memory still does."""
    said = ["CUBLAS_STATUS_NOT_SUPPORTED when calling cublasGemmEx", "CUDA out of memory. Tried to allocate 2.00 GiB"]

    def refuse(*_: object) -> torch.Tensor:
        raise RuntimeError(said[0])

    library = torch.library.Library("aten", "IMPL")
    monkeypatch.setattr(loss_gradients, "_on_cpu", lambda _: False)
    draw = torch.Generator().manual_seed(0)
    a, b = (torch.randn(*size, generator=draw).half() for size in ((7, 40), (40, 5)))
    try:
        with pytest.warns(RuntimeWarning, match="widened: Could not run"):  # this device has no such product
            torch.testing.assert_close(product(a, b), a.float() @ b.float())
        library.impl("mm.dtype", refuse, "CPU")
        with pytest.warns(RuntimeWarning, match="widened: CUBLAS_STATUS_NOT_SUPPORTED"):
            torch.testing.assert_close(product(a, b), a.float() @ b.float())
        said.pop(0)
        with pytest.raises(RuntimeError, match="out of memory"):
            product(a, b)
    finally:
        library._destroy()


@pytest.mark.parametrize("scale", [1e-3, 1.0, 100.0])
@pytest.mark.usefixtures("emulated")
def test_float16_on_a_gpu_loses_no_more_than_its_digits(scale: float):
    """A gradient is a share of a mean over thousands of positions, which float16 cannot hold by itself."""
    loss = Pearson()
    projector = loss.build(5, 7)
    student = ((make_features(0, 4, 5, 32, 32) + 3) * scale).half().requires_grad_()
    teacher = ((make_features(1, 4, 7, 32, 32) - 2) * scale).half()
    exact = student.detach().double().requires_grad_()
    reference = loss.build(5, 7).double()
    reference.load_state_dict(projector.state_dict())

    found, expected = (
        loss.through(projector, student, teacher, None),
        loss(reference(exact), teacher.double(), None),
    )
    lifted = [
        torch.autograd.grad(value * 2**16, [side, layer.weight])
        for value, side, layer in ((found, student, projector), (expected, exact, reference))
    ]

    assert found.dtype is torch.float32
    assert float(found.detach()) == pytest.approx(float(expected.detach()), rel=2e-3)
    for ours, theirs in zip(*lifted, strict=True):
        assert (ours.double() - theirs).norm() < 0.01 * theirs.norm()


def head(*, learns: bool, images: int = 4, anchors: int = 525) -> Predictions:
    """A head's output in half precision as it lies in memory, on a device that holds no content."""
    options: Any = {"device": "meta", "dtype": torch.float16, "requires_grad": learns}
    scores, sides = torch.empty(images, 80, anchors, **options), torch.empty(images, 64, anchors, **options)
    mass = torch.empty(80, device="meta")
    distances = sides.unflatten(1, (4, 16)).permute(0, 3, 1, 2)  # type: ignore[no-untyped-call]
    return Predictions(scores.transpose(1, 2), sides.new_empty(0), distances, mass)


def maps(channels: int, side: int, *, learns: bool = False) -> torch.Tensor:
    found = torch.empty(4, channels, side, side, device="meta", dtype=torch.float16)
    return found.to(memory_format=torch.channels_last).requires_grad_(learns)


def test_a_step_reads_and_writes_a_third_less_than_with_autograd(monkeypatch: pytest.MonkeyPatch):
    """In these sizes, forward and backward: class_logits took 37.3 MB, dfl 19.7 MB, a level of pearson 35.7 MB."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # it does not know a device without content
    student, teacher = head(learns=True), head(learns=False)
    projector = Pearson().build(64, 256).to("meta")
    features = maps(64, 20, learns=True), maps(256, 20)
    terms: dict[str, Callable[[], torch.Tensor]] = {
        "class_logits": lambda: ClassLogits(class_balance=0.5)(student, teacher),
        "dfl": lambda: Dfl(class_balance=0.5)(student, teacher),
        "pearson": lambda: Pearson().through(projector, *features, None),
    }

    counted = {}
    for name, term in terms.items():
        with MemoryPasses() as passes:
            term().backward()
        counted[name] = passes.bytes.total() / 1e6

    assert sum(counted.values()) < 92.8 * 2 / 3, counted
    assert counted["class_logits"] < 25, counted
    assert counted["dfl"] < 15, counted
    assert counted["pearson"] < 14, counted
