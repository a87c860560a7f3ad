"""Describe the outputs of a teacher that is no YOLO."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from retort.schema import InputModel

OutputName = Annotated[str, Field(min_length=1, max_length=200)]
Three = Annotated[tuple[float, ...], Field(strict=False, min_length=3, max_length=3)]
Positive = Annotated[float, Field(gt=0)]
ClassNames = Annotated[
    tuple[Annotated[str, Field(min_length=1, max_length=200)], ...],
    Field(strict=False, min_length=1, max_length=10_000),
]


class TeacherAdapter(InputModel):
    """What the file of a teacher that gives boxes alone does not say by itself; null is found in the file."""

    names: ClassNames | None = None
    """Its classes in order, without the background; null takes the file's own ``names``."""
    boxes: OutputName | None = None
    """The output of an ONNX graph that holds the boxes."""
    scores: OutputName | None = None
    """The output that holds the scores."""
    labels: OutputName | None = None
    """The output that holds the number of each box's class, where it is one by itself."""
    box_format: Literal["xyxy", "cxcywh"] | None = None
    """Two corners, or centre and size."""
    box_units: Literal["pixels", "normalized"] | None = None
    """Pixels of the network's input, or shares of its sides."""
    activation: Literal["none", "sigmoid", "softmax"] | None = None
    """What makes probabilities of the scores."""
    background: Literal["none", "first", "last"] | None = None
    """Where the scores, or the numbers of the labels, have a class that is no object."""
    resize: Literal["stretch", "letterbox"] = "stretch"
    """How an image is fitted into an input of another shape."""
    colours: Literal["rgb", "bgr"] = "rgb"
    """Order of the input's channels."""
    largest: Literal[1, 255] = 1
    """Value of white in the input, before mean and std."""
    mean: Three = (0.0, 0.0, 0.0)
    """Subtracted from each channel, in the input's order."""
    std: Annotated[tuple[Positive, ...], Field(strict=False, min_length=3, max_length=3)] = (1.0, 1.0, 1.0)
    """Each channel is divided by it."""
