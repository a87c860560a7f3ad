"""The result of a run: who reached what, and what the distillation bought."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

from retort import __version__
from retort.spec import digest
from retort.spec.figures import GapClosed, MetricStatistics, Roles, Scores, SeedFigures, SeedScores
from retort.spec.result import DataFigures, JobResult, PseudoLabelUse, TrainingFigures, UnlabelledUse
from retort.stages.answers import (
    DroppedControl,
    Evaluated,
    ExportedForms,
    LabelledImages,
    ReviewedImages,
    TrainedNetwork,
)
from retort.stages.context import Context
from retort.stages.reporting.quality import data_quality
from retort.stages.reporting.statistics import over_seeds

_SMALLEST_GAP = 0.005
"""A share of less than half a point of mAP would be a share of noise."""


def outcome(context: Context, duration_s: float) -> JobResult:
    """Return what the run says when it has finished."""
    from retort.training.devices import name_of

    evaluated, dropped = context.needed("evaluate", Evaluated), context.found("control", DroppedControl)
    exported, student = context.found("export", ExportedForms), context.needed("distill", TrainedNetwork)
    return JobResult(
        roles=evaluated.roles,
        ensemble=evaluated.ensemble,
        training=TrainingFigures(epochs=student.epochs, planned_epochs=student.planned_epochs, batch=student.batch),
        control_dropped=None if dropped is None else dropped.dropped,
        gain=gain(evaluated.roles),
        gap_closed=gap_closed(evaluated.roles),
        seeds=_seeds(context.spec.training.seed, evaluated),
        dataset=_data(context),
        data_quality=data_quality(context),
        unlabelled=_unlabelled(context),
        pseudo_labels=_pseudo_labels(context),
        spec_digest=digest(context.spec),
        device=name_of(context.inputs.device),
        versions=versions(),
        exports=() if exported is None else exported.exports,
        duration_s=round(duration_s, 1),
    )


def _data(context: Context) -> DataFigures:
    dataset = context.inputs.dataset
    return DataFigures(
        names=tuple(dataset.names),
        num_train=dataset.num_train,
        num_val=dataset.num_val,
        num_shared=dataset.num_shared,
        digest=dataset.digest,
    )


def _seeds(seed: int, evaluated: Evaluated) -> SeedFigures | None:
    """Return what each seed gave, and what can be said of them all; None where there was one."""
    if not evaluated.repeats:
        return None
    student, control = evaluated.roles.student, evaluated.roles.control
    first = SeedScores(
        seed=seed,
        student=Scores(map50=student.map50, map=student.map),
        control=None if control is None else Scores(map50=control.map50, map=control.map),
    )
    runs = (first, *evaluated.repeats)
    pairs = [(run.student, run.control) for run in runs if run.control is not None]
    statistics = MetricStatistics(
        map50=over_seeds([(ours.map50, theirs.map50) for ours, theirs in pairs]),
        map=over_seeds([(ours.map, theirs.map) for ours, theirs in pairs]),
    )
    return SeedFigures(runs=runs, statistics=statistics)


def _unlabelled(context: Context) -> UnlabelledUse | None:
    """Return which images without labels the student, but not its control, has seen."""
    found, wanted = context.inputs.unlabelled, context.spec.data.unlabelled
    if found is None or wanted is None:
        return None
    return UnlabelledUse(
        num_images=found.num_images, num_shared=found.num_shared, digest=found.digest, ratio=wanted.ratio
    )


def _pseudo_labels(context: Context) -> PseudoLabelUse | None:
    """Return what the teacher has labelled for student and control, and what people said of it."""
    found, labelled = context.inputs.to_label, context.found("pseudo_label", LabelledImages)
    if found is None or labelled is None:
        return None
    reviewed = context.found("review", ReviewedImages)
    return PseudoLabelUse(
        **dict(labelled.figures),
        num_trained=labelled.figures.num_used if reviewed is None else reviewed.num_used,
        review=None if reviewed is None else reviewed.figures,
        digest=found.digest,
    )


def gain(roles: Roles) -> Scores | None:
    """Return student less control; None where no control was trained."""
    student, control = roles.student, roles.control
    if control is None:
        return None
    return Scores(map50=student.map50 - control.map50, map=student.map - control.map)


def gap_closed(roles: Roles) -> GapClosed | None:
    """Return the gain as a share of teacher less control.

    None where no control was trained; a metric is None where the teacher is less than half a point better than the
    control, so that there is no gap to close.
    """
    gained, teacher, control = gain(roles), roles.teacher, roles.control
    if gained is None or control is None:
        return None
    return GapClosed(
        map50=_share(gained.map50, teacher.map50, control.map50), map=_share(gained.map, teacher.map, control.map)
    )


def _share(gained: float, teacher: float | None, control: float) -> float | None:
    gap = 0.0 if teacher is None else teacher - control
    return gained / gap if gap >= _SMALLEST_GAP else None


def versions() -> dict[str, str]:
    """Return the versions that shape a result."""
    found = {"retort": __version__, "python": platform.python_version()}
    for name in ("ultralytics", "torch", "torchvision", "onnx", "onnxruntime"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
