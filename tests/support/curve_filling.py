"""Publish the curves and matrices of a job's networks."""

from __future__ import annotations

from collections.abc import Sequence

from retort.db import Lease
from retort.spec.curves import CURVES, ClassCurve, ConfusionMatrix, Curves, NetworkCurves
from support.api_harness import Worker

ROLES = ("student", "control", "teacher")


def curves(names: Sequence[str], networks: Sequence[str] = ROLES, *, num_classes: int | None = None) -> Curves:
    """Networks that find the first classes better, each network better than the one before it."""
    return Curves(
        classes=tuple(names), num_classes=num_classes or len(names), num_images=500, iou=0.5, score_from=0.25,
        networks={network: _network(names, place) for place, network in enumerate(networks)},
    )  # fmt: skip


def _network(names: Sequence[str], place: int) -> NetworkCurves:
    classes = tuple(_curve(name, 0.4 + 0.1 * place + 0.3 / (1 + at)) for at, name in enumerate(names))
    mean = tuple(sum(one.precision[at] for one in classes) / len(classes) for at in range(101))
    size = len(names)
    counts = [
        [60 - row if row == column else (row + 2 * column) % 7 for column in range(size)] + [row % 2, 9 - place]
        for row in range(size)
    ]
    counts += [[0] * (size + 2), [*range(3, 3 + size), 1, 0]]
    return NetworkCurves(
        map50=sum(one.ap50 for one in classes) / len(classes), mean=mean, classes=classes,
        confusion=ConfusionMatrix(counts=tuple(map(tuple, counts))),
    )  # fmt: skip


def _curve(name: str, reach: float) -> ClassCurve:
    precision = tuple(max(0.0, 1 - (at / 100 / reach) ** 3) for at in range(101))
    return ClassCurve(name=name, ap50=sum(precision) / 101, number=80, precision=precision)


def publish_curves(worker: Worker, lease: Lease, document: Curves) -> None:
    """Let a job keep its curves."""
    worker.publish(lease, CURVES, document.model_dump_json().encode(), media_type="application/json")
