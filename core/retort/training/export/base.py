"""Define the interface of export makers, modules named like ``retort.exports``'."""

from __future__ import annotations

from collections.abc import Callable, Collection
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from retort.errors import RetortError
from retort.exports.base import Calibrated, Export

if TYPE_CHECKING:
    from retort.training.export.qat import QATResult
    from retort.training.export.quantization import CalibratedGraph
    from retort.training.inference import Runtime


class Sources(Protocol):
    """Inputs shared by exports, each made on first use."""

    weights: Path
    """The student, published."""
    imgsz: int
    most_workspace_gib: float | None
    """Most memory that an engine may be built in; null is all of the GPU's."""

    def graph(self, export: Export, *, opset: int | None = None, simplify: bool = True) -> Path:
        """Return the student's ONNX graph in float32, with raw output, for *export*."""

    def finished(self, graph: Path, export: Export) -> Path:
        """Return *graph* with NMS or the best boxes, where *export* gives those."""

    def metadata(self, export: Export) -> dict[str, Any]:
        """Return the metadata of *export* for Ultralytics' loaders."""

    def float_graph(self, export: Calibrated, *, opset: int | None = None) -> CalibratedGraph:
        """Return the graph with tensor ranges over the calibration images of *export*."""

    def aware(self, export: Calibrated) -> QATResult:
        """Return what the quantization-aware training of *export* came to."""


class Maker(Protocol):
    """Interface of a module that exports and runs one format."""

    def make(self, sources: Sources, export: Any, path: Path, kept: Collection[str], /) -> None:
        """Write *export* to *path*; layers *kept* stay in higher precision.

        Raises:
            ToolchainMissing: this machine cannot make it.
            DataError: there are too few images to calibrate with.

        """

    def load(self, path: Path, /, *, exact: bool = False) -> Runtime:
        """Load the exported network at *path*, ready to run as plain Ultralytics runs it.

        *exact* computes in float32 where the program by itself takes fewer bits.
        """


class ToolchainMissing(RetortError):
    """A toolchain is missing here; *files* allow the export elsewhere."""

    code = "needs"

    def __init__(self, message: str, files: Collection[Path], *, hint: str) -> None:
        super().__init__(message, hint=hint)
        self.files = tuple(files)


def maker(export: Export) -> Maker:
    """Return the module that makes the format of *export*."""
    name = type(export).__module__.rpartition(".")[2]
    return cast("Maker", import_module(f"{__package__}.{name}"))


def lacking(export: Export) -> str | None:
    """Return what this machine lacks for *export*, or None.

    It is asked before any training; None where nothing is known to be missing.
    """
    missing: Callable[[], str | None] | None = getattr(maker(export), "missing", None)
    return None if missing is None else missing()
