"""Assemble the result of a run: figures by role, gain, statistics, manifest."""

from __future__ import annotations

import platform
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TypeVar

from retort import __version__
from retort.constants import MAP, MAP50
from retort.data import audit, intake, verification
from retort.files import sha256_of
from retort.model_ref import title
from retort.pipeline import progress, train
from retort.pipeline.answers import (
    CachedTeaching,
    CheckedNetworks,
    DroppedControl,
    Evaluated,
    ExportedForms,
    LabelledImages,
    MissingAnswer,
    Piloted,
    Repetitions,
    ReviewedImages,
    TrainedArms,
    TrainedNetwork,
)
from retort.pipeline.context import Context
from retort.pipeline.extras import Extras
from retort.report.verdict import gap_closed
from retort.spec import digest
from retort.spec.figures import (
    Difference,
    GapClosed,
    MetricStatistics,
    Roles,
    Scores,
    SeedFigures,
    SeedScores,
    SeedStatistics,
    Spread,
)
from retort.spec.outcome import ExtraOutcome
from retort.spec.report import (
    DataOrigin,
    FurtherTeacherOrigin,
    Manifest,
    PseudoLabelOrigin,
    StudentOrigin,
    TeacherOrigin,
)
from retort.spec.result import (
    DataFigures,
    DataFinding,
    DataQuality,
    ExtendedTraining,
    JobResult,
    PseudoLabelUse,
    SplitFigures,
    TrainingFigures,
    UnlabelledUse,
)
from retort.spec.verdict import LEVEL

Made = TypeVar("Made")


def over_seeds(pairs: Sequence[tuple[float, float]]) -> SeedStatistics | None:
    """Compare a metric of student and control over seeds.

    None for less than two pairs. Student's paired t: seeds are drawn alike for both of a pair, so that only their
    differences count.

    Returns:
        Number of pairs, mean and standard deviation (n - 1) of student, control and difference, the difference's
        two-sided interval, and the p-value of no difference.

    """
    if len(pairs) < 2:
        return None
    students, controls = zip(*pairs, strict=True)
    differences = [student - teacher for student, teacher in pairs]
    low, high, p_value = paired(differences)
    return SeedStatistics(
        num_seeds=len(pairs),
        student=_spread(students),
        control=_spread(controls),
        difference=Difference(**dict(_spread(differences)), low=low, high=high, level=LEVEL, p_value=p_value),
    )


def paired(differences: Sequence[float]) -> tuple[float, float, float]:
    """Return the interval and p-value of the mean difference (Student's t).

    The p-value is that of a mean of 0.
    """
    from scipy import stats

    mean, error = statistics.mean(differences), statistics.stdev(differences) / len(differences) ** 0.5
    if error == 0:
        return mean, mean, 1.0 if mean == 0 else 0.0
    reach = float(stats.t.ppf((1 + LEVEL) / 2, len(differences) - 1)) * error
    return mean - reach, mean + reach, float(stats.ttest_1samp(differences, 0.0).pvalue)


def _spread(values: Sequence[float]) -> Spread:
    return Spread(mean=statistics.mean(values), deviation=statistics.stdev(values))


MOST_IMAGES = 20_000
"""A larger set is not looked through again: that is what ``retort data check`` is for."""


MOST_PAIRS = 5_000_000
"""Of images, in which copies are looked for at the end of a job: minutes of one core."""


def data_quality(context: Context) -> DataQuality | None:
    """Return image and box counts by split and class, with findings.

    None where the data set is not read.
    """
    dataset = context.inputs.dataset
    root = Path(dataset.root)
    if dataset.num_train + dataset.num_val > MOST_IMAGES or not (root / "data.yaml").is_file():
        return None
    context.heartbeat.beat("setup")
    if edited := verification.changed_files(context.workdir, verification.COPIED):
        context.journal.log(
            f"{len(edited)} label files were edited since the job read them, such as {edited[0]}: it has used what was "
            "there before, and its report does not count them",
            "warning",
        )
        return None
    options = audit.AuditOptions(
        most_missing=context.spec.data.max_missing_labels,
        kept=context.workdir / intake.KEPT,
        alive=lambda: context.heartbeat.beat("setup"),
        most_pairs=MOST_PAIRS,
    )
    found = audit.check(str(root), [root], options)
    if found.names != (dataset.merged or dataset.names) or not found.splits:
        return None
    return DataQuality(
        splits={
            split: SplitFigures(
                num_images=held.num_images,
                num_backgrounds=held.num_backgrounds,
                boxes=dict(zip(found.names, held.boxes, strict=True)),
            )
            for split, held in found.splits.items()
        },
        findings=tuple(DataFinding(**asdict(finding)) for finding in found.findings),
    )


