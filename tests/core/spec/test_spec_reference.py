"""The page that describes every field of the specs is made from them, and nothing of it is old."""

from __future__ import annotations

import subprocess
import sys

import pytest
from house.source import ROOT
from retort.spec import RECIPES
from retort.spec.__main__ import FROM_RECIPE, reference
from retort.spec.notes import NOTES


def test_the_committed_page_is_what_the_schemas_make():
    made = subprocess.run([sys.executable, "-m", "retort.spec"], capture_output=True, text=True, check=True).stdout

    assert (ROOT / "docs" / "spec.md").read_text() == made, "python -m retort.spec > docs/spec.md"


class Reads(dict[str, object]):
    """Remembers which of its keys were asked for."""

    def __init__(self, of: dict[str, object]) -> None:
        super().__init__(of)
        self.read: set[str] = set()

    def __getitem__(self, key: str) -> object:
        self.read.add(key)
        return super().__getitem__(key)


def test_every_note_belongs_to_a_field(monkeypatch: pytest.MonkeyPatch):
    reads = {task: Reads(dict(notes)) for task, notes in NOTES.items()}
    for task, notes in reads.items():
        monkeypatch.setitem(NOTES, task, notes)

    reference()  # a field without a note is a KeyError

    assert {task: set(notes) - notes.read for task, notes in reads.items()} == {task: set() for task in reads}


def test_what_a_recipe_fills_in_is_said_to_be_the_recipes():
    for recipe in RECIPES.values():
        filled = {f"distillation.{field}" for field in recipe if field not in {"summary", "head_lr_multiplier"}}

        assert filled | {"training.head_lr_multiplier"} == FROM_RECIPE
