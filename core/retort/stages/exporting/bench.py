"""What all exports of one job share: the student, its float graph, calibration images, and the ranking of layers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retort.stages.answers import TrainedNetwork
from retort.stages.context import Context

if TYPE_CHECKING:
    from retort.training.exporting.calibration import Calibration
    from retort.training.exporting.quantization import FloatGraph
    from retort.training.exporting.sensitivity import Sensitivity
    from retort.training.judge import Conditions
    from retort.training.runtimes import Runtime


class Bench:
    """Makes each shared thing when it is first needed."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.weights = context.workdir / context.needed("distill", TrainedNetwork).weights
        self.imgsz = context.spec.training.imgsz
        self._folder = context.folder("exporting")
        self._calibrations: dict[int, Calibration] = {}
        self._graphs: dict[tuple[int, int | None], FloatGraph] = {}
        self._rankings: dict[int, list[Sensitivity]] = {}

    def beat(self) -> None:
        """Say that the work gets on, and stop where that is asked for."""
        self.context.pulse.beat("setup")
        self.context.check()

    @cached_property
    def graph(self) -> Path:
        """The student's ONNX graph in float32, for all that is made from one."""
        from retort.training.exporting.graph import export_onnx

        path = self._folder / "float.onnx"
        export_onnx(self.weights, path, imgsz=self.imgsz)
        return path

    def calibration(self, num_images: int) -> Calibration:
        """Return so many calibration images.

        Raises:
            DataError: there are too few.

        """
        from retort.training.exporting.calibration import choose

        if num_images not in self._calibrations:
            inputs, seed = self.context.inputs, self.context.spec.training.seed
            chosen = choose(inputs.data_yaml.parent, inputs.dataset.names, number=num_images, seed=seed)
            self._calibrations[num_images] = chosen
        return self._calibrations[num_images]

    def float_graph(self, num_images: int, *, opset: int | None = None) -> FloatGraph:
        """Return the graph with the ranges of its tensors over so many calibration images.

        Raises:
            DataError: there are too few.

        """
        from retort.training.exporting.graph import export_onnx
        from retort.training.exporting.quantization import FloatGraph

        key = (num_images, opset)
        if key not in self._graphs:
            chosen = self.calibration(num_images)
            path = self.graph if opset is None else self._folder / f"float-{opset}.onnx"
            if opset is not None:
                export_onnx(self.weights, path, imgsz=self.imgsz, opset=opset)
            self._graphs[key] = FloatGraph(path, chosen, imgsz=self.imgsz)
        return self._graphs[key]

    def aware_graph(self, epochs: int) -> Path:
        """Return the INT8 graph of the student trained on for so many epochs with INT8 simulated in it."""
        from retort.training.exporting.aware import Lesson, train_aware

        path = self._folder / f"aware-{epochs}.onnx"
        if not path.exists():
            context = self.context
            lesson = Lesson(
                data_yaml=context.inputs.data_yaml, imgsz=self.imgsz, batch=context.training.batch, epochs=epochs,
                device=context.inputs.device, seed=context.spec.training.seed, on_batch=self.beat,
            )  # fmt: skip
            train_aware(self.weights, path, lesson, self._folder / f"aware-{epochs}")
        return path

    def ranking(self, num_images: int) -> list[Sensitivity]:
        """Return the layers in the order in which INT8 hurts them, the worst first."""
        from retort.training.exporting.sensitivity import rank

        if num_images not in self._rankings:
            self._rankings[num_images] = rank(self.float_graph(num_images), on_layer=self.beat)
        return self._rankings[num_images]

    @cached_property
    def network(self) -> Any:
        """The student, loaded."""
        from retort.training import networks

        return networks.load(self.weights)

    @cached_property
    def metadata(self) -> dict[str, Any]:
        """What upstream's loaders want to know of the student."""
        from retort.training.exporting.graph import metadata

        return metadata(self.network, imgsz=self.imgsz)

    def conditions(self, device: str) -> Conditions:
        """Return on what the forms are judged: what the student was judged on."""
        from retort.training.judge import Conditions

        return Conditions(
            data_yaml=self.context.inputs.data_yaml,
            imgsz=self.imgsz,
            batch=self.context.training.batch,
            device=device,
            loader_workers=self.context.inputs.adjustments.loader_workers,
            on_batch=self.beat,
        )

    def pytorch(self, device: str) -> Runtime:
        """Return the student in PyTorch, on the kind of device that a form runs on."""
        import torch

        from retort.training import runtimes
        from retort.training.boxes import folded

        return runtimes.of_network(folded(self.weights), torch.device(device))

    @cached_property
    def val_images(self) -> Sequence[Path]:
        """All validation images."""
        return sorted((self.context.inputs.data_yaml.parent / "images" / "val").iterdir())
