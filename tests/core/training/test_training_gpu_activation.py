"""Bias and SiLU in one kernel: what it changes, and what happens where there is none or a wrong one."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from core.training.memory_passes import MemoryPasses
from retort.constants import Level
from retort.training import models
from retort.training.distillation import feature_taps
from retort.training.distillation.gpu_activation import biased_silu, checked, fuse_bias_and_silu, fuse_by
from retort.training.distillation.teacher import fold

CPU = torch.device("cpu")


def plain(x: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.silu(x + bias)


def folded(path: Path) -> Any:
    return fold(models.load(path).float()).eval().requires_grad_(requires_grad=False)


@pytest.mark.parametrize("model", ["yolo11n", "yolo26n"])
def test_a_network_with_a_kernel_behind_each_convolution_says_what_it_said(
    model: str, published: Callable[..., Path]
) -> None:
    before = folded(published(model))
    calls = list[int]()

    def kernel(x: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        calls.append(bias.numel())
        return plain(x, bias)

    after = deepcopy(before)
    fuse_by(after, kernel)
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))

    with torch.no_grad():
        (expected, raw), (found, found_raw) = (feature_taps.forward(one, image) for one in (before, after))

    assert len(calls) > 40
    for level in (Level.P3, Level.P4, Level.P5):
        torch.testing.assert_close(found[level], expected[level], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found_raw["one2many"]["scores"], raw["one2many"]["scores"], rtol=1e-4, atol=1e-4)


def test_no_silu_is_left_to_a_pass_of_its_own(published: Callable[..., Path]) -> None:
    network = folded(published("yolo11n"))
    fuse_by(network, torch.add)  # one pass, whatever it computes
    with torch.no_grad(), MemoryPasses() as passes:
        feature_taps.forward(network, torch.rand(1, 3, 64, 64))
    assert passes.calls["aten::add"] > 40
    assert passes.calls["aten::silu"] + passes.calls["aten::silu_"] == 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="here the kernel works; tests/gpu tries it")
def test_a_machine_that_has_no_such_kernel_says_so_and_leaves_the_network_as_it_is(
    published: Callable[..., Path],
) -> None:
    network = folded(published("yolo11n"))
    forwards = [module.forward for module in network.modules()]
    with pytest.warns(RuntimeWarning, match="run one after the other: Jiterator is only supported on CUDA"):
        fuse_bias_and_silu(network, CPU, torch.float32)
    assert [module.forward for module in network.modules()] == forwards


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_a_kernel_is_taken_if_it_says_what_torch_says_and_refused_if_not(dtype: torch.dtype) -> None:
    tolerated, _ = checked(lambda x, bias: plain(x.float(), bias.float()).to(x.dtype), CPU, dtype)
    assert tolerated is not None
    assert checked(lambda x, _: torch.nn.functional.silu(x), CPU, dtype)[0] is None
    assert checked(lambda x, bias: plain(x, bias) * float("nan"), CPU, dtype)[0] is None
    assert checked(lambda x, bias: plain(x.double(), bias.double()), CPU, dtype)[0] is None


@pytest.mark.skipif(torch.cuda.is_available(), reason="here the kernel works; tests/gpu tries it")
def test_the_kernels_source_is_one_that_torch_reads() -> None:
    kernel, reason = checked(biased_silu(), CPU, torch.float16)
    assert kernel is None
    assert "Jiterator" in reason
