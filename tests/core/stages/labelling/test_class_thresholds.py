"""Scores that make labels keep the share of each class."""

from __future__ import annotations

from collections import Counter

import pytest
from retort.labelling.thresholds import MOST_SCORE, RELIABLE, with_class_shares
from retort.review.models import Scored
from retort.spec import PseudoLabelsSpec
from retort.spec.job import LEAST_SCORE


def boxes(name: str, *scores: float) -> tuple[Scored, ...]:
    return tuple(Scored(name=name, score=score, x1=0.1, y1=0.1, x2=0.5, y2=0.5) for score in scores)


def chosen(found: list[tuple[Scored, ...]], labelled: list[Counter[str]], **changes: object) -> dict[str, float]:
    wanted = PseudoLabelsSpec.model_validate({"path": "/more", "recipe": "few_labels", **changes})
    return dict(with_class_shares(wanted, found, labelled).per_class)


def test_a_class_gets_the_score_of_its_last_reliable_box():
    scores = [0.85 - 0.05 * step for step in range(10)]
    found = [boxes("red", score) for score in scores]
    labelled = [Counter(red=1), Counter(red=1)]  # one on each image: ten are expected, six are reliable
    assert chosen(found, labelled) == {"red": pytest.approx(scores[round(RELIABLE * 10) - 1])}


def test_a_class_of_which_the_teacher_is_unsure_gets_a_lower_score_than_one_it_is_sure_of():
    found = [boxes("red", 0.85) + boxes("blue", 0.4) for _ in range(10)]
    both = chosen(found, [Counter(red=1, blue=1)])
    assert both == {"red": pytest.approx(0.85), "blue": pytest.approx(0.4)}


def test_scores_stay_within_their_bounds():
    sure = [boxes("red", 0.99) + boxes("blue", 0.12) for _ in range(10)]
    assert chosen(sure, [Counter(red=1, blue=1)]) == {"red": MOST_SCORE, "blue": LEAST_SCORE}
    assert chosen([()] * 10, [Counter(red=1)]) == {"red": LEAST_SCORE}, "nothing was found"


def test_a_class_that_the_spec_names_or_no_labelled_image_shows_keeps_its_score():
    found = [boxes("red", 0.5) + boxes("blue", 0.5)]
    assert chosen(found, [Counter(red=1)], per_class={"red": 0.7}) == {"red": 0.7}
    assert chosen(found, [Counter(red=1)]) == {"red": pytest.approx(0.5)}
