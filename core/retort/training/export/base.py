"""Define what makes and runs an export format: a module named as the format's in ``retort.exports``."""

from __future__ import annotations

from collections.abc import Callable, Collection
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from retort.errors import RetortError
from retort.exports.base import Export

if TYPE_CHECKING:
    from retort.training.export.quantization import CalibratedGraph
    from retort.training.inference import Runtime


class Sources(Protocol):
    """Gives what forms are made from; each shared thing is made when it is first needed."""

    weights: Path
    """The student, published."""
    imgsz: int

    @property
    def graph(self) -> Path:
        """The student's ONNX graph in float32."""

    @property
    def metadata(self) -> dict[str, Any]:
        """What upstream's loaders want to know of the student."""

    def float_graph(self, num_images: int, *, opset: int | None = None) -> CalibratedGraph:
        """Return the graph with the ranges of its tensors over so many calibration images."""

    def aware_graph(self, epochs: int) -> Path:
        """Return the INT8 graph of the student trained on for so many epochs with INT8 simulated in it."""


class Maker(Protocol):
    """A module that makes the forms of one format, and runs them."""

    def make(self, sources: Sources, export: Any, path: Path, kept: Collection[str], /) -> None:
        """Write the form that *export* asks for at *path*; the layers *kept* stay in higher precision.

        Raises:
            ToolchainMissing: this machine cannot make it.
            DataError: there are too few images to calibrate with.

        """

    def load(self, path: Path, /) -> Runtime:
        """Return the form at *path*, ready to run."""


class ToolchainMissing(RetortError):
    """Something that this machine lacks; what the form can be made from elsewhere lies in *files*."""

    code = "needs"

    def __init__(self, message: str, files: Collection[Path], *, hint: str) -> None:
        super().__init__(message, hint=hint)
        self.files = tuple(files)


def maker(export: Export) -> Maker:
    """Return the module that makes the format of *export*."""
    name = type(export).__module__.rpartition(".")[2]
    return cast("Maker", import_module(f"{__package__}.{name}"))


def lacking(export: Export) -> str | None:
    """Say before any training what this machine lacks for *export*; None where nothing is known to be missing."""
    missing: Callable[[], str | None] | None = getattr(maker(export), "missing", None)
    return None if missing is None else missing()
