"""Export the student: build, compare, measure, keep the mAP budget."""

from __future__ import annotations

import contextlib
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from retort.constants import Role
from retort.exports.base import Calibrated, Export
from retort.pipeline import latency, progress
from retort.pipeline.answers import ExportedForms, TrainedNetwork
from retort.pipeline.context import Context
from retort.pipeline.export_workspace import ExportWorkspace
from retort.pipeline.extras import Extras, for_leaves
from retort.spec import JobSpec
from retort.spec.exported import (
    AwareFigures,
    CalibrationFigures,
    FallbackStep,
    LayerSensitivity,
    MeasuredExport,
    UnmeasuredExport,
)

if TYPE_CHECKING:
    from retort.spec.figures import TimedFigures
    from retort.training.evaluate import Published
    from retort.training.export.form import Form
    from retort.training.export.parity import Comparison
    from retort.training.export.quantization import Sensitivity


_SHOWN = 12
"""So many of the ranked layers are told."""
NOTHING = 0.0005
"""A lower mAP50-95 is shown as 0.0: a form with it finds nothing, and no budget can be judged by it."""
_MOST = 0.5
"""The fallback ends when so large a share of the layers is in float: then INT8 is not worth its name."""


def produce(workspace: ExportWorkspace, export: Export, path: Path, name: str) -> MeasuredExport:
    """Export to *path* within the mAP budget; return measurements and fallback steps.

    A form that is trained on stands beside one that is calibrated alone, and the better of the two is kept.

    Raises:
        ToolchainMissing: this machine cannot make it.
        DataError: there are too few images to calibrate with.

    """
    if not (isinstance(export, Calibrated) and export.trains):
        return _calibrated(workspace, export, path, name)
    trained = _made(workspace, export, path, name, ())
    beside, fallback = workspace.folder / name, export.fallback and not _fits(export, trained)
    alone = export.model_copy(update={"aware_epochs": 0, "aware_teacher": None, "fallback": fallback})
    calibrated = _calibrated(workspace, alone, beside, name)
    if better := calibrated.map > trained.map:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        shutil.move(beside, path)
    told = {"aware": _aware(workspace, export, trained, calibrated)}
    if better:
        return calibrated.model_copy(update=told)
    return trained.model_copy(update={**told, "status": _status(export, trained), "hint": _hint(trained)})


def _aware(
    workspace: ExportWorkspace, export: Calibrated, trained: MeasuredExport, calibrated: MeasuredExport
) -> AwareFigures:
    """Return what the training did, beside calibration alone."""
    found, alike = workspace.aware(export), replace(workspace.form(export), nms=None)
    return AwareFigures(
        teacher=export.taught_by,
        epochs=len(found.maps) - 1,
        best_epoch=found.best_epoch,
        maps=tuple(found.maps),
        start_drop=workspace.base_map(alike) - found.maps[0],
        drop=trained.map_drop,
        calibrated_drop=calibrated.map_drop,
        integer_share=found.integer_share,
        taken="calibrated" if calibrated.map > trained.map else "trained",
    )


def _calibrated(workspace: ExportWorkspace, export: Export, path: Path, name: str) -> MeasuredExport:
    """Export to *path* without a training; keep layers in float where the budget asks for it."""
    steps: list[MeasuredExport] = []
    kept: Sequence[str] = ()
    ranking: list[Sensitivity] = []
    while True:
        steps.append(_made(workspace, export, path, name, kept))
        if _fits(export, steps[-1]) or not _may_fall_back(export):
            break
        assert isinstance(export, Calibrated)
        ranking = workspace.ranking(export)
        following = max(1, 2 * len(kept))
        if following > _MOST * len(ranking):
            break
        kept = [one.layer for one in ranking[:following]]
    best = min(steps, key=lambda step: step.map_drop)
    if steps[-1] is not best and not _fits(export, steps[-1]):
        steps[-1] = _made(workspace, export, path, name, best.kept)
    return steps[-1].model_copy(
        update={
            "calibration": _calibration(workspace, export),
            "steps": tuple(
                FallbackStep(num_kept=len(step.kept), map=step.map, map_drop=step.map_drop) for step in steps
            ),
            "sensitivity": tuple(LayerSensitivity(layer=one.layer, error=one.error) for one in ranking[:_SHOWN]),
            "status": _status(export, steps[-1]),
            "hint": _hint(steps[-1]),
        }
    )


