"""One form, made and measured, and made anew with some layers in float until it loses no more than it may."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retort.exports.base import Calibrated, Export
from retort.spec.exported import CalibrationFigures, FallbackStep, LayerSensitivity, MeasuredExport
from retort.stages.answers import Evaluated
from retort.stages.exporting.bench import Bench
from retort.stages.exporting.makers import MAKERS

if TYPE_CHECKING:
    from retort.training.exporting.sensitivity import Sensitivity

_SHOWN = 12
"""So many of the ranked layers are told."""
_MOST = 0.5
"""The fallback ends when so large a share of the layers is in float: then INT8 is not worth its name."""


def produce(bench: Bench, export: Export, path: Path, name: str) -> MeasuredExport:
    """Make the form at *path*, and return what was measured of it and what it took to stay in the budget.

    Raises:
        Needs: this machine cannot make it.
        DataError: there are too few images to calibrate with.

    """
    steps: list[MeasuredExport] = []
    kept: Sequence[str] = ()
    ranking: list[Sensitivity] = []
    while True:
        steps.append(_made(bench, export, path, name, kept))
        if _fits(export, steps[-1]) or not _may_fall_back(export):
            break
        assert isinstance(export, Calibrated)
        ranking = bench.ranking(export.calibration_images)
        following = max(1, 2 * len(kept))
        if following > _MOST * len(ranking):
            break
        kept = [one.layer for one in ranking[:following]]
    best = min(steps, key=lambda step: step.map_drop)
    if steps[-1] is not best and not _fits(export, steps[-1]):
        steps[-1] = _made(bench, export, path, name, best.kept)
    return steps[-1].model_copy(
        update={
            "calibration": _calibration(bench, export),
            "steps": tuple(
                FallbackStep(num_kept=len(step.kept), map=step.map, map_drop=step.map_drop) for step in steps
            ),
            "sensitivity": tuple(LayerSensitivity(layer=one.layer, error=one.error) for one in ranking[:_SHOWN]),
            "status": "passed" if _fits(export, steps[-1]) else "over_budget",
        }
    )


def _may_fall_back(export: Export) -> bool:
    return _is_calibrated(export) and export.fallback  # type: ignore[attr-defined]


def _is_calibrated(export: Export) -> bool:
    """Tell whether its ranges come from calibration images, and layers can be left out of INT8."""
    quantized = isinstance(export, Calibrated) and getattr(export, "precision", None) == "int8"
    return quantized and not export.aware_epochs  # type: ignore[attr-defined]


def _fits(export: Export, step: MeasuredExport) -> bool:
    return export.max_map_drop is None or step.map_drop <= export.max_map_drop


def _made(bench: Bench, export: Any, path: Path, name: str, kept: Sequence[str]) -> MeasuredExport:
    """Make the form with the layers *kept* in higher precision, and measure it."""
    from retort.training import speed
    from retort.training.judge import Facade, accuracy
    from retort.training.runtimes import RUNTIMES

    bench.beat()
    if path.is_dir():
        shutil.rmtree(path)
    MAKERS[export.format](bench, export, path, kept)
    bench.beat()
    load = RUNTIMES[export.format]
    runtime, timed = speed.measure(lambda: load(path), imgsz=bench.imgsz)
    device = runtime.device.type
    conditions = bench.conditions("cpu" if device == "cpu" else "0")
    found = accuracy(Facade(runtime, bench.network.names), conditions)
    bench.beat()
    student = bench.context.needed("evaluate", Evaluated).roles.student
    return MeasuredExport(
        format=export.format,
        precision=export.precision,
        path=name,
        status="passed",
        kept=tuple(kept),
        map_drop=student.map - found.map,
        max_map_drop=export.max_map_drop,
        latency_ratio=speed.ratio(runtime, bench.pytorch(device), imgsz=bench.imgsz),
        **asdict(found),
        **asdict(timed),
    )


def _calibration(bench: Bench, export: Export) -> CalibrationFigures | None:
    """Return what an INT8 form was calibrated with; None for the others."""
    if not _is_calibrated(export):
        return None
    assert isinstance(export, Calibrated)
    chosen = bench.calibration(export.calibration_images)
    return CalibrationFigures(
        num_images=len(chosen.images), wanted=chosen.wanted, per_class=chosen.per_class, warning=chosen.warning
    )
