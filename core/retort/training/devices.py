"""What the device of a run is called."""

from __future__ import annotations

import torch


def name_of(device: str) -> str:
    """Return ``cpu``, or the product name of the GPU with this number."""
    return "cpu" if device == "cpu" else torch.cuda.get_device_name(int(device))


def visible() -> int:
    """Return how many GPUs this process sees."""
    return torch.cuda.device_count()