def outcome(context: Context, duration_s: float, tried: Extras) -> JobResult:
    """Return the result of a finished run, before it is judged.

    Parts that cannot be made are left out, and told by *tried*.
    """
    evaluated, exported = context.needed("evaluate", Evaluated), context.found("export", ExportedForms)
    roles = evaluated.roles if exported is None else exported.retimed(evaluated.roles)

    def part(name: str, make: Callable[[], Made]) -> Made | None:
        return tried(name, make, None, listed=False)

    seeds = part("statistics over seeds", partial(_seeds, context.spec.training.seed, evaluated))
    return JobResult(
        roles=roles,
        ensemble=evaluated.ensemble,
        pilot=None if (piloted := context.found("pilot", Piloted)) is None else piloted.figures,
        training=training_figures(context),
        control_dropped=part("reason for no control", partial(_control_dropped, context, evaluated)),
        gain=part("gain", partial(gain, roles, seeds)),
        gap_closed=part("gap closed", partial(_gap_closed, roles, seeds)),
        seeds=seeds,
        dataset=_data(context),
        data_quality=tried("data quality", partial(data_quality, context), None),
        unlabelled=part("use of unlabelled images", partial(_unlabelled, context)),
        pseudo_labels=part("use of pseudo-labels", partial(_pseudo_labels, context)),
        taught_ahead=None if (taught := context.found("teach_ahead", CachedTeaching)) is None else taught.figures,
        spec_digest=digest(context.spec),
        device=part("name of the device", partial(_device_name, context)) or context.inputs.device,
        hardware=context.inputs.hardware,
        versions=part("versions", versions) or {},
        exports=() if exported is None else exported.exports,
        duration_s=round(duration_s, 1),
    )


def bare(context: Context) -> JobResult:
    """Return the least that a finished run can say: what was measured."""
    evaluated, dataset = context.needed("evaluate", Evaluated), context.inputs.dataset
    exported = context.found("export", ExportedForms)
    return JobResult(
        roles=evaluated.roles, control_dropped="the result could not be put together", gain=None, gap_closed=None,
        exports=() if exported is None else exported.exports,
        dataset=DataFigures(
            names=tuple(dataset.names), num_train=dataset.num_train, num_val=dataset.num_val,
            num_shared=dataset.num_shared, digest=dataset.digest,
        ),
        spec_digest=digest(context.spec), device=context.inputs.device, versions={}, duration_s=0.0,
    )  # fmt: skip


def extras(context: Context) -> tuple[ExtraOutcome, ...]:
    """Return what became of the extras of all stages so far."""
    found: list[ExtraOutcome] = []
    if context.inputs.no_gpu is not None:
        found.append(ExtraOutcome(name="GPU", status="skipped", code="no_gpu", reason=context.inputs.no_gpu))
    for stage, answer in context.results.items():
        match answer:
            case MissingAnswer():
                found.append(answer.missing)
            case DroppedControl():
                dropped = ExtraOutcome(name="control", status="skipped", reason=answer.dropped)
                found.append(answer.extra or dropped)
            case TrainedNetwork():
                found += [ExtraOutcome(name="control", status="done")] if stage == "control" else []
                found += answer.extras
            case Repetitions():
                networks = (network for run in answer.runs for network in (run.student, run.control))
                found += answer.extras
                found += (lost for network in networks if network is not None for lost in network.extras)
            case TrainedArms():
                found += answer.extras
                found += (lost for run in answer.runs for lost in run.network.extras)
            case Evaluated() | ExportedForms():
                found += answer.extras
            case _:
                pass
    return tuple(found)


def _control_dropped(context: Context, evaluated: Evaluated) -> str | None:
    """Return why there is no control to compare with, where the spec asks for one."""
    answer = context.results.get("control")
    if isinstance(answer, DroppedControl):
        return answer.dropped
    if isinstance(answer, MissingAnswer):
        return f"no control was trained: {answer.missing.reason}"
    if answer is None or evaluated.roles.control is not None:
        return None
    reasons = [one.reason for one in evaluated.extras if one.name == "evaluation of the control"]
    return f"the control could not be measured: {', '.join(filter(None, reasons))}"


def _device_name(context: Context) -> str:
    from retort.training.device import device_name

    return device_name(context.inputs.device)


