"""What decisions make of pictures, and what they say of the teacher."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from retort.review import formats, metrics
from retort.review.models import (
    Box,
    Decisions,
    ImageDecision,
    ImageVerdict,
    Picture,
    ReviewError,
    ReviewSet,
    Scored,
    effective_labels,
    iou,
    matched,
    undecided,
    verdict_for,
)


def box(name: str = "RBC", x1: float = 0.0, y1: float = 0.0, x2: float = 0.5, y2: float = 0.5) -> Box:
    return Box(name=name, x1=x1, y1=y1, x2=x2, y2=y2)


def scored(one: Box, score: float = 0.9) -> Scored:
    return Scored(**one.model_dump(), score=score)


def picture(*kept: Box, image: str = "a", doubtful: tuple[Box, ...] = (), **more: Any) -> Picture:
    return Picture(
        image=image, file="a.png", width=10, height=10, kept=tuple(map(scored, kept)),
        doubtful=tuple(map(scored, doubtful)), **more,
    )  # fmt: skip


LEFT, RIGHT = box(x2=0.4), box(x1=0.6, x2=1.0)


def test_boxes_without_area_or_out_of_their_image_are_none():
    for corners in ({"x1": 0.5}, {"y1": 0.7}, {"x2": 1.1}, {"x1": -0.1}, {"x1": 0.4999999}):
        with pytest.raises(ValidationError):
            box(**corners)


def test_overlap_is_shared_area_over_covered_area():
    assert iou(box(), box()) == 1
    assert iou(box(), box(x1=0.25, x2=0.75)) == pytest.approx(1 / 3)
    assert iou(LEFT, RIGHT) == 0


def test_boxes_are_paired_once_each_and_with_their_own_class():
    near = box(x2=0.45)
    assert [partner for _, partner in matched([LEFT, near, RIGHT], [LEFT, box("WBC", x1=0.6, x2=1.0)])] == [
        LEFT,
        None,
        None,
    ]


def test_an_interval_is_wilsons():
    # Newcombe (Statistics in Medicine 17, 1998), table I, method 3.
    for right, total, low, high in (
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ):
        found = metrics.wilson(right, total)
        assert (round(found.low or 0, 4), round(found.high or 0, 4)) == (low, high)
    assert metrics.wilson(0, 0).value is None


@given(total=st.integers(1, 10_000), share=st.floats(0, 1))
def test_an_interval_holds_its_share_inside_of_0_and_1(total: int, share: float):
    found = metrics.wilson(round(total * share), total)
    assert found.low is not None
    assert found.value is not None
    assert found.high is not None
    assert 0 <= found.low <= found.value <= found.high <= 1


def test_accepted_pictures_keep_labels_and_doubts_and_edited_ones_have_what_was_drawn():
    seen = picture(LEFT, doubtful=(RIGHT,))
    unseen, accepted = effective_labels(seen, None), effective_labels(seen, ImageVerdict(decision="accept"))
    assert unseen is not None
    assert (unseen.boxes, unseen.ignored, unseen.by) == ((LEFT,), (RIGHT,), "teacher")
    assert accepted == unseen.model_copy(update={"by": "reviewer"})
    edited = effective_labels(seen, ImageVerdict(decision="edit", boxes=(RIGHT,)))
    assert edited is not None
    assert (edited.boxes, edited.ignored) == ((RIGHT,), ())
    assert effective_labels(seen, ImageVerdict(decision="reject")) is None


@pytest.mark.parametrize("reason", ["validation", "training", "duplicate"])
def test_what_is_left_out_for_its_looks_stays_out(reason: Any):
    assert effective_labels(picture(LEFT, left_out=reason), None) is None
    assert effective_labels(picture(LEFT, left_out=reason), ImageVerdict(decision="accept")) is None


def test_an_empty_picture_is_background_only_where_a_person_says_so():
    empty = picture(left_out="empty", doubtful=(LEFT,))
    assert effective_labels(empty, None) is None
    accepted = effective_labels(empty, ImageVerdict(decision="accept"))
    assert accepted is not None
    assert (accepted.boxes, accepted.ignored) == ((), (LEFT,))


def test_boxes_that_are_the_teachers_own_accept_it_in_whatever_order():
    seen = picture(LEFT, RIGHT)
    assert verdict_for(seen, [RIGHT, LEFT]) == ImageVerdict(decision="accept")
    assert verdict_for(seen, [LEFT]) == ImageVerdict(decision="edit", boxes=(LEFT,))
    assert verdict_for(seen, []) == ImageVerdict(decision="edit", boxes=())


def test_precision_counts_boxes_of_accepted_edited_and_rejected_pictures():
    pictures = [picture(LEFT, RIGHT, image=image) for image in "abcd"]
    drawn = (box(x2=0.39), box("WBC", x1=0.6, x2=1.0), box(y1=0.6, y2=0.9))
    decisions = {
        "a": ImageDecision(image="a", decision="accept", at=1.0),
        "b": ImageDecision(image="b", decision="reject", at=1.0),
        "c": ImageDecision(image="c", decision="edit", boxes=drawn, at=1.0),
        "d": ImageDecision(image="d", decision="accept", at=1.0, seen=False),
    }
    found = metrics.review_figures(pictures, decisions, ("RBC", "WBC"))
    assert (found.num_images, found.num_accepted, found.num_rejected, found.num_edited) == (3, 1, 1, 1)
    assert found.num_unseen == 1, "what nobody has looked at says nothing of the teacher"
    assert (found.precision.right, found.precision.total) == (3, 6)
    assert (found.recall.right, found.recall.total) == (3, 5)  # of those that were not rejected
    assert found.per_class.keys() == {"RBC", "WBC"}
    assert found.per_class["WBC"].total == 0


def test_agreement_is_by_class():
    found = metrics.compare([((LEFT, box("WBC", x1=0.6, x2=1.0)), (LEFT, RIGHT))], ("RBC", "WBC", "other"))
    assert (found.precision.right, found.precision.total) == (1, 2)
    assert found.per_class["RBC"].recall.value == 0.5
    assert found.per_class["WBC"].precision.value == 0.0
    assert "other" not in found.per_class


def test_decisions_come_from_a_file_and_the_last_about_an_image_counts(tmp_path: Path):
    path = tmp_path / "decisions.json"
    assert Decisions.load(path) == {}
    first = ImageDecision(image="a", decision="reject", at=1.0)
    last = ImageDecision(image="a", decision="edit", boxes=(LEFT,), reviewer="ann", at=2.0)
    path.write_text(Decisions(decisions=(first, last)).model_dump_json())
    assert Decisions.load(path) == {"a": last}


@pytest.mark.parametrize(
    "text", ["", "[]", '{"decisions": [{"image": "a", "decision": "edit", "at": 1}]}', '{"decisions": [{}]}']
)
def test_decisions_that_are_malformed_are_told_with_their_place(tmp_path: Path, text: str):
    path = tmp_path / "decisions.json"
    path.write_text(text)
    with pytest.raises(ReviewError, match=r"decisions\.json: "):
        Decisions.load(path)


def test_an_export_leaves_out_what_was_rejected_and_has_the_boxes_as_they_are_now():
    proposals = ReviewSet(mode="all", classes=("RBC",), pictures=tuple(picture(LEFT, image=image) for image in "abc"))
    decisions = {
        "a": ImageDecision(image="a", decision="reject", at=1.0),
        "b": ImageDecision(image="b", decision="edit", boxes=(RIGHT,), at=1.0),
    }
    assert undecided(proposals, decisions) == ["c"]
    album = formats.annotated_images(proposals, decisions)
    assert {one.image: one.boxes for one in album.pictures} == {"b": (RIGHT,), "c": (LEFT,)}
    with pytest.raises(ReviewError, match="no form 'voc'") as caught:
        formats.annotation_format("voc")
    assert caught.value.hint == "known: coco, yolo, cvat, label_studio"


def test_more_boxes_than_a_picture_can_have_are_refused():
    proposals = ReviewSet(mode="all", classes=("RBC",), pictures=(picture(LEFT),))
    crowd = picture(*[box(x1=number / 1e4) for number in range(2001)])
    data = formats.annotation_format("coco").write(
        formats.annotated_images(proposals.model_copy(update={"pictures": (crowd,)}), {})
    )
    with pytest.raises(ReviewError, match=r"a: .*2000"):
        formats.import_decisions(proposals, "coco", data, reviewer="ann", at=1.0)
