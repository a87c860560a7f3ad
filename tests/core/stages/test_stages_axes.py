"""Axes and colours of the report's charts."""

from __future__ import annotations

import itertools
import math
import re
from pathlib import Path

import pytest
from results import result
from retort.report import charts
from stored_results import EXPORTS

CSS = Path(charts.__file__).parent / "templates" / "report.css"
VALUES = [
    [], [0.0], [1.0], [3.0], [0.07, 0.6], [8.0, 12.0], [9.99, 10.01], [1e-9, 1e9], [None, 0.02, -1.0], [99.0, 101.0],
    [5.6, 1.1, 13.8], [math.inf, 2.0], [1e-12, 2e-12],
]  # fmt: skip


@pytest.mark.parametrize("values", VALUES, ids=str)
def test_logarithmic_axes_mark_nothing_but_decades_and_two_at_least(values: list[float | None]):
    """Log axes once ticked 2 1 5 2 0.1 5 2, or one value only."""
    axis = charts.log_axis("KL", values)

    low, high = axis["range"]
    powers = [math.log10(value) for value in axis["tickvals"]]
    assert all(power == pytest.approx(round(power)) for power in powers)
    assert 2 <= len(powers) <= 6
    assert low <= powers[0] < powers[-1] <= high
    assert all(low <= math.log10(value) <= high for value in values if value and 0 < value < math.inf)
    assert len(set(axis["ticktext"])) == len(powers)
    ordinary = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")
    plain = [text.isascii() for text in axis["ticktext"]]
    assert plain == [1e-3 <= value <= 1e4 for value in axis["tickvals"]]
    read = [
        float(text) if text.isascii() else 10 ** float(text.removeprefix("10").translate(ordinary))
        for text in axis["ticktext"]
    ]
    assert read == pytest.approx(axis["tickvals"])


def test_the_chart_of_latencies_marks_decades_and_every_export_by_its_own_sign():
    """Exports once borrowed the colours of the roles."""
    exports = [{**EXPORTS["passed"], "path": f"student-{number}.onnx"} for number in range(3)]
    drawn = next(chart for chart in charts.comparisons(result(exports=exports)) if chart["name"] == "tradeoff")

    assert all(math.log10(value).is_integer() for value in drawn["layout"]["xaxis"]["tickvals"])
    signs = [(trace["meta"]["color"], trace["marker"]["symbol"]) for trace in drawn["data"]]
    assert len(set(signs)) == len(signs)
    assert len({symbol for _, symbol in signs}) == len(signs)


def _lab(color: str) -> tuple[float, float, float]:
    """Return the CIELAB place of a colour of sRGB."""
    red, green, blue = ((int(color[at : at + 2], 16) / 255) ** 2.2 for at in (1, 3, 5))
    x, y, z = (
        value ** (1 / 3)
        for value in (
            (0.4124 * red + 0.3576 * green + 0.1805 * blue) / 0.9505,
            0.2126 * red + 0.7152 * green + 0.0722 * blue,
            (0.0193 * red + 0.1192 * green + 0.9505 * blue) / 1.089,
        )
    )
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_no_series_has_the_colour_of_a_role_or_of_another_series(scheme: int):
    """Exports, losses and classes once borrowed the roles' colours."""
    found = re.findall(r"--(teacher|student|control|series-\d): (#[0-9a-f]{6})", CSS.read_text())
    colors = dict(found[scheme * 9 : scheme * 9 + 9])

    assert len(colors) == 9
    for one, other in itertools.combinations(colors.values(), 2):
        assert math.dist(_lab(one), _lab(other)) > 20
