"""Measuring a published network on a data set: accuracy by upstream's validator, size and latency by our own."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from retort.errors import ModelError
from retort.names import MAP, MAP50
from retort.training import networks, parallel
from retort.training.batches import shared_memory
from retort.training.batches.shared_memory import Demand
from retort.training.distillation.objective import ClassMap
from retort.training.environment import num_workers
from retort.training.plan import Plan
from retort.training.upstream import DetectionValidator, check_det_dataset, get_flops, select_device

WARM_UP, LONGEST_S, FEWEST, MOST = 3, 10.0, 5, 50
"""Latency: unmeasured runs, then measured ones until the time or the number is used up, but a few at least."""


@dataclass(frozen=True)
class Evaluation:
    """What a network can do and what it costs."""

    map50: float | None
    map: float | None
    """mAP50-95; None, like mAP50, where the network knows none of the data's classes."""
    per_class: dict[str, dict[str, float]]
    """``ap50`` and ``ap`` of every class with ground truth."""
    num_parameters: int
    gflops: float
    size_bytes: int
    latency_ms: dict[str, float]
    """``p50`` and ``p90`` of one image through the folded network, boxes decoded, without NMS."""


class Judge(DetectionValidator):  # type: ignore[misc]
    """Upstream's validator for networks whose classes are not the data's: predictions are translated by name."""

    def __init__(self, *, args: dict[str, Any], folder: Path, classes: ClassMap, names: dict[int, str]) -> None:
        super().__init__(args=args, save_dir=folder)
        self._classes = classes
        self._names = names

    def postprocess(self, preds: Any) -> Any:
        """Keep the classes that the data has, in the data's numbering, before boxes compete in NMS."""
        data, network, size = self._classes.student, self._classes.teacher, self._classes.size
        if data is None or network is None:
            return super().postprocess(preds)
        raw = preds[0] if isinstance(preds, (list, tuple)) else preds  # N 4+nc A
        known = torch.zeros(len(raw), len(self._names), raw.shape[-1], dtype=raw.dtype, device=raw.device)
        known[:, data.to(raw.device)] = raw[:, 4 + network.to(raw.device)]
        assert size == len(data)
        return super().postprocess(torch.cat([raw[:, :4], known], 1))

    def init_metrics(self, model: Any) -> None:
        """Count by the data's classes."""
        super().init_metrics(model)
        self.names, self.nc = self._names, len(self._names)
        self.metrics.names = self._names


def evaluate(
    weights: Path,
    *,
    data_yaml: Path,
    imgsz: int,
    batch: int,
    device: str,
    loader_workers: int | None = None,
    on_batch: Callable[[], None] | None = None,
) -> Evaluation:
    """Measure published *weights* on the validation images of *data_yaml*; *on_batch* is called before each batch.

    Raises:
        ModelError: the weights cannot be loaded.

    """
    network = networks.load(weights)
    box: Any = None
    names: dict[int, str] = {}
    if classes_of(network, data_yaml)[1].size:
        with TemporaryDirectory() as folder:
            judge = judged(
                weights, data_yaml=data_yaml, imgsz=imgsz, batch=batch, device=device, folder=Path(folder),
                loader_workers=loader_workers, on_batch=on_batch,
            )  # fmt: skip
        box, names = judge.metrics.box, judge.metrics.names
    folded = network.fuse(verbose=False)
    return Evaluation(
        map50=float(box.map50) if box else None,
        map=float(box.map) if box else None,
        per_class={
            names[int(index)]: {"ap50": float(box.ap50[i]), "ap": float(box.ap[i])}
            for i, index in enumerate(box.ap_class_index if box else ())
        },
        num_parameters=sum(parameter.numel() for parameter in folded.parameters()),
        gflops=float(get_flops(folded, imgsz)),
        size_bytes=weights.stat().st_size,
        latency_ms=latency(folded, imgsz=imgsz, device=device),
    )


def judged(
    weights: Path,
    *,
    data_yaml: Path,
    imgsz: int,
    batch: int,
    device: str,
    folder: Path,
    loader_workers: int | None = None,
    on_batch: Callable[[], None] | None = None,
) -> Judge:
    """Run the validator over the validation images and return it with its metrics.

    Raises:
        ModelError: the weights cannot be loaded, or know none of the data's classes.

    """
    model = networks.load(weights)
    names, classes = classes_of(model, data_yaml)
    if classes.size == 0:
        raise ModelError(
            f"{weights.name} knows none of the data's classes", hint=f"the data has {', '.join(names.values())}"
        )
    arguments = {
        "data": str(data_yaml),
        "imgsz": imgsz,
        "batch": 2 * batch,  # like validation in training: a batch's images share one padded shape
        "rect": True,
        "device": device,
        "workers": shared_memory.affordable(
            num_workers(loader_workers), Demand(batch, imgsz, trains=False), shared_memory.free_bytes()
        ),
        "plots": False,
        "task": "detect",
        "mode": "val",
    }
    judge = Judge(args=arguments, folder=folder, classes=classes, names=names)
    if on_batch is not None:
        judge.add_callback("on_val_batch_start", lambda _: on_batch())
    with parallel.alone():
        judge(model=model)
    if hasattr(judge.dataloader, "close"):
        judge.dataloader.close()
    return judge


def classes_of(model: Any, data_yaml: Path) -> tuple[dict[int, str], ClassMap]:
    """Return the data's classes by number, and those that *model* knows too."""
    names = dict(check_det_dataset(str(data_yaml))["names"])
    return names, ClassMap.between(names, model.names)


def score(weights: Path, plan: Plan, *, on_batch: Callable[[], None]) -> dict[str, float | None]:
    """Return the teacher's mAP on the plan's validation images, by metric name.

    Raises:
        ModelError: as judged.

    """
    judge = judged(
        weights,
        data_yaml=plan.data_yaml,
        imgsz=plan.teaching.imgsz or plan.training.imgsz,
        batch=plan.training.batch,
        device=plan.device,
        folder=plan.folder,
        loader_workers=plan.loader_workers,
        on_batch=on_batch,
    )
    box = judge.metrics.box
    return {MAP50.replace("val/", "teacher/"): float(box.map50), MAP.replace("val/", "teacher/"): float(box.map)}


def latency(model: Any, *, imgsz: int, device: str) -> dict[str, float]:
    """Time one image at a time on *device*: median and ninth decile in milliseconds."""
    where = select_device(device, verbose=False)
    model = model.to(where).eval()
    image = torch.zeros(1, 3, imgsz, imgsz, device=where)
    taken: list[float] = []
    begun = time.perf_counter()
    with torch.inference_mode():
        for _ in range(WARM_UP):
            model(image)
        while len(taken) < FEWEST or (len(taken) < MOST and time.perf_counter() - begun < LONGEST_S):
            started = time.perf_counter()
            model(image)
            if where.type == "cuda":
                torch.cuda.synchronize(where)
            taken.append((time.perf_counter() - started) * 1e3)
    return {"p50": statistics.median(taken), "p90": statistics.quantiles(taken, n=10)[-1]}
