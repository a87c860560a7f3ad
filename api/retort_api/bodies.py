"""Documents that come as the body of a request: JSON or YAML, of bounded size."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from fastapi import Request
from retort.errors import SpecError, UserError
from retort.spec import parse_document

BODY_LIMIT = 64 * 1024
"""Largest body in bytes; a spec with every field written out takes about 3 KiB."""
DECISION_LIMIT = 1 << 20
"""The same of a decision about one image, with all its boxes."""
UPLOAD_LIMIT = 32 << 20
"""The same of a file with labels."""
JSON = "application/json"
YAML = "application/yaml"

_YAML_TYPES = {YAML, "application/x-yaml", "text/yaml", "text/x-yaml"}


@dataclass(frozen=True, slots=True)
class Body:
    """A body as it came, of a type that we know."""

    data: bytes
    media_type: str

    def document(self) -> Any:
        """Read the body into plain values.

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
    """Read the changes to a spec that the request's body names; none when there is no body.

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
    """Read a file, whatever its Content-Type says.

    Raises:
        UserError: it is too large.

    """
    return await _read(request, UPLOAD_LIMIT)


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
