"""``retort open``: the page of a job in a browser, logged in."""

from __future__ import annotations

import sys
import webbrowser
from typing import Annotated

import typer

from retort.cli import completion, pages
from retort.cli.options import JOB_HELP, AsJson, Url, connect, emit, find, note, say
from retort.client.client import Client
from retort.client.transport import ClientError

_OF_TERMINALS = frozenset({"www-browser", "links", "elinks", "lynx", "w3m"})
"""Browsers in which the pages would cover the terminal."""
Link = Annotated[bool, typer.Option("--link", help="Print a link that logs in, once, and start no browser.")]


def open_page(
    job_id: Annotated[
        str | None,
        typer.Argument(metavar="[JOB]", help=f"{JOB_HELP} None: the list of jobs.", autocompletion=completion.jobs),
    ] = None,
    link: Link = False,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Open a job's page in a browser, logged in by a one-time link; print the address where there is no browser."""
    with connect(url) as client:
        path = "/" if job_id is None else f"/jobs/{find(client, job_id)}"
        browser = None if link or as_json or not sys.stdout.isatty() else _browser()
        wanted = link or browser is not None or (sys.stdout.isatty() and not as_json)
        login = _login_link(client, path) if wanted else None
        address = pages.address(client, path)
        if wanted and browser is None:
            pages.tell_tunnel(client)
    opened = browser is not None and browser.open(login or address)
    if as_json:
        emit({"url": address, "link": login})
    elif opened or login is None:
        say(address)
    else:
        say(login)
        note("open it in a browser, once, within ten minutes")


def _login_link(client: Client, path: str) -> str | None:
    """Return a link that logs in and leads to *path*; None where the service gives none."""
    try:
        return pages.login_link(client, path)
    except ClientError as error:
        note(f"the page asks for a login: {error.message}")
        return None


def _browser() -> webbrowser.BaseBrowser | None:
    """Return the browser of this desktop, or what BROWSER names; None where there is none."""
    try:
        found = webbrowser.get()
    except webbrowser.Error:
        return None
    return None if getattr(found, "name", "") in _OF_TERMINALS else found
