"""Small detectors of other families, as strangers' files."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor, nn


def write(
    path: Path, module: nn.Module, inputs: Sequence[Tensor], outputs: Sequence[str], names: Sequence[str] | None,
    *, input_names: Sequence[str] = ("images",), dynamic: bool = False, **metadata: str,
) -> Path:  # fmt: skip
    """Export *module* to ONNX, with *names* among its metadata."""
    axes: dict[str, Any] = {name: {0: "n"} for name in (*input_names, *outputs)} if dynamic else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's older exporter, whose graphs are the plain ones
        torch.onnx.export(
            module.eval(), tuple(inputs), str(path), input_names=list(input_names), output_names=list(outputs),
            opset_version=17, dynamo=False, dynamic_axes=axes,
        )  # fmt: skip
    model = onnx.load(path)
    told = dict(metadata) if names is None else {**metadata, "names": json.dumps(dict(enumerate(names)))}
    for key, value in told.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    onnx.save(model, path)
    return path


class Fixed(nn.Module):
    """Sees the same boxes in every image, a little surer in bright ones; *form* says how it tells them."""

    def __init__(self, form: str, boxes: Sequence[Sequence[float]], probabilities: Sequence[Sequence[float]]) -> None:
        super().__init__()
        self.form = form
        self.register_buffer("boxes", torch.tensor(boxes))  # x1 y1 x2 y2 as shares of the input
        self.register_buffer("probabilities", torch.tensor(probabilities))

    def forward(self, images: Tensor, sizes: Tensor | None = None) -> Any:
        images = images[None] if self.form == "single" else images
        height, width = images.shape[2], images.shape[3]
        pixels = self.boxes * torch.tensor([width, height, width, height])
        nothing = images.mean((1, 2, 3))[:, None, None] * 0
        corners, shares, p = pixels + nothing, self.boxes + nothing, self.probabilities + nothing
        best, labels = p.max(-1)
        if self.form in {"columns", "rows"}:
            table = torch.cat([centred(corners if self.form == "columns" else shares), p], -1)
            return table.transpose(1, 2) if self.form == "columns" else table
        if self.form == "final":
            return torch.cat([corners, best[..., None], labels[..., None].float()], -1)
        if self.form == "detr":
            return centred(shares), torch.logit(p, 1e-4)
        if self.form == "softmax":
            rest = (1 - p.sum(-1, keepdim=True)).clamp(min=1e-4)
            return centred(shares), torch.cat([p.clamp(min=1e-4), rest], -1).log()
        if self.form in {"one", "single"}:  # as torchvision exports its own: one image, and classes from 1
            return corners[0], labels[0] + 1, best[0]
        assert self.form == "sizes"
        assert sizes is not None
        return labels, shares * sizes.repeat(1, 2)[:, None].float(), best


def centred(corners: Tensor) -> Tensor:
    return torch.cat([(corners[..., :2] + corners[..., 2:]) / 2, corners[..., 2:] - corners[..., :2]], -1)


OUTPUTS = {
    "columns": ["output0"], "rows": ["output0"], "final": ["output0"], "detr": ["pred_boxes", "pred_logits"],
    "softmax": ["pred_boxes", "pred_logits"], "one": ["boxes", "labels", "scores"],
    "single": ["boxes", "labels", "scores"], "sizes": ["labels", "boxes", "scores"],
}  # fmt: skip
