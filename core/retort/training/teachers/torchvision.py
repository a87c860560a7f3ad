"""torchvision's detectors, recognised by the names and shapes of their tensors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import pad

from retort.checkpoints import tensor_rows
from retort.errors import ModelError
from retort.foreign import first_line
from retort.spec.adapter import TeacherAdapter
from retort.training.rebuilding import stored_tensor
from retort.training.teachers import told_in
from retort.training.teachers.base import BoxNetwork, fitted, one_hot, raw_output

if TYPE_CHECKING:
    from torch import Tensor

BUILDERS = (
    "fasterrcnn_mobilenet_v3_large_fpn", "fasterrcnn_mobilenet_v3_large_320_fpn", "fasterrcnn_resnet50_fpn",
    "fasterrcnn_resnet50_fpn_v2", "retinanet_resnet50_fpn", "retinanet_resnet50_fpn_v2", "fcos_resnet50_fpn",
    "ssd300_vgg16", "ssdlite320_mobilenet_v3_large",
)  # fmt: skip
_SHOWN = 3


def load(weights: Path) -> TorchvisionNetwork | None:
    """Build the network of a prepared state dict; None for any other file.

    Nothing is downloaded.

    Raises:
        ModelError: its tensors are those of none of ``BUILDERS`` with so many classes.

    """
    if weights.suffix == ".onnx" or (told := told_in(weights)) is None:
        return None
    names, adapter = told
    rows = tensor_rows.read(weights)[1]
    shapes = {name: tuple(one.shape) for name, one in rows.items()}
    builder, background = _builder(weights.name, shapes, len(names))
    network = _built(builder, len(names) + background)
    try:
        network.load_state_dict({name: stored_tensor(weights, one) for name, one in rows.items()})
    except RuntimeError as error:
        raise ModelError(f"{weights.name} does not fit {builder}: {first_line(error)}") from error
    return TorchvisionNetwork(names, network, builder, adapter, background)


def _builder(name: str, shapes: Mapping[str, tuple[int, ...]], number: int) -> tuple[str, int]:
    """Return the builder whose tensors these are, and how many classes of its are no object.

    Training scripts count the background as a class, even where the network needs none.
    """
    for builder in BUILDERS:
        for background in (1, 0):
            with torch.device("meta"):
                wanted = {
                    key: tuple(one.shape) for key, one in _built(builder, number + background).state_dict().items()
                }
            if wanted == shapes:
                return builder, background
    hint = f"as many names as classes, without the background, and one of {', '.join(BUILDERS)}"
    message = f"the tensors of {name} are those of no detector of torchvision with {number} classes"
    raise ModelError(message, hint=hint)


def _built(builder: str, num_classes: int) -> Any:
    from torchvision.models import detection

    return getattr(detection, builder)(weights=None, weights_backbone=None, num_classes=num_classes)


class TorchvisionNetwork(BoxNetwork):
    """A network that takes a list of images, and gives final boxes of each."""

    def __init__(
        self, names: dict[int, str], network: Any, builder: str, adapter: TeacherAdapter, background: int
    ) -> None:  # fmt: skip
        super().__init__(names, f"torchvision's {builder}")
        self.network = network.eval()
        self._adapter, self._first = adapter, background

    def forward(self, images: Tensor) -> Tensor:
        """Return boxes and probabilities (N, 4 + K, A), as ``BoxNetwork`` says.

        The network itself resizes and normalises images, as its builder says, and its boxes are of one class each.
        """
        x, back = fitted(images.float(), None, self._adapter)
        found = self.network(list(x))
        most = max(len(one["boxes"]) for one in found)
        corners = torch.stack([pad(one["boxes"], (0, 0, 0, most - len(one["boxes"]))) for one in found])
        labels, scores = (
            torch.stack([pad(one[name], (0, most - len(one["boxes"]))) for one in found])
            for name in ("labels", "scores")
        )
        return raw_output(back(corners), one_hot(labels - self._first, scores, len(self.names)))