def _data(context: Context) -> DataFigures:
    dataset = context.inputs.dataset
    return DataFigures(
        names=tuple(dataset.names),
        merged=tuple(dataset.merged) or None,
        num_train=dataset.num_train,
        num_val=dataset.num_val,
        images=dataset.images,
        bits=dataset.bits,
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
        student_last=student.last,
        control_last=None if control is None else control.last,
    )
    runs = (first, *evaluated.repeats)
    pairs = [(run.student, run.control) for run in runs if run.control is not None]
    statistics = MetricStatistics(
        map50=over_seeds([(ours.map50, teacher.map50) for ours, teacher in pairs]),
        map=over_seeds([(ours.map, teacher.map) for ours, teacher in pairs]),
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


def gain(roles: Roles, seeds: SeedFigures | None) -> Scores | None:
    """Return student less control, the mean where there are several seeds.

    None where no control was trained.
    """
    student, control = roles.student, roles.control
    if seeds is not None and seeds.statistics.map50 is not None and seeds.statistics.map is not None:
        return Scores(map50=seeds.statistics.map50.difference.mean, map=seeds.statistics.map.difference.mean)
    if control is None:
        return None
    return Scores(map50=student.map50 - control.map50, map=student.map - control.map)


def _gap_closed(roles: Roles, seeds: SeedFigures | None) -> GapClosed | None:
    """Return the gain as a share of teacher less control, by metric; None where one of them is not known."""
    if roles.control is None or roles.teacher is None:
        return None
    over, teacher = None if seeds is None else seeds.statistics, roles.teacher
    return GapClosed(
        map50=None if over is None else gap_closed(over.map50, teacher.map50),
        map=None if over is None else gap_closed(over.map, teacher.map),
    )


def versions() -> dict[str, str]:
    """Return the versions of software that shape a result."""
    found = {"retort": __version__, "python": platform.python_version()}
    for name in ("ultralytics", "torch", "torchvision", "onnx", "onnxruntime"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


LICENSE = "AGPL-3.0"
"""Of the student: Ultralytics' licence, which reaches the networks trained with it."""


def _teacher_sha256(context: Context) -> str:
    """Return the SHA-256 of the teacher's file as it was given, or trained here."""
    given = context.spec.teacher.weights
    return sha256_of(train.weights(context)) if given is None else context.inputs.weights_sha256(given)


def manifest(context: Context, result: JobResult) -> Manifest:
    """Return the manifest of this run's student."""
    spec, inputs = context.spec, context.inputs
    trained = context.needed("distill", TrainedNetwork)
    student = context.workdir / trained.weights
    return Manifest(
        name=spec.name,
        spec_digest=result.spec_digest,
        student=StudentOrigin(model=trained.model, file=student.name, sha256=sha256_of(student)),
        training=training_figures(context),
        starting_weights={name: inputs.weights_sha256(name) for name in sorted(inputs.weights)},
        teacher=TeacherOrigin(model=title(progress.teacher(spec)), sha256=_teacher_sha256(context)),
        ensemble=tuple(
            FurtherTeacherOrigin(**dict(found), sha256=inputs.weights_sha256(one.weights))
            for one, found in zip(spec.teacher.ensemble, result.ensemble, strict=True)
        ),
        unlabelled=result.unlabelled,
        pseudo_labels=None if result.pseudo_labels is None else _manifest_pseudo_labels(result.pseudo_labels),
        dataset=_manifest_data(context),
        classes=tuple(context.inputs.dataset.names),
        seeds=tuple(range(spec.training.seed, spec.training.seed + spec.training.seeds)),
        device=result.device,
        versions=result.versions,
        metrics={role.value: {MAP50: found.map50, MAP: found.map} for role, found in result.roles.known()},
        license=LICENSE,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _manifest_data(context: Context) -> DataOrigin:
    dataset = context.inputs.dataset
    return DataOrigin(
        digest=dataset.digest,
        num_train=dataset.num_train,
        num_val=dataset.num_val,
        images=dataset.images,
        bits=dataset.bits,
        known_as=dataset.known_as,
        archives=dataset.archives,
    )


def _manifest_pseudo_labels(found: PseudoLabelUse) -> PseudoLabelOrigin:
    """Return which pseudo-labels the student has learned from, and how many of those that people saw were right."""
    return PseudoLabelOrigin(
        digest=found.digest,
        num_trained=found.num_trained,
        num_boxes=found.num_boxes,
        confidence=found.confidence,
        ignore_from=found.ignore_from,
        reviewed_precision=None if found.review is None else found.review.precision,
    )


def training_figures(context: Context) -> TrainingFigures:
    """Return the length and batch of the student's training, and its end."""
    trained, checked = context.needed("distill", TrainedNetwork), context.found("check", CheckedNetworks)
    return TrainingFigures(
        epochs=trained.epochs, planned_epochs=trained.planned_epochs, batch=trained.batch,
        stopped_by=trained.stopped_by, batch_found=None if checked is None else checked.batch,
        memory=None if checked is None else checked.memory, optimisations=trained.optimisations,
        extended=_extended(context, trained),
    )  # fmt: skip


def _extended(context: Context, trained: TrainedNetwork) -> ExtendedTraining | None:
    """Return to what job's training epochs were added, and by which schedule."""
    from retort.training import optim
    from retort.training.config import Cycle

    extension = context.inputs.adjustments.extension
    if extension is None:
        return None
    cycle = Cycle(extension.epochs[-1], trained.planned_epochs, extension.epochs[0])
    rate = optim.extended_rate(cycle, context.spec.training.lrf, cosine=context.spec.training.cos_lr)
    return ExtendedTraining(
        job=extension.job, epochs=cycle.begins, added=trained.epochs - cycle.begins, lr=round(rate(cycle.begins), 6),
        schedule_epochs=cycle.length,
    )  # fmt: skip
