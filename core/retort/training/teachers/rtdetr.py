"""Ultralytics' RT-DETR, built from the description in its file."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retort.checkpoints import rtdetr, states, tensor_rows
from retort.checkpoints.records import Flaw
from retort.errors import ModelError
from retort.foreign import first_line
from retort.spec.adapter import TeacherAdapter
from retort.training import models
from retort.training.rebuilding import stored_tensor
from retort.training.teachers import told_in
from retort.training.teachers.base import BoxNetwork, fitted, raw_output
from retort.training.ultralytics_api import RTDETRDecoder, RTDETRDetectionModel, ops

if TYPE_CHECKING:
    from torch import Tensor


def load(weights: Path) -> RtdetrNetwork | None:
    """Build the network of a prepared RT-DETR; None for any other file.

    Raises:
        ModelError: its tensors are not those of the network that it describes, or a training has ruined them.

    """
    if weights.suffix == ".onnx" or (told := told_in(weights)) is None:
        return None
    metadata, rows = tensor_rows.read(weights)
    if (text := metadata.get(rtdetr.ARCHITECTURE)) is None:
        return None
    names, adapter = told
    try:
        network = _built(text, len(names), weights.name)
        network.load_state_dict({name: stored_tensor(weights, one).float() for name, one in rows.items()})
    except (Flaw, RuntimeError) as error:
        hint = "an RT-DETR as the pinned Ultralytics saves it, and as many adapter.names as it has classes"
        raise ModelError(f"{weights.name} is no RT-DETR that can be built: {first_line(error)}", hint=hint) from error
    if (flaw := models.weight_flaw(network)) is not None:
        raise ModelError(f"weights file {weights.name} comes from a training that diverged: {flaw}")
    return RtdetrNetwork(names, network, adapter)


def _built(text: str, num_classes: int, name: str) -> Any:
    with models.seeded(0):
        network = models.built_as(RTDETRDetectionModel, states.architecture(text), num_classes, name)
    if not isinstance(network.model[-1], RTDETRDecoder):
        raise Flaw(f"its head is a {type(network.model[-1]).__name__}")
    return deepcopy(network)  # upstream's convolutions share one activation, which would train with the student's


class RtdetrNetwork(BoxNetwork):
    """RT-DETR (Zhao et al., CVPR 2024): queries with class probabilities."""

    def __init__(self, names: dict[int, str], network: Any, adapter: TeacherAdapter) -> None:
        super().__init__(names, "Ultralytics' RT-DETR")
        self.network = network.eval()
        self._adapter = adapter

    def forward(self, images: Tensor) -> Tensor:
        """Return boxes and probabilities (N, 4 + K, A), as ``BoxNetwork`` says."""
        x, back = fitted(images.float(), None, self._adapter)
        head = self.network.model[-1]
        if head.anchors.device != x.device:
            head.shapes = []  # its anchors are kept by size alone, and stay behind when it is moved
        _, (boxes, logits, *_) = self.network(x)  # of the last layer: 1 N Q 4, 1 N Q K
        height, width = x.shape[-2:]
        corners = ops.xywh2xyxy(boxes[-1].float()) * x.new_tensor([width, height, width, height])
        return raw_output(back(corners), logits[-1].sigmoid())
