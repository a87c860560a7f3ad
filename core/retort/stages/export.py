"""Make the student's other forms, and check each box by box against PyTorch."""

from __future__ import annotations

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
    compared = compare_onnx(weights, path, val_images(context, _NUM_IMAGES), imgsz)
    return {
        "max_relative_error": compared.max_relative_error,
        "num_images": compared.num_images,
        "equal": compared.equal and compared.max_relative_error <= TOLERANCE,
    }


def val_images(context: Context, most: int) -> list[Path]:
    """Return at most so many validation images, spread evenly."""
    images = sorted((context.inputs.data_yaml.parent / "images" / "val").iterdir())
    step = max(1.0, len(images) / most)
    return [images[int(index * step)] for index in range(min(most, len(images)))]


EXPORTERS: dict[str, Callable[[Context, Any, Path, Path], dict[str, Any]]] = {"onnx": _onnx}
"""How each format of ``retort.exports`` is made."""
