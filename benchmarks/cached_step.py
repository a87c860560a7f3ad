"""Time one training step: student alone, and taught ahead of time, interleaved.

    python benchmarks/cached_step.py --student yolov8n --imgsz 320 --batch 8 --boxes 30 --json FILE

A step is forward, loss, backward and the optimizer's step, with *boxes* taught boxes an image. Every repeat times both
sides one after the other; medians are compared, on a CPU of the processors' time.
The recipe's balance measures in one step of ``EVERY``: those steps are
timed apart and charged in that proportion, as in benchmarks/step.py. What carrying the boxes through the augmentation
costs is timed apart, per image.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import step as whole
import torch
from provenance import provenance, write_json
from retort.spec import DistillationSpec
from retort.training.data import taught_boxes
from retort.training.data.augment import Scene, _move
from retort.training.distillation.balancing import EVERY, FIRST_STEPS, GradientBalance
from retort.training.distillation.cached_teacher import CachedNetwork
from retort.training.distillation.distiller import make_distiller


def timed(step: Callable[[], object], device: torch.device) -> float:
    """Run it once; return its seconds: on a CPU those of its processors, which other work does not lengthen."""
    if device.type == "cuda":
        return whole.timed(step, device)
    started = time.process_time()
    step()
    return time.process_time() - started


def measure(options: argparse.Namespace, device: torch.device) -> dict[str, list[float]]:
    """Return the seconds of every repeat by side; ``measuring`` are cached ones that measure the balance."""
    batch = whole.batch_of(options.batch, options.imgsz, device)
    plain = whole.network(options.student, options.imgsz).to(device).to(memory_format=torch.channels_last)
    spec = DistillationSpec.model_validate({"recipe": "balanced"})
    cached = make_distiller(
        whole.network(options.student, options.imgsz).to(device).to(memory_format=torch.channels_last),
        CachedNetwork(whole.NAMES), spec, device=device, epochs=100, close_mosaic=0, seed=0,
    )  # fmt: skip
    assert cached.objective is not None
    cached.objective.epoch = spec.schedule.warmup_epochs + 1
    balance = cached.objective.balance
    assert isinstance(balance, GradientBalance)
    steps = {
        "plain": whole.training_step(plain, batch, device),
        "cached": whole.training_step(cached, batch | taught(options, device), device),
    }
    for one in steps.values():
        for _ in range(options.warmup):
            one()
    balance.restore({**balance.state(), "steps": FIRST_STEPS, "measured_at": FIRST_STEPS - 1}, device)
    taken: dict[str, list[float]] = {name: [] for name in (*steps, "measuring")}
    for _ in range(options.repeats):
        for name, one in steps.items():
            if name == "cached":
                balance.measure_next()
                taken["measuring"].append(timed(one, device))
            taken[name].append(timed(one, device))
    return taken


def taught(options: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """Draw taught boxes as a batch has them: a few sure ones, most of them doubtful."""
    draw = torch.Generator().manual_seed(1)
    boxes, classes = [], []
    for _ in range(options.batch):
        sides = 0.05 + 0.3 * torch.rand(options.boxes, 2, generator=draw)
        boxes.append(torch.cat([sides / 2 + (1 - sides) * torch.rand(options.boxes, 2, generator=draw), sides], 1))
        scores = torch.rand(options.boxes, whole.NUM_CLASSES, generator=draw) ** 8
        classes.append(scores.half())
    told = taught_boxes.told(boxes, classes)
    return {name: one.to(device) if isinstance(one, torch.Tensor) else one for name, one in told.items()}


def carrying(options: argparse.Namespace) -> float:
    """Return the seconds that moving the boxes of a mosaic takes beyond moving its labels alone."""
    draw, size = np.random.default_rng(0), options.imgsz
    number = 4 * (whole.BOXES_PER_IMAGE + options.boxes)
    low = draw.uniform(0, size, (number, 2)).astype(np.float32)
    boxes = np.concatenate([low, low + 40], 1)
    classes = np.zeros((number, 1), np.float32)
    classes[4 * whole.BOXES_PER_IMAGE :] = taught_boxes.FIRST
    matrix = np.eye(3, dtype=np.float32)
    sides = [Scene((2 * size, 2 * size), (), boxes[:n], classes[:n]) for n in (4 * whole.BOXES_PER_IMAGE, number)]
    moving = [partial(_move, scene, matrix, 1.0, size) for scene in sides]
    taken = [[timed(one, torch.device("cpu")) for one in moving] for _ in range(200)]
    return statistics.median(more - less for less, more in taken)


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--student", default="yolov8n")
    parser.add_argument("--imgsz", type=int, default=320)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--boxes", type=int, default=30, help="taught boxes of an image")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--warmup", type=int, default=4, help="steps of each side that are not timed")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    taken = measure(options, torch.device(options.device))
    found: dict[str, Any] = {f"{name}_s": statistics.median(values) for name, values in taken.items()}
    pairs = [cached / plain for cached, plain in zip(taken["cached"], taken["plain"], strict=True)]
    found["charged_s"] = found["cached_s"] + max(0.0, found["measuring_s"] - found["cached_s"]) / EVERY[1]
    found["cached_over_plain"] = found["charged_s"] / found["plain_s"]
    found["paired_quartiles"] = statistics.quantiles(pairs, n=4)
    found["carrying_s_per_image"] = carrying(options)
    for name, value in found.items():
        print(f"{name:24s}{value}")
    if options.json:
        settings = {key: value for key, value in vars(options).items() if key != "json"}
        write_json(options.json, {**found, "settings": settings, "threads": torch.get_num_threads(), **provenance()})


if __name__ == "__main__":
    main()
