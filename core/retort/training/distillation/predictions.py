"""Raw branches of a Detect head turned into what the losses compare."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from retort.losses import Predictions
from retort.training.ultralytics_api import dist2bbox, make_anchors

if TYPE_CHECKING:
    from torch import Tensor

    from retort.training.distillation.feature_taps import Raw


class Decoder:
    """Decodes boxes to input pixels; keeps the anchors of the last shape."""

    def __init__(self, strides: Tensor) -> None:
        self._strides = strides
        self._key: Any = None
        self._anchors = self._scales = torch.empty(0)

    def __call__(self, raw: Raw, classes: Tensor | None, *, boxes: bool = True) -> Predictions:
        """Return the branch over A anchors, reduced to *classes* (K indices; None keeps all) in their order.

        Without *boxes* they are left out: to decode them costs more than some losses do.
        """
        scores = raw["scores"].transpose(1, 2)  # N A nc
        sides = raw["boxes"].unflatten(1, (4, -1))  # N 4 R A
        return Predictions(
            scores=scores if classes is None else scores.index_select(-1, classes),
            boxes=self._boxes(sides.float(), raw["feats"]) if boxes else sides.new_empty(0),
            distances=sides.permute(0, 3, 1, 2),  # N A 4 R
        )

    def _boxes(self, sides: Tensor, features: list[Tensor]) -> Tensor:
        """Expected distance of each side, as corners x1, y1, x2, y2 in pixels: (N, 4, R, A) to (N, A, 4)."""
        anchors, scales = self._grid(features)
        bins = sides.shape[2]
        ticks = torch.arange(bins, dtype=sides.dtype, device=sides.device)[:, None]
        # A sum and not a product of matrices, which autocast would compute in half precision: a third of a pixel.
        expected = (sides.softmax(2) * ticks).sum(2) if bins > 1 else sides.squeeze(2)  # N 4 A
        corners: Tensor = dist2bbox(expected.transpose(1, 2), anchors, xywh=False) * scales
        return corners

    def _grid(self, features: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Anchor points (A, 2) in cells and the stride of each (A, 1)."""
        key = [(*f.shape[-2:], f.device) for f in features]
        if key != self._key:
            anchors, scales = make_anchors([f.float() for f in features], self._strides.to(features[0].device), 0.5)
            self._key, self._anchors, self._scales = key, anchors, scales
        return self._anchors, self._scales
