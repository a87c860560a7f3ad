"""ONNX in INT8: static quantization with some layers in float, and each layer's sensitivity."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import torch
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantType, create_calibrator
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
from onnxruntime.quantization.quant_utils import load_model_with_shape_infer, save_and_reload_model_with_shape_infer

from retort import files
from retort.training.export.calibration import Calibration
from retort.training.export.form import Form
from retort.training.export.graph import decoding, layers
from retort.training.inference import Runtime, load_onnx

if TYPE_CHECKING:
    from torch import Tensor

_LAYERS = ("Conv",)
"""What is quantized: nearly all of the work. The rest joins boxes in pixels and scores, which no one scale fits."""


class CalibratedGraph:
    """Float graph with the ranges of its tensors.

    The ranges are those over the calibration images; methods return what can be made of the two.
    """

    def __init__(self, path: Path, calibration: Calibration, form: Form) -> None:
        self.path = path
        self.calibration = calibration
        self.form = form

    def inputs(self) -> Iterator[np.ndarray]:
        """Yield the calibration images in the graph's batches.

        The last one is filled up with its first image.
        """
        found = self.calibration.inputs(self.form.shape)
        while some := list(itertools.islice(found, self.form.batch)):
            yield np.concatenate([*some, *some[:1] * (self.form.batch - len(some))])

    @cached_property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers that can be quantized.

        They are ordered from the image to the boxes.
        """
        return layers(onnx.load(self.path))

    @cached_property
    def decoding(self) -> tuple[str, ...]:
        """Names of the nodes that decode boxes and scores.

        They lie behind the last layers.
        """
        return decoding(onnx.load(self.path))

    @cached_property
    def ranges(self) -> Any:
        """Smallest and largest value of each tensor at a layer.

        They are those over all calibration images.
        """
        with TemporaryDirectory() as folder:
            calibrator = create_calibrator(
                self.path,
                list(_LAYERS),
                augmented_model_path=str(Path(folder) / "augmented.onnx"),
                calibrate_method=CalibrationMethod.MinMax,
                extra_options={"symmetric": False},
            )
            calibrator.collect_data(_CalibrationReader(self.inputs()))
            return calibrator.compute_data()

    @cached_property
    def _model(self) -> Any:
        return save_and_reload_model_with_shape_infer(load_model_with_shape_infer(self.path))

    def quantized(self, *, kept: Collection[str] = (), only: Collection[str] = (), symmetric: bool = False) -> Any:
        """Return the graph with its layers in INT8.

        The layers *kept* stay in float; with *only*, some are in INT8. Weights have a scale for each output channel,
        activations one for the tensor. *symmetric* puts the zero of activations at 0, as TensorRT insists.
        """
        chosen = [layer for layer in self.layers if layer not in kept and (not only or layer in only)]
        quantizer = QDQQuantizer(
            copy.deepcopy(self._model),
            per_channel=True,
            reduce_range=False,
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QInt8 if symmetric else QuantType.QUInt8,
            tensors_range=self.ranges,
            nodes_to_quantize=chosen,
            nodes_to_exclude=[],
            op_types_to_quantize=list(_LAYERS),
            extra_options={"ActivationSymmetric": symmetric, "WeightSymmetric": True},
        )
        quantizer.quantize_model()
        quantizer.model.topological_sort()
        model = quantizer.model.model
        source = onnx.load(self.path, load_external_data=False)
        del model.metadata_props[:]
        model.metadata_props.extend(source.metadata_props)
        model.ir_version = source.ir_version
        return model

    def write(self, path: Path, *, kept: Collection[str] = (), symmetric: bool = False) -> None:
        """Write the quantized graph to a file."""
        model = self.quantized(kept=kept, symmetric=symmetric)
        onnx.checker.check_model(model)
        files.atomic_write(path, model.SerializeToString())

    def scales(self) -> dict[str, float]:
        """Return the symmetric scale of each tensor: its largest magnitude over 127."""
        found: dict[str, float] = {}
        for name, data in self.ranges.data.items():
            low, high = data.range_value
            found[name] = float(max(abs(np.asarray(low).item()), abs(np.asarray(high).item())) / 127)
        return found


class _CalibrationReader(CalibrationDataReader):  # type: ignore[misc]
    """Hands the calibration images to onnxruntime."""

    def __init__(self, images: Iterator[np.ndarray]) -> None:
        self._images = images

    def get_next(self) -> dict[str, np.ndarray] | None:
        image = next(self._images, None)
        return None if image is None else {"images": image}


NUM_IMAGES = 8


@dataclass(frozen=True)
class Sensitivity:
    """Output error caused by one layer in INT8."""

    layer: str
    error: float
    """Change of scores, and of boxes relative to the image, averaged over where the float network sees something."""


def rank(graph: CalibratedGraph, *, on_layer: Callable[[], None]) -> list[Sensitivity]:
    """Measure the INT8 sensitivity of every layer, worst first.

    Some calibration images of *graph* are used.
    """
    images = [
        torch.from_numpy(image)
        for image, _ in zip(graph.calibration.inputs(graph.form.shape), range(NUM_IMAGES), strict=False)
    ]
    expected = _outputs(load_onnx(graph.path), images)
    found = []
    with TemporaryDirectory() as folder:
        path = Path(folder) / "one-layer.onnx"
        for layer in graph.layers:
            on_layer()
            path.write_bytes(graph.quantized(only=[layer]).SerializeToString())
            error = difference(expected, _outputs(load_onnx(path), images), imgsz=max(graph.form.shape))
            found.append(Sensitivity(layer, error))
    return sorted(found, key=lambda one: -one.error)


def _outputs(runtime: Runtime, images: list[Tensor]) -> Tensor:
    return torch.cat([runtime.run_all(image) for image in images])


def difference(expected: Tensor, found: Tensor, *, imgsz: int) -> float:
    """Return the difference of raw outputs (N, 4 + K, A).

    Each anchor is weighted by the highest score that is expected there.
    """
    weight = expected[:, 4:].amax(1)  # N A
    scores = (expected[:, 4:] - found[:, 4:]).abs().amax(1)
    boxes = (expected[:, :4] - found[:, :4]).abs().mean(1) / imgsz
    return float((weight * (scores + boxes)).sum() / weight.sum().clamp(min=1e-9))
