"""The state of a training after its last whole epoch, kept in a file to go back to."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch

from retort.training import durable


class Recovery:
    """Saves and restores the weights, their average, the optimizer and the scaler of a trainer.

    Upstream writes such a file in place and restores weights from a float16 average; this one is exact and whole.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def save(self, trainer: Any) -> None:
        """Write the present state; tensors and plain values only."""
        state = {
            "epoch": trainer.epoch if hasattr(trainer, "epoch") else -1,
            "model": trainer.model.state_dict(),
            "ema": trainer.ema.ema.state_dict(),
            "updates": trainer.ema.updates,
            "optimizer": trainer.optimizer.state_dict(),
            "scaler": trainer.scaler.state_dict(),
            "best_fitness": trainer.best_fitness,
        }
        buffer = io.BytesIO()
        torch.save(state, buffer)
        durable.write(self.path, buffer.getvalue())

    def load(self, trainer: Any) -> None:
        """Put the saved state back, in place."""
        state = torch.load(self.path, map_location=trainer.device, weights_only=True)
        trainer.model.train()
        trainer.model.load_state_dict(state["model"])
        trainer.ema.ema.load_state_dict(state["ema"])
        trainer.ema.updates = state["updates"]
        trainer.optimizer.load_state_dict(state["optimizer"])
        trainer.scaler.load_state_dict(state["scaler"])
        trainer.best_fitness = state["best_fitness"]

    def remove(self) -> None:
        """Delete the file of a training that is over."""
        self.path.unlink(missing_ok=True)
