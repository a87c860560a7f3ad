"""What README and documentation say that distillation bought is what the kept measurements say."""

from __future__ import annotations

import json
import re

import pytest
from house.source import ROOT

RESULTS = ROOT / "benchmarks" / "results"
MEASURED = [
    ("blood cells", "quality-bccd-160-cpu.json", ("native", "article", "balanced")),
    ("digits", "quality-digits-96-cpu.json", ("balanced",)),
]


def told(recipe: str, kept: str) -> str:
    """A gain with its interval, as the tables write it."""
    entry = json.loads((RESULTS / kept).read_text())["summary"][recipe]
    low, high = entry["minus_plain_interval"]
    shown = "" if low > 0 or high < 0 else ": not shown"
    return f"{100 * entry['minus_plain']:+.1f} ({100 * low:+.1f} to {100 * high:+.1f}){shown}"


def rows(page: str) -> list[list[str]]:
    """The cells of all tables of a page; an empty one is that of the row above."""
    found: list[list[str]] = []
    for line in (ROOT / page).read_text(encoding="utf-8").splitlines():
        if line.startswith("| "):
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            above = found[-1] if found and len(found[-1]) == len(cells) else [""] * len(cells)
            found.append([cell or before for cell, before in zip(cells, above, strict=True)])
    return found


@pytest.mark.parametrize("page", ["README.md", "docs/when-it-helps.md"])
@pytest.mark.parametrize(("images", "kept", "recipes"), MEASURED)
def test_a_table_of_gains_says_what_was_measured(page: str, images: str, kept: str, recipes: tuple[str, ...]) -> None:
    about = [row for row in rows(page) if images in " ".join(row) and row[-1].count(" to ") == 1]
    for recipe in recipes:
        gains = [row[-1] for row in about if any(cell.startswith(f"`{recipe}`") for cell in row)]
        assert gains == [told(recipe, kept)], f"{recipe} on {images}"


def test_each_gain_of_the_readme_says_from_which_weights() -> None:
    gains = [row for row in rows("README.md") if re.match(r"[+-]?\d+\.\d[ ,]", row[-1])]
    assert {row[0] for row in gains} == {"random weights", "pretrained weights"}
    assert all("seeds" in row[1] or "the same" in row[1] for row in gains)


def test_the_documentations_table_says_what_networks_reached() -> None:
    for images, kept, recipes in MEASURED:
        summary = json.loads((RESULTS / kept).read_text())["summary"]
        for recipe in recipes:
            wanted = [f"{100 * summary[name]['mean']:.1f}" for name in ("plain", recipe)]
            assert any(
                row[2] == f"`{recipe}`" and row[3:5] == wanted and images in row[0].lower()
                for row in rows("docs/when-it-helps.md")
                if len(row) == 6
            ), (images, recipe, wanted)


@pytest.mark.parametrize(
    ("kept", "name", "arm", "against"),
    [
        ("quality-pretrained-160-cpu", "bccd", "cached", ("plain", "equal_time=cached")),
        ("quality-pretrained-160-cpu", "ui", "cached", ("equal_time=cached",)),
        ("quality-coco-bccd-160-cpu", "bccd", "cached", ("plain", "equal_time=cached")),
        ("quality-coco-bccd-160-cpu", "bccd", "class_weights", ("plain",)),
        ("quality-coco-larger-input-160-cpu", "ui", "cached", ("plain", "equal_time=cached")),
        ("quality-coco-larger-input-160-cpu", "ui", "class_weights", ("plain",)),
        ("quality-coco-larger-input-160-cpu", "flags", "cached", ("plain", "equal_time=cached")),
        ("quality-coco-few-labels-160-cpu", "bccd", "pseudo", ("equal_steps",)),
    ],
)
def test_the_readme_says_what_was_measured_from_pretrained_weights(
    kept: str, name: str, arm: str, against: tuple[str, ...]
) -> None:
    entry = json.loads((RESULTS / f"{kept}.json").read_text())["sets"][name]["summary"][arm]
    cells = [cell for row in rows("README.md") for cell in row]
    for one in against:
        low, high = entry[f"minus_{one}_interval"]
        wanted = f"{100 * entry[f'minus_{one}']:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"
        found = [cell for cell in cells if wanted in cell]
        assert found, (name, one, wanted)
        assert ("not shown" in found[0]) is (low <= 0 <= high), found
