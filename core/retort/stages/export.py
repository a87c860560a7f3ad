"""Make the student's other forms, check them against PyTorch, and measure what each has kept and what it costs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retort.errors import RetortError, Stopped
from retort.names import Role
from retort.spec import JobSpec
from retort.spec.exported import MeasuredExport, UnmeasuredExport
from retort.stages import cost as costs
from retort.stages.answers import ExportedForms
from retort.stages.context import Context
from retort.stages.exporting import budget
from retort.stages.exporting.bench import Bench
from retort.stages.exporting.makers import Needs

if TYPE_CHECKING:
    from retort.training.exporting.comparison import Comparison

after = "evaluate"

_EXACT = {("onnx", "fp32"), ("torchscript", "fp32"), ("openvino", "fp32")}
"""What must give PyTorch's boxes, one by one."""


def applies(spec: JobSpec) -> bool:
    """Only where the spec lists an export."""
    return bool(spec.exports)


def cost(spec: JobSpec) -> float:
    """Return its share of the run: an evaluation each, and the calibration."""
    quantized = sum(export.precision == "int8" for export in spec.exports)
    return (len(spec.exports) / 2 + float(quantized)) * costs.forward(spec.student.model)


def run(context: Context) -> ExportedForms:
    """Return of each form what was measured, and whether it is within its budget; one that fails fails alone."""
    bench = Bench(context)
    made: list[MeasuredExport | UnmeasuredExport] = []
    taken: set[str] = set()
    for number, export in enumerate(context.spec.exports, start=1):
        context.check()
        context.pulse.beat("setup")
        name = _name(export, taken)
        made.append(_entry(bench, export, name))
        _tell(context, made[-1])
        context.progress(number / len(context.spec.exports))
    return ExportedForms(exports=tuple(made))


def _name(export: Any, taken: set[str]) -> str:
    """Name a form by its precision, where that is not fp32, and by a number where it must be."""
    stem = "student" if export.precision == "fp32" else f"student-{export.precision}"
    name, number = f"{stem}{export.suffix}", 1
    while name in taken:
        number += 1
        name = f"{stem}-{number}{export.suffix}"
    taken.add(name)
    return name


def _entry(bench: Bench, export: Any, name: str) -> MeasuredExport | UnmeasuredExport:
    """Make, measure and publish one form; say why where that cannot be."""
    context, path = bench.context, bench.context.artifact(name)
    about: dict[str, Any] = {"format": export.format, "precision": export.precision, "path": name}
    try:
        measured = budget.produce(bench, export, path, name)
        if (export.format, export.precision) in _EXACT:
            measured = _compared(bench, export, path, measured)
    except Needs as error:
        files = tuple(_published(context, export, error.files))
        return UnmeasuredExport(**about, status="needs", reason=error.message, hint=error.hint, files=files)
    except Stopped:
        raise
    except RetortError as error:
        return UnmeasuredExport(**about, status="failed", reason=error.message, hint=error.hint)
    if measured.status == "differs":
        return measured
    files = tuple(_published(context, export, sorted(path.iterdir()) if path.is_dir() else [path]))
    size = sum(context.artifact(file).stat().st_size for file in files)
    return measured.model_copy(update={"files": files, "size_bytes": size})


def _compared(bench: Bench, export: Any, path: Path, measured: MeasuredExport) -> MeasuredExport:
    from retort.training.exporting.comparison import compare
    from retort.training.runtimes import RUNTIMES

    found = compare(bench.weights, RUNTIMES[export.format](path), bench.val_images, imgsz=bench.imgsz)
    told = {
        "max_relative_error": found.max_relative_error if math.isfinite(found.max_relative_error) else None,
        "num_images": found.num_images,
        "num_boxes": found.num_boxes,
        "num_unequal": found.num_unequal,
        **({} if found.equal else _difference(found)),
    }
    return measured.model_copy(update=told)


def _difference(found: Comparison) -> dict[str, str]:
    from retort.training.exporting.comparison import TOLERANCE

    return {
        "status": "differs",
        "reason": f"it does not give the student's boxes: {found.num_unequal} of {found.num_boxes} differ, the raw "
        f"output by {found.max_relative_error:.2g} of its size",
        "hint": f"the tolerance is {TOLERANCE:g}; try another opset, or simplify: false",
    }


def _published(context: Context, export: Any, paths: Sequence[Path]) -> list[str]:
    names = [path.relative_to(context.artifact("x").parent).as_posix() for path in paths]
    for name in names:
        context.publish(name, Role.STUDENT, export.media_type, format=export.format, precision=export.precision)
    return names


def _tell(context: Context, entry: MeasuredExport | UnmeasuredExport) -> None:
    """Warn of a form that is not what was asked for."""
    if isinstance(entry, MeasuredExport) and entry.status == "passed":
        drop = f"{entry.map_drop * 100:+.1f}"
        context.journal.log(f"{entry.path}: loses {drop} points of mAP50-95, {entry.latency_ms.p50:.1f} ms")
        return
    context.journal.log(f"{entry.path} ({entry.status}): {_why(entry)}", "warning", hint=entry.hint)


def _why(entry: MeasuredExport | UnmeasuredExport) -> str | None:
    if entry.reason is not None or isinstance(entry, UnmeasuredExport) or entry.max_map_drop is None:
        return entry.reason
    lost, budgeted = entry.map_drop * 100, entry.max_map_drop * 100
    return f"it loses {lost:.1f} points of mAP50-95, and may lose {budgeted:.1f}"
