"""Make the student's other forms, and check each box by box against PyTorch."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from retort.errors import RetortError
from retort.exports.onnx import Onnx
from retort.names import Role
from retort.spec import JobSpec
from retort.stages import cost as costs
from retort.stages.context import Context

after = "evaluate"

TOLERANCE = 1e-3
"""Largest difference of boxes and scores, relative to the larger of the two."""
_NUM_IMAGES = 16
_WARM_UP, _FEWEST, _MOST, _LONGEST_S = 3, 8, 50, 5.0
"""Latency: runs that do not count, and how many there are."""


def applies(spec: JobSpec) -> bool:
    """Only where the spec lists an export."""
    return bool(spec.exports)


def cost(spec: JobSpec) -> float:
    """Return its share of the run."""
    return len(spec.exports) * costs.forward(spec.student.model) / 2


def run(context: Context) -> dict[str, Any]:
    """Return format, path, size, error and latency of each file."""
    student = context.workdir / str(context.results["distill"]["weights"])
    made: list[dict[str, Any]] = []
    for number, export in enumerate(context.spec.exports, start=1):
        context.check()
        context.pulse.beat("setup")
        name = f"student{export.suffix}" if number == 1 else f"student-{number}{export.suffix}"
        compared = EXPORTERS[export.format](context, export, student, context.artifact(name))
        error = compared["max_relative_error"]
        if not compared.pop("equal"):
            raise RetortError(
                f"{name} does not give the student's boxes: they differ by {error:.2g} of their size",
                hint=f"the tolerance is {TOLERANCE:g}; try another opset, or simplify: false",
                code="export_mismatch",
            )
        published = context.publish(name, Role.STUDENT, export.media_type, format=export.format, **compared)
        made.append({"format": export.format, "path": name, "size_bytes": published["size_bytes"], **compared})
        context.progress(number / len(context.spec.exports))
    return {"exports": made}


def _onnx(context: Context, export: Onnx, weights: Path, path: Path) -> dict[str, Any]:
    from retort.training.onnx import compare_onnx, export_onnx

    imgsz = context.spec.training.imgsz
    export_onnx(weights, path, imgsz=imgsz, opset=export.opset, dynamic=export.dynamic, simplify=export.simplify)
    compared = compare_onnx(weights, path, val_images(context, _NUM_IMAGES), imgsz=imgsz)
    return {
        "equal": compared.equal and compared.max_relative_error <= TOLERANCE,
        "max_relative_error": compared.max_relative_error,
        "num_images": compared.num_images,
        "num_boxes": compared.num_boxes,
        "latency_ms": _onnx_latency(path, imgsz),
    }


def _onnx_latency(path: Path, imgsz: int) -> dict[str, float]:
    """Time one image at a time with onnxruntime on the CPU: median and ninth decile in milliseconds."""
    import numpy as np
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: np.zeros((1, 3, imgsz, imgsz), dtype=np.float32)}
    taken: list[float] = []
    begun = time.perf_counter()
    while len(taken) < _FEWEST or (len(taken) < _MOST and time.perf_counter() - begun < _LONGEST_S):
        started = time.perf_counter()
        session.run(None, feed)
        taken.append((time.perf_counter() - started) * 1e3)
    warm = taken[_WARM_UP:]
    return {"p50": statistics.median(warm), "p90": statistics.quantiles(warm, n=10)[-1]}


def val_images(context: Context, most: int) -> list[Path]:
    """Return at most so many validation images, spread evenly."""
    images = sorted((context.inputs.data_yaml.parent / "images" / "val").iterdir())
    step = max(1.0, len(images) / most)
    return [images[int(index * step)] for index in range(min(most, len(images)))]


EXPORTERS: dict[str, Callable[[Context, Any, Path, Path], dict[str, Any]]] = {"onnx": _onnx}
"""How each format of ``retort.exports`` is made."""
