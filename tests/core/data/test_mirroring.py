"""Names of classes that a mirrored image would show wrongly."""

from __future__ import annotations

import pytest
from retort.data.mirroring import handed


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["0", "1", "2", "car"], ["0", "1", "2"]),
        (["A", "b", "wheel"], ["A", "b"]),
        (["left hand", "right hand", "face"], ["left hand", "right hand"]),
        (["LeftTurn", "stop", "arrow_up"], ["LeftTurn", "arrow_up"]),
        (["hand_l", "hand_r", "l_shape"], ["hand_l", "hand_r"]),
        (["license-plate", "car"], ["license-plate"]),
        (["main gauche", "main droite"], ["main gauche", "main droite"]),
        (["digit3", "four", "five"], ["digit3", "four", "five"]),
    ],
)
def test_classes_that_name_a_side_or_something_written_are_doubted(names: list[str], found: list[str]):
    assert list(handed(names)) == found


@pytest.mark.parametrize(
    "names",
    [
        ["person", "car", "traffic light"],
        ["RBC", "WBC", "Platelets"],
        ["type A", "type B"],
        ["x"],
        ["\N{CJK UNIFIED IDEOGRAPH-8F66}", "\N{CJK UNIFIED IDEOGRAPH-4EBA}"],
        ["bright", "leftover", "template"],
    ],
)
def test_ordinary_classes_are_not(names: list[str]):
    assert handed(names) == ()
