"""Reach the service that a command speaks to, and find in it the job that a person means."""

from __future__ import annotations

import re
from itertools import islice

from retort.client import Client
from retort.errors import UserError
from retort.settings import Settings

_SEARCHED = 2000
"""How many of the newest jobs an abbreviation is looked up in."""


def connect(url: str | None) -> Client:
    """Open a connection to *url*, or to the configured service."""
    return Client(url or Settings().url)


def find(client: Client, text: str) -> str:
    """Return the id of the one job that *text* abbreviates: a beginning (with or without ``job_``) or an end of it.

    Raises:
        UserError: no job fits, or several do.

    """
    if re.fullmatch(r"job_[0-9a-f]{32}", text):
        return text
    ids = [job["id"] for job in islice(client.list(), _SEARCHED)]
    return _only(text, ids, kind="job", lister="retort ls")


def find_sweep(client: Client, text: str) -> str:
    """Return the id of the one sweep that *text* abbreviates: a beginning (with or without ``swp_``) or an end of it.

    Raises:
        UserError: no sweep fits, or several do.

    """
    if re.fullmatch(r"swp_[0-9a-f]{32}", text):
        return text
    ids = [sweep["id"] for sweep in islice(client.list_sweeps(), _SEARCHED)]
    return _only(text, ids, kind="sweep", lister="retort sweeps")


def _only(text: str, ids: list[str], *, kind: str, lister: str) -> str:
    prefix = "job_" if kind == "job" else "swp_"
    fitting = [found for found in ids if found.startswith((text, prefix + text)) or found.endswith(text)]
    if len(fitting) == 1:
        return str(fitting[0])
    if not fitting:
        raise UserError(f"no {kind} {text!r}", hint=f"{lister} lists them", code=f"{kind}_not_found")
    raise UserError(f"{text!r} fits {len(fitting)} {kind}s", hint="give more of the id", code=f"{kind}_ambiguous")
