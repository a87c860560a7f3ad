"""NCNN, for phones and small ARM boards."""

from __future__ import annotations

from typing import ClassVar, Literal

from retort.exports.base import Export


class Ncnn(Export):
    """An NCNN model: a folder with a graph and its weights."""

    format: Literal["ncnn"] = "ncnn"
    precision: Literal["fp32", "fp16"] = "fp16"
    """``fp16`` stores weights in half."""

    suffix: ClassVar[str] = "_ncnn_model"
