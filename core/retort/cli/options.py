"""Options, output and service connection that commands share."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from itertools import islice
from typing import Annotated, Any

import typer

from retort.cli import completion, last_jobs
from retort.client.client import Client
from retort.errors import UNPRINTABLE, RetortError, SpecError, UserError, printable
from retort.settings import Settings

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Url = Annotated[
    str | None, typer.Option("--url", help="Address of the service.", show_default="RETORT_URL, or 127.0.0.1:8000")
]
JOB_HELP = (
    "A job's name, or its id, or a unique beginning or end of that; @last is the one that was made last from here, "
    "@last~1 the one before."
)
"""How an argument names a job."""
JobId = Annotated[str, typer.Argument(metavar="JOB", help=JOB_HELP, autocompletion=completion.jobs)]
SpecFile = Annotated[str, typer.Argument(metavar="SPEC", help="A YAML or JSON file; - reads standard input.")]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="PATH=VALUE", help="Replace a field: training.epochs=3. May be repeated."),
]
SweepId = Annotated[
    str,
    typer.Argument(
        metavar="SWEEP",
        help="A sweep's name, or its id, or a unique beginning or end of that.",
        autocompletion=completion.sweeps,
    ),
]
SweepFile = Annotated[str, typer.Argument(metavar="FILE", help="A YAML or JSON file; - reads standard input.")]


def emit(value: object) -> None:
    """Print one JSON document for programs, on one line."""
    typer.echo(_document(value))


def _document(value: object) -> str:
    """Return *value* as JSON that holds no character which a terminal would obey, or stdout's encoding lacks."""
    plain = (sys.stdout.encoding or "").lower().replace("-", "") != "utf8"
    text = json.dumps(value, ensure_ascii=plain)
    return UNPRINTABLE.sub(lambda found: json.dumps(found[0])[1:-1], text)


def say(text: str, *, nl: bool = True) -> None:
    """Print text for people; what strangers named commands no terminal."""
    typer.echo(printable(text, keep="\n\t"), nl=nl)


def note(text: str) -> None:
    """Print a note for people on stderr."""
    typer.echo(printable(text, keep="\n\t"), err=True)


def report(error: RetortError, *, as_json: bool) -> None:
    """Print an error: one line, what to do about it, and every mistake of a document."""
    if as_json:
        typer.echo(_document({"error": describe(error)}), err=True)
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


chosen_key: ContextVar[str | None] = ContextVar("chosen_key", default=None)
"""The key of ``retort --key``."""
_SEARCHED = 2000
"""How many of the newest jobs an abbreviation is looked up in."""


def connect(url: str | None) -> Client:
    """Open a connection to *url*, or to the configured service."""
    return Client(url or Settings().url, key=chosen_key.get())


def labels_of(given: Sequence[str] | None) -> dict[str, str | None]:
    """Return labels written KEY=VALUE, or KEY for any value."""
    parts = (one.partition("=") for one in given or ())
    return {key: value if equals else None for key, equals, value in parts}


def find(client: Client, text: str) -> str:
    """Return the id of the one job that *text* names: its name, or a beginning (``job_`` or not) or end of its id.

    ``@last`` is the job that a command on this machine has made last at this service, ``@last~1`` the one before.

    Raises:
        UserError: no job fits, or several do.

    """
    if re.fullmatch(r"job_[0-9a-f]{32}", text):
        return text
    if text.startswith(last_jobs.MARK):
        return last_jobs.recall(client.url, text)
    jobs = list(islice(client.list(), _SEARCHED))
    named = [job["id"] for job in jobs if job["name"] == text]
    return named[0] if len(named) == 1 else _only(text, named, [job["id"] for job in jobs], kind="job")


def find_sweep(client: Client, text: str) -> str:
    """Return the id of the one sweep that *text* names: its name, or a beginning (``swp_`` or not) or end of its id.

    Raises:
        UserError: no sweep fits, or several do.

    """
    if re.fullmatch(r"swp_[0-9a-f]{32}", text):
        return text
    sweeps = list(islice(client.list_sweeps(), _SEARCHED))
    named = [sweep["id"] for sweep in sweeps if sweep["name"] == text]
    return named[0] if len(named) == 1 else _only(text, named, [sweep["id"] for sweep in sweeps], kind="sweep")


_KINDS = {"job": ("job_", "retort ls"), "sweep": ("swp_", "retort sweeps")}
"""Beginning of the ids, and what lists them."""


def _only(text: str, named: list[str], ids: list[str], *, kind: str) -> str:
    prefix, lister = _KINDS[kind]
    fitting = named or [found for found in ids if found.startswith((text, prefix + text)) or found.endswith(text)]
    if len(fitting) == 1:
        return str(fitting[0])
    if not fitting:
        raise UserError(f"no {kind} {text!r}", hint=f"{lister} lists them", code=f"{kind}_not_found")
    hint = f"the newest is {fitting[0]}" if named else "give more of the id"
    raise UserError(f"{text!r} fits {len(fitting)} {kind}s", hint=hint, code=f"{kind}_ambiguous")
