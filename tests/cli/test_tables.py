"""Tables show every figure whole, at any width: columns are left out, by name, before a figure is cut."""

from __future__ import annotations

import re
from typing import Any

import pytest
from results import result
from retort.cli import render
from rich.cells import cell_len
from rich.console import Console
from stored_results import EXTRAS

JOB = {
    "id": "job_0190a3c2d4e57f1889abcdef01234567", "name": "street-scenes-of-the-old-town-2026", "state": "running",
    "stage": "distill", "progress": 0.4213, "best": {"val/mAP50": 0.512345, "val/mAP50-95": 0.412345},
    "created_at": "2026-11-28T10:00:05Z",
}  # fmt: skip
WIDTHS = [40, 60, 80, 100, 200]


def drawn(renderable: Any, width: int) -> str:
    console = Console(width=width, no_color=True, highlight=False)
    with console.capture() as capture:
        console.print(renderable)
    return capture.get()


@pytest.mark.parametrize("width", WIDTHS)
def test_the_list_of_jobs_cuts_nothing_and_names_what_it_leaves_out(width: int):
    text = drawn(render.jobs_table([JOB]), width)

    assert max(map(cell_len, text.splitlines())) <= width
    assert "\N{HORIZONTAL ELLIPSIS}" not in text
    left_out = " ".join(text.split()).partition("no room for: ")[2].split(", ")
    for title, cell in {"done": "42%", "mAP50": "0.5123", "mAP50-95": "0.4123", "stage": "distill"}.items():
        assert (cell in text) != (title in left_out)
    assert "ef01234567" in text.replace("\n", "")
    assert (JOB["id"] in text) == (width == 200)


@pytest.mark.parametrize("width", WIDTHS)
def test_a_result_is_read_at_any_width(width: int):
    found = result(0.5, 0.4, 0.3, extras=list(EXTRAS.values()))
    texts = [drawn(part, width) for part in render.result_parts(found)]

    assert max(cell_len(line) for text in texts for line in text.splitlines()) <= width
    assert "0.4000" in texts[0]
    assert "No difference is shown, says the one judge." in " ".join(" ".join(texts).split())


def test_a_long_text_is_broken_where_no_column_is_left_to_go_and_nothing_of_it_is_lost():
    table = render.FittedTable("name", render.figure("mAP50"))
    table.add_row("street scenes \x1b[31m of the old town", "0.1234")
    text = drawn(table, 24)

    assert max(map(cell_len, text.splitlines())) <= 24
    assert "0.1234" in text
    assert "\x1b" not in text
    assert "townold" not in text
    assert "".join(re.sub(r"0\.1234|mAP50|name", "", text).split()) == "streetscenes\\x1b[31moftheoldtown"


@pytest.mark.parametrize(
    ("values", "width", "drawn"),
    [
        ([], 10, ""),
        ([0.5], 10, "▁"),
        ([0.5, 0.5], 10, "▁▁"),
        ([0.0, 0.5, 1.0], 10, "▁▄█"),
        ([0.0, 0.0, 1.0, 1.0], 2, "▁█"),
    ],
)
def test_a_sparkline_is_as_wide_as_it_may_be_and_begins_at_the_lowest(values: list[float], width: int, drawn: str):
    assert render.sparkline(values, width) == drawn


def test_a_thousand_epochs_fit_into_one_line():
    line = render.sparkline([epoch / 1000 for epoch in range(1000)], 48, ascii_only=True)

    assert (len(line), line[0], line[-1]) == (48, "_", "#")
    assert line.isascii()
