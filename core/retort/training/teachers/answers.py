"""Recognise a detector graph's outputs, and read boxes and probabilities from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from retort.errors import ModelError
from retort.spec.adapter import TeacherAdapter
from retort.training.teachers.base import one_hot
from retort.training.ultralytics_api import ops

if TYPE_CHECKING:
    from torch import Tensor

HINT = (
    "teacher.adapter: boxes, scores and labels name outputs; box_format, box_units, activation and background say what "
    "is in them"
)


FLOATS = {"tensor(float)": torch.float32, "tensor(float16)": torch.float16}


def image_and_sizes(inputs: Sequence[Any], name: str) -> tuple[Any, Any | None]:
    """Return the *inputs* for images, and for the image size of boxes.

    They are onnxruntime's, of the file *name*; the second is that of RT-DETR and D-FINE, ``orig_target_sizes``.

    Raises:
        ModelError: there are others.

    """
    images = [one for one in inputs if len(one.shape) in {3, 4} and one.type in FLOATS]
    sizes = [one for one in inputs if one not in images and "int" in one.type and len(one.shape) == 2]
    if len(images) != 1 or len(images) + len(sizes) != len(inputs) or len(sizes) > 1:
        shown = ", ".join(f"{one.name} {one.type} {one.shape}" for one in inputs)
        hint = "one image (N, 3, H, W) or (3, H, W), and beside it orig_target_sizes (N, 2) at most"
        raise ModelError(f"{name} takes {shown}", hint=hint)
    return images[0], sizes[0] if sizes else None


class GraphOutput(NamedTuple):
    """One output of a graph."""

    name: str
    shape: tuple[int | None, ...]
    """None is a side that is known when it runs."""
    whole: bool
    """Whether its numbers are whole."""


@dataclass(frozen=True)
class OutputForm:
    """Names of the outputs, and the layout of each."""

    kind: str
    """``columns`` (N, 4 + K, A), ``rows`` (N, A, 4 + K), ``final`` (N, n, 6), ``pair`` or ``labelled``."""
    boxes: str
    scores: str
    labels: str
    box_format: str
    box_units: str
    activation: str
    background: str

    def read(self, found: Mapping[str, Tensor], shape: tuple[int, int], number: int) -> tuple[Tensor, Tensor]:
        """Return corners (N, n, 4) and probabilities (N, n, K).

        Corners are in pixels of the input of *shape*; there are *number* classes. *found* are the outputs by name.
        """
        boxes = found[self.boxes].float()
        if self.kind in {"columns", "rows"}:
            table = boxes.transpose(1, 2) if self.kind == "columns" else boxes
            boxes, scores = table[..., :4], table[..., 4:]
        elif self.kind == "final":
            boxes, scores = boxes[..., :4], one_hot(boxes[..., 5], boxes[..., 4], number)
        elif self.kind == "labelled":
            first = 1 if self.background == "first" else 0
            boxes, scores, labels = (
                _batched(x, n) for x, n in ((boxes, 3), (found[self.scores], 2), (found[self.labels], 2))
            )
            scores = one_hot(labels - first, scores.float(), number)
        else:
            scores = found[self.scores].float()
        corners = ops.xywh2xyxy(boxes) if self.box_format == "cxcywh" else boxes
        if self.box_units == "normalized":
            corners = corners * corners.new_tensor([shape[1], shape[0], shape[1], shape[0]])
        return corners, self._probabilities(scores, number)

    def _probabilities(self, scores: Tensor, number: int) -> Tensor:
        if self.activation == "sigmoid":
            found = scores.sigmoid()
        else:
            found = scores.softmax(-1) if self.activation == "softmax" else scores
        first = 1 if self.background == "first" and self.kind != "labelled" else 0
        return found[..., first : first + number]


def _batched(x: Tensor, dimensions: int) -> Tensor:
    return x if x.dim() == dimensions else x[None]


def recognise(outputs: Sequence[GraphOutput], adapter: TeacherAdapter, number: int, told: str = "") -> OutputForm:
    """Recognise what *outputs* hold.

    The *adapter* says it, and shapes and names where it says nothing. *number* is that of the classes; *told* is what
    the file says of itself.

    Raises:
        ModelError: it is not certain, or does not fit the number of classes.

    """
    by_name = {one.name: one for one in outputs}
    for wanted in (adapter.boxes, adapter.scores, adapter.labels):
        if wanted is not None and wanted not in by_name:
            raise ModelError(f"it has no output {wanted!r}; it has {', '.join(by_name)}", hint=HINT)
    boxes = by_name.get(adapter.boxes or "") or _boxes_of(outputs)
    if boxes is None:
        shown = ", ".join(f"{one.name} {tuple(one.shape)}" for one in outputs)
        raise ModelError(f"which of its outputs holds the boxes is not certain: {shown}", hint=HINT)
    others = [one for one in outputs if one != boxes and len(one.shape) <= 3]
    if boxes.shape[-1:] == (4,):
        return _of_several(boxes, others, adapter, number, by_name)
    more = _coefficients(outputs)
    sides = boxes.shape[1:] if len(boxes.shape) == 3 else (None, None)
    columns, rows = (None if side is None else side - more for side in sides)
    transposed = 4 + number
    rtdetr = "rtdetr" in told.lower()
    if rows == 6 and not rtdetr and columns != transposed:
        return _answer("final", boxes, None, None, adapter, "xyxy pixels none none")
    if columns == transposed and rows != transposed:
        return _answer("columns", boxes, None, None, adapter, "cxcywh pixels none none")
    if rows == transposed and (rtdetr or adapter.box_units is not None):
        return _answer("rows", boxes, None, None, adapter, "cxcywh normalized none none")
    message = f"its output {boxes.name} {tuple(boxes.shape)} is no table of boxes of {number} classes"
    raise ModelError(message, hint=f"as many names as it has classes; {HINT}")


def _coefficients(outputs: Sequence[GraphOutput]) -> int:
    """Return how many columns after a box's own are for its mask: one for each prototype (N, 32, H, W)."""
    prototypes = [one for one in outputs if len(one.shape) == 4]
    return prototypes[0].shape[1] or 0 if len(prototypes) == 1 else 0


