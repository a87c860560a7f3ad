"""The plane of latency and accuracy: names can be read, whatever networks have in common."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from retort_api.pages.latency_plane import LatencyPlane, PlacedPoint, TimedNetwork, latency_plane

_LETTER, _UP, _DOWN = 7.0, 11.0, 3.0
"""How much of the drawing a letter takes, and a line above and below where it is written."""


def area(one: PlacedPoint) -> tuple[float, float, float, float]:
    width = _LETTER * len(one.text)
    begin = one.text_x if one.anchor == "start" else one.text_x - width
    return begin, one.text_y - _UP, begin + width, one.text_y + _DOWN


def meet(one: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def check(plane: LatencyPlane) -> None:
    areas = [area(one) for one in plane.points]
    assert not [pair for pair in combinations(areas, 2) if meet(*pair)], "no name lies upon another"
    for one in areas:
        assert 0 <= one[0] < one[2] <= plane.width, "no name leaves the drawing"
        assert not any(meet(one, (mark.x - 6, mark.y - 6, mark.x + 6, mark.y + 6)) for mark in plane.points)


EQUAL = [TimedNetwork(f"student-{place}.onnx", "series-1", 0.45, 8.25, 9.5) for place in range(9)]


@settings(max_examples=60, deadline=None)
@given(
    networks=st.lists(
        st.builds(
            TimedNetwork, name=st.text("abcdefgh-.", min_size=1, max_size=40), style=st.just("student"),
            map=st.sampled_from([0.0, 0.44, 0.45, 0.4501, 0.6]) | st.floats(0, 1),
            p50=st.sampled_from([1.0, 8.25, 8.3]) | st.floats(0.01, 900), p90=st.just(9.5),
        ),
        min_size=1, max_size=7,
    )
)  # fmt: skip
@example(networks=EQUAL)
@example(networks=[TimedNetwork("student", "student", 0.45, 8.25, 9.5, 0.2, 0.7), *EQUAL[:4]])
def test_no_name_lies_upon_another_or_upon_a_mark_whatever_the_figures(networks: list[TimedNetwork]):
    plane = latency_plane(networks)
    assert plane is not None
    check(plane)
    assert [one.network for one in plane.points] == networks


def test_points_stand_in_the_order_of_their_figures_on_both_kinds_of_axes():
    for latencies in ((5.0, 7.0, 9.0), (0.5, 7.0, 90.0)):
        networks = [
            TimedNetwork(f"n{place}", "student", 0.3 + 0.1 * place, one, one * 1.2)
            for place, one in enumerate(latencies)
        ]
        plane = latency_plane(networks)
        assert plane is not None
        points = plane.points
        assert [one.x for one in points] == sorted(one.x for one in points)
        assert [one.y for one in points] == sorted((one.y for one in points), reverse=True), "better is higher"
        assert all(plane.left <= one.x < one.x_end <= plane.right for one in points)
        assert len(plane.x_ticks) > 2
        assert plane.y_ticks[0].at == pytest.approx(plane.bottom)
    assert latency_plane([]) is None
