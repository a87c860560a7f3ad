"""A teacher that sees larger or smaller images: which level answers for which, and what of it reaches the student."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from core.training.test_training_distillation import WIDE, join, student_of
from retort.constants import Level
from retort.errors import TeacherMismatch
from retort.training import models
from retort.training.distillation.distiller import TeacherCandidate
from retort.training.distillation.feature_taps import Decoder
from retort.training.distillation.teacher import TeacherOutput
from retort.training.distillation.teacher_resize import ResizedTeacher, fit_map, paired_levels, ratio_of, source_anchors

P3, P4, P5, BACKBONE = Level.P3, Level.P4, Level.P5, Level.BACKBONE
HEAD = (P3, P4, P5)
STRIDES = torch.tensor([8.0, 16.0, 32.0])


@pytest.mark.parametrize(
    ("ratio", "expected"),
    [
        (Fraction(1), (P3, P4, P5)),
        (Fraction(2), (P4, P5, P5)),
        (Fraction(3, 2), (P4, P5, P5)),
        (Fraction(5, 4), (P3, P4, P5)),
        (Fraction(1, 2), (P3, P3, P4)),
        (Fraction(4), (P5, P5, P5)),
    ],
)
def test_each_level_is_paired_with_that_of_the_nearest_stride_in_the_students_pixels(
    ratio: Fraction, expected: tuple[Level, ...]
):
    pairs = paired_levels(ratio)
    assert tuple(pairs[level] for level in HEAD) == expected
    assert pairs[BACKBONE] is BACKBONE


class Scripted:
    """Stands where a network would: every anchor's box is centred on it, and its first class counts the anchors."""

    known: torch.Tensor | None = None

    def __init__(self, side: int) -> None:
        self.side = side
        self.half = torch.cat([torch.full(((side // s) ** 2,), 0.75 * s) for s in (8, 16, 32)])

    def __call__(self, images: torch.Tensor, *, reuse_buffers: bool) -> TeacherOutput:  # noqa: ARG002
        assert images.shape[-2:] == (self.side, self.side)
        number = len(images)
        feats = [torch.zeros(number, 3, self.side // s, self.side // s) for s in (8, 16, 32)]
        anchors = sum(feat.shape[-1] ** 2 for feat in feats)
        scores = torch.stack([torch.arange(anchors, dtype=torch.float), torch.zeros(anchors)]).expand(number, -1, -1)
        cells = torch.full((number, 4, anchors), 0.75)  # each side three quarters of the anchor's stride away
        features = {
            level: torch.full((number, 5, *feat.shape[-2:]), 7.0) for level, feat in zip(HEAD, feats, strict=True)
        }
        return TeacherOutput(features, {"one2many": {"boxes": cells, "scores": scores, "feats": feats}}, {})


def centres(side: int, stride: int) -> torch.Tensor:
    """Centres of the cells of a square, (A, 2) as x, y, row by row."""
    at = (torch.arange(side // stride) + 0.5) * stride
    rows, columns = torch.meshgrid(at, at, indexing="ij")
    return torch.stack([columns.flatten(), rows.flatten()], -1)


def apart(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Distance of each point of *one* to each of *other*; torch's own multiplies matrices, and is coarse."""
    return (one[:, None] - other).norm(dim=-1)


@pytest.mark.parametrize("ratio", [Fraction(2), Fraction(3, 2), Fraction(1, 2)])
def test_boxes_arrive_in_the_students_pixels_from_anchors_under_or_nearest_to_the_students(ratio: Fraction):
    side = 128
    theirs = int(side * ratio)
    asked = ResizedTeacher(Scripted(theirs), ratio)  # type: ignore[arg-type]
    lesson = asked(torch.zeros(2, 3, side, side))
    raw = lesson.branches["one2many"]
    boxes = Decoder(STRIDES)(raw, None).boxes
    start = 0
    for ours, stride in zip(HEAD, (8, 16, 32), strict=True):
        own = 8 << HEAD.index(paired_levels(ratio)[ours])
        effective = own / float(ratio)
        there = centres(theirs, own) / float(ratio)
        here = centres(side, stride)
        found = boxes[0, start : start + len(here)]
        middle, sides = (found[:, :2] + found[:, 2:]) / 2, found[:, 2:] - found[:, :2]
        torch.testing.assert_close(sides, torch.full_like(sides, 1.5 * effective))
        distance = (middle - here).abs().amax(-1)
        assert torch.all(distance <= (stride + effective) / 2), "another cell's anchor answers"
        assert torch.all(apart(middle, there).amin(-1) < 1e-3), "a box that no anchor of the teacher gave"
        if effective >= stride:
            torch.testing.assert_close(middle, there[apart(here, there).argmin(-1)])
        start += len(here)
    assert start == raw["scores"].shape[-1]
    assert lesson.features[P3].shape == (2, 5, side // 8, side // 8)
    assert torch.all(lesson.features[P3] == 7.0)
    assert lesson.confidence[P5].shape == (2, 1, side // 32, side // 32)


def test_a_class_and_a_box_of_one_anchor_stay_together():
    asked = ResizedTeacher(Scripted(256), Fraction(2))  # type: ignore[arg-type]
    raw = asked(torch.zeros(1, 3, 128, 128)).branches["one2many"]
    first_of_p5 = 32 * 32 + 16 * 16
    chosen = raw["scores"][0, 0, -16:].long() - first_of_p5  # the student's P5 from the teacher's, 8 x 8 to 4 x 4
    middle = Decoder(STRIDES)(raw, None).boxes[0, -16:].unflatten(-1, (2, 2)).mean(1)
    torch.testing.assert_close(middle, (centres(256, 32) / 2)[chosen])
    rows, columns = chosen // 8, chosen % 8
    assert rows.tolist() == [row for row in (1, 3, 5, 7) for _ in range(4)]  # the highest number of each four
    assert columns.tolist() == [1, 3, 5, 7] * 4


def test_of_a_finer_grid_the_most_confident_anchor_under_a_cell_answers_and_of_a_coarser_the_nearest():
    confidences = torch.zeros(1, 16)
    confidences[0, 9] = 1.0  # row 2, column 1
    assert source_anchors(confidences, (4, 4), (2, 2))[0, 2] == 9
    assert source_anchors(torch.zeros(1, 4), (2, 2), (4, 4))[0].tolist() == [
        0,
        0,
        1,
        1,
        0,
        0,
        1,
        1,
        2,
        2,
        3,
        3,
        2,
        2,
        3,
        3,
    ]
    assert source_anchors(torch.zeros(1, 4), (2, 2), (3, 3))[0].tolist() == [0, 1, 1, 2, 3, 3, 2, 3, 3]


def test_feature_maps_are_interpolated_where_grids_differ_and_left_alone_where_not():
    ramp = torch.arange(8.0).expand(1, 1, 8, 8)
    assert fit_map(ramp, (8, 8)) is ramp
    torch.testing.assert_close(fit_map(ramp, (4, 4))[0, 0, 0, 1:3], torch.tensor([2.5, 4.5]))
    torch.testing.assert_close(fit_map(ramp, (16, 16))[0, 0, 0, 1:5], torch.tensor([0.25, 0.75, 1.25, 1.75]))


def test_the_sizes_of_a_spec_are_compared_exactly():
    assert ratio_of(None, 640) == 1
    assert ratio_of(960, 640) == Fraction(3, 2)


@pytest.mark.parametrize(
    ("theirs", "ratio"), [("yolo26n", Fraction(2)), ("yolo11n", Fraction(3, 2)), ("yolo26n", Fraction(1, 2))]
)
def test_every_loss_teaches_from_another_size(
    theirs: str, ratio: Fraction, published: Callable[..., Path], batch: dict[str, Any]
):
    kinds = ["class_logits", "box_giou", "softmax_kl", "pearson", "channel_wise", "score_weighted_l2"]
    teacher = TeacherCandidate(models.load(published(theirs, names=WIDE)), ratio=ratio)
    losses = [{"kind": kind} for kind in kinds] + [{"kind": "channel_l2", "levels": ["backbone", "P3"]}]
    model = join(student_of("yolo26n"), teacher, *losses)
    loss, items = model(batch)
    loss[-1].backward()
    for kind in (*kinds, "channel_l2"):
        assert torch.isfinite(items[f"kd/{kind}"]), kind
        assert items[f"kd/{kind}"] > 0, kind
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.projectors.parameters())


def test_a_teacher_that_sees_the_same_images_scaled_up_and_down_says_the_same_as_without(
    published: Callable[..., Path], batch: dict[str, Any]
):
    network = models.load(published("yolo11n"))
    losses = [{"kind": "class_logits"}, {"kind": "box_giou"}, {"kind": "pearson"}]
    plain, wrapped = join(student_of("yolov8n"), network, *losses), join(student_of("yolov8n"), network, *losses)
    assert wrapped.teacher is not None
    wrapped.slots[0].teacher = ResizedTeacher(wrapped.teacher, Fraction(1))  # type: ignore[arg-type]
    ours, theirs = plain(batch)[1], wrapped(batch)[1]
    for label in ("class_logits", "box_giou", "pearson"):
        torch.testing.assert_close(theirs[f"kd/{label}"], ours[f"kd/{label}"], rtol=1e-4, atol=1e-6)


def test_distances_are_refused_from_another_size(published: Callable[..., Path]):
    teacher = TeacherCandidate(models.load(published("yolo11n")), ratio=Fraction(2))
    with pytest.raises(
        TeacherMismatch, match="dfl needs a teacher that sees the images in the student's size"
    ) as caught:
        join(student_of("yolov8n"), teacher, {"kind": "dfl"})
    assert "box_giou" in str(caught.value.hint)


def test_a_resized_teacher_is_the_teacher_in_everything_else():
    teacher = SimpleNamespace(names={0: "red"}, known=None)
    assert ResizedTeacher(teacher, Fraction(2)).names == {0: "red"}  # type: ignore[arg-type]
