"""Each exported review gives the right boxes, or a refusal with place and remedy."""

from __future__ import annotations

import pytest
from core.review import export_corpus
from core.review.export_corpus import HEIGHT, WIDTH, ExportCase
from retort.review import formats
from retort.review.models import Picture, ReviewError, ReviewSet, Scored

TEACHERS = Scored(name="RBC", x1=0.1, y1=0.2, x2=0.3, y2=0.6, score=0.9)
PICTURES = tuple(Picture(image=name, file=f"{name}.png", width=WIDTH, height=HEIGHT, kept=(TEACHERS,)) for name in "ab")
REVIEW = ReviewSet(mode="all", classes=("RBC", "WBC"), pictures=PICTURES)
CASES = [
    pytest.param(form, case, id=f"{form}-{case.name}") for form, make in export_corpus.GROUPS.items() for case in make()
]


@pytest.mark.parametrize(("form", "case"), CASES)
def test_an_export_gives_the_right_boxes_or_a_refusal_with_place_and_remedy(form: str, case: ExportCase):
    if case.told:
        with pytest.raises(ReviewError) as caught:
            formats.import_decisions(REVIEW, form, case.data, reviewer="ann", at=1.0)
        assert case.told in caught.value.message
        assert caught.value.hint
        return
    found = formats.import_decisions(REVIEW, form, case.data, reviewer="ann", at=1.0)

    given = {one.image: one.boxes for one in found.decisions}
    if case.boxes is None:
        assert not given
        return
    assert [(box.name, *box.corners) for box in given["a"] or ()] == [
        (name, *(pytest.approx(side, abs=1e-6) for side in sides)) for name, *sides in case.boxes
    ]
