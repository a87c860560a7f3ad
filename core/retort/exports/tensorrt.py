"""A TensorRT engine, for the NVIDIA GPU that builds it."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from retort.exports.base import Calibrated


class Engine(Calibrated):
    """A TensorRT engine; where none can be built, the ONNX graph with its calibration to build it elsewhere."""

    format: Literal["engine"] = "engine"
    precision: Literal["fp32", "fp16", "int8"] = "fp16"
    """``int8`` takes its scales from the graph, so that the engine needs no calibration of its own."""
    workspace_gib: float | None = Field(default=None, gt=0, le=64)
    """Memory that TensorRT may try tactics with, in GiB; null leaves it to TensorRT."""

    suffix: ClassVar[str] = ".engine"
