"""Render workers with their GPUs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType

from retort.cli.render.figures import clock
from retort.cli.render.tables import Column, FittedTable, figure
from retort.cli.render.terminal import Paragraph, paragraph
from retort.errors import printable


def workers_page(workers: Sequence[Mapping[str, Any]]) -> RenderableType:
    """One line per worker, and one for each GPU that no run can have."""
    refused = [
        paragraph(
            f"GPU {device['name']}{_product(device)} of {worker['host']} is not used: {device['refused']}", "yellow"
        )
        for worker in workers
        for device in worker.get("devices", ())
        if device["kind"] == "gpu" and device["refused"]
    ]
    drained = [
        paragraph(f"worker {worker['name']} is drained: it takes no more jobs", "yellow")
        for worker in workers
        if worker.get("drained_at")
    ]
    unconfined = map(_unconfined, filter(_lacks_confinement, workers))
    return Group(_workers_table(workers), *refused, *drained, *unconfined)


def _lacks_confinement(worker: Mapping[str, Any]) -> bool:
    told = worker.get("confinement") or {"mode": "best", "missing": {}}
    return told["mode"] == "off" or bool(told["missing"])


def _unconfined(worker: Mapping[str, Any]) -> Paragraph:
    """Return a line on a worker that cannot confine runs, or not wholly."""
    told = worker["confinement"]
    lacking = "; ".join(f"{printable(part)}: {printable(why)}" for part, why in told["missing"].items())
    what = "runs are not confined" if told["mode"] == "off" else f"runs are not confined in {lacking}"
    return paragraph(f"worker {worker['name']}: {what}", "yellow")


def _product(device: Mapping[str, Any]) -> str:
    return f" ({printable(device['product'])})" if device["product"] else ""


def devices_text(worker: Mapping[str, Any]) -> str:
    """Return what a worker trains on: its GPUs by product, the CPU, or nothing."""
    devices = worker.get("devices", ())
    products = Counter(
        device["product"] or "GPU" for device in devices if device["kind"] == "gpu" and not device["refused"]
    )
    if worker["gpus"] and products:
        return ", ".join(f"{number} x {printable(product)}" for product, number in products.items())
    if worker["gpus"]:
        return str(worker["gpus"])
    return "none" if any(device["refused"] for device in devices if device["kind"] == "cpu") else "CPU"


def _workers_table(workers: Iterable[Mapping[str, Any]]) -> FittedTable:
    table = FittedTable("host", "GPUs", figure("runs at a time", 2), Column("since", rank=1), Column("worker", rank=3))
    for worker in workers:
        since = clock(worker["started_at"], "%Y-%m-%d %H:%M:%S")
        table.add_row(worker["host"], devices_text(worker), str(worker["slots"]), since, worker["name"])
    return table
