"""mAP by Ultralytics' validator, of anything that gives raw output."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import torch
from faster_coco_eval import COCO, COCOeval_faster
from torch import nn

from retort import class_names
from retort.constants import HEAD_LEVELS, LEVEL_STRIDES, VALIDATION_BATCH
from retort.errors import ModelError
from retort.training import benchmark, teachers
from retort.training.benchmark import Speed, Subject
from retort.training.bootstrap import Matches
from retort.training.data.host_memory import BatchMemory, available_bytes, choose, free_shared_bytes
from retort.training.data.scan import check_kept, images_in
from retort.training.data.validation import ValidationLoader
from retort.training.deployment import deploy
from retort.training.environment import num_workers
from retort.training.inference import Runtime, load_folded
from retort.training.models import ClassMap
from retort.training.teachers.base import BoxNetwork, box_output
from retort.training.ultralytics_api import (
    DEFAULT_CFG,
    DetectionValidator,
    check_det_dataset,
    get_flops,
    ops,
    select_device,
)

Split = Literal["val", "test"]
SIZES = {"small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}
"""Areas of boxes in pixels of the original image: COCO's three sizes."""


FoundImage = tuple[str, np.ndarray, np.ndarray]
"""File, ground truth (n, 5) as class and corners in pixels, and predictions (m, 6) with the score before them."""


@dataclass(frozen=True)
class Conditions:
    """Data and settings for the evaluation of networks.

    They are the same for all that are to be compared.
    """

    data_yaml: Path
    """With absolute paths."""
    imgsz: int
    device: str
    batch: int = VALIDATION_BATCH
    split: Split = "val"
    loader_workers: int | None = None
    square: bool = False
    """Letterbox images into squares, as exported networks need it; else into rectangles, as plain Ultralytics does."""
    shape: tuple[int, int] | None = None
    """Letterbox images into this height and width, which a form has that sees no squares."""
    data_name: str = "data.yaml"
    """What a person would name the data to plain Ultralytics."""
    single_cls: bool = False
    """Whether that data's classes count as one here, which a person has to say."""
    on_batch: Callable[[], None] | None = None
    """Called before each batch."""
    on_matches: Callable[[Matches], None] | None = None
    """Called with what the figures are made of."""
    on_found: Callable[[Sequence[FoundImage]], None] | None = None
    """Called with the boxes of each image."""
    found_from: float = 0.0
    """Score from which on predictions are among these boxes."""

    def command(self, weights: str, max_det: int) -> str:
        """Return the line of plain Ultralytics that measures the file *weights* alike."""
        arguments: dict[str, object] = {"model": weights, "data": self.data_name, "split": self.split}
        if self.shape is None:  # plain Ultralytics reads another shape in the form itself, and takes only a side here
            arguments |= {"imgsz": self.imgsz, "batch": self.batch, "rect": not self.square}
        if self.single_cls:
            arguments["single_cls"] = True
        if max_det != DEFAULT_CFG.max_det:
            arguments["max_det"] = max_det
        return shlex.join(["yolo", "detect", "val", *(f"{name}={value}" for name, value in arguments.items())])

    def names(self) -> dict[int, str]:
        """Return the data's classes by number."""
        return dict(check_det_dataset(str(self.data_yaml))["names"])


@dataclass(frozen=True)
class Accuracy:
    """How well boxes and classes are found."""

    map50: float
    map: float
    """mAP50-95."""
    per_class: dict[str, dict[str, float]]
    """``ap50`` and ``ap`` of every class with ground truth."""
    by_size: dict[str, dict[str, float | None]]
    """``ap`` of small, medium and large boxes (COCO's areas and averages), and their ``number``; null without any."""
    split: Split
    letterbox: Literal["rectangle", "square", "shape"]
    command: str | None
    """The line of plain Ultralytics that gives the same mAP.

    None for a network of other classes than the data's, and for one that Ultralytics does not read.
    """
    max_det: int
    """Detections of an image that were judged at most: upstream's 300, or as many as the fullest image has boxes."""


