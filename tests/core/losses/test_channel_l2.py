"""channel_l2 against plain loops, by hand, and in its dependence on scale."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from retort.losses.channel_l2 import ChannelL2

Make = Callable[..., torch.Tensor]


def test_it_is_what_plain_loops_compute(features: Make, confidence: Make):
    student, teacher = features(0), features(1)
    pairs = list(zip(student.flatten().tolist(), teacher.flatten().tolist(), strict=True))

    found = float(ChannelL2()(student, teacher, confidence()))

    assert found == pytest.approx(sum((a - b) ** 2 for a, b in pairs) / len(pairs), rel=1e-12)


def test_a_constant_distance_by_hand(features: Make, confidence: Make):
    assert float(ChannelL2()(features(0) + 3, features(0), confidence())) == pytest.approx(9)
    assert float(ChannelL2()(features(0), features(0), confidence())) == 0


def test_it_follows_the_scale_of_the_features(features: Make, confidence: Make):
    plain = float(ChannelL2()(features(0), features(1), confidence()))

    assert float(ChannelL2()(features(0) * 10, features(1) * 10, confidence())) == pytest.approx(100 * plain)


def test_it_taps_where_the_article_does():
    assert [str(level) for level in ChannelL2().levels] == ["backbone", "P3"]
