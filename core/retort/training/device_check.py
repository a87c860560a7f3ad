"""Try the first GPU, and print why PyTorch cannot use it: ``python -m retort.training.device_check``."""

from __future__ import annotations

import json
import sys

import torch

from retort.training.device import unusable


def why_not(device: str) -> str | None:
    """Return why no training can use the GPU *device*; None where it computes."""
    return unusable(device) or computes(f"cuda:{device}")


def computes(device: str) -> str | None:
    """Return why a half-precision convolution fails on *device*, or None.

    A driver that answers says nothing of kernels, nor of the libraries that training needs.
    """
    try:
        images = torch.ones(1, 8, 16, 16, device=device, dtype=torch.half, requires_grad=True)
        weights = torch.ones(8, 8, 3, 3, device=device, dtype=torch.half)
        torch.nn.functional.conv2d(images, weights, padding=1).float().sum().backward()  # type: ignore[no-untyped-call]
        return None if images.grad is not None and bool(images.grad.isfinite().all()) else "it computes wrong numbers"
    except RuntimeError as error:
        return str(error).strip().partition("\n")[0]


if __name__ == "__main__":
    sys.stdout.write(json.dumps({"why": why_not("0")}) + "\n")
