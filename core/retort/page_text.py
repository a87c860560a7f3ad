"""Prepare strangers' text for pages and charts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

from retort.errors import printable

_OUR_TAG = re.compile(r"&lt;(/?extra)&gt;")
"""The one tag that charts of ours hold, in what they say under the pointer."""


def spelled(value: Any) -> Any:
    """Return *value* for a page, with unprintable characters spelled out; markup stays."""
    return value if hasattr(value, "__html__") or not isinstance(value, str) else printable(value, keep="\n\t")


def for_charts(charts: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return *charts* with plain text, which plotly would read as HTML."""
    return [{**chart, **{part: _plain(chart[part]) for part in ("data", "layout")}} for chart in charts]


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return _OUR_TAG.sub(r"<\1>", escape(printable(value), quote=False))
    if isinstance(value, Mapping):
        return {key: _plain(part) for key, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, list | tuple) else value
