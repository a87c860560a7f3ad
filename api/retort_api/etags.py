"""Entity tags: strong validators, and the requests that depend on them (RFC 9110, sections 8.8 and 13)."""

from __future__ import annotations

import re

_TAG = re.compile(r'(?:W/)?("[\x21\x23-\x7e\x80-\xff]*")')


def strong(value: object) -> str:
    """Return *value* as a strong entity tag."""
    return f'"{value}"'


def unchanged(if_none_match: str | None, etag: str) -> bool:
    """Whether a client that sent If-None-Match has what *etag* names already (weak comparison)."""
    if if_none_match is None:
        return False
    return if_none_match.strip() == "*" or etag in _TAG.findall(if_none_match)


def same(if_range: str | None, etag: str) -> bool:
    """Whether the rest of what a client has begun is still *etag* (strong comparison); a date never is."""
    return if_range is None or if_range.strip() == etag
