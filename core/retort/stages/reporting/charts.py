"""The charts of the report, as plotly's own plain values; colours are names that the page's style sheet fills in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from retort.names import MAP, MAP50
from retort.spec.figures import ClassScores, Roles
from retort.stages.reporting.history import Curves

Chart = dict[str, Any]
_TASK = ("box_loss", "cls_loss", "dfl_loss", "l1_loss")
_MOST_CLASSES = 30


def charts(curves: Curves, roles: Roles) -> list[Chart]:
    """Return every chart that there are values for: name, title, note, height and plotly's data and layout."""
    found = [
        _accuracy(MAP, curves, roles),
        _accuracy(MAP50, curves, roles),
        _task_losses(curves),
        _distillation(curves),
        _validation(curves),
        _rates(curves),
        _classes(roles),
    ]
    return [drawn for drawn in found if drawn["data"]]


def _accuracy(metric: str, curves: Curves, roles: Roles) -> Chart:
    key = "map" if metric == MAP else "map50"
    data = [
        line(role, curves[role][metric], color=role, dash="solid" if role == "student" else "dot", marker=marker)
        for role, marker in (("student", "circle"), ("control", "diamond"))
        if metric in curves.get(role, {})
    ]
    steps = [step for trace in data for step in trace["x"]]
    level = roles.teacher.map if metric == MAP else roles.teacher.map50
    if steps and level is not None:
        flat = {min(steps): level, max(steps): level}
        data.append(line("teacher", flat, color="teacher", dash="dash"))
    note = "Each epoch on the validation images; the teacher as it ends."
    layout = {"yaxis": {"title": "mAP", "rangemode": "tozero"}}
    return chart(key, f"{metric.removeprefix('val/')} over epochs", note, data, layout)


def _task_losses(curves: Curves) -> Chart:
    note = "The detector's own training losses; distillation terms are not in them."
    return chart("task", "Task losses", note, _terms("train", curves), {"yaxis": {"title": "loss"}})


def _validation(curves: Curves) -> Chart:
    note = "The same on the validation images: where they rise again, the network learns by heart."
    return chart("validation", "Validation losses", note, _terms("val", curves), {"yaxis": {"title": "loss"}})


def _terms(group: str, curves: Curves) -> list[dict[str, Any]]:
    return [
        line(
            f"{term.removesuffix('_loss')}, {role}",
            curves[role][f"{group}/{term}"],
            color=f"series-{number}",
            dash="solid" if role == "student" else "dot",
        )
        for number, term in enumerate(_TASK, start=1)
        for role in ("student", "control")
        if f"{group}/{term}" in curves.get(role, {})
    ]


def _distillation(curves: Curves) -> Chart:
    series = curves.get("student", {})
    terms = [name for name in series if name.startswith("train/kd/") and name != "train/kd/weight"]
    data = [
        line(name.removeprefix("train/kd/"), series[name], color=f"series-{number % 6 + 1}")
        for number, name in enumerate(terms)
    ]
    layout: Chart = {"yaxis": {"title": "weighted loss", "rangemode": "tozero"}}
    if data and "train/kd/weight" in series:
        data.append({**line("schedule", series["train/kd/weight"], color="muted", dash="dash"), "yaxis": "y2"})
        layout["yaxis2"] = {
            "title": "schedule", "overlaying": "y", "side": "right", "range": [0, 1.05], "showgrid": False,
            "tickmode": "array", "tickvals": [0, 0.5, 1],
        }  # fmt: skip
    note = "What the student pays for differing from its teacher, term by term; the schedule scales them all."
    return chart("kd", "Distillation losses", note, data, layout)


def _classes(roles: Roles) -> Chart:
    student = roles.student.per_class
    other = (roles.control or roles.teacher).per_class
    names = list(student)
    note = "Average precision over IoU 0.50 to 0.95."
    if len(names) > _MOST_CLASSES:
        names.sort(key=lambda name: -abs(student[name].ap - _ap(other, name)))
        note = f"The {_MOST_CLASSES} of {len(names)} classes in which student and {_against(roles)} differ most."
        names = names[:_MOST_CLASSES]
    data = [
        {
            "type": "bar",
            "name": role.value,
            "x": names,
            "y": [_ap(figures.per_class, name) for name in names],
            "hovertemplate": "%{x}: %{y:.3f}<extra>" + role + "</extra>",
            "meta": {"color": role.value},
        }
        for role, figures in roles.known()
        if figures.per_class
    ]
    layout = {
        "barmode": "group",
        "bargap": 0.3,
        "xaxis": {"type": "category", "title": "class", "showgrid": False},
        "yaxis": {"title": "AP50-95", "rangemode": "tozero"},
    }
    return {**chart("classes", "Per class", note, data, layout), "wide": True}


def _against(roles: Roles) -> str:
    return "teacher" if roles.control is None else "control"


def _rates(curves: Curves) -> Chart:
    series = curves.get("student", {})
    groups = [name for name in series if name.startswith("lr/")]
    data = [
        line(name.removeprefix("lr/"), series[name], color=f"series-{number % 6 + 1}", dash=_DASHES[number % 4])
        for number, name in enumerate(groups)
    ]
    note = "By group of parameters, at the end of each epoch; the control's is the same."
    return chart("lr", "Learning rate", note, data, {"yaxis": {"title": "rate", "exponentformat": "e"}})


_DASHES = ("solid", "dash", "dot", "dashdot")


def line(
    name: str,
    points: Mapping[Any, float | None],
    *,
    color: str,
    dash: str = "solid",
    marker: str | None = None,
) -> dict[str, Any]:
    """Return one curve over the steps."""
    steps: Sequence[Any] = list(points)
    few = len(steps) <= 40
    return {
        "type": "scatter",
        "mode": "lines+markers" if (marker and few) or len(steps) == 1 else "lines",
        "name": name,
        "x": steps,
        "y": list(points.values()),
        "line": {"dash": dash, "width": 2},
        "marker": {"symbol": marker or "circle", "size": 7},
        "hovertemplate": "epoch %{x}: %{y:.4g}<extra>" + name + "</extra>",
        "meta": {"color": color},
    }


def chart(name: str, title: str, note: str, data: list[dict[str, Any]], layout: Mapping[str, Any]) -> Chart:
    """Put a chart together; its steps are epochs unless *layout* says otherwise."""
    steps = sorted({step for trace in data for step in trace["x"]}) if "xaxis" not in layout else []
    epochs = {"title": "epoch", "dtick": max(1, round(len(steps) / 7)), "tick0": steps[0] if steps else 1}
    return {"name": name, "title": title, "note": note, "data": data, "layout": {"xaxis": epochs, **layout}}


def _ap(per_class: Mapping[str, ClassScores], name: str) -> float:
    return per_class[name].ap if name in per_class else 0.0
