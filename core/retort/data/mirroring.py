"""Find class names whose objects mean something else when an image is mirrored."""

from __future__ import annotations

import re
from collections.abc import Sequence

_SIDES = {
    "left", "right", "links", "rechts", "gauche", "droite", "izquierda", "derecha", "sinistra", "destra", "east",
    "west",
}  # fmt: skip
_WRITTEN = {
    "arrow", "arrows", "character", "characters", "clockwise", "counterclockwise", "digit", "digits", "letter",
    "letters", "licence", "license", "number", "numbers", "plate", "plates", "sign", "signs", "text", "turn", "turns",
    "word", "words",
}  # fmt: skip
_NUMBERS = {"zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"}
_FEWEST = 2
"""Of single letters or figures: one alone may be a grade or a type."""
_PAIRS = (frozenset("lr"), frozenset("ew"))


def handed(names: Sequence[str]) -> tuple[str, ...]:
    """Return the classes of *names* that a mirrored image would show wrongly.

    They name a side or something written, or are figures or letters. Nothing is known of the images: it is a doubt.
    """
    words = [_words(name) for name in names]
    found = {index for index, parts in enumerate(words) if parts & (_SIDES | _WRITTEN)}
    single = {index for index, parts in enumerate(words) if len(parts) == 1 and _is_figure(next(iter(parts)))}
    if len(single) >= _FEWEST:
        found |= single
    for pair in _PAIRS:  # hand_l and hand_r
        sided = [index for index, parts in enumerate(words) if len(parts) > 1 and parts & pair]
        rests = [words[index] - pair for index in sided]
        found |= {index for index, rest in zip(sided, rests, strict=True) if rests.count(rest) > 1}
    return tuple(names[index] for index in sorted(found))


def _is_figure(word: str) -> bool:
    return (len(word) == 1 and word.isascii()) or word.isdigit() or word in _NUMBERS


def _words(name: str) -> set[str]:
    """Split *name* into lower-case words at punctuation, and where a capital or a number begins."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z0-9])", " ", str(name))
    return {word.casefold() for word in re.split(r"[\W_]+", spaced) if word}
