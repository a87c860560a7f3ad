"""Name the pages of what a command makes or waits for."""

from __future__ import annotations

import getpass
from urllib.parse import quote, urlencode, urlsplit

from retort.cli.options import note
from retort.client.client import Client
from retort.settings import Settings, ssh_connection


def job(job_id: str, part: str = "") -> str:
    """Return the path of a job's page, or of a *part* of it such as ``review``."""
    return f"/jobs/{job_id}{part and '/'}{part}"


def comparison(jobs: list[str]) -> str:
    """Return the path of the page on which jobs stand beside each other."""
    return f"/compare?{urlencode([('job', one) for one in jobs])}"


def sweep(sweep_id: str) -> str:
    """Return the path of a sweep's page."""
    return f"/compare?{urlencode({'sweep': sweep_id})}"


def named(kind: str, name: str) -> str:
    """Return the path of the page of a dataset or a model: of *kind* ``data`` or ``models``."""
    return f"/{kind}/{quote(name, safe='')}"


def webhook(webhook_id: str) -> str:
    """Return the path of a webhook's page."""
    return f"/settings/webhooks/{webhook_id}"


def address(client: Client, path: str) -> str:
    """Return the address of a page: as browsers reach the service, where the settings say so."""
    return f"{_other_name(client) or client.url}{path}"


def tell(client: Client, path: str, what: str = "page") -> None:
    """Note the address of a page, and how a browser gets there from another machine."""
    note(f"{what}: {address(client, path)}")
    tell_tunnel(client)


def tell_tunnel(client: Client) -> None:
    """Note how a browser reaches a service of this machine, for who has come to it by SSH."""
    parts, connection = urlsplit(client.url), ssh_connection()
    if _other_name(client) or not client.is_local or not connection:
        return
    port, (here, entrance) = parts.port or 80, connection[2:]
    through = "" if entrance == "22" else f"-p {entrance} "
    note(f"from your own machine first: ssh {through}-L {port}:{parts.hostname}:{port} {_user()}{here}")


def login_link(client: Client, path: str | None = None) -> str:
    """Return a link that logs in, once, and leads to the page."""
    return address(client, client.login_link(path).removeprefix(client.url))


def _other_name(client: Client) -> str:
    """Return the address that browsers take in place of the commands'; empty where it is the same."""
    settings = Settings()
    return settings.browser_url.rstrip("/") if client.url == settings.url.rstrip("/") else ""


def _user() -> str:
    try:
        return f"{getpass.getuser()}@"
    except (KeyError, OSError):
        return ""
