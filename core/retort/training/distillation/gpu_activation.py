"""Fuse the bias and SiLU behind a convolution into one kernel on a GPU."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import conv2d, silu

from retort.foreign import first_line
from retort.training.ultralytics_api import Conv, DWConv

if TYPE_CHECKING:
    from torch import Tensor

Kernel = Callable[["Tensor", "Tensor"], "Tensor"]
"""Returns ``silu(x + b)`` of a map (N, C, H, W) and a bias (C, 1, 1)."""
_CODE = """template <typename T> T biased_silu(T x, T b) {
    const float y = static_cast<float>(x) + static_cast<float>(b);
    return static_cast<T>(y / (1.0f + expf(-y)));
}"""
_ALLOWED = 4e-2
"""Difference from torch's own for values up to 9: the last digit of bfloat16 there."""


def fuse_bias_and_silu(model: Any, device: torch.device, dtype: torch.dtype) -> None:
    """Fuse bias and SiLU behind the convolutions of a folded *model* on a GPU.

    cuDNN's convolution leaves the bias to a pass over memory of its own, and SiLU is another. The kernel is compiled
    by the driver's side of CUDA, without a compiler. It is an optimisation only: where it cannot be had, or says
    something else than torch, the network stays as it is, and that is told once.
    """
    kernel, reason = checked(biased_silu(), device, dtype)
    if kernel is None:
        warnings.warn(
            f"bias and activation of the teacher's convolutions run one after the other: {reason}",
            RuntimeWarning,
            stacklevel=3,
        )
        return
    fuse_by(model, kernel)


def biased_silu() -> Kernel:
    """Return a kernel of ``silu(x + b)``, compiled when it is called first."""
    made: Kernel = torch.cuda.jiterator._create_jit_fn(_CODE)  # noqa: SLF001 - torch's only name for it
    return made


def checked(kernel: Kernel, device: torch.device, dtype: torch.dtype) -> tuple[Kernel | None, str]:
    """Return *kernel* if *device* computes it right, else None and why not."""
    x = torch.linspace(-8, 8, 4096, device=device, dtype=torch.float32).to(dtype).reshape(2, 32, 8, 8)
    x = x.to(memory_format=torch.channels_last)
    bias = torch.linspace(-1, 1, 32, device=device).to(dtype)[:, None, None]
    try:
        found = kernel(x, bias)
        apart = float((found.float() - silu(x.float() + bias.float())).abs().amax())
    except (RuntimeError, AssertionError, AttributeError) as error:
        return None, first_line(error)
    if found.dtype != dtype or found.shape != x.shape or not apart <= _ALLOWED:
        return None, f"the kernel gives {found.dtype} and differs by {apart:.2g}"
    return kernel, ""


def fuse_by(model: Any, kernel: Kernel) -> None:
    """Let *kernel* follow a folded *model*'s convolutions with bias and SiLU."""
    for module in model.modules():
        if type(module) in {Conv, DWConv} and type(module.act) is torch.nn.SiLU and module.conv.bias is not None:
            module.forward = partial(_convolved, kernel, module.conv)


def _convolved(kernel: Kernel, conv: torch.nn.Conv2d, x: Tensor) -> Tensor:
    shape = conv.stride, conv.padding, conv.dilation, conv.groups
    return kernel(conv2d(x, conv.weight, None, *shape), conv.bias[:, None, None])  # type: ignore[index,arg-type]
