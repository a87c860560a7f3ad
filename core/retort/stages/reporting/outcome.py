"""The result of a run: who reached what, and what the distillation bought."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from retort import __version__
from retort.names import Role
from retort.spec import digest
from retort.stages.context import Context
from retort.stages.reporting.quality import data_quality
from retort.stages.reporting.statistics import over_seeds

_METRICS = ("map50", "map")
_SMALLEST_GAP = 0.005
"""A share of less than half a point of mAP would be a share of noise."""


def outcome(context: Context, duration_s: float) -> dict[str, Any]:
    """Return what the run says when it has finished."""
    from retort.training.devices import name_of

    roles = context.results["evaluate"]["roles"]
    dataset = context.inputs.dataset
    return {
        "roles": roles,
        "ensemble": list(context.results["evaluate"].get("ensemble", [])),
        "training": _training(context),
        "control_dropped": context.results.get("control", {}).get("dropped"),
        "gain": gain(roles),
        "gap_closed": gap_closed(roles),
        "seeds": _seeds(context),
        "dataset": {
            "names": list(dataset.names),
            "num_train": dataset.num_train,
            "num_val": dataset.num_val,
            "num_shared": dataset.num_shared,
            "digest": dataset.digest,
        },
        "data_quality": data_quality(context),
        "unlabelled": _unlabelled(context),
        "pseudo_labels": _pseudo_labels(context),
        "spec_digest": digest(context.spec),
        "device": name_of(context.inputs.device),
        "versions": versions(),
        "exports": list(context.results.get("export", {}).get("exports", [])),
        "duration_s": round(duration_s, 1),
    }


def _training(context: Context) -> dict[str, Any]:
    """Return for how long, and in which batches, the student was trained; fewer epochs than planned: finished early."""
    student = context.results["distill"]
    return {name: student[name] for name in ("epochs", "planned_epochs", "batch")}


def _seeds(context: Context) -> dict[str, Any] | None:
    """Return what each seed gave, and what can be said of them all; None where there was one."""
    repeats = context.results["evaluate"].get("repeats", [])
    if not repeats:
        return None
    roles = context.results["evaluate"]["roles"]
    known = [role for role in (Role.STUDENT, Role.CONTROL) if role in roles]
    first: dict[str, Any] = {role: {name: roles[role][name] for name in _METRICS} for role in known}
    runs = [{"seed": context.spec.training.seed, **first}, *repeats]
    return {"runs": runs, "statistics": {name: over_seeds(runs, name) for name in _METRICS}}


def _unlabelled(context: Context) -> dict[str, Any] | None:
    """Return which images without labels the student, but not its control, has seen."""
    found, wanted = context.inputs.unlabelled, context.spec.data.unlabelled
    if found is None or wanted is None:
        return None
    return {
        "num_images": found.num_images,
        "num_shared": found.num_shared,
        "digest": found.digest,
        "ratio": wanted.ratio,
    }


def _pseudo_labels(context: Context) -> dict[str, Any] | None:
    """Return what the teacher has labelled for student and control, and what people said of it."""
    found, labelled = context.inputs.to_label, context.results.get("pseudo_label")
    if found is None or labelled is None:
        return None
    figures, reviewed = labelled["figures"], context.results.get("review", {})
    return {
        **figures,
        "num_trained": reviewed.get("num_used", figures["num_used"]),
        "review": reviewed.get("figures"),
        "digest": found.digest,
    }


def gain(roles: Mapping[str, Mapping[str, Any]]) -> dict[str, float] | None:
    """Return student less control; None where no control was trained."""
    if Role.CONTROL not in roles:
        return None
    return {name: roles[Role.STUDENT][name] - roles[Role.CONTROL][name] for name in _METRICS}


def gap_closed(roles: Mapping[str, Mapping[str, Any]]) -> dict[str, float | None] | None:
    """Return the gain as a share of teacher less control.

    None where no control was trained; a metric is None where the teacher is less than half a point better than the
    control, so that there is no gap to close.
    """
    gained = gain(roles)
    if gained is None:
        return None
    closed: dict[str, float | None] = {}
    for name in _METRICS:
        teacher, control = roles[Role.TEACHER][name], roles[Role.CONTROL][name]
        gap = 0.0 if teacher is None else teacher - control
        closed[name] = gained[name] / gap if gap >= _SMALLEST_GAP else None
    return closed


def versions() -> dict[str, str]:
    """Return the versions that shape a result."""
    found = {"retort": __version__, "python": platform.python_version()}
    for name in ("ultralytics", "torch", "torchvision", "onnx", "onnxruntime"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