def _hint(step: MeasuredExport) -> str | None:
    """Return what may help a form that finds nothing because its own NMS leaves nothing."""
    if step.map >= NOTHING or not step.conf:
        return None
    return f"its NMS leaves out boxes with a score up to {step.conf:g}; a lower conf keeps more"


def _may_fall_back(export: Export) -> bool:
    return _is_calibrated(export) and export.fallback  # type: ignore[attr-defined]


def _is_calibrated(export: Export) -> bool:
    """Return True if its ranges come from calibration images, and layers can be left out of INT8."""
    quantized = isinstance(export, Calibrated) and getattr(export, "precision", None) == "int8"
    return quantized and not export.trains  # type: ignore[attr-defined]


def _fits(export: Export, step: MeasuredExport) -> bool:
    """Return True if the form keeps the budget; one that finds nothing, where the student does, never does."""
    if step.map < NOTHING <= step.map + step.map_drop:
        return False
    return export.max_map_drop is None or step.map_drop <= export.max_map_drop


def _status(export: Export, step: MeasuredExport) -> Literal["passed", "over_budget", "no_score"]:
    if step.map < NOTHING:
        return "no_score"
    return "passed" if _fits(export, step) else "over_budget"


def _made(workspace: ExportWorkspace, export: Any, path: Path, name: str, kept: Sequence[str]) -> MeasuredExport:
    """Make the form with the layers *kept* in higher precision, and measure it."""
    from retort.training import benchmark
    from retort.training.benchmark import Subject
    from retort.training.evaluate import RuntimeAsModule, accuracy
    from retort.training.export.base import maker

    workspace.beat()
    if path.is_dir():
        shutil.rmtree(path)
    made_by = maker(export)
    made_by.make(workspace, export, path, kept)
    workspace.beat()
    runtime = made_by.load(path)
    device = runtime.device.type
    form = workspace.form(export)
    conditions = workspace.conditions("cpu" if device == "cpu" else "0", form)
    found = accuracy(RuntimeAsModule(runtime, workspace.network.names), conditions, name)
    workspace.beat()
    picture = latency.picture(workspace.context)
    timed = benchmark.measure(
        {
            "form": Subject(lambda: made_by.load(path), form.shape, form.images_at_once, picture),
            "base": Subject(lambda: workspace.pytorch(device), form.shape, form.images_at_once, picture),
        },
        on_round=workspace.beat,
    )
    base_map = workspace.base_map(form)
    return MeasuredExport(
        format=export.format,
        precision=export.precision,
        path=name,
        status="passed",
        kept=tuple(kept),
        map_drop=base_map - found.map,
        base_map=base_map,
        max_map_drop=export.max_map_drop,
        latency_ratio=timed["form"].latency_ms["p50"] / timed["base"].latency_ms["p50"],
        **_about(form),
        **asdict(found),
        **asdict(timed["form"]),
    )


def _about(form: Form) -> dict[str, Any]:
    """Return what a form takes and gives, for its result."""
    boxes = {True: "nms", False: "nms_free", None: "raw"}[form.nms]
    inside = {"conf": form.conf, "iou": form.iou} if form.nms else {}
    return {
        "shape": form.shape, "batch": form.batch, "dynamic": form.dynamic, "boxes": boxes,
        "most_boxes": form.max_det if form.final else None, **inside,
    }  # fmt: skip


def _calibration(workspace: ExportWorkspace, export: Export) -> CalibrationFigures | None:
    """Return what an INT8 form was calibrated with; None for the others."""
    if not _is_calibrated(export):
        return None
    assert isinstance(export, Calibrated)
    chosen = workspace.calibration(export)
    return CalibrationFigures(
        num_images=len(chosen.images),
        wanted=chosen.wanted,
        path=export.calibration_path,
        per_class=chosen.per_class,
        warning=chosen.warning,
    )