class MapValidator(DetectionValidator):  # type: ignore[misc]
    """Upstream's validator for networks with other classes than the data.

    Predictions are translated by name.
    """

    def __init__(
        self, *, args: dict[str, Any], folder: Path, classes: ClassMap, names: dict[int, str], loader: Any = None,
        final: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(loader, args=args, save_dir=folder)
        self._classes = classes
        self._names = names
        self._final = final
        self.plain = classes.student is None
        """Whether upstream's own validator would count the same: the network's classes are the data's."""
        self.found: list[tuple[np.ndarray, np.ndarray]] = []
        """By image: ground truth (n, 5) as class and corners, and predictions (m, 6) with the score before them."""
        self.files: list[str] = []
        """By image: its path."""
        self.matches: Matches | None = None
        """What the figures are made of, once they are made."""

    def get_dataloader(self, dataset_path: str, batch_size: int) -> ValidationLoader:
        """Build a loader without a process that outlives its pass."""
        dataset = self.build_dataset(dataset_path, batch=batch_size, mode="val")
        return ValidationLoader(dataset, batch_size, workers=self.args.workers)

    def postprocess(self, preds: Any) -> Any:
        """Keep predictions of the data's classes, in the data's numbering.

        This comes before boxes compete in NMS.
        """
        data, network, size = self._classes.student, self._classes.teacher, self._classes.size
        if data is None or network is None:
            return super().postprocess(preds)
        raw = preds[0] if isinstance(preds, (list, tuple)) else preds  # N 4+nc A
        if self._final:
            return super().postprocess(_renumbered(raw, data, network))
        known = torch.zeros(len(raw), len(self._names), raw.shape[-1], dtype=raw.dtype, device=raw.device)
        known[:, data.to(raw.device)] = raw[:, 4 + network.to(raw.device)]
        assert size == len(data)
        return super().postprocess(torch.cat([raw[:, :4], known], 1))

    def init_metrics(self, model: Any) -> None:
        """Count by the data's classes."""
        super().init_metrics(model)
        self.end2end = self._final
        self.names, self.nc = self._names, len(self._names)
        self.metrics.names = self._names

    def get_stats(self) -> dict[str, Any]:
        """Sum up, and keep what was summed up, which upstream forgets."""
        self.matches = Matches.of(self.metrics.stats)
        summed: dict[str, Any] = super().get_stats()
        return summed

    def _process_batch(self, preds: dict[str, Any], batch: dict[str, Any]) -> dict[str, Any]:
        """Match one image's boxes, and keep them in pixels of the original for the judgement by size."""
        matched: dict[str, Any] = super()._process_batch(preds, batch)
        self.files.append(batch["im_file"])
        self.found.append((self._listed(batch, batch, "cls"), self._listed(preds, batch, "conf", "cls")))
        return matched

    @staticmethod
    def _listed(boxes: Mapping[str, Any], image: Mapping[str, Any], *columns: str) -> np.ndarray:
        corners = boxes["bboxes"].clone().reshape(-1, 4).float()
        corners = ops.scale_boxes(image["imgsz"], corners, image["ori_shape"], image["ratio_pad"])
        values = [boxes[name].reshape(-1, 1).float() for name in columns]
        found: np.ndarray = torch.cat([*values, corners], 1).cpu().numpy()
        return found


def _renumbered(boxes: torch.Tensor, data: torch.Tensor, network: torch.Tensor) -> torch.Tensor:
    """Return final boxes (N, n, 6) in the data's numbering; those of classes that it has not get no score."""
    found = torch.zeros_like(boxes)
    for ours, theirs in zip(data.tolist(), network.tolist(), strict=True):
        found = torch.where((boxes[..., 5] == theirs)[..., None], boxes, found)
        found[..., 5] = torch.where(boxes[..., 5] == theirs, float(ours), found[..., 5])
    return found


class RuntimeAsModule(nn.Module):
    """Runtime wrapped as a network for upstream's validator.

    So it is judged by the same code.
    """

    def __init__(self, runtime: Runtime, names: Mapping[int, str]) -> None:
        super().__init__()
        self._runtime = runtime
        self.names = dict(names)
        self.stride = torch.tensor([LEVEL_STRIDES[level] for level in HEAD_LEVELS])
        self.end2end = False  # upstream would take it for a network of its own, with such a head
        self.final = runtime.final

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the output of *images*.

        Images (N, 3, H, W) become (N, 4 + K, A), or final boxes (N, n, 6).
        """
        return self._runtime.run_all(images)


def accuracy(model: Any, conditions: Conditions, weights: str = "student.pt") -> Accuracy:
    """Measure the mAP of *model*, a network or a ``RuntimeAsModule``.

    Its file is called *weights*.

    Raises:
        ModelError: it knows none of the data's classes.

    """
    with TemporaryDirectory() as folder:
        judge = run_validation(model, conditions, Path(folder))
    if conditions.on_matches is not None and judge.matches is not None:
        conditions.on_matches(judge.matches)
    if conditions.on_found is not None:
        sure = conditions.found_from
        listed = zip(judge.files, judge.found, strict=True)
        conditions.on_found([(file, labels, boxes[boxes[:, 0] >= sure]) for file, (labels, boxes) in listed])
    box, names = judge.metrics.box, judge.metrics.names
    plain = judge.plain and not isinstance(model, BoxNetwork)
    return Accuracy(
        map50=float(box.map50),
        map=float(box.map),
        per_class={
            names[int(index)]: {"ap50": float(box.ap50[i]), "ap": float(box.ap[i])}
            for i, index in enumerate(box.ap_class_index)
        },
        by_size=by_size(judge.found, len(names), max_det=judge.args.max_det),
        split=conditions.split,
        letterbox="shape" if conditions.shape else "square" if conditions.square else "rectangle",
        command=conditions.command(weights, judge.args.max_det) if plain else None,
        max_det=judge.args.max_det,
    )


def run_validation(model: Any, conditions: Conditions, folder: Path, *, loader: Any = None) -> MapValidator:
    """Run the validator over the images of a split and return it.

    It is returned with its metrics. *loader* has the same images already, letterboxed by the same conditions.

    Raises:
        ModelError: the network knows none of the data's classes.

    """
    names = conditions.names()
    classes = ClassMap.between(names, model.names)
    if classes.size == 0:
        hint = class_names.warning(tuple(names.values()), tuple(model.names.values()), "the network")
        raise ModelError(
            "the network knows none of the data's classes", hint=hint or f"the data has {', '.join(names.values())}"
        )
    arguments = {
        "data": str(conditions.data_yaml),
        "imgsz": conditions.imgsz,
        "batch": conditions.batch,
        "split": conditions.split,
        "rect": not conditions.square and conditions.shape is None,
        "device": conditions.device,
        "workers": _processes(conditions),
        "plots": False,
        "task": "detect",
        "mode": "val",
    }
    final = bool(getattr(model, "final", False))
    judge = MapValidator(args=arguments, folder=folder, classes=classes, names=names, loader=loader, final=final)
    if conditions.shape is not None:
        judge.args.imgsz = list(conditions.shape)  # upstream's constructor takes only a side
    on_batch = conditions.on_batch
    if on_batch is not None:
        judge.add_callback("on_val_batch_start", lambda _: on_batch())
    judge(model=model)
    dataset = judge.dataloader.dataset
    check_kept(images_in(Path(dataset.img_path)), dataset.im_files)
    return judge


def _processes(conditions: Conditions) -> int:
    """Return how many processes load the images of an evaluation; they have to fit into free memory."""
    memory = BatchMemory(conditions.batch, conditions.imgsz, validation=conditions.batch, trains=False)
    wanted = num_workers(conditions.loader_workers)
    return choose(wanted, memory, cuda=False, host=available_bytes(), shared=free_shared_bytes()).workers


def by_size(
    found: list[tuple[np.ndarray, np.ndarray]], num_classes: int, *, max_det: int
) -> dict[str, dict[str, float | None]]:
    """Return AP50-95 and the number of boxes of each size.

    AP has 101 points, and at most *max_det* boxes an image.
    """
    truth = COCO(_truth(found, num_classes), print_function=_silent)
    boxes = [
        {"image_id": image, "category_id": int(label), "bbox": [x1, y1, x2 - x1, y2 - y1], "score": score}
        for image, (_, predicted) in enumerate(found)
        for score, label, x1, y1, x2, y2 in predicted.tolist()
    ]
    areas = [note["area"] for note in truth.dataset["annotations"]]
    numbers = {size: sum(low <= area < high for area in areas) for size, (low, high) in SIZES.items()}
    values: dict[str, float] = {}
    if boxes and areas:
        judge = COCOeval_faster(truth, truth.loadRes(boxes), "bbox", print_function=_silent)
        judge.params.maxDets = [1, 10, max_det]
        judge.evaluate()
        judge.accumulate()
        # precision: IoU thresholds, recalls, classes, sizes (all of them first), numbers of boxes; -1 where undefined
        precision = judge.eval["precision"]
        for index, size in enumerate(SIZES, start=1):
            defined = precision[:, :, :, index, -1]
            values[size] = float(defined[defined > -1].mean()) if (defined > -1).any() else 0.0
    return {
        size: {"ap": values.get(size, 0.0) if number else None, "number": number} for size, number in numbers.items()
    }


def _truth(found: list[tuple[np.ndarray, np.ndarray]], num_classes: int) -> dict[str, Any]:
    notes = [
        {
            "image_id": image, "category_id": int(label), "bbox": [x1, y1, x2 - x1, y2 - y1],
            "area": (x2 - x1) * (y2 - y1), "iscrowd": 0,
        }
        for image, (expected, _) in enumerate(found)
        for label, x1, y1, x2, y2 in expected.tolist()
    ]  # fmt: skip
    return {
        "images": [{"id": image} for image in range(len(found))],
        "annotations": [{"id": number, **note} for number, note in enumerate(notes, start=1)],
        "categories": [{"id": number} for number in range(num_classes)],
    }


def _silent(*_: Any) -> None:
    """Print nothing."""


@dataclass(frozen=True)
class Evaluation:
    """Accuracy and size of a network."""

    accuracy: Accuracy | None
    """None where the network knows none of the data's classes."""
    num_parameters: int
    gflops: float
    size_bytes: int


def evaluate(weights: Path, conditions: Conditions) -> Evaluation:
    """Measure published *weights* in PyTorch on the conditions' device.

    Raises:
        ModelError: the weights cannot be loaded.

    """
    network = teachers.load(weights)
    known = ClassMap.between(conditions.names(), network.names).size > 0
    found = accuracy(network, conditions, weights.name) if known else None
    if isinstance(network, BoxNetwork):
        return Evaluation(found, network.num_parameters, 0.0, weights.stat().st_size)
    still = load_folded(weights)
    return Evaluation(
        accuracy=found,
        num_parameters=sum(parameter.numel() for parameter in still.parameters()),
        gflops=float(get_flops(still, conditions.imgsz)),
        size_bytes=weights.stat().st_size,
    )


@dataclass(frozen=True)
class Published:
    """A published network, and the side of the images that it sees."""

    weights: Path
    imgsz: int


def subjects(
    networks: Mapping[str, Published], device: str, picture: Path | None
) -> tuple[dict[str, Subject], dict[str, str]]:
    """Return what is to be timed of *networks*, and whose time each has.

    They are timed as they would be deployed, on *picture*. Networks of one structure and size do the same work,
    whatever their weights: they share one subject.

    Raises:
        ModelError: the weights of one cannot be loaded.

    """
    where = select_device(device, verbose=False)
    first: dict[tuple[str, int], str] = {}
    shared = {name: first.setdefault((_structure(one.weights), one.imgsz), name) for name, one in networks.items()}
    found = {
        name: Subject(lambda one=one: _deployed(one.weights, where), one.imgsz, picture=picture)  # type: ignore[misc]
        for name, one in networks.items()
        if name in first.values()
    }
    return found, shared


def _structure(weights: Path) -> str:
    """Return what two networks of the same work have in common."""
    network = teachers.load(weights)
    return str(weights) if isinstance(network, BoxNetwork) else repr(load_folded(weights))


def _deployed(weights: Path, device: torch.device) -> Runtime:
    network = teachers.load(weights)
    if isinstance(network, BoxNetwork):
        return Runtime(box_output(network.to(device)), network.kind, device, most=None, fixed=False)
    return deploy(load_folded(weights), device)


def speeds(
    networks: Mapping[str, Published], device: str, *, picture: Path | None, on_round: Callable[[], None]
) -> dict[str, Speed]:
    """Time published networks in PyTorch, in turns.

    Networks of one structure and size share one measurement.

    Raises:
        ModelError: the weights of one cannot be loaded.

    """
    timed, shared = subjects(networks, device, picture)
    found = benchmark.measure(timed, on_round=on_round)
    return {name: found[which] for name, which in shared.items()}
