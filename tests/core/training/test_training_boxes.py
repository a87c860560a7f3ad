"""Boxes of a teacher on the student's anchors, and the terms that they teach."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from core.training.pictures import NAMES
from core.training.test_training_distillation import CPU, join, student_of
from retort.constants import Level
from retort.errors import TeacherMismatch
from retort.losses import Predictions
from retort.spec import DistillationSpec
from retort.training.distillation.boxes import TeacherBoxes, as_predictions, boxes_of, cover, same_assigner
from retort.training.distillation.distiller import TeacherCandidate, make_distiller
from retort.training.distillation.objective import criteria
from retort.training.teachers.base import BoxNetwork
from torch import Tensor

SIDE = 64
STRIDES = (8, 16, 32)
BOX = (16.0, 16.0, 32.0, 32.0)
"""Around the centres of four anchors of stride 8 and one of stride 16; those of stride 32 lie on its corner."""
FAR = (32.0, 32.0, 64.0, 64.0)


def points() -> Tensor:
    """Return the centres of 64 + 16 + 4 anchors."""
    grids = []
    for stride in STRIDES:
        ticks = (torch.arange(SIDE // stride) + 0.5) * stride
        rows, columns = torch.meshgrid(ticks, ticks, indexing="ij")
        grids.append(torch.stack([columns.flatten(), rows.flatten()], -1))
    return torch.cat(grids)


def student(number: int = 1, classes: int = 2, score: float = 0.81) -> Predictions:
    """Return a student that sees ``BOX`` at every anchor, or ``FAR`` in it, with one probability."""
    shape = (number, len(points()), classes)
    boxes = torch.where((points() > 32).all(-1, keepdim=True), torch.tensor(FAR), torch.tensor(BOX))
    return Predictions(
        scores=torch.full(shape, math.log(score / (1 - score))),
        boxes=boxes.expand(*shape[:2], 4).clone(),
        distances=torch.zeros(*shape[:2], 4, 16),
    )


def assigner() -> Any:
    return same_assigner(criteria(student_of("yolov8n"))["one2many"])


def given(*rows: tuple[int, tuple[float, ...], tuple[float, ...]], **bounds: int) -> TeacherBoxes:
    images, corners, probabilities = zip(*rows, strict=True)
    return TeacherBoxes(torch.tensor(images), torch.tensor(corners), torch.tensor(probabilities), **bounds)


def test_the_anchors_in_a_box_get_its_probabilities_times_their_alignment_and_all_others_nothing():
    seen = student()
    inside = ((points() > 16) & (points() < 32)).all(-1)
    assert int(inside.sum()) == 5
    weak = int(inside.nonzero()[0])
    seen.scores[0, weak, 1] = math.log(0.25 / 0.75)  # p = 0.25 where the others have 0.81
    found = as_predictions(given((0, BOX, (0.1, 0.8))), seen, assigner(), points())
    p = found.scores.sigmoid()[0]
    # Alignment is p^0.5 IoU^6, over the best one's, times the best overlap: 1 for p = 0.81, and 0.5 / 0.9 for p = 0.25.
    expected = torch.zeros(84, 2)
    expected[inside] = torch.tensor([0.1, 0.8])
    expected[weak] *= 0.5 / 0.9
    torch.testing.assert_close(p, expected, atol=2e-6, rtol=1e-5)
    assert (found.boxes[0, inside] == torch.tensor(BOX)).all()


def test_where_no_box_is_the_teacher_agrees_with_the_student():
    seen, box = student(), (12.0, 12.0, 32.0, 32.0)
    found = as_predictions(given((0, box, (0.9, 0.0))), seen, assigner(), points())
    taught = found.scores.sigmoid().amax(-1)[0] > 1e-6
    assert 0 < int(taught.sum()) <= 10
    assert (found.boxes[0, ~taught] == seen.boxes[0, ~taught]).all()
    assert (found.boxes[0, taught] == torch.tensor(box)).all()


def test_boxes_reach_their_own_image_in_any_order_and_with_bounds_alike():
    rows = ((2, FAR, (0.0, 0.6)), (0, BOX, (0.9, 0.0)), (2, BOX, (0.7, 0.0)))
    boxes = given(*rows)
    plain, bounded = (
        as_predictions(one, student(3), assigner(), points()) for one in (boxes, boxes.counted((SIDE, SIDE), STRIDES))
    )
    best = plain.scores.sigmoid().amax(1)
    assert best[1].max() < 1e-6
    assert best[0, 0] > 0.8
    assert best[0, 1] < 1e-6
    assert best[2, 0] > 0.65 > best[2, 1] > 0.55
    assert torch.equal(plain.scores, bounded.scores)
    assert torch.equal(plain.boxes, bounded.boxes)


def test_boxes_of_classes_that_the_student_has_not_are_nobodys():
    rows = given((0, BOX, (0.9, 0.02, 0.03)), (0, FAR, (0.1, 0.7, 0.3)))
    found = as_predictions(rows, student(), assigner(), points(), torch.tensor([2, 1]))
    inside = ((points() > 16) & (points() < 32)).all(-1)
    p = found.scores.sigmoid()[0]
    assert p[inside].max() < 1e-6
    assert p.amax(0)[1] > p.amax(0)[0] > 0


def test_a_batch_without_boxes_teaches_background():
    nothing = TeacherBoxes(torch.zeros(0, dtype=torch.long), torch.zeros(0, 4), torch.zeros(0, 2))
    for boxes in (nothing, nothing.counted((SIDE, SIDE), STRIDES)):
        found = as_predictions(boxes, student(2), assigner(), points())
        assert found.scores.sigmoid().max() < 1e-6
        assert torch.equal(found.boxes, student(2).boxes)
    assert float(cover(nothing, 2, {Level.P3: (8, 8)})[Level.P3].sum()) == 0


def test_non_maximum_suppression_keeps_one_box_of_a_class_with_all_its_probabilities():
    raw = torch.zeros(2, 6, 9)
    raw[0, :4, :3] = torch.tensor([24.0, 24.0, 16.0, 16.0])[:, None]
    raw[0, 4:, 0], raw[0, 4:, 1] = torch.tensor([0.8, 0.3]), torch.tensor([0.7, 0.1])
    raw[0, 4:, 2] = torch.tensor([0.1, 0.6])  # of the other class: stays
    raw[1, :, 8] = torch.tensor([40.0, 40.0, 16.0, 16.0, 0.04, 0.0])  # too weak
    found = boxes_of(raw)
    assert found.image.tolist() == [0, 0]
    assert found.most == 2
    torch.testing.assert_close(found.corners, torch.tensor([BOX, BOX]))
    torch.testing.assert_close(found.probabilities, torch.tensor([[0.8, 0.3], [0.1, 0.6]]))


def test_cells_under_a_box_have_its_confidence():
    boxes = given((1, BOX, (0.2, 0.5)), (1, (16.0, 16.0, 24.0, 24.0), (0.9, 0.0)))
    found = cover(boxes, 2, {Level.P3: (8, 8), Level.P5: (2, 2)})
    expected = torch.zeros(8, 8)
    expected[2:4, 2:4] = 0.5
    expected[2, 2] = 0.9
    torch.testing.assert_close(found[Level.P3][1, 0], expected)
    assert float(found[Level.P3][0].sum()) == 0
    assert found[Level.P5].shape == (2, 1, 2, 2)


class Seer(BoxNetwork):
    """Sees one box in every image."""

    def forward(self, images: Tensor) -> Tensor:
        raw = images.new_zeros(len(images), 4 + len(self.names), 9)
        raw[:, :4, 0] = torch.tensor([24.0, 24.0, 16.0, 16.0]) * (images.shape[-1] / SIDE)
        raw[:, 4, 0] = 0.9
        return raw


@pytest.mark.parametrize("name", ["yolov8n", "yolo26n"])
def test_the_terms_of_a_teacher_of_boxes_are_alive_on_all_branches(name: str, batch: dict[str, Any]):
    model = join(
        student_of(name), Seer(NAMES), {"kind": "class_logits"}, {"kind": "box_giou"},
        {"kind": "dfl", "otherwise": "giou"},
    )  # fmt: skip
    loss, items = model(batch)
    assert len(model.projectors) == 0
    for label in ("class_logits", "box_giou", "dfl"):
        assert float(items[f"kd/{label}"]) > 0
    loss[-1].backward()
    moved = [n for n, p in model.student_model.named_parameters() if p.grad is not None and float(p.grad.abs().sum())]
    assert any(".cv2." in n for n in moved)
    assert any(".cv3." in n for n in moved)


def test_a_recipe_leaves_out_what_boxes_cannot_teach_and_a_written_loss_is_refused():
    spec = DistillationSpec.model_validate({"recipe": "balanced"})
    options: dict[str, Any] = {"device": CPU, "epochs": 10, "close_mosaic": 0, "seed": 0}
    made = make_distiller(student_of("yolov8n"), Seer(NAMES), spec, **options)
    assert made.objective is not None
    assert made.objective.labels == ["class_logits", "dfl"]
    assert made.objective.left_out == ["pearson"]
    assert not made.objective.assigns
    written = {"losses": [{"kind": "class_logits"}, {"kind": "pearson"}]}
    for document in (written, {"recipe": "native"}, {"recipe": "article"}):
        with pytest.raises(TeacherMismatch, match="gives boxes alone, which cannot teach") as caught:
            make_distiller(student_of("yolov8n"), Seer(NAMES), DistillationSpec.model_validate(document), **options)
        assert "class_logits" in str(caught.value.hint)
    by_teacher = DistillationSpec.model_validate({"recipe": "balanced", "assignment": "teacher"})
    with pytest.raises(TeacherMismatch, match="assignment: teacher needs"):
        make_distiller(student_of("yolov8n"), Seer(NAMES), by_teacher, **options)
    with pytest.raises(TeacherMismatch, match="class names in common"):
        make_distiller(student_of("yolov8n"), Seer({0: "other"}), spec, **options)


def test_a_teacher_of_boxes_and_one_with_a_head_teach_together(batch: dict[str, Any]):
    from retort.training import models

    spec = DistillationSpec.model_validate({"recipe": "balanced", "balance": "none"})
    strong = models.build("yolov8n", names=NAMES, weights=None, seed=3)
    made = make_distiller(
        student_of("yolov8n"), TeacherCandidate(Seer(NAMES)), spec, device=CPU, epochs=10, close_mosaic=0, seed=0,
        further=[TeacherCandidate(strong, weight=3.0)],
    ).train()  # fmt: skip
    objective = made.objective
    assert objective is not None
    idle = made(batch)[1]  # the ramp has not begun
    objective.epoch = 5.0
    _, items = made(batch)
    assert idle.keys() == items.keys()
    assert float(items["kd/pearson"]) == pytest.approx(0.75 * float(items["kd/pearson@2"]), rel=1e-4)
    assert "kd/pearson@1" not in items
    assert float(items["kd/class_logits@1"]) > 0
