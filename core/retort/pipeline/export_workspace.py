"""Share graphs, ranges and trainings between the exports of one network."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retort.exports.base import MAX_DET, Calibrated, Export
from retort.pipeline import train
from retort.pipeline.context import Context

if TYPE_CHECKING:
    import torch

    from retort.training.evaluate import Conditions
    from retort.training.export.calibration import Calibration
    from retort.training.export.form import Form
    from retort.training.export.qat import QATResult
    from retort.training.export.quantization import CalibratedGraph, Sensitivity
    from retort.training.inference import Runtime

_Scenes = tuple[int, str | None]
"""How many images INT8 ranges are taken from, and their folder, where it is not the training images'."""


def _scenes(export: Calibrated) -> _Scenes:
    return export.calibration_images, export.calibration_path


class ExportWorkspace:
    """Workspace of the exports; shared parts are made on first use."""

    def __init__(self, context: Context, weights: Path, *, imgsz: int, seed: int) -> None:
        self.context = context
        self.weights = weights
        self.imgsz = imgsz
        self.most_workspace_gib = context.inputs.bounds.workspace_gib
        self.seed = seed
        self.folder = context.folder("exporting")
        self._calibrations: dict[_Scenes, Calibration] = {}
        self._graphs: dict[tuple[_Scenes, str], CalibratedGraph] = {}
        self._rankings: dict[tuple[_Scenes, str], list[Sensitivity]] = {}
        self._base_maps: dict[Form, float] = {}
        self._aware: dict[tuple[int, str], QATResult] = {}

    def beat(self) -> None:
        """Send a heartbeat; stop when requested."""
        self.context.heartbeat.beat("setup")
        self.context.check()

    def form(self, export: Export) -> Form:
        """Return what *export* turns the student into."""
        from retort.training.export.form import Form

        return Form.of(export, self.imgsz)

    def graph(self, export: Export, *, opset: int | None = None, simplify: bool = True) -> Path:
        """Return the student's ONNX graph in float32, with raw output.

        It has the input of *export*, and is there for all that is made from one.
        """
        from retort.training.export.onnx import export_raw

        form = self.form(export)
        about = (*form.shape, form.batch, form.dynamic, form.nms_free, opset, simplify)
        path = self.folder / f"float-{'-'.join(map(str, about))}.onnx"
        if not path.exists():
            export_raw(self.weights, path, form, opset=opset, simplify=simplify)
        return path

    def finished(self, graph: Path, export: Export) -> Path:
        """Return *graph* with NMS or the best boxes, where *export* gives those."""
        from retort.training.export.graph import finish

        form = self.form(export)
        if not form.final:
            return graph
        path = self.folder / f"finished-{graph.name}"
        shutil.copyfile(graph, path)
        finish(path, form)
        return path

    def calibration(self, export: Calibrated) -> Calibration:
        """Return the calibration images of *export*.

        Raises:
            DataError: there are too few.

        """
        from retort.training.export.calibration import choose, choose_unlabelled

        scenes, inputs = _scenes(export), self.context.inputs
        number = export.calibration_images
        if scenes not in self._calibrations:
            self._calibrations[scenes] = (
                choose(inputs.data_yaml.parent, inputs.dataset.names, number=number, seed=self.seed)
                if export.calibration_path is None
                else choose_unlabelled(
                    inputs.calibration[export.calibration_path].folder, number=number, seed=self.seed
                )
            )
        return self._calibrations[scenes]

    def float_graph(self, export: Calibrated, *, opset: int | None = None) -> CalibratedGraph:
        """Return the graph with tensor ranges over the calibration images of *export*.

        Raises:
            DataError: there are too few.

        """
        from retort.training.export.quantization import CalibratedGraph

        path = self.graph(export, opset=opset)
        key = (_scenes(export), path.name)
        if key not in self._graphs:
            self._graphs[key] = CalibratedGraph(path, self.calibration(export), self.form(export))
        return self._graphs[key]

    def aware(self, export: Calibrated) -> QATResult:
        """Return what the quantization-aware training of *export* came to; equal ones are trained once."""
        from retort.training.evaluate import RuntimeAsModule, accuracy
        from retort.training.export.qat import QATConfig, train_aware

        epochs, teacher = export.aware_epochs, export.taught_by
        if (epochs, teacher) not in self._aware:
            context, judged = self.context, self.conditions(self.context.inputs.device, self.form(export))
            taught = train.weights(context) if teacher == "teacher" else self.weights if teacher == "student" else None
            config = QATConfig(
                data_yaml=context.inputs.data_yaml, imgsz=self.imgsz, batch=context.batch, epochs=epochs,
                device=context.inputs.device, seed=self.seed, on_batch=self.beat, teacher=taught,
                judge=lambda runtime: accuracy(RuntimeAsModule(runtime, self.network.names), judged).map,
            )  # fmt: skip
            self._aware[epochs, teacher] = train_aware(self.weights, config, self.folder / f"aware-{epochs}-{teacher}")
        return self._aware[epochs, teacher]

    def ranking(self, export: Calibrated) -> list[Sensitivity]:
        """Return the layers by INT8 sensitivity, the worst first."""
        from retort.training.export.quantization import rank

        graph = self.float_graph(export)
        key = (_scenes(export), graph.path.name)
        if key not in self._rankings:
            self._rankings[key] = rank(graph, on_layer=self.beat)
        return self._rankings[key]

    @cached_property
    def network(self) -> Any:
        """Loaded network of the student."""
        from retort.training import models

        return models.load(self.weights)

    def metadata(self, export: Export) -> dict[str, Any]:
        """Return the metadata of *export* for Ultralytics' loaders."""
        from retort.training.export.form import metadata

        return metadata(self.network, self.form(export))

    def conditions(self, device: str, form: Form) -> Conditions:
        """Return the evaluation conditions: images fitted into a shape, as upstream does."""
        from retort.training.evaluate import Conditions

        return Conditions(
            data_yaml=self.context.inputs.data_yaml,
            imgsz=max(form.shape),
            batch=self.context.val_batch,
            device=device,
            loader_workers=self.context.inputs.adjustments.loader_workers,
            square=form.square,
            shape=None if form.square else form.shape,
            data_name=self.context.inputs.data_name,
            single_cls=bool(self.context.inputs.dataset.merged),
            on_batch=self.beat,
        )

    def base_map(self, form: Form) -> float:
        """Return the student's mAP50-95 in PyTorch, at an export's shape and thresholds.

        What the NMS-free head finds is compared with what the student finds as it is judged, with NMS.
        """
        from retort.training.evaluate import RuntimeAsModule, accuracy
        from retort.training.inference import load_folded, wrap_network

        alike = replace(form, batch=1, dynamic=False)
        if form.nms_free or not form.final:
            alike = replace(alike, nms=None, max_det=MAX_DET)
        if alike not in self._base_maps:
            device = self.context.inputs.device
            conditions, network = self.conditions(device, alike), self.network
            if alike.final:
                where = _device(device)
                whole = wrap_network(load_folded(self.weights), where, alike.ending())
                network = RuntimeAsModule(whole, self.network.names)
            self._base_maps[alike] = accuracy(network, conditions).map
        return self._base_maps[alike]

    def pytorch(self, device: str) -> Runtime:
        """Return the student in PyTorch on an export's kind of device."""
        from retort.training.deployment import deploy
        from retort.training.inference import load_folded

        return deploy(load_folded(self.weights), _device(device))

    @cached_property
    def val_images(self) -> Sequence[Path]:
        """All validation images."""
        return sorted((self.context.inputs.data_yaml.parent / "images" / "val").iterdir())


def _device(name: str) -> torch.device:
    import torch

    return torch.device("cpu" if name == "cpu" else "cuda")
