"""Define the ONNX export: float32, float16, or INT8 with its scales."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from retort.exports.base import Calibrated
from retort.schema import field_error


class Onnx(Calibrated):
    """An ONNX graph with batch normalisation folded, for onnxruntime and most edge toolchains."""

    format: Literal["onnx"] = "onnx"
    precision: Literal["fp32", "fp16", "int8"] = "fp32"
    """``fp16`` stores weights in half and computes in half where the processor can; ``int8``: convolutions by
    onnxruntime's static quantization. Boxes and scores are decoded in float32."""
    opset: int | None = Field(default=None, ge=11, le=20)
    """ONNX operator set; null takes the newest that both PyTorch and onnxruntime know."""
    simplify: bool = True
    """Remove redundant operators from the graph."""

    suffix: ClassVar[str] = ".onnx"
    exact: ClassVar[bool] = True

    @model_validator(mode="after")
    def _quantizable(self) -> Self:
        if self.precision == "int8" and self.opset is not None and self.opset < 13:
            raise field_error(
                "is too old for INT8 with a scale for each channel", at="opset", hint="13 or more, or leave it out"
            )
        return self
