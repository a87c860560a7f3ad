"""Try the first GPU, and print why PyTorch cannot use it: ``python -m retort.training.device_check``."""

from __future__ import annotations

import json
import sys

import torch

from retort.foreign import first_line
from retort.training import placement


def why_not(device: str) -> str | None:
    """Return why no training can use the GPU *device*; None where it computes."""
    found = placement.obstacle(placement.read(device), device)
    if found is not None:
        return f"{found.reason}; {found.remedy}"
    return computes(f"cuda:{device}")


def computes(device: str) -> str | None:
    """Return why a half-precision convolution fails on *device*, or None.

    A GPU that runs a first kernel may lack the libraries that training needs.
    """
    try:
        images = torch.ones(1, 8, 16, 16, device=device, dtype=torch.half, requires_grad=True)
        weights = torch.ones(8, 8, 3, 3, device=device, dtype=torch.half)
        torch.nn.functional.conv2d(images, weights, padding=1).float().sum().backward()  # type: ignore[no-untyped-call]
        gradient = images.grad
        if gradient is not None and bool(gradient.isfinite().all()):
            return None
        said = "its numbers are not finite"
    except RuntimeError as error:
        said = first_line(error)
    return f"a convolution in half precision fails on it ({said}); cuDNN, driver and card have to fit each other"


if __name__ == "__main__":
    sys.stdout.write(json.dumps({"why": why_not("0")}) + "\n")
