"""The manifest that goes with a student: where it comes from, byte by byte."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from retort.checksums import sha256_of
from retort.names import MAP, MAP50, Role
from retort.stages import teacher
from retort.stages.context import Context

LICENSE = "AGPL-3.0"
"""Of the student: Ultralytics' licence, which reaches the networks trained with it."""


def manifest(context: Context, result: Mapping[str, Any]) -> dict[str, Any]:
    """Return the manifest of this run's student."""
    spec, dataset = context.spec, context.inputs.dataset
    student = context.workdir / str(context.results["distill"]["weights"])
    roles = result["roles"]
    return {
        "name": spec.name,
        "spec_digest": result["spec_digest"],
        "student": {"model": spec.student.model, "file": student.name, "sha256": sha256_of(student)},
        "training": result["training"],
        "starting_weights": {name: sha256_of(path) for name, path in sorted(context.inputs.weights.items())},
        "teacher": {"model": roles[Role.TEACHER]["model"], "sha256": sha256_of(teacher.weights(context))},
        "ensemble": [
            {**found, "sha256": sha256_of(context.inputs.weights[one.weights])}
            for one, found in zip(spec.teacher.ensemble, result["ensemble"], strict=True)
        ],
        "unlabelled": result["unlabelled"],
        "pseudo_labels": _pseudo_labels(result["pseudo_labels"]),
        "dataset": {
            "digest": dataset.digest,
            "num_train": dataset.num_train,
            "num_val": dataset.num_val,
            "known_as": dataset.known_as,
            "archives": dataset.archives,
        },
        "classes": list(dataset.names),
        "seeds": list(range(spec.training.seed, spec.training.seed + spec.training.seeds)),
        "device": result["device"],
        "versions": result["versions"],
        "metrics": {role: {MAP50: found["map50"], MAP: found["map"]} for role, found in roles.items()},
        "license": LICENSE,
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _pseudo_labels(found: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return which pseudo-labels the student has learned from, and how many of those that people saw were right."""
    if found is None:
        return None
    kept = {name: found[name] for name in ("digest", "num_trained", "num_boxes", "confidence", "ignore_from")}
    return {**kept, "reviewed_precision": None if found["review"] is None else found["review"]["precision"]}