after = "evaluate"
extra = True


def applies(spec: JobSpec) -> bool:
    """Return True where the spec lists an export."""
    return bool(spec.exports)


def cost(spec: JobSpec) -> float:
    """Return the stage's share of the run.

    It is an evaluation each, and the calibration.
    """
    quantized = sum(export.precision == "int8" for export in spec.exports)
    return (len(spec.exports) / 2 + float(quantized)) * progress.forward(spec.student.label)


def run(context: Context) -> ExportedForms:
    """Export each format; return measurements, or why an export failed."""
    weights = context.workdir / context.needed("distill", TrainedNetwork).weights
    training = context.spec.training
    workspace = ExportWorkspace(context, weights, imgsz=training.imgsz, seed=training.seed)
    exports = context.spec.exports
    made, tried = export_all(workspace, exports)
    forms, speeds = in_one_sitting(workspace, exports, made, tried, latency.networks(context), Role.STUDENT)
    return ExportedForms(exports=tuple(forms), extras=tuple(tried.outcomes), speeds=speeds)


def export_all(
    workspace: ExportWorkspace, exports: Sequence[Export], title: str = "student"
) -> tuple[list[MeasuredExport | UnmeasuredExport], Extras]:
    """Export a network to each of the *exports*.

    Their files are named by *title*. Return them with what became of each.
    """
    context = workspace.context
    made: list[MeasuredExport | UnmeasuredExport] = []
    taken: set[str] = set()
    tried = for_leaves(context)
    for number, export in enumerate(exports, start=1):
        context.check()
        context.heartbeat.beat("setup")
        name = _name(export, title, taken)
        made.append(_entry(workspace, export, name, tried))
        _tell(context, made[-1])
        context.progress(number / len(exports))
    return made, tried


def in_one_sitting(  # noqa: PLR0917 - one call each
    workspace: ExportWorkspace, exports: Sequence[Export], made: Sequence[MeasuredExport | UnmeasuredExport],
    tried: Extras, networks: Mapping[str, Published], exported: str,
) -> tuple[Sequence[MeasuredExport | UnmeasuredExport], dict[str, TimedFigures]]:  # fmt: skip
    """Time published exports and *networks* in one sitting.

    Its figures replace those of each export alone. Return the exports and the speeds of the networks; the latter are
    empty where there is nothing to be timed.
    """
    from retort.training.export.base import maker

    context = workspace.context
    forms = {}
    for one, export in zip(made, exports, strict=True):
        if isinstance(one, MeasuredExport) and one.files:
            form, load = workspace.form(export), partial(maker(export).load, context.artifact(one.path))
            forms[one.path] = latency.TimedForm(load, one.device or "cpu", form.shape, form.images_at_once)
    sit = partial(latency.sit, context, networks, exported, forms)
    sitting = tried("latencies in one sitting", sit, None, listed=False) if forms else None
    if sitting is None:
        return made, {}
    return [sitting.retimed(one) if isinstance(one, MeasuredExport) else one for one in made], sitting.roles


def _name(export: Any, title: str, taken: set[str]) -> str:
    """Name a form by its precision and what else is special in it; by a number only where that is not enough."""
    special = {
        "-qat": getattr(export, "aware_epochs", 0),
        "-nms": getattr(export, "nms", None) is True,
        "-nmsfree": getattr(export, "nms", None) is False,
        f"-{'x'.join(map(str, export.imgsz or ()))}": export.imgsz,
        f"-batch{getattr(export, 'batch', None)}": getattr(export, "batch", None),
        "-dynamic": getattr(export, "dynamic", False),
        "-unsimplified": not getattr(export, "simplify", True),
        f"-opset{getattr(export, 'opset', None)}": getattr(export, "opset", None),
    }
    stem = f"{title}-{export.precision}" + "".join(word for word, there in special.items() if there)
    name, number = f"{stem}{export.suffix}", 1
    while name in taken:
        number += 1
        name = f"{stem}-{number}{export.suffix}"
    taken.add(name)
    return name


