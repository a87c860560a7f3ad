"""Class names are the same when they are equal, everywhere; near ones are told."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from retort import class_names

words = st.lists(st.text(max_size=4), unique=True, max_size=6)


@given(names=words)
def test_equal_lists_are_paired_one_to_one_whatever_their_names(names: list[str]):
    mine = dict(enumerate(names))
    assert class_names.pairs(mine, dict(mine)) == [(index, index) for index in mine]


@given(ours=words, theirs=words)
def test_only_equal_names_are_paired_and_each_at_most_once(ours: list[str], theirs: list[str]):
    found = class_names.pairs(dict(enumerate(ours)), dict(enumerate(theirs)))
    assert all(ours[mine] == theirs[other] for mine, other in found)
    assert len({other for _, other in found}) == len(found) == len(set(ours) & set(theirs))


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("car", "Car"),
        ("traffic light", "traffic_light"),
        ("re-entry", "reentry"),
        (" car", "car"),
        ("ab", "a\u200cb"),
        ("car", "c\u0430r"),
    ],
)
def test_near_names_are_told_with_what_would_be_right(ours: str, theirs: str):
    assert class_names.pairs({0: ours}, {0: theirs}) == []
    assert class_names.near([ours, "cow"], ["dog", theirs]) == [(ours, theirs)]
    assert f"write {theirs!r} in data.yaml" in str(class_names.warning([ours], [theirs], "the teacher"))


def test_names_that_both_have_are_near_to_nothing():
    assert class_names.near(["Car", "car"], ["car", "Car"]) == []
    assert class_names.alike(["Car", "dog", "car"]) == [("Car", "car")]


@pytest.mark.parametrize("names", [["a", "b"], ("a", "b"), {1: "b", 0: "a"}, {"0": "a", "1": "b"}])
def test_a_networks_names_are_numbered_in_every_form(names: object):
    assert list(class_names.as_names(names).items()) == [(0, "a"), (1, "b")]
