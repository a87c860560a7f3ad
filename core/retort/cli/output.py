"""What commands print: results on stdout, notes and errors on stderr."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import typer

from retort.errors import RetortError, SpecError


def emit(value: object) -> None:
    """Print one JSON document for programs."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def emit_line(value: object) -> None:
    """Print one JSON document on one line, at once."""
    typer.echo(json.dumps(value, ensure_ascii=False))


def note(text: str) -> None:
    """Tell people something that is no result."""
    typer.echo(text, err=True)


def report(error: RetortError, *, as_json: bool) -> None:
    """Print an error: one line, what to do about it, and every mistake of a document."""
    if as_json:
        note(json.dumps({"error": describe(error)}, ensure_ascii=False))
        return
    note(f"error: {error.message}" + (f" ({error.hint})" if error.hint else ""))
    mistakes = describe(error)["errors"]
    for mistake in mistakes if len(mistakes) > 1 else ():
        hint = f" ({mistake['hint']})" if mistake.get("hint") else ""
        note(f"  {mistake['path']}: {mistake['detail']}{hint}")
    if request_id := getattr(error, "request_id", None):
        note(f"  request {request_id}")


def describe(error: RetortError) -> dict[str, Any]:
    """Return an error as plain values."""
    if isinstance(error, SpecError):
        errors = [{"path": item.path, "detail": item.message, "hint": item.hint} for item in error.problems]
    else:
        errors = [_mistake(item) for item in getattr(error, "problem", {}).get("errors") or ()]
    return {
        "code": error.code,
        "message": error.message,
        "hint": error.hint,
        "retryable": error.retryable,
        "request_id": getattr(error, "request_id", None),
        "errors": errors,
    }


def _mistake(item: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "path": item.get("path") or item.get("pointer") or "$",
        "detail": item.get("detail"),
        "hint": item.get("hint"),
    }