def _entry(workspace: ExportWorkspace, export: Any, name: str, tried: Extras) -> MeasuredExport | UnmeasuredExport:
    """Make, measure and publish one form; say why where that cannot be."""
    made = tried(name, partial(_built, workspace, export, name), None)
    if made is not None:
        return made
    path = workspace.context.artifact(name)
    with contextlib.suppress(OSError):
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    known = tried.outcomes[-1]
    return UnmeasuredExport(
        format=export.format, precision=export.precision, path=name,
        status="timed_out" if known.status == "timed_out" else "failed",
        code=known.code, reason=known.reason, hint=known.hint,
    )  # fmt: skip


def _built(workspace: ExportWorkspace, export: Any, name: str) -> MeasuredExport | UnmeasuredExport:
    from retort.training.export.base import ToolchainMissing

    context, path = workspace.context, workspace.context.artifact(name)
    about: dict[str, Any] = {"format": export.format, "precision": export.precision, "path": name}
    try:
        measured = produce(workspace, export, path, name)
        if export.exact and export.precision == "fp32":
            measured = _compared(workspace, export, path, measured)
    except ToolchainMissing as error:
        files = tuple(_published(context, export, error.files))
        return UnmeasuredExport(**about, status="needs", reason=error.message, hint=error.hint, files=files)
    if measured.status == "differs":
        return measured
    files = tuple(_published(context, export, sorted(path.iterdir()) if path.is_dir() else [path]))
    size = sum(context.artifact(file).stat().st_size for file in files)
    return measured.model_copy(update={"files": files, "size_bytes": size})


def _compared(workspace: ExportWorkspace, export: Any, path: Path, measured: MeasuredExport) -> MeasuredExport:
    from retort.training.export.base import maker
    from retort.training.export.parity import compare

    runtime = maker(export).load(path, exact=True)
    found = compare(workspace.weights, runtime, workspace.val_images, workspace.form(export))
    told = {
        "max_relative_error": found.max_relative_error if math.isfinite(found.max_relative_error) else None,
        "num_images": found.num_images,
        "num_boxes": found.num_boxes,
        "num_unequal": found.num_unequal,
        **({} if found.equal else _difference(found, final=workspace.form(export).final)),
    }
    return measured.model_copy(update=told)


def _difference(found: Comparison, *, final: bool) -> dict[str, str]:
    from retort.training.export.parity import TOLERANCE

    away = f"{found.max_relative_error:.2g}"
    return {
        "status": "differs",
        "reason": f"it does not give the student's boxes: {found.num_unequal} of {found.num_boxes} differ, "
        + (f"equal ones by up to {away}" if final else f"the raw output by {away}"),
        "hint": f"the tolerance is {TOLERANCE:g}; try another opset, or simplify: false",
    }


def _published(context: Context, export: Any, paths: Sequence[Path]) -> list[str]:
    names = [path.relative_to(context.artifact("x").parent).as_posix() for path in paths]
    for name in names:
        context.publish(name, Role.STUDENT, export.media_type, format=export.format, precision=export.precision)
    return names


def _tell(context: Context, entry: MeasuredExport | UnmeasuredExport) -> None:
    """Log what a form loses, or warn of one that is not what was asked for; and what its training did."""
    if isinstance(entry, MeasuredExport) and entry.status == "passed":
        drop = f"{entry.map_drop * 100:+.1f}"
        context.journal.log(f"{entry.path}: loses {drop} points of mAP50-95, {entry.latency_ms.p50:.1f} ms")
    else:
        context.journal.log(f"{entry.path} ({entry.status}): {_why(entry)}", "warning", hint=entry.hint)
    if isinstance(entry, MeasuredExport) and entry.aware is not None:
        context.journal.log(f"{entry.path}: {entry.aware.sentence}")


def _why(entry: MeasuredExport | UnmeasuredExport) -> str | None:
    if entry.reason is not None or isinstance(entry, UnmeasuredExport):
        return entry.reason
    if entry.status == "no_score":
        return "it finds nothing in the validation images, so nothing is proved of it"
    lost, budgeted = entry.map_drop * 100, (entry.max_map_drop or 0.0) * 100
    return f"it loses {lost:.1f} points of mAP50-95, and may lose {budgeted:.1f}"
