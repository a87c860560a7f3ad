"""The published form of a network: a checkpoint that opens in plain ``YOLO(path)`` and tells nothing else."""

from __future__ import annotations

import io
from collections.abc import Mapping
from copy import deepcopy
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from retort.errors import Diverged
from retort.training import durable, networks
from retort.training.upstream import version

LICENSE = "AGPL-3.0 (https://ultralytics.com/license)"


def publish(
    model: Any,
    path: Path,
    *,
    names: Mapping[int, str],
    metadata: Mapping[str, Any] | None = None,
    at: datetime | None = None,
) -> None:
    """Write *model* to *path* in float16, with the keys that upstream reads.

    *metadata* (plain values, no paths) is kept under the key ``retort``.

    Raises:
        Diverged: a weight is not finite, or a layer is all zeros.

    """
    checkpoint = {
        "epoch": -1,
        "best_fitness": None,
        "model": clean(model, names),
        "ema": None,
        "updates": None,
        "optimizer": None,
        "scaler": None,
        "train_args": {"task": "detect", "mode": "train"},
        "train_metrics": {},
        "train_results": {},
        "date": (at or datetime.now(UTC)).isoformat(),
        "version": version,
        "license": LICENSE,
        "docs": "https://docs.ultralytics.com",
        "retort": dict(metadata or {}),
    }
    buffer = io.BytesIO()  # torch.save writes a path's stem into the file; a buffer has none
    torch.save(checkpoint, buffer)
    durable.write(path, buffer.getvalue())


def clean(model: Any, names: Mapping[int, str]) -> Any:
    """Return a float16 copy of *model* on the CPU without anything that training, loading or validating left on it."""
    if (flaw := networks.flaw(model)) is not None:
        raise Diverged(f"the network cannot be published: {flaw}", hint="lower the learning rate")
    network = deepcopy(model).float().cpu().half().to(memory_format=torch.contiguous_format).eval()
    for value in network.state_dict().values():
        if value.is_floating_point():
            torch.nan_to_num_(value)  # float16 ends at 65504; upstream clamps likewise
    for parameter in network.parameters():
        parameter.requires_grad_(requires_grad=False)
    for name in ("criterion", "class_weights", "pt_path", "_end2end"):
        network.__dict__.pop(name, None)
    network.names, network.nc, network.task = dict(names), len(names), "detect"
    network.args = {"task": "detect", "mode": "train"}
    network.yaml = {**network.yaml, "yaml_file": Path(str(network.yaml.get("yaml_file", ""))).name}
    head = network.model[-1]
    head.shape, head.anchors, head.strides = None, torch.empty(0), torch.empty(0)  # caches of the last image size
    return network
