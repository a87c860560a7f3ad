"""Collect malicious files, documents and addresses, each with the door that it is tried on.

A part of the service that takes bytes from strangers adds its cases here: a function that makes one, small, below a
folder, and the name of a door, which is the code that a stranger's bytes meet first. Checkpoints have a corpus of their
own, ``support.malicious_checkpoints``, which ``core/checkpoints/test_malicious_checkpoints.py`` tries in one process.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Make = Callable[[Path], Any]
Door = Callable[[Any, Path], None]


@dataclass(frozen=True)
class MaliciousCase:
    """Something that a stranger may send."""

    name: str
    door: str
    make: Make
    """Makes it below a folder; returns what the door takes."""
    bomb: bool = False
    """Whether it is tried in a process of its own, whose memory is measured."""
    harmless: bool = False
    """Whether it is taken, and has no effect."""


CASES: dict[str, MaliciousCase] = {}
DOORS: dict[str, Door] = {}


def door(name: str) -> Callable[[Door], Door]:
    """Name the function that takes what a case has made, and the empty folder that it may write into."""

    def keep(function: Door) -> Door:
        DOORS[name] = function
        return function

    return keep


def add(at: str, name: str, make: Make, *, bomb: bool = False, harmless: bool = False) -> None:
    full = f"{at}: {name}"
    assert full not in CASES, full
    CASES[full] = MaliciousCase(full, at, make, bomb, harmless)


def add_all(at: str, made: Mapping[str, Any]) -> None:
    """Add cases whose content is known: bytes or texts by name."""
    for name, content in made.items():
        add(at, name, lambda _, content=content: content)
