"""The manifest that goes with a student: where it comes from, byte by byte."""

from __future__ import annotations

from datetime import UTC, datetime

from retort.checksums import sha256_of
from retort.names import MAP, MAP50
from retort.spec.report import (
    DataOrigin,
    FurtherTeacherOrigin,
    Manifest,
    PseudoLabelOrigin,
    StudentOrigin,
    TeacherOrigin,
)
from retort.spec.result import JobResult, PseudoLabelUse, TrainingFigures
from retort.stages import teacher
from retort.stages.answers import TrainedNetwork
from retort.stages.context import Context

LICENSE = "AGPL-3.0"
"""Of the student: Ultralytics' licence, which reaches the networks trained with it."""


def manifest(context: Context, result: JobResult) -> Manifest:
    """Return the manifest of this run's student."""
    spec, weights = context.spec, context.inputs.weights
    trained = context.needed("distill", TrainedNetwork)
    student = context.workdir / trained.weights
    return Manifest(
        name=spec.name,
        spec_digest=result.spec_digest,
        student=StudentOrigin(model=spec.student.model, file=student.name, sha256=sha256_of(student)),
        training=TrainingFigures(epochs=trained.epochs, planned_epochs=trained.planned_epochs, batch=trained.batch),
        starting_weights={name: sha256_of(path) for name, path in sorted(weights.items())},
        teacher=TeacherOrigin(model=result.roles.teacher.model, sha256=sha256_of(teacher.weights(context))),
        ensemble=tuple(
            FurtherTeacherOrigin(**dict(found), sha256=sha256_of(weights[one.weights]))
            for one, found in zip(spec.teacher.ensemble, result.ensemble, strict=True)
        ),
        unlabelled=result.unlabelled,
        pseudo_labels=None if result.pseudo_labels is None else _pseudo_labels(result.pseudo_labels),
        dataset=_data(context),
        classes=tuple(context.inputs.dataset.names),
        seeds=tuple(range(spec.training.seed, spec.training.seed + spec.training.seeds)),
        device=result.device,
        versions=result.versions,
        metrics={role.value: {MAP50: found.map50, MAP: found.map} for role, found in result.roles.known()},
        license=LICENSE,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _data(context: Context) -> DataOrigin:
    dataset = context.inputs.dataset
    return DataOrigin(
        digest=dataset.digest,
        num_train=dataset.num_train,
        num_val=dataset.num_val,
        known_as=dataset.known_as,
        archives=dataset.archives,
    )


def _pseudo_labels(found: PseudoLabelUse) -> PseudoLabelOrigin:
    """Return which pseudo-labels the student has learned from, and how many of those that people saw were right."""
    return PseudoLabelOrigin(
        digest=found.digest,
        num_trained=found.num_trained,
        num_boxes=found.num_boxes,
        confidence=found.confidence,
        ignore_from=found.ignore_from,
        reviewed_precision=None if found.review is None else found.review.precision,
    )