def _boxes_of(outputs: Sequence[GraphOutput]) -> GraphOutput | None:
    tables = [one for one in outputs if len(one.shape) < 4]
    fours = [one for one in tables if one.shape[-1:] == (4,) and not one.whole]
    if len(tables) == 1 or len(fours) == 1:
        return (fours or tables)[0]
    return next((one for one in fours if one.name in {"boxes", "dets", "pred_boxes"}), None)


def _of_several(
    boxes: GraphOutput, others: Sequence[GraphOutput], adapter: TeacherAdapter, number: int, by_name: Mapping[str,
    GraphOutput]
) -> OutputForm:  # fmt: skip
    rank = len(boxes.shape)
    flat = [one for one in others if len(one.shape) == rank - 1]
    labels = by_name.get(adapter.labels or "") or next((one for one in flat if one.whole), None)
    if labels is not None:
        scores = by_name.get(adapter.scores or "") or next((one for one in flat if not one.whole), None)
        if scores is not None:
            first = "first" if rank == 2 else "none"  # one image without a batch: as torchvision exports its own
            return _answer("labelled", boxes, scores, labels, adapter, f"xyxy pixels none {first}")
    tables = [one for one in others if len(one.shape) == rank and one.shape[-1] in {number, number + 1, None}]
    scores = by_name.get(adapter.scores or "") or (tables[0] if len(tables) == 1 else None)
    if scores is None:
        shown = ", ".join(f"{one.name} {tuple(one.shape)}" for one in others)
        message = f"which of its outputs has the scores of {number} classes is not certain: {shown}"
        raise ModelError(message, hint=f"as many names as it has classes; {HINT}")
    extra = scores.shape[-1] == number + 1
    own = "sigmoid" if not extra or scores.name == "labels" else "softmax"  # RF-DETR calls its logits labels
    return _answer("pair", boxes, scores, None, adapter, f"cxcywh normalized {own} {'last' if extra else 'none'}")


def _answer(  # noqa: PLR0917 - three outputs and what is in them
    kind: str, boxes: GraphOutput, scores: GraphOutput | None, labels: GraphOutput | None, adapter: TeacherAdapter,
    usual: str
) -> OutputForm:  # fmt: skip
    box_format, units, activation, background = usual.split()
    return OutputForm(
        kind, boxes.name, "" if scores is None else scores.name, "" if labels is None else labels.name,
        adapter.box_format or box_format, adapter.box_units or units, adapter.activation or activation,
        adapter.background or background,
    )  # fmt: skip
