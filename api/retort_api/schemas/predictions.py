"""Boxes that a job's network has found on an image."""

from __future__ import annotations

from retort_api.schemas.jobs import ResponseModel


class PredictedBox(ResponseModel):
    """One detection; sides are shares of the image's width and height."""

    name: str
    score: float
    x1: float
    y1: float
    x2: float
    y2: float


class Prediction(ResponseModel):
    """Boxes on an image, most certain first, and the network that has found them."""

    boxes: tuple[PredictedBox, ...]
    width: int
    height: int
    took_ms: float
    """In the process that predicts, with the loading of a network that it had not loaded."""
    sha256: str
    """Of the network's file, in hex."""
    epoch: int | None
    """Of the training after which the network was kept."""
    final: bool
    """Whether it is what its training ended with; else it is of an epoch, or the best one so far."""
