"""OpenVINO, for Intel's processors, graphics and accelerators."""

from __future__ import annotations

from typing import ClassVar, Literal

from retort.exports.base import Calibrated


class OpenVino(Calibrated):
    """An OpenVINO model: a folder with a graph and its weights."""

    format: Literal["openvino"] = "openvino"
    precision: Literal["fp32", "fp16", "int8"] = "fp16"
    """``fp16`` stores weights in half; ``int8`` is quantized by NNCF, boxes and scores decoded in float."""

    suffix: ClassVar[str] = "_openvino_model"
    exact: ClassVar[bool] = True
