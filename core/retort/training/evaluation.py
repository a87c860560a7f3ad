"""Measuring a network on a data set: its accuracy, its size, its speed and its memory, whatever runs it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from retort.errors import ModelError
from retort.names import MAP, MAP50
from retort.training import networks, runtimes, speed
from retort.training.boxes import folded
from retort.training.distillation.objective import ClassMap
from retort.training.judge import Accuracy, Conditions, accuracy, judged
from retort.training.plan import Plan
from retort.training.speed import Speed
from retort.training.upstream import get_flops, select_device


@dataclass(frozen=True)
class Evaluation:
    """What a network can do and what it costs."""

    accuracy: Accuracy | None
    """None where the network knows none of the data's classes."""
    speed: Speed
    num_parameters: int
    gflops: float
    size_bytes: int


def evaluate(weights: Path, conditions: Conditions) -> Evaluation:
    """Measure published *weights* in PyTorch on the conditions' device.

    Raises:
        ModelError: the weights cannot be loaded.

    """
    network = networks.load(weights)
    known = ClassMap.between(conditions.names(), network.names).size > 0
    found = accuracy(network, conditions) if known else None
    where = select_device(conditions.device, verbose=False)
    still = folded(weights)
    _, timed = speed.measure(lambda: runtimes.of_network(folded(weights), where), imgsz=conditions.imgsz)
    return Evaluation(
        accuracy=found,
        speed=timed,
        num_parameters=sum(parameter.numel() for parameter in still.parameters()),
        gflops=float(get_flops(still, conditions.imgsz)),
        size_bytes=weights.stat().st_size,
    )


def score(weights: Path, plan: Plan, *, on_batch: Callable[[], None]) -> dict[str, float | None]:
    """Return the teacher's mAP on the plan's validation images, letterboxed as in training, by metric name.

    Raises:
        ModelError: the weights cannot be loaded, or know none of the data's classes.

    """
    conditions = Conditions(
        data_yaml=plan.data_yaml,
        imgsz=plan.teaching.imgsz or plan.training.imgsz,
        batch=plan.training.batch,
        device=plan.device,
        loader_workers=plan.loader_workers,
        square=False,
        on_batch=on_batch,
    )
    network = networks.load(weights)
    try:
        with TemporaryDirectory() as folder:
            box = judged(network, conditions, Path(folder)).metrics.box
    except ModelError as error:
        raise ModelError(f"{weights.name}: {error.message}", hint=error.hint) from error
    return {MAP50.replace("val/", "teacher/"): float(box.map50), MAP.replace("val/", "teacher/"): float(box.map)}
