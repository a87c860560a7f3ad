"""Write down what the run found: the manifest, the report for machines, and the report for people."""

from __future__ import annotations

import json
from typing import Any

from retort.names import Role
from retort.spec import JobSpec
from retort.stages import cost as costs
from retort.stages import record
from retort.stages.context import Context
from retort.stages.reporting import charts, comparisons, history, page, samples
from retort.stages.reporting.ecg import ecg
from retort.stages.reporting.manifest import manifest
from retort.stages.reporting.outcome import outcome
from retort.stages.reporting.verdict import verdict

after = "export"


def applies(spec: JobSpec) -> bool:  # noqa: ARG001 - every job reports
    """Always."""
    return True


def cost(spec: JobSpec) -> float:
    """Return its share of the run: a few predictions."""
    return costs.forward(spec.student.model) / 4


def run(context: Context) -> dict[str, Any]:
    """Return the result of the whole run."""
    result = outcome(context, record.total_duration(context.workdir, context.results))
    origin = manifest(context, result)
    _write(context, "manifest.json", origin)
    curves = history.curves(context.workdir)
    health = ecg(context.workdir, curves)
    judged = verdict(result)
    spec = context.spec.model_dump(mode="json")
    figures = {
        "name": context.spec.name,
        "verdict": judged.model_dump(),
        "result": result,
        "health": [finding.model_dump(exclude={"n", "at", "type"}) for finding in health.findings],
        "curves": history.listed(curves),
        "manifest": origin,
        "spec": spec,
    }
    _write(context, "report.json", figures)
    context.check()
    context.progress(0.2)
    html = page.render(
        name=context.spec.name,
        judged=judged,
        result=result,
        charts=charts.charts(curves, result["roles"]),
        comparisons=comparisons.comparisons(result),
        quantization=comparisons.quantization(result),
        labelling=comparisons.labelling(result),
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


def _write(context: Context, name: str, content: dict[str, Any]) -> None:
    part = context.artifact(f"{name}.part")
    part.write_text(json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False) + "\n", encoding="utf-8")
    part.replace(context.artifact(name))
    context.publish(name, Role.JOB, "application/json")
