"""Define the result of an evaluation job: figures and differences of networks."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from retort.schema import StoredModel
from retort.spec.exported import AnyExport
from retort.spec.figures import NetworkFigures
from retort.spec.verdict import Kind, Resampled


class EvaluatedNetwork(NetworkFigures):
    """One network of an evaluation."""

    weights: str
    """Its weights, as the request names them."""
    title: str
    """Its name for people."""
    imgsz: int
    """Side of the images that it sees."""


class NetworkDifference(StoredModel):
    """A network beside the first one, on the same images."""

    weights: str
    """Its weights, as the request names them."""
    difference: float
    """Its mAP50-95 less that of the first."""
    interval: Resampled
    """Of the difference over other choices of the images; what another training would give it does not know."""
    kind: Kind
    """``gain`` or ``loss`` where the interval has no zero in it, else ``none``."""
    sentence: str
    """The same in words."""


class EvaluationResult(StoredModel):
    """What networks find and cost."""

    task: Literal["evaluate"] = "evaluate"
    """Tells an evaluation from the result of a distillation."""
    networks: tuple[EvaluatedNetwork, ...]
    """In the order of the request."""
    differences: tuple[NetworkDifference, ...] = ()
    """Of each further network to the first, where both know classes of the data."""
    exports: tuple[AnyExport, ...] = ()
    """Forms of the network, in the order of the request."""
    names: tuple[str, ...]
    """Classes of the data in the order of their ids."""
    num_images: int
    """Images that were measured on."""
    digest: str = Field(description="SHA-256 over the data's files.")
    device: str
    """``cpu``, or the GPU's product name."""
