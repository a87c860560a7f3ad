"""Request bodies in JSON or YAML, entity tags, and pages of lists."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import Query, Request, Response
from retort.errors import SpecError, UserError
from retort.spec import parse_document

BODY_LIMIT = 64 * 1024
"""Largest body in bytes; a spec with every field written out takes about 3 KiB."""
DECISION_LIMIT = 1 << 20
"""The same of a decision about one image, with all its boxes."""
UPLOAD_LIMIT = 32 << 20
"""The same of a file with labels."""
BINARY = "application/octet-stream"
JSON = "application/json"
YAML = "application/yaml"

UPLOAD_TYPES = (BINARY, JSON, "application/xml", "text/xml", "application/zip")
_YAML_TYPES = {YAML, "application/x-yaml", "text/yaml", "text/x-yaml"}


@dataclass(frozen=True, slots=True)
class Body:
    """A request body with its supported media type."""

    data: bytes
    media_type: str

    def document(self) -> Any:
        """Parse the body into plain values.

        Raises:
            UserError: it is not what its Content-Type says.

        """
        try:
            if self.media_type == JSON:
                json.loads(self.data)  # YAML, which the reader below also takes, is not what was announced
            return parse_document(self.data)
        except SpecError as error:
            raise UserError(error.problems[0].message, code="unreadable_body", hint=error.hint) from error
        except (ValueError, RecursionError) as error:
            raise UserError(f"not valid JSON: {error}", code="unreadable_body") from error


async def read_body(request: Request) -> Body:
    """Read the request's body.

    Raises:
        UserError: it is too large, or neither JSON nor YAML by its Content-Type.

    """
    media_type = _media_type(request.headers.get("content-type", ""))
    return Body(await _read(request), media_type)


async def read_patch(request: Request) -> Any:
    """Read the request's changes to a spec; empty without a body.

    Raises:
        UserError: as ``read_body``, or the body is not what its Content-Type says.

    """
    data = await _read(request)
    return Body(data, _media_type(request.headers.get("content-type", ""))).document() if data else {}


async def read_decision(request: Request) -> Any:
    """Read a decision about one image.

    Raises:
        UserError: as ``read_body``, or the body is not what its Content-Type says.

    """
    data = await _read(request, DECISION_LIMIT)
    return Body(data, _media_type(request.headers.get("content-type", ""))).document()


async def read_upload(request: Request) -> bytes:
    """Read a file with labels of any format.

    Raises:
        UserError: it is too large, or announced as something that no such file is.

    """
    named = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if named not in UPLOAD_TYPES:
        told = f"{named!r} is not understood" if named else "the request has no Content-Type"
        raise UserError(told, code="unsupported_media_type", hint=f"send Content-Type: {BINARY}")
    return await _read(request, UPLOAD_LIMIT)


async def read_limited(request: Request, limit: int) -> bytes:
    """Read the request's bytes, whatever they are.

    Raises:
        UserError: there are more than *limit*.

    """
    return await _read(request, limit)


async def _read(request: Request, limit: int = BODY_LIMIT) -> bytes:
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit:
        raise _too_large(limit)
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > limit:
            raise _too_large(limit)
    return bytes(data)


def _media_type(content_type: str) -> str:
    named = content_type.partition(";")[0].strip().lower()
    if named == JSON or named.endswith("+json"):
        return JSON
    if named in _YAML_TYPES or named.endswith("+yaml"):
        return YAML
    told = f"{named!r} is not understood" if named else "the request has no Content-Type"
    raise UserError(told, code="unsupported_media_type", hint=f"send Content-Type: {JSON} or {YAML}")


def _too_large(limit: int) -> UserError:
    return UserError(f"the body is larger than {limit} bytes", code="body_too_large")


_TAG = re.compile(r'(?:W/)?("[\x21\x23-\x7e\x80-\xff]*")')


_STRONG_TAG = re.compile(r'(?<!W/)"[\x21\x23-\x7e\x80-\xff]*"')


def strong(value: object) -> str:
    """Return *value* as a strong entity tag."""
    return f'"{value}"'


def unchanged(if_none_match: str | None, etag: str) -> bool:
    """Return True if the If-None-Match header names *etag* (weak comparison).

    The client then has the current version already.
    """
    if if_none_match is None:
        return False
    return if_none_match.strip() == "*" or etag in _TAG.findall(if_none_match)


def knows(if_none_match: str, version: object) -> bool:
    """Return True if the If-None-Match header names *version*, whatever the place in the queue."""
    return if_none_match.strip() == "*" or str(version) in {
        tag.strip('"').partition(".")[0] for tag in _TAG.findall(if_none_match)
    }


def matches(if_match: str | None, version: object) -> bool:
    """Return True if the If-Match header names *version* (strong comparison), or is absent.

    What follows a point in a tag is a place in the queue, which nobody changes by changing the job.
    """
    if if_match is None or if_match.strip() == "*":
        return True
    return str(version) in {tag.strip('"').partition(".")[0] for tag in _STRONG_TAG.findall(if_match)}


def same(if_range: str | None, etag: str) -> bool:
    """Return True if the If-Range header names *etag* (strong comparison).

    The rest of a partly downloaded file may then be sent. A date never matches; an absent header always does.
    """
    return if_range is None or if_range.strip() == etag


Deleted = Annotated[bool, Query(description="Show what is in the trash, and nothing else.")]
Limit = Annotated[int, Query(ge=1, le=100)]
Cursor = Annotated[str | None, Query(description="`next_cursor` of the page before.", pattern="^[0-9a-f]{32}$")]


def trash_query(deleted: bool) -> list[tuple[str, str]]:
    """Return the part of a list's address that asks for the trash."""
    return [("deleted", "true")] if deleted else []


def parse_cursor(cursor: str | None, prefix: str) -> str | None:
    """Return the last id of the previous page, with its *prefix*."""
    return None if cursor is None else prefix + cursor


def next_cursor(
    response: Response,
    found: Sequence[Any],
    limit: int,
    *,
    prefix: str,
    path: str,
    query: Sequence[tuple[str, Any]] = (),
) -> str | None:
    """Return the cursor of the next page, and set the Link header.

    *found* has one row more than *limit* where there is a next page; else the answer is None.
    """
    if len(found) <= limit:
        return None
    cursor: str = found[limit - 1].id.removeprefix(prefix)
    response.headers["Link"] = f'<{path}?{urlencode([*query, ("limit", limit), ("cursor", cursor)])}>; rel="next"'
    return cursor
