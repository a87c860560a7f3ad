"""Draw the images of a review and their boxes on one page."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from retort.review.models import Box, ImageVerdict, Picture, Scored

STATES = {None: "open", "accept": "accepted", "reject": "rejected", "edit": "edited"}
"""Words for what was decided about an image."""
COLOURS = (
    "#1f5fbf", "#c2410c", "#15803d", "#a21caf", "#b91c1c", "#0e7490", "#854d0e", "#4f46e5", "#be185d", "#3f6212",
)  # fmt: skip
"""Of the classes, in their order, again from the first after the last; white text is readable on each."""

_STYLE = """
:root { color-scheme: light dark; --page: #f6f6f4; --card: #fff; --text: #1c1c1a; --dim: #62625d; --line: #d9d9d3;
  --open: #8a6100; --accepted: #15703a; --rejected: #b3261e; --edited: #1f5fbf; }
@media (prefers-color-scheme: dark) { :root { --page: #161615; --card: #20201f; --text: #ececea; --dim: #a3a39d;
  --line: #383836; --open: #e5b54a; --accepted: #63c98a; --rejected: #f28b82; --edited: #8ab4f8; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 100rem; background: var(--page); color: var(--text);
  font: 15px/1.45 system-ui, sans-serif; }
h1 { margin: 0; font-size: 1.3rem; overflow-wrap: anywhere; }
p, ul { margin: .4rem 0; padding: 0; color: var(--dim); }
ul { display: flex; flex-wrap: wrap; gap: .3rem .9rem; list-style: none; }
li span { display: inline-block; width: .9em; height: .9em; margin-right: .35em; vertical-align: -.1em;
  background: var(--c); }
fieldset { display: flex; flex-wrap: wrap; gap: .3rem 1rem; margin: .6rem 0 1rem; padding: 0; border: 0; }
label { padding: .3rem 0; cursor: pointer; }
main { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(min(24rem, 100%), 1fr)); }
figure { margin: 0; min-width: 0; background: var(--card); border: 1px solid var(--line); border-radius: 6px;
  overflow: hidden; content-visibility: auto; contain-intrinsic-size: auto 24rem; align-self: start;
  scroll-margin-top: 1rem; }
figure:target { grid-column: 1 / -1; }
figure a { display: block; position: relative; margin: 0 auto; max-width: calc(26rem * var(--shape)); }
figure:target a { max-width: calc(90vh * var(--shape)); }
img { display: block; width: 100%; height: auto; }
i { position: absolute; border: 2px solid var(--c); box-shadow: 0 0 0 1px #fff9; }
i.doubtful { border-style: dashed; }
i b { position: absolute; z-index: 1; left: -2px; bottom: 100%; padding: 0 .3em; max-width: 14em; overflow: hidden;
  background: var(--c); color: #fff; font: 600 10px/1.4 system-ui, sans-serif; white-space: nowrap;
  text-overflow: ellipsis; }
i:hover b { z-index: 2; }
i b.in { bottom: auto; top: 0; }
i b.end { left: auto; right: -2px; }
figcaption { padding: .5rem .7rem; overflow-wrap: anywhere; }
figcaption small { display: block; color: var(--dim); }
em { float: right; margin-left: .6em; font-style: normal; font-weight: 600; }
.open em { color: var(--open); } .accepted em { color: var(--accepted); }
.rejected em { color: var(--rejected); } .edited em { color: var(--edited); }
.rejected img { opacity: .45; }
@media (max-width: 50rem) { p span { display: none; } }
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """An image of a review, as it is drawn."""

    picture: Picture
    verdict: ImageVerdict | None
    """None where nobody has decided."""
    jpeg: bytes


def sheet(title: str, classes: Sequence[str], entries: Iterable[Entry]) -> str:
    """Return the page: it needs no network, no script, and no other file."""
    colours = {name: COLOURS[index % len(COLOURS)] for index, name in enumerate(classes)}
    counted = Counter[str]()
    figures = []
    for entry in entries:
        state = STATES[entry.verdict.decision if entry.verdict else None]
        counted[state] += 1
        figures.append("".join(_figure(entry, state, colours)))
    return "".join([*_head(title, colours, counted), *figures, "</main>\n</body>\n</html>\n"])


def _head(title: str, colours: Mapping[str, str], counted: Mapping[str, int]) -> Iterator[str]:
    yield (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}"
    )
    for state in STATES.values():
        yield f"body:has(#show-{state}:checked) figure:not(.{state}) {{ display: none; }}\n"
    yield f"</style>\n</head>\n<body>\n<h1>{escape(title)}</h1>\n<ul>"
    for name, colour in colours.items():
        yield f'<li style="--c:{colour}"><span></span>{escape(name)}</li>'
    yield "</ul>\n<p>Dashed boxes are doubtful: neither label nor background."
    yield " <span>Press an image to enlarge it.</span></p>\n"
    yield f"<fieldset>{_choice('all', sum(counted.values()), checked=True)}"
    for state in STATES.values():
        yield _choice(state, counted[state])
    yield "</fieldset>\n<main>\n"


def _choice(state: str, number: int, *, checked: bool = False) -> str:
    marked = " checked" if checked else ""
    return f'<label><input type="radio" name="show" id="show-{state}"{marked}> {state}: {number}</label>'


def _figure(entry: Entry, state: str, colours: Mapping[str, str]) -> Iterator[str]:
    picture, verdict = entry.picture, entry.verdict
    edited = verdict is not None and verdict.boxes is not None
    boxes: Sequence[Box] = verdict.boxes if verdict is not None and verdict.boxes is not None else picture.kept
    doubtful = () if edited else picture.doubtful
    name, file = escape(picture.image), escape(picture.file)
    encoded = base64.b64encode(entry.jpeg).decode()
    yield (
        f'<figure class="{state}" id="image-{name}" style="--shape:{picture.width / picture.height:.4f}">'
        f'<a href="#image-{name}"><img loading="lazy" decoding="async" alt="{name}" '
        f'width="{picture.width}" height="{picture.height}" src="data:image/jpeg;base64,{encoded}">'
    )
    yield from (_drawn(box, colours, "doubtful") for box in doubtful)
    yield from (_drawn(box, colours, "label") for box in boxes)
    more = f", {len(doubtful)} doubtful" if doubtful else ""
    yield (
        f"</a><figcaption><em>{state}</em>{name}<small>{file}: {len(boxes)} "
        f"{'box' if len(boxes) == 1 else 'boxes'}{more}</small></figcaption></figure>\n"
    )


def _drawn(box: Box, colours: Mapping[str, str], kind: str) -> str:
    """Return the box, with its name above it, or inside where it touches the upper edge."""
    text = escape(f"{box.name} {box.score:.2f}" if isinstance(box, Scored) else box.name)
    left, top, width, height = (
        f"{share * 100:.2f}%" for share in (box.x1, box.y1, box.x2 - box.x1, box.y2 - box.y1)
    )  # fmt: skip
    sides = " ".join(name for name, near in (("in", box.y1 < 0.05), ("end", box.x1 > 0.7)) if near)
    return (
        f'<i class="{kind}" style="left:{left};top:{top};width:{width};height:{height};'
        f'--c:{colours.get(box.name, COLOURS[0])}" title="{text}"><b class="{sides}">{text}</b></i>'
    )
