"""A step does not wait for the GPU where it need not: counted on fake CUDA tensors, which need none."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from core.training.host_syncs import HostSyncs, move
from core.training.test_training_distillation import join, student_of
from retort.training import criterion, models, ultralytics_api
from retort.training.criterion import MOST_BOXES, Anchors, DetectionLoss, LossMeans, count_boxes, make_anchors
from retort.training.data import colours
from retort.training.distillation import teacher
from retort.training.distillation.objective import criteria
from retort.training.sync_free import Assigner, RememberedConstants, most_candidates
from ultralytics.utils.loss import v8DetectionLoss
from ultralytics.utils.tal import make_anchors as upstreams_anchors

GPU = torch.device("cuda:0")


def labels(*images: int) -> dict[str, Any]:
    """Labels of a batch of four, in the host's memory."""
    boxes = torch.rand(len(images), 4, generator=torch.Generator().manual_seed(0)) / 2 + 0.1
    return {
        "batch_idx": torch.tensor(images, dtype=torch.float32),
        "cls": torch.arange(len(images)).remainder(3).float()[:, None],
        "bboxes": boxes,
    }  # fmt: skip


@pytest.mark.parametrize("name", ["yolov8", "yolo11", "yolo26"])
def test_a_distilled_step_never_waits_for_the_gpu(
    name: str, published: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waited 16 times in the criterion of each branch, of which yolo26 has two."""
    monkeypatch.setattr(teacher, "fuse_activations", lambda _: None)  # what a teacher on a CPU has
    model = join(
        student_of(f"{name}n"), models.load(published("yolo11n")), {"kind": "class_logits"}, {"kind": "pearson"}
    )
    syncs, counted = HostSyncs(), count_boxes(labels(0, 0, 1, 1, 1, 2, 3))

    def steps() -> None:
        move(model, GPU)
        batch = {name: one.to(GPU) if isinstance(one, torch.Tensor) else one for name, one in counted.items()}
        for _ in range(2):
            syncs.lines.clear()  # of the first step, which remembers
            model({**batch, "img": torch.rand(4, 3, 64, 64, device=GPU)})

    syncs.run(steps)
    assert not syncs.lines, dict(syncs.lines)


def test_the_counter_sees_each_kind_of_wait() -> None:
    syncs = HostSyncs()

    def waits() -> None:
        x = torch.rand(4, 4, device=GPU)
        float(x.sum())
        x[x > 0.5]
        (x > 0.5).nonzero()
        x.long().unique()
        torch.tensor([1.0], device=GPU)
        torch.zeros(3).to(GPU)
        x.cpu()
        x[[1, 0]]

    syncs.run(waits)
    assert syncs.lines.total() == 8, dict(syncs.lines)
    quiet = HostSyncs()
    quiet.run(lambda: (torch.rand(4, 4, device=GPU) @ torch.ones(4, 4, device=GPU)).sum().clamp(min=1))
    assert not quiet.lines


def test_colours_are_changed_without_a_copy_to_the_gpu() -> None:
    syncs = HostSyncs()

    def change() -> None:
        for _ in range(2):
            syncs.lines.clear()
            tables = torch.zeros(20, 256, 3, dtype=torch.uint8, device=GPU)
            colours.coloured({"img": torch.zeros(20, 3, 8, 8, dtype=torch.uint8, device=GPU), colours.KEY: tables})

    try:
        syncs.run(change)
    finally:
        colours._conversions.cache_clear()  # of fake tensors
    assert not syncs.lines


@pytest.mark.parametrize("images", [(), (0,), (0, 0, 1, 3, 3, 3), (2,) * 9], ids=str)
def test_padded_labels_are_upstreams_to_the_bit(images: tuple[int, ...]) -> None:
    student = student_of("yolov8n")
    batch = count_boxes(labels(*images))
    ours, theirs = DetectionLoss(student), v8DetectionLoss(student)
    ours._most = batch[MOST_BOXES]  # as get_assigned_targets_and_loss takes it from the batch
    targets = torch.cat((batch["batch_idx"].view(-1, 1), batch["cls"], batch["bboxes"]), 1)
    scale = torch.tensor([64.0, 96.0, 64.0, 96.0])
    assert torch.equal(ours.preprocess(targets, 4, scale), theirs.preprocess(targets, 4, scale))


def test_a_step_costs_and_teaches_what_upstreams_criterion_says_to_the_bit() -> None:
    """With a count of the boxes and without, as in a validation."""
    batch = {**labels(0, 0, 1, 3), "img": torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(1))}
    found = []
    for kind, given in ((v8DetectionLoss, batch), (DetectionLoss, batch), (DetectionLoss, count_boxes(batch))):
        student = student_of("yolov8n").train()
        student.criterion = kind(student)
        loss, _ = student(given)
        loss.sum().backward()
        found.append([loss.detach(), *(one.grad for one in student.parameters() if one.grad is not None)])
    for ours in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(ours, found[0], strict=True))


_CROWD = torch.rand(60, 4, generator=torch.Generator().manual_seed(5)) / 2 + 0.02


@pytest.mark.parametrize(
    ("images", "boxes"),
    [
        ([0, 0, 1, 3], [[0.5, 0.5, 0.4, 0.3], [0.52, 0.5, 0.4, 0.3], [0.1, 0.9, 0.2, 0.2], [0.6, 0.3, 0.25, 0.5]]),
        ([2, 2, 2], [[0.5, 0.5, 1.0, 1.0], [0.5, 0.5, 0.001, 0.001], [0.99, 0.01, 0.02, 0.02]]),
        ([1], [[0.0, 0.0, 0.0001, 0.0001]]),
        ([1] * 40 + [3] * 20, _CROWD.tolist()),
        ([], []),
    ],
    ids=["few", "whole image and a dot", "one in a corner", "crowd", "none"],
)
@pytest.mark.parametrize("name", ["yolov8n", "yolo26n"])
def test_bounded_numbers_of_anchors_cost_and_teach_what_upstreams_criterion_says(
    name: str, images: list[int], boxes: list[list[float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What stands in for a candidate or a positive anchor, so that nobody waits for their number, has no weight."""
    batch = {
        "img": torch.rand(4, 3, 64, 96, generator=torch.Generator().manual_seed(1)),
        "batch_idx": torch.tensor(images, dtype=torch.float32), "cls": torch.zeros(len(images), 1),
        "bboxes": torch.tensor(boxes).view(-1, 4),
    }  # fmt: skip
    monkeypatch.setattr(criterion, "_waits", lambda _: True)
    found = []
    for given in (batch, count_boxes(batch)):
        student = student_of(name).train()
        student.criterion = criterion.criterion_of(student)
        loss, _ = student(given)
        loss.sum().backward()
        found.append([loss.detach(), *(one.grad for one in student.parameters() if one.grad is not None)])
        bounds = [one._assigner.most for one in criteria(student).values()]
        assert all(bound is None for bound in bounds) if given is batch else None not in bounds
    for plain, bounded in zip(*found, strict=True):
        torch.testing.assert_close(bounded, plain, rtol=1e-5, atol=1e-6)


def test_no_anchor_is_beyond_the_bound_of_a_boxs_candidates() -> None:
    """Whatever the box: on the edges of cells, over the image's border, smaller than a cell."""
    draw = np.random.default_rng(0)
    height, width, strides = 96, 160, [8.0, 16.0, 32.0]
    plain = Assigner(stride=strides)
    maps = [torch.zeros(1, 1, height // int(s), width // int(s)) for s in strides]
    points, steps = upstreams_anchors(maps, torch.tensor(strides))
    boxes = draw.uniform(0, 1, (400, 4))
    boxes[:200] = np.round(boxes[:200] * [40, 24, 40, 24]) / [40, 24, 40, 24]  # corners on anchors and between them
    for x, y, w, h in boxes:
        corners = torch.tensor(
            [[[(x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height]]]
        )
        inside = plain.select_candidates_in_gts(points * steps, corners.float(), torch.ones(1, 1, 1))
        assert int(inside.sum()) <= most_candidates(np.array([[w, h]]), (height, width), strides, plain.stride_val)


def test_constants_are_made_once_and_nobody_changes_another_ones() -> None:
    syncs, constants = HostSyncs(), RememberedConstants()

    def ask() -> torch.Tensor:
        with constants:
            size = torch.tensor(torch.Size([64, 96]), device=GPU, dtype=torch.half)
            size *= 2
            assert size[[1, 0, 1, 0]].shape == (4,)
            assert torch.tensor(3, device=GPU).shape == ()
            return torch.tensor([3], device=GPU)

    assert syncs.run(ask).shape == (1,)
    syncs.lines.clear()
    syncs.run(ask)
    assert not syncs.lines
    assert not pickle.loads(pickle.dumps(constants))._known  # noqa: S301
    with RememberedConstants():
        x = torch.arange(4.0)
        assert x[[1, 0]].tolist() == [1, 0]
        assert torch.equal(torch.tensor([[1, 2]]), torch.tensor([1, 2])[None])


def test_anchors_are_remembered_by_grid_and_by_strides() -> None:
    made = []

    def make(*arguments: Any) -> Any:
        made.append(arguments)
        return upstreams_anchors(*arguments)

    anchors = Anchors(make)
    strides, maps = torch.tensor([8.0, 16.0]), [torch.zeros(1, 1, 4, 6), torch.zeros(1, 1, 2, 3)]
    first = anchors(maps, strides)
    assert anchors(maps, strides)[0] is first[0]
    assert len(made) == 1
    for ours, theirs in zip(first, upstreams_anchors(maps, strides), strict=True):
        assert torch.equal(ours, theirs)
    strides *= 2  # changed in place
    assert torch.equal(anchors(maps, strides)[1], upstreams_anchors(maps, strides)[1])
    turned = [feature.mT for feature in maps]
    assert torch.equal(anchors(turned, strides)[0], upstreams_anchors(turned, strides)[0])
    assert ultralytics_api.loss.make_anchors is make_anchors, "upstream's criterion asks it too"


def test_the_progress_bar_is_fed_once_a_second_and_the_means_stay_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([10.0, 10.5, 11.5])
    monkeypatch.setattr(criterion, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    means = None
    shown = []
    for number in range(3):
        means = LossMeans({"box_loss": torch.tensor(number + 0.5), "cls_loss": torch.tensor(number + 1.5)}, means)
        shown.append(means.values())
        assert [float(value) for value in means.tensors().values()] == [number + 0.5, number + 1.5]
    assert shown == [[0.5, 1.5], [0.5, 1.5], [2.5, 3.5]]


def test_a_networks_soundness_is_asked_for_once_however_many_tensors_it_has() -> None:
    """It was asked tensor by tensor, twice for each kernel of a convolution: some 500 waits at each epoch's end."""
    network = student_of("yolov8n")
    syncs = HostSyncs()

    def ask() -> None:
        torch.__future__.set_overwrite_module_params_on_conversion(True)
        try:
            network.to(GPU)
        finally:
            torch.__future__.set_overwrite_module_params_on_conversion(False)
        syncs.lines.clear()
        for question in (models.is_finite, models.weight_flaw):
            question(network)
            assert syncs.lines.total() == 1, dict(syncs.lines)
            syncs.lines.clear()

    syncs.run(ask)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_one_value_that_is_not_finite_is_found_and_its_tensor_named(value: float, dtype: torch.dtype) -> None:
    network = student_of("yolov8n").to(dtype)
    assert models.is_finite(network)
    assert models.weight_flaw(network) is None
    name, kernel = list(network.named_parameters())[40]
    kernel.data.view(-1)[-1] = value
    assert not models.is_finite(network)
    assert models.weight_flaw(network) == f"{name} holds values that are not finite"


def test_a_kernel_of_zeros_is_a_flaw_and_a_bias_of_zeros_is_none() -> None:
    network = student_of("yolov8n")
    name, kernel = next((name, value) for name, value in network.named_parameters() if value.ndim == 4)
    kernel.data.zero_()
    assert models.weight_flaw(network) == f"{name} is all zeros"
    assert models.is_finite(network)
