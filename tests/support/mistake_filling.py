"""Publish the mistakes of a job: images with boxes that were found, wrong or missed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from PIL import Image
from retort.db import Lease
from retort.report.mistakes import ImageBoxes, gather
from retort.report.samples import DrawnBox
from support.api_harness import Worker

SIZES = {"small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}


ROLES = ("student", "control", "teacher")


def publish_mistakes(
    worker: Worker, lease: Lease, names: tuple[str, ...], *, number: int = 16, networks: tuple[str, str, str] = ROLES
) -> dict[str, Any]:
    """Let a job keep the mistakes of three networks on so many images; return the document."""
    found: dict[str, list[ImageBoxes]] = {network: [] for network in networks}
    for one in range(number):
        path = Path(worker.folder) / f"street-{one:03d}.png"
        Image.new("RGB", (320, 240), (120 + 6 * one, 150, 170 - 5 * one)).save(path)
        near, far = (30.0, 40.0, 130.0, 150.0), (200.0, 60.0, 225.0, 84.0)
        labels = [DrawnBox(near, 0), DrawnBox(far, one % len(names))]
        wrong = DrawnBox((150.0 + one, 130.0, 210.0 + one, 200.0), (one + 1) % len(names), 0.5 + one / 40)
        right = [DrawnBox(label.box, label.class_id, 0.9) for label in labels]
        for network, boxes in zip(networks, ([right[0], wrong], [wrong], right), strict=True):
            found[network].append(ImageBoxes(path, labels, boxes))
    document = gather(found, names, SIZES)
    worker.publish(lease, "mistakes.json", document.model_dump_json().encode(), media_type="application/json")
    told: dict[str, Any] = json.loads(document.model_dump_json())
    return told
