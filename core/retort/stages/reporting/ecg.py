"""The health of the distillation in the report: its curves, the comparison of temperatures, and the verdicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retort import journal
from retort.events import HealthEvent, MetricEvent
from retort.names import Role
from retort.stages import past
from retort.stages.reporting.charts import Chart, chart, line
from retort.stages.reporting.heatmaps import Row, load, rows
from retort.stages.reporting.history import Curves


@dataclass(frozen=True, slots=True)
class Ecg:
    """Everything that the report shows of the distillation's health."""

    findings: tuple[HealthEvent, ...]
    """Verdicts in the order in which they were said."""
    standing: tuple[HealthEvent, ...]
    """Of each rule the last verdict, where it is not healthy; the worst first."""
    charts: tuple[Chart, ...]
    rows: tuple[Row, ...]
    """Heatmaps, one row for each image."""


def ecg(workdir: Path, curves: Curves) -> Ecg:
    """Read what the journals and the distilled training left in *workdir*."""
    arrays = load(workdir)
    found = findings(workdir)
    last = {event.rule: event for event in found}
    bad = sorted((e for e in last.values() if e.verdict != "healthy"), key=lambda e: (e.verdict != "critical", e.epoch))
    shown = [_kl(curves), _alike(curves), _gradients(curves), _temperatures(arrays)]
    return Ecg(tuple(found), tuple(bad), tuple(c for c in shown if c["data"]), rows(arrays))


def findings(workdir: Path) -> list[HealthEvent]:
    """Return the verdicts of all attempts; one that trained from the first epoch on has judged anew.

    An attempt that went on knows what was said before, and says again at most what fell into the torn epoch.
    """
    found: dict[tuple[str, int], HealthEvent] = {}
    for path in past.attempts(workdir):
        said = journal.read(path)[0]
        if any(isinstance(e, MetricEvent) and e.role == Role.STUDENT and e.step == 1 for e in said):
            found.clear()
        found |= {(event.rule, event.epoch): event for event in said if isinstance(event, HealthEvent)}
    return list(found.values())


def _kl(curves: Curves) -> Chart:
    names = {
        "kl_foreground": "classes, foreground",
        "kl_background": "classes, background",
        "kl_dfl": "box sides (DFL)",
    }
    note = "How far the student's predictions are from the teacher's. The foreground falls fast, then slowly."
    return chart("ecg-kl", "KL to the teacher", note, _series(curves, names), {"yaxis": _log("KL, nats")})


def _alike(curves: Curves) -> Chart:
    names = {"cosine_P3": "features P3", "cosine_P4": "features P4", "cosine_P5": "features P5"}
    names |= {name.replace("cosine", "cka"): f"{text} (CKA)" for name, text in names.items()}
    names |= {"cosine_backbone": "features, backbone", "box_iou": "boxes (IoU)"}
    note = "1 is equal: feature vectors behind the projector, and boxes where the teacher sees something."
    layout = {"yaxis": {"title": "similarity", "range": [-0.05, 1.05]}}
    return chart("ecg-alike", "Alike", note, _series(curves, names), layout)


def _gradients(curves: Curves) -> Chart:
    data = _series(curves, {"grad_cosine": "cosine", "background_share": "background's share"})
    ratio = _series(curves, {"grad_ratio": "norm ratio"}, first=3)
    layout: Chart = {"yaxis": {"title": "cosine, share", "range": [-1.05, 1.05]}}
    if ratio:
        data += [{**trace, "yaxis": "y2", "line": {**trace["line"], "dash": "dash"}} for trace in ratio]
        layout["yaxis2"] = {**_log("distillation / task"), "overlaying": "y", "side": "right", "showgrid": False}
    note = "Of the distillation, against the task's. A cosine that stays below 0 is a conflict."
    return chart("ecg-gradients", "Gradients", note, data, layout)


def _temperatures(arrays: Mapping[str, Any]) -> Chart:
    names = {
        "teacher_foreground": "teacher's confidence, foreground",
        "teacher_background": "teacher's confidence, background",
        "share_untaught": "foreground's share of the gradient, before",
        "share_taught": "the same, after training",
    }
    steps = [f"T = {value:g}" for value in arrays.get("temperatures", ())]
    data = [
        {
            **line(
                text, dict(zip(steps, map(float, arrays[name]), strict=True)), color=f"series-{number}", marker="circle"
            ),
            "hovertemplate": "%{x}: %{y:.3f}<extra>" + text + "</extra>",
        }
        for number, (name, text) in enumerate(names.items(), start=1)
        if name in arrays
    ]
    layout = {"xaxis": {"type": "category", "showgrid": False}, "yaxis": {"title": "share", "rangemode": "tozero"}}
    note = "What a temperature does to this teacher: the background wakes up, and takes the gradient."
    return chart("ecg-temperatures", "Temperatures compared", note, data, layout)


def _series(curves: Curves, names: Mapping[str, str], *, first: int = 1) -> list[dict[str, Any]]:
    series = curves.get("student", {})
    shown: Sequence[tuple[str, str]] = [(f"health/{name}", text) for name, text in names.items()]
    known = [(name, text) for name, text in shown if name in series]
    return [
        line(text, series[name], color=f"series-{(number - 1) % 6 + 1}")
        for number, (name, text) in enumerate(known, start=first)
    ]


def _log(title: str) -> dict[str, Any]:
    return {"title": title, "type": "log", "tickmode": "linear", "dtick": "D2"}
