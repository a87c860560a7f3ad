"""An export is judged by its raw output and by the boxes that it sees; what NMS chooses among equals is chance."""

from __future__ import annotations

import torch
from retort.training.export.parity import TOLERANCE, compare_outputs
from torch import Tensor

S = 100


def raw(*boxes: tuple[float, float, float]) -> Tensor:
    """Raw output of one class: a box of 40 pixels at x, y with a score for each anchor."""
    return torch.tensor([[x, y, 40.0, 40.0, score] for x, y, score in boxes]).T.contiguous()


def test_a_tie_that_nms_breaks_the_other_way_is_no_difference():
    """Raw outputs equal to 3.5e-6 were called different for 15 of 2,246 boxes."""
    ours = raw((50, 50, 0.9), (52, 50, 0.9 - 3.5e-6), (10, 10, 0.01))
    theirs = raw((50, 50, 0.9 - 3.5e-6), (52, 50, 0.9), (10, 10, 0.01))

    found = compare_outputs(ours, theirs, imgsz=S, conf=0.25)

    assert found.max_relative_error < 1e-5
    assert (found.num_boxes, found.num_unequal, found.num_ties) == (1, 0, 2)
    assert found.equal


def test_a_box_just_above_the_threshold_on_one_side_only_is_no_difference():
    found = compare_outputs(raw((50, 50, 0.25 + 1e-6)), raw((50, 50, 0.25 - 1e-6)), imgsz=S, conf=0.25)
    assert (found.num_boxes, found.num_unequal) == (1, 0)
    assert found.equal


def test_a_box_elsewhere_or_of_another_score_is_a_difference():
    ours = raw((50, 50, 0.9), (10, 10, 0.5))
    moved = compare_outputs(ours, raw((51, 50, 0.9), (10, 10, 0.5)), imgsz=S, conf=0.25)
    assert (moved.num_unequal, moved.equal) == (2, False)  # one of each side
    doubtful = compare_outputs(ours, raw((50, 50, 0.9), (10, 10, 0.2)), imgsz=S, conf=0.25)
    assert (doubtful.num_unequal, doubtful.equal) == (1, False)


def test_a_score_counts_as_it_is_and_not_relative_to_the_largest_coordinate():
    found = compare_outputs(raw((50, 50, 0.20)), raw((50, 50, 0.20 + 3 * TOLERANCE)), imgsz=S, conf=0.25)
    assert found.num_boxes == 0
    assert not found.equal


def test_an_untrained_network_that_sees_nothing_is_compared_all_the_same():
    assert not compare_outputs(raw((50, 50, 1e-5)), raw((80, 50, 1e-5)), imgsz=S, conf=0.25).equal


def test_output_of_another_shape_or_that_is_not_finite_is_never_equal():
    ours = raw((50, 50, 0.9), (10, 10, 0.5))
    assert not compare_outputs(ours, ours[:, :1], imgsz=S, conf=0.25).equal
    broken = ours.clone()
    broken[0, 1] = float("nan")
    assert not compare_outputs(ours, broken, imgsz=S, conf=0.25).equal
