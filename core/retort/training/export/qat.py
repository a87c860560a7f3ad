"""Train with simulated INT8 (QAT), under a float teacher."""

from __future__ import annotations

import importlib
import math
import warnings
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from retort import files
from retort.errors import RetortError
from retort.spec import DistillationSpec
from retort.training import comm, models
from retort.training.distillation.distiller import Distiller, make_distiller
from retort.training.export.folding import fold_weights, integer_share
from retort.training.export.form import Form, metadata
from retort.training.export.graph import describe, trace
from retort.training.inference import Runtime, wrap_network
from retort.training.ultralytics_api import DetectionTrainer, init_seeds

LEARNING_RATE = 1e-4
"""A hundredth of a training's from the start: the weights are to move within a step of INT8 or two."""
TERMS = DistillationSpec.model_validate(
    {
        "losses": [
            {"kind": "class_logits", "weight": 1.0},
            {"kind": "dfl", "weight": 1.0, "otherwise": "giou"},
            {"kind": "pearson", "weight": 1.0, "levels": ["P3", "P4", "P5"]},
        ],
        "balance": "none",
        "assignment": "student",
        "schedule": {"warmup_epochs": 0, "decay": "none", "floor": 0.0, "stop_with_mosaic": False},
    }
)
"""What the float network teaches: class probabilities, box distances, and the features that the head reads."""


@dataclass(frozen=True)
class QATConfig:
    """How a student is trained on."""

    data_yaml: Path
    imgsz: int
    batch: int
    epochs: int
    device: str
    seed: int
    on_batch: Callable[[], None]
    """Called before each batch; what it raises ends the training."""
    judge: Callable[[Runtime], float]
    """Measures the mAP50-95 of simulated INT8, before the first epoch and after each."""
    teacher: Path | None = None
    """Published weights of the float network that teaches beside the labels; None leaves it to these."""


@dataclass(frozen=True)
class QATResult:
    """Result of a training with simulated INT8."""

    graph: Path
    """ONNX of the best epoch, with its scales in it and float weights."""
    maps: tuple[float, ...]
    """mAP50-95 of the simulated INT8: with calibrated ranges alone, then after each epoch."""
    best_epoch: int
    """Index of the first of the highest of these."""
    integer_share: float
    """Share of the weights in 8 bits, once they are folded."""


