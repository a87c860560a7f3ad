"""Name the forms of exports for people, in their order."""

from __future__ import annotations

from typing import Final

FORMATS: Final = {
    "onnx": "ONNX", "openvino": "OpenVINO", "engine": "TensorRT", "ncnn": "NCNN", "torchscript": "TorchScript",
}  # fmt: skip
"""What runs on most machines comes first."""
ON_GPUS: Final = frozenset({"engine"})
"""They are made and run on a GPU alone."""
_PLAIN = "fp32"


def export_title(form: str, precision: str) -> str:
    """Return what people call a form, such as TensorRT, FP16."""
    return FORMATS[form] if precision == _PLAIN else f"{FORMATS[form]}, {precision.upper()}"
