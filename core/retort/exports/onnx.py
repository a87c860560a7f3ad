"""ONNX in float32, checked against PyTorch by the export stage."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from retort.exports.base import Export


class Onnx(Export):
    """An ONNX graph with batch normalisation folded, for onnxruntime and most edge toolchains."""

    format: Literal["onnx"] = "onnx"
    opset: int | None = Field(default=None, ge=11, le=20)
    """ONNX operator set; null takes the newest that both PyTorch and onnxruntime know."""
    dynamic: bool = False
    """Leave batch and image size open in the graph."""
    simplify: bool = True
    """Remove redundant operators from the graph."""

    suffix: ClassVar[str] = ".onnx"
