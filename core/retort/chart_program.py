"""Keep the charts' program, plotly, out of pages, or put it into them."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Literal

_TAG = re.compile(
    rb'<script src="(?:\.\./)*static/(plotly-[0-9A-Za-z.]+\.min\.js)" integrity="(sha384-[0-9A-Za-z+/=]+)"'
    rb' crossorigin="anonymous"></script>'
)
_LARGEST_DEPTH = 8
_HERE = Path(__file__).parent
_DATA = b'<script type="application/json" id="charts">'
_DRAWING = re.compile(rb"(%b[^<]*</script>\s*)<script>.*?</script>" % _DATA, re.DOTALL)
_STYLE = re.compile(rb'<style(?: id="[\w.-]+")?>(.*?)</style>', re.DOTALL)
_MOST_STYLES = 8
_COLOURED = re.compile(rb'<span class="(dot|swatch)" style="background: ([\w()#-]+)"></span>')
_LOOKED_FOR = re.compile(rb'getElementById\("([0-9a-f]{64})"\)')
HEAD_BYTES = 64 * 1024
"""Of a page, in which all of its styles are."""

Page = Literal["report"]


@cache
def program() -> bytes:
    """Return the installed program."""
    return (files("plotly") / "package_data" / "plotly.min.js").read_bytes()


@cache
def file_name() -> str:
    """Return the program's file name, which has its version."""
    return f"plotly-{version('plotly')}.min.js"


@cache
def integrity() -> str:
    """Return the program's digest as pages name it."""
    return _digest(program())


def reference(depth: int) -> str:
    """Return the element that loads the program from the service.

    The page lies *depth* folders below the service's address.
    """
    assert 0 <= depth <= _LARGEST_DEPTH, "pages of the service lie no deeper"
    address = f"{'../' * depth}static/{file_name()}"
    return f'<script src="{address}" integrity="{integrity()}" crossorigin="anonymous"></script>'


def embedded() -> str:
    """Return the element that holds the program itself."""
    return f"<script>{program().decode()}</script>"


@cache
def drawing(page: Page) -> str:
    """Return the element with the script that draws the charts of a page."""
    return f"<script>{(_HERE / page / 'templates' / f'{page}.js').read_text()}</script>"


@cache
def styles() -> str:
    """Return style elements that the program looks for, and else would add.

    A page's policy forbids to add any; rules may be written into those that are there.
    """
    names = ("plotly.js-style-global", *(found.decode() for found in _LOOKED_FOR.findall(program())))
    return "".join(f'<style id="{name}">/* of the charts */</style>' for name in names)


def style_policy(page: bytes) -> str:
    """Return the policy's part about a page's styles, by digest.

    Any version may have made the page. Its first bytes suffice.
    """
    found = dict.fromkeys(_STYLE.findall(page[:HEAD_BYTES]))
    digests = [f"'sha256-{_sha256(style)}'" for style in list(found)[:_MOST_STYLES]]
    return " ".join(("style-src", *(digests or ("'none'",))))


@cache
def policy(page: Page) -> str:
    """Return the part of a page's policy about scripts: those of this version alone.

    They are the page's own and the charts' program inside of it, by their digests, and files of the service.
    """
    digests = (_sha256(_content(element).encode()) for element in (drawing(page), embedded()))
    return " ".join(("script-src 'self'", *(f"'sha256-{digest}'" for digest in digests)))


def draws(report: bytes) -> bool:
    """Return True unless charts wait for another version's script or styles."""
    return _DATA not in report or all(part.encode() in report for part in (drawing("report"), styles()))


def redrawn(report: bytes) -> bytes:
    """Return a report of another version with the script of this one.

    What the policy of this one forbids is written in another way.
    """
    page = _DRAWING.sub(lambda found: found[1] + drawing("report").encode(), report, count=1)
    page = _COLOURED.sub(
        rb'<svg class="\1" viewBox="0 0 1 1" aria-hidden="true"><rect width="1" height="1" fill="\2"/></svg>', page
    )
    there = styles().encode() in page
    return page if there else page.replace(b"</head>", styles().encode() + b"</head>", 1)


def shared(page: bytes, depth: int) -> bytes:
    """Return *page* with a reference in place of the embedded program."""
    return page.replace(embedded().encode(), reference(depth).encode(), 1)


def self_contained(page: bytes) -> bytes:
    """Return *page* with the installed program in place of any reference."""
    return _TAG.sub(lambda _: embedded().encode(), page, count=1)


@dataclass(frozen=True, slots=True)
class ProgramReference:
    """Reference of a page to its program."""

    file_name: str
    integrity: str

    def fits(self, content: bytes) -> bool:
        """Return True if *content* is the program that the page means."""
        return self.integrity == _digest(content)


def reference_in(page: bytes) -> ProgramReference | None:
    """Return the reference in *page*, or None."""
    found = _TAG.search(page)
    return None if found is None else ProgramReference(found[1].decode(), found[2].decode())


def with_program(page: bytes, content: bytes) -> bytes:
    """Return *page* with the program *content* in place of its reference."""
    return _TAG.sub(lambda _: b"<script>" + content + b"</script>", page, count=1)


def _content(element: str) -> str:
    return element.removeprefix("<script>").removesuffix("</script>")


def _sha256(content: bytes) -> str:
    return base64.b64encode(hashlib.sha256(content).digest()).decode()


def _digest(content: bytes) -> str:
    return f"sha384-{base64.b64encode(hashlib.sha384(content).digest()).decode()}"
