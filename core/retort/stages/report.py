"""Write the manifest, the JSON report and the HTML report."""

from __future__ import annotations

from retort.constants import Role
from retort.pipeline import history, progress, results
from retort.pipeline.answers import Evaluated
from retort.pipeline.context import Context
from retort.report import charts, samples
from retort.report.health import health_report
from retort.report.html import render
from retort.report.result import manifest, outcome
from retort.report.verdict import Noise, rise, verdict
from retort.spec import JobSpec
from retort.spec.report import HealthFinding, Report
from retort.spec.result import JobResult

after = "export"


def applies(spec: JobSpec) -> bool:  # noqa: ARG001 - every job reports
    """Return True: the stage applies to every job."""
    return True


def cost(spec: JobSpec) -> float:
    """Return the stage's share of the run: a few predictions."""
    return progress.forward(spec.student.model) / 4


def noise(context: Context, curves: history.Curves) -> Noise:
    """Return the known noise in this run's difference."""
    return Noise(resampled=context.needed("evaluate", Evaluated).resampled, rise=rise(curves))


def run(context: Context) -> JobResult:
    """Return the result of the whole run."""
    result = outcome(context, results.total_duration(context.workdir, context.results))
    origin = manifest(context, result)
    context.publish_document("manifest.json", origin)
    curves = history.curves(context.workdir)
    health = health_report(context.workdir, curves)
    judged = verdict(result, noise(context, curves))
    result = result.model_copy(update={"verdict": judged})
    spec = context.spec.model_dump(mode="json")
    told = Report(
        name=context.spec.name,
        verdict=judged,
        result=result,
        health=tuple(HealthFinding(**finding.model_dump(exclude={"n", "at", "type"})) for finding in health.findings),
        curves=history.listed(curves),
        manifest=origin,
        spec=spec,
    )
    context.publish_document("report.json", told)
    context.check()
    context.progress(0.2)
    html = render(
        name=context.spec.name,
        judged=judged,
        result=result,
        charts=charts.charts(curves, result.roles),
        comparisons=charts.comparisons(result),
        quantization=charts.quantization(result),
        labelling=charts.labelling(result),
        ecg=health,
        gallery=samples.gallery(context),
        manifest=origin,
        spec=spec,
    )
    part = context.artifact("report.html.part")
    part.write_text(html, encoding="utf-8")
    part.replace(context.artifact("report.html"))
    context.publish("report.html", Role.JOB, "text/html; charset=utf-8")
    return result
