"""Quantization-aware training: a student trained on with INT8 simulated in it, by Ultralytics' ``quantize=8``."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from retort import files
from retort.errors import RetortError
from retort.training import comm
from retort.training.ultralytics_api import YOLO, DetectionTrainer

LEARNING_RATE = 1e-4
"""A hundredth of a training's from the start: the weights are to move within a step of INT8 or two."""


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


def train_aware(weights: Path, graph: Path, output: QATConfig, folder: Path) -> None:
    """Train published *weights* on with simulated INT8 (ModelOpt).

    The ONNX *graph* is written with its scales in it. It trains by the task loss alone, without mosaic, at a small
    learning rate that falls to a hundredth.

    Raises:
        RetortError: upstream wrote a graph that is not the usual one.

    """
    trainer = DetectionTrainer(
        overrides={
            "model": str(weights),
            "data": str(output.data_yaml),
            "save_dir": str(folder),
            "quantize": 8,
            "epochs": output.epochs,
            "imgsz": output.imgsz,
            "batch": output.batch,
            "device": output.device,
            "seed": output.seed,
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
    for event in ("on_train_batch_start", "on_val_batch_start"):
        trainer.add_callback(event, lambda _: output.on_batch())
    with comm.alone(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ModelOpt and the tracing exporter are behind torch's newest words
        trainer.train()
        written = YOLO(str(trainer.best)).export(format="onnx", quantize=8, imgsz=output.imgsz, device="cpu")
    model = onnx.load(written)
    _insist(model)
    files.atomic_write(graph, model.SerializeToString())


def _insist(model: Any) -> None:
    shape = [value.dim_value for value in model.graph.output[0].type.tensor_type.shape.dim]
    if len(shape) != 3 or shape[2] < shape[1]:
        raise RetortError(
            f"quantization-aware training wrote a graph with the output {shape}, not (1, 4 + classes, anchors)",
            hint="leave aware_epochs out for this student",
        )
