"""Lists page by page: the newest first, and a cursor from each page to the next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import Query, Response

Limit = Annotated[int, Query(ge=1, le=100)]
Cursor = Annotated[str | None, Query(description="`next_cursor` of the page before.", pattern="^[0-9a-f]{32}$")]


def after(cursor: str | None, prefix: str) -> str | None:
    """Return the id that the page comes after, of ids that begin with *prefix*."""
    return None if cursor is None else prefix + cursor


def following(
    response: Response,
    found: Sequence[Any],
    limit: int,
    *,
    prefix: str,
    path: str,
    query: Sequence[tuple[str, Any]] = (),
) -> str | None:
    """Return the cursor of the page after *found*, one row more than *limit* where there is one, and link to it."""
    if len(found) <= limit:
        return None
    cursor: str = found[limit - 1].id.removeprefix(prefix)
    response.headers["Link"] = f'<{path}?{urlencode([*query, ("limit", limit), ("cursor", cursor)])}>; rel="next"'
    return cursor
