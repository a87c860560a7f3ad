"""Write the manifest, the JSON report and the HTML report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from retort.constants import Role
from retort.pipeline import history, progress, results
from retort.pipeline.answers import Evaluated, TrainedNetwork
from retort.pipeline.context import Context
from retort.pipeline.extras import Extras, for_leaves
from retort.pipeline.history import Curves
from retort.report import charts, samples
from retort.report.arms import judged as judged_arms
from retort.report.health import HealthReport, health_report
from retort.report.html import render
from retort.report.parts import parts
from retort.report.plain import plain_page
from retort.report.result import bare, extras, manifest, outcome
from retort.report.samples import Gallery
from retort.report.usage import Usage, usage
from retort.report.verdict import Noise, rise, verdict, with_verdict
from retort.report.worth import check
from retort.spec import JobSpec
from retort.spec.arms import ArmFigures
from retort.spec.curves import CURVES
from retort.spec.curves import Curves as RecordedCurves
from retort.spec.outcome import ExtraOutcome
from retort.spec.report import HealthFinding, Manifest, Report
from retort.spec.result import JobResult
from retort.spec.verdict import Verdict
from retort.spec.worth import WorthCheck

after = "export"

PAGE, DOCUMENT = "report.html", "report.json"
_UNJUDGED = Verdict(
    kind="unknown", sentence="What the distillation bought is unknown: the figures could not be judged.", caveats=()
)
NONE: tuple[ExtraOutcome, ...] = ()
NO_ARMS: tuple[ArmFigures, ...] = ()
_UNEXAMINED = HealthReport((), (), (), ())


@dataclass(frozen=True, slots=True)
class _Findings:
    """What page and document are made of."""

    judged: Verdict
    result: JobResult
    curves: Curves
    health: HealthReport
    manifest: Manifest | None


def applies(spec: JobSpec) -> bool:  # noqa: ARG001 - every job reports
    """Return True: the stage applies to every job."""
    return True


def cost(spec: JobSpec) -> float:
    """Return the stage's share of the run: a few predictions."""
    return progress.forward(spec.student.label) / 4


def noise(context: Context, curves: Curves) -> Noise:
    """Return the known noise in this run's difference."""
    return Noise(resampled=context.needed("evaluate", Evaluated).resampled, rise=rise(curves))


def run(context: Context) -> JobResult:
    """Return the result of the whole run.

    Whatever else fails, there is a result, and it says what failed.
    """
    tried = for_leaves(context)
    duration = tried("duration", partial(results.total_duration, context.workdir, context.results), 0.0, listed=False)
    summed_up = tried("result", partial(outcome, context, duration, tried), None, listed=False)
    unjudged = bare(context) if summed_up is None else summed_up
    earlier = tried("outcomes", partial(extras, context), NONE, listed=False)
    curves: Curves = tried("curves", partial(history.curves, context.workdir), {}, listed=False)
    arms = tried("arms", partial(_arms, context, curves), NO_ARMS, listed=False)
    worth = tried("worth of the teacher", partial(_worth, context, unjudged, curves), None, listed=False)
    unjudged = unjudged.model_copy(update={"arms": arms, "worth": worth})
    judged = tried("verdict", partial(_judged, context, unjudged, curves), _UNJUDGED, listed=False)
    cautious = unjudged.model_copy(update={"verdict": judged, "gap_closed": None})
    result = tried("verdict of the result", partial(with_verdict, unjudged, judged), cautious, listed=False)
    found = _Findings(
        judged=judged,
        result=result,
        curves=curves,
        health=tried("health", partial(health_report, context.workdir, curves), _UNEXAMINED),
        manifest=tried("manifest.json", partial(_manifest, context, result), None),
    )
    context.check()
    context.progress(0.2)
    whole = tried.around()
    whole("telling people", partial(_tell_people, context, found, tried, earlier), None, listed=False)
    return _tell_machines(context, found, tried, earlier)


def _arms(context: Context, curves: Curves) -> tuple[ArmFigures, ...]:
    found, student = context.needed("evaluate", Evaluated), context.needed("distill", TrainedNetwork)
    return judged_arms(found.roles.student, found.arms, curves, student.duration_s)