class QATLoop(DetectionTrainer):  # type: ignore[misc]
    """Upstream's training with simulated INT8, under our teacher and distillation terms.

    The class must not have "Trainer" in its name: by that word upstream attaches tracking services to a run.
    """

    model: Any
    ema: Any

    def __init__(self, weights: Path, config: QATConfig, folder: Path) -> None:
        self.config, self.weights = config, weights
        self.maps: list[float] = []
        self.best_network: Any = None
        """With batch normalisation folded and quantizers in it, on the CPU."""
        super().__init__(
            overrides={
                "model": str(weights),
                "data": str(config.data_yaml),
                "save_dir": str(folder),
                "quantize": 8,
                "epochs": config.epochs,
                "imgsz": config.imgsz,
                "batch": config.batch,
                "device": config.device,
                "seed": config.seed,
                "optimizer": "AdamW",
                "lr0": LEARNING_RATE,
                "warmup_epochs": 0.0,
                "mosaic": 0.0,
                "amp": False,
                "workers": 0,
                "plots": False,
                "exist_ok": True,
            }
        )
        self.add_callback("on_train_batch_start", lambda _: config.on_batch())

    def setup_model(self) -> None:
        """Load the published student, to be trained on."""
        self.model = models.load(self.weights).train().requires_grad_(requires_grad=True)

    def _build_train_pipeline(self) -> None:
        """Put the teacher beside the student, which has its quantizers by now, before parameters are counted."""
        if self.config.teacher is not None and not isinstance(self.model, Distiller):
            self.model = self._taught_by(self.config.teacher)
        super()._build_train_pipeline()

    def _taught_by(self, teacher: Path) -> Distiller:
        self.model.__dict__.pop("criterion", None)  # upstream's, built by the batches that it calibrated with
        found = make_distiller(
            self.model, models.load(teacher), TERMS,
            device=self.device, epochs=self.config.epochs, close_mosaic=0, seed=self.config.seed,
        )  # fmt: skip
        if teacher == self.weights:  # equal layers are compared as they are
            found.projectors = nn.ModuleDict({key: nn.Identity() for key in found.projectors})
        return found

    def _setup_train(self) -> None:
        """Prepare as upstream does, and measure what calibrated ranges alone give."""
        importlib.import_module("modelopt.torch.quantization")  # draws random numbers while it is imported first
        init_seeds(self.config.seed + 1, deterministic=True)
        super()._setup_train()
        self.validate()

    def _model_train(self) -> None:
        """Train with the statistics that the student has: batch normalisation is folded with them in the file."""
        super()._model_train()
        for module in self.model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()

    def validate(self) -> tuple[dict[str, float], float]:
        """Measure the averaged network as it would be exported; keep the best."""
        average = self.ema.ema
        network = folded(getattr(average, "student_model", average))
        found = self.config.judge(wrap_network(network, self.device))
        if not self.maps or found > max(self.maps):
            self.best_network = network.cpu()
        self.maps.append(found)
        return {"metrics/mAP50-95(B)": found}, found

    def _handle_nan_recovery(self, epoch: int) -> bool:  # noqa: ARG002 - upstream's signature
        """End the training at a loss that is not finite; the best network is kept."""
        self.stop |= not math.isfinite(float(self.loss))
        return False

    def save_model(self) -> bool:
        """Write nothing: the best network is in memory."""
        return False

    def final_eval(self) -> None:
        """Measure nothing: it has been, after each epoch."""


def folded(network: Any) -> Any:
    """Return a copy of a quantized network with batch normalisation folded, as exported."""
    copy = deepcopy(network).eval()
    copy.criterion, copy.end2end = None, False
    return copy.fuse(verbose=False).eval()


def train_aware(weights: Path, config: QATConfig, folder: Path) -> QATResult:
    """Train published *weights* on with simulated INT8 (ModelOpt); write its graph into *folder*.

    It trains without mosaic, at a small learning rate that falls to a hundredth, by the labels and, where there is a
    teacher, by what that says in float of the same images (QKD, Kim et al., 2019). Ranges are those of the first
    batches. The best epoch is kept, of which the first is before any training.

    Raises:
        RetortError: most weights would be in float, or the graph is not the usual one.
        TeacherMismatch: the teacher cannot be compared with the student.

    """
    with comm.alone(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ModelOpt and the tracing exporter are behind torch's newest words
        loop = QATLoop(weights, config, folder)
        loop.train()
        graph = _traced(loop.best_network, Form((config.imgsz, config.imgsz)))
    path = folder / "aware.onnx"
    files.atomic_write(path, graph.SerializeToString())
    fold_weights(graph)
    return QATResult(path, tuple(loop.maps), loop.maps.index(max(loop.maps)), integer_share(graph))


def _traced(network: Any, form: Form) -> Any:
    """Return the graph of a folded network with quantizers, which become pairs of quantization and its inverse."""
    import onnxslim  # type: ignore[import-untyped]

    head = network.model[-1]
    head.export, head.format = True, "onnx"
    graph = onnxslim.slim(trace(network, form.images(), opset=None, axes=None))
    shape = [value.dim_value for value in graph.graph.output[0].type.tensor_type.shape.dim]
    if len(shape) != 3 or shape[2] < shape[1]:
        raise RetortError(
            f"quantization-aware training wrote a graph with the output {shape}, not (1, 4 + classes, anchors)",
            hint="leave aware_epochs out for this student",
        )
    describe(graph, metadata(network, form, final=False))
    return graph
