"""TorchScript, for programs that load PyTorch's C++ library."""

from __future__ import annotations

from typing import ClassVar, Literal

from retort.exports.base import Boxed


class TorchScript(Boxed):
    """A traced module in float32."""

    format: Literal["torchscript"] = "torchscript"
    precision: Literal["fp32"] = "fp32"
    """Of weights and activations."""

    suffix: ClassVar[str] = ".torchscript"
    exact: ClassVar[bool] = True