def _worth(context: Context, result: JobResult, curves: Curves) -> WorthCheck | None:
    found, student = context.needed("evaluate", Evaluated), context.needed("distill", TrainedNetwork)
    stopped = result.pilot is not None and result.pilot.stops
    if context.spec.teacher.ensemble or stopped:
        return None
    return check(
        result.roles, most=found.most, excess=found.excess, noise=noise(context, curves), foretold=student.worth
    )


def _judged(context: Context, result: JobResult, curves: Curves) -> Verdict:
    known = noise(context, curves)
    return verdict(result, known, parts(result, context.needed("evaluate", Evaluated).arms, curves, known))


def _manifest(context: Context, result: JobResult) -> Manifest:
    origin = manifest(context, result)
    context.publish_document("manifest.json", origin)
    return origin


def _tell_people(context: Context, found: _Findings, tried: Extras, earlier: tuple[ExtraOutcome, ...]) -> None:
    """Publish the page; where it cannot be made, one of plain words."""
    name, judged = context.spec.name, found.judged
    gallery = tried("gallery", partial(samples.gallery, context), Gallery((), ()))
    ecg = found.health
    use = tried("files", partial(_usage, context, found), Usage(context.workdir.name), listed=False)
    drawn: dict[str, list[dict[str, Any]]] = {
        kind: tried(f"charts of {kind}", make, [], listed=False)
        for kind, make in {
            "charts": partial(charts.charts, found.curves, found.result.roles),
            "comparisons": partial(charts.comparisons, found.result),
            "quantization": partial(charts.quantization, found.result),
            "labelling": partial(charts.labelling, found.result),
        }.items()
    }
    drawn["comparisons"] += tried("chart of precision by recall", partial(_precision, context), [], listed=False)
    result = _with(found.result, earlier, tried)

    def full() -> str:
        return render(
            name=name, judged=judged, result=result, ecg=ecg, gallery=gallery, usage=use, manifest=found.manifest,
            spec=context.spec.model_dump(mode="json"), **drawn,
        )  # fmt: skip

    if not tried(PAGE, partial(_publish_page, context, full), None):
        result = _with(found.result, earlier, tried)
        plain = partial(plain_page, name, judged, result)
        tried(f"plain {PAGE}", partial(_publish_page, context, plain), None)


def _precision(context: Context) -> list[charts.Chart]:
    """Draw the curves that the evaluation has left, if it has."""
    path = context.artifact(CURVES)
    return charts.precision(RecordedCurves.model_validate_json(path.read_bytes())) if path.is_file() else []


def _usage(context: Context, found: _Findings) -> Usage:
    student = Path(context.needed("distill", TrainedNetwork).weights).name
    return usage(
        context.workdir.name, student, found.result, [DOCUMENT, *(["manifest.json"] if found.manifest else [])]
    )


def _publish_page(context: Context, make: Callable[[], str]) -> bool:
    part = context.artifact(f"{PAGE}.part")
    part.write_text(make(), encoding="utf-8")
    part.replace(context.artifact(PAGE))
    context.publish(PAGE, Role.JOB, "text/html; charset=utf-8")
    return True


def _tell_machines(context: Context, found: _Findings, tried: Extras, earlier: tuple[ExtraOutcome, ...]) -> JobResult:
    """Publish the document, which holds the result that is returned; return the result."""
    result = _with(found.result, earlier, tried, ExtraOutcome(name=DOCUMENT, status="done"))
    if tried(DOCUMENT, partial(_publish_document, context, found, result), None, listed=False):
        return result
    return _with(found.result, earlier, tried)


def _publish_document(context: Context, found: _Findings, result: JobResult) -> bool:
    findings = [finding.model_dump(exclude={"n", "at", "type"}) for finding in found.health.findings]
    told = Report(
        name=context.spec.name,
        verdict=found.judged,
        result=result,
        health=tuple(HealthFinding(**finding) for finding in findings),
        curves=history.listed(found.curves),
        manifest=found.manifest,
        spec=context.spec.model_dump(mode="json"),
    )
    context.publish_document(DOCUMENT, told)
    return True


def _with(result: JobResult, earlier: tuple[ExtraOutcome, ...], tried: Extras, *more: ExtraOutcome) -> JobResult:
    return result.model_copy(update={"extras": (*earlier, *tried.outcomes, *more)})
