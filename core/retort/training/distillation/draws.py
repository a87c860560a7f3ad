"""The distillation's own random numbers, which depend on seed and place in the training and on nothing else."""

from __future__ import annotations

import hashlib

import torch


class Draws:
    """A generator apart from the global one: a distilled and a plain training draw the same global numbers."""

    def __init__(self, seed: int, device: torch.device) -> None:
        self._seed = seed
        self._generator = torch.Generator(device=device)

    def at(self, epoch: float) -> torch.Generator:
        """Return the generator, seeded for the step at the fractional *epoch*: resumed, a step draws what it drew."""
        digest = hashlib.blake2b(f"{self._seed} {epoch!r}".encode(), digest_size=8).digest()
        return self._generator.manual_seed(int.from_bytes(digest, signed=True))
