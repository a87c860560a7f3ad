"""Health of the distillation in the report: curves, temperatures, heatmaps, verdicts."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from retort import heatmaps
from retort.constants import LEVEL_STRIDES, Role
from retort.pipeline import history
from retort.pipeline.history import Curves
from retort.protocol import journal
from retort.protocol.events import HealthEvent, MetricEvent
from retort.report.charts import Chart, chart, line, log_axis

if TYPE_CHECKING:
    from PIL.Image import Image

FILE = "health.npz"
"""Artifact that a distilled training leaves."""
_SIDE = 300


@dataclass(frozen=True, slots=True)
class Heatmap:
    """One heatmap over one image."""

    title: str
    uri: str
    caption: str


Row = tuple[Heatmap, ...]


def load(workdir: Path) -> dict[str, Any]:
    """Read the health arrays of a distilled training; empty without any."""
    path = workdir / "artifacts" / FILE
    if not path.is_file():
        return {}
    with np.load(path, allow_pickle=False) as kept:
        return {name: kept[name] for name in kept.files}


def rows(arrays: Mapping[str, Any]) -> tuple[Row, ...]:
    """Draw each image as a row of heatmaps."""
    return tuple(
        tuple(Heatmap(tile.title, _uri(tile.picture), tile.caption) for tile in heatmaps.tiles(arrays, index, _SIDE))
        for index in range(len(arrays.get("images", ())))
    )


def _uri(picture: Image) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(heatmaps.jpeg(picture)).decode()}"


@dataclass(frozen=True, slots=True)
class HealthReport:
    """Health of the distillation, as shown in the report."""

    findings: tuple[HealthEvent, ...]
    """Verdicts in the order in which they were said."""
    standing: tuple[HealthEvent, ...]
    """Of each rule the last verdict, where it is not healthy; the worst first."""
    charts: tuple[Chart, ...]
    rows: tuple[Row, ...]
    """Heatmaps, one row for each image."""


def health_report(workdir: Path, curves: Curves) -> HealthReport:
    """Read the health report from journals and training files in *workdir*."""
    arrays = load(workdir)
    found = findings(workdir)
    last = {event.rule: event for event in found}
    bad = sorted((e for e in last.values() if e.verdict != "healthy"), key=lambda e: (e.verdict != "critical", e.epoch))
    shown = [_kl(curves), _alike(curves), _gradients(curves), _temperatures(arrays)]
    return HealthReport(tuple(found), tuple(bad), tuple(c for c in shown if c["data"]), rows(arrays))


def findings(workdir: Path) -> list[HealthEvent]:
    """Return the health verdicts since the last restart of training.

    They come from all attempts. An attempt that went on knows what was said before, and says again at most what fell
    into the torn epoch.
    """
    found: dict[tuple[str, int], HealthEvent] = {}
    for path in history.attempts(workdir):
        said = journal.read(path)[0]
        if any(isinstance(e, MetricEvent) and e.role == Role.STUDENT and e.step == 1 for e in said):
            found.clear()
        found |= {(event.rule, event.epoch): event for event in said if isinstance(event, HealthEvent)}
    return list(found.values())


def _kl(curves: Curves) -> Chart:
    names = {
        "kl_foreground": "classes, foreground",
        "kl_untaught": "the same, nothing learned",
        "kl_background": "classes, background",
        "kl_dfl": "box sides (DFL)",
    }
    data = _series(curves, names)
    note = "How far the student's predictions are from the teacher's. The foreground falls fast, then slowly."
    return chart("ecg-kl", "KL to the teacher", note, data, {"yaxis": log_axis("KL, nats", _values(data))})


def _alike(curves: Curves) -> Chart:
    names = {f"cosine_{level}": f"features {level}" for level in LEVEL_STRIDES}
    names |= {name.replace("cosine", "cka"): f"{text} (CKA)" for name, text in names.items()}
    names |= {"cosine_backbone": "features, backbone", "box_iou": "boxes (IoU)"}
    note = "1 is equal: feature vectors behind the projector, and boxes where the teacher sees something."
    layout = {"yaxis": {"title": "similarity", "range": [-0.05, 1.05]}}
    return chart("ecg-alike", "Alike", note, _series(curves, names), layout)


def _gradients(curves: Curves) -> Chart:
    shares = {"background_share": "background's share", "background_expected": "the share to expect"}
    data = _series(curves, {"grad_cosine": "cosine", **shares})
    ratio = _series(curves, {"grad_ratio": "norm ratio"}, first=4)
    layout: Chart = {"yaxis": {"title": "cosine, share", "range": [-1.05, 1.05]}}
    if ratio:
        data += [{**trace, "yaxis": "y2", "line": {**trace["line"], "dash": "dash"}} for trace in ratio]
        layout["yaxis2"] = {
            **log_axis("distillation / task", _values(ratio)),
            "overlaying": "y",
            "side": "right",
            "showgrid": False,
        }
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


def _values(data: Sequence[Mapping[str, Any]]) -> list[float | None]:
    return [value for trace in data for value in trace["y"]]
