"""Families of variants: a file in a package joins the union, whether it is the only one or one of many."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError
from retort.schema import FrozenModel, InputModel, discover, tagged_union

BASE = "from retort.schema import InputModel\nclass Shape(InputModel):\n    pass\n"
VARIANT = """
from typing import Literal
from {package}.base import Shape

class {name}(Shape):
    kind: Literal["{kind}"] = "{kind}"
    side: int = 1
"""

Package = Callable[..., tuple[str, type[FrozenModel]]]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Package]:
    """Write a package of shapes of the given kinds; return its name and the base."""
    name = f"shapes_{tmp_path.name.replace('-', '_')}"
    monkeypatch.syspath_prepend(str(tmp_path))

    def make(*kinds: str) -> tuple[str, type[FrozenModel]]:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "__init__.py").touch()
        (folder / "base.py").write_text(BASE)
        for kind in kinds:
            (folder / f"{kind}.py").write_text(VARIANT.format(package=name, name=kind.title(), kind=kind))
        return name, importlib.import_module(f"{name}.base").Shape

    yield make
    for module in [module for module in sys.modules if module.startswith(name)]:
        del sys.modules[module]


def test_members_are_the_files_by_name_without_the_base(package: Package):
    name, base = package("square", "circle")

    assert [cls.__name__ for cls in discover(name, base)] == ["Circle", "Square"]


@pytest.mark.parametrize("kinds", [("square",), ("square", "circle")], ids=["only one", "one of two"])
def test_a_variant_is_told_by_its_tag(package: Package, kinds: tuple[str, ...]):
    union: TypeAdapter[Any] = TypeAdapter(tagged_union(*package(*kinds)))

    assert union.validate_python({"kind": "square", "side": 3}).side == 3


@pytest.mark.parametrize("kinds", [("square",), ("square", "circle")], ids=["only one", "one of two"])
@pytest.mark.parametrize(
    ("value", "error"),
    [
        ({"side": 3}, "union_tag_not_found"),
        ({"kind": "sqare"}, "union_tag_invalid"),
        ({"kind": "square", "sid": 3}, "extra_forbidden"),
    ],
    ids=str,
)
def test_one_variant_is_as_strict_as_many(package: Package, kinds: tuple[str, ...], value: Any, error: str):
    union: TypeAdapter[Any] = TypeAdapter(tagged_union(*package(*kinds)))

    with pytest.raises(ValidationError) as caught:
        union.validate_python(value)

    assert [item["type"] for item in caught.value.errors()] == [error]


class Point(InputModel):
    x: float = 0.0
    n: int = 0


def test_a_value_does_not_change_and_can_be_a_key():
    point = Point(x=1)

    with pytest.raises(ValidationError, match="frozen"):
        point.x = 2  # type: ignore[misc]
    assert {point: 1}[Point(x=1)] == 1


@pytest.mark.parametrize(
    "document", [{"x": "1"}, {"x": True}, {"x": float("inf")}, {"n": 1.0}, {"n": True}, {"y": 1}], ids=str
)
def test_what_people_write_is_taken_as_it_stands(document: dict[str, Any]):
    with pytest.raises(ValidationError):
        Point.model_validate(document)


def test_a_whole_number_may_stand_for_any_number():
    assert Point.model_validate({"x": 1}).x == 1.0
