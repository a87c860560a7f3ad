"""``retort keys``, ``projects``, ``whoami``, ``login`` and ``logout``: who may do what."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import typer

from retort.access import DEFAULT_OWNER, DEFAULT_PROJECT, ClientRole, Scope
from retort.cli.options import AsJson, Url, connect, emit, note, say
from retort.client import credentials
from retort.errors import UserError
from retort.settings import Settings, is_confidential

if TYPE_CHECKING:
    from retort.client.client import Client
    from retort.db import Database, Session
    from retort.db.audit import Act

app = typer.Typer(help="Make, list, replace and revoke API keys.", no_args_is_help=True)
projects = typer.Typer(help="List and make projects.", no_args_is_help=True)

Local = Annotated[
    bool, typer.Option("--local", help="Write to the database of the settings, without the API: for the first key.")
]
KeyArgument = Annotated[str, typer.Argument(metavar="KEY", help="A key's id, as retort keys list shows it.")]
_NOT_VALID = 401
"""Status for a key that has ended already."""
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


@app.command()
def create(  # noqa: PLR0917 - typer gives each by name
    name: Annotated[str, typer.Argument(metavar="NAME", help="For people, to tell keys apart.")],
    role: Annotated[ClientRole, typer.Option(help="What its holder is.")] = ClientRole.SUBMITTER,
    project: Annotated[str | None, typer.Option(help="Whose jobs, data and models.", show_default="yours")] = None,
    owner: Annotated[str | None, typer.Option(help="To whom its jobs belong.", show_default="you")] = None,
    scope: Annotated[
        list[Scope] | None, typer.Option(help="Only this scope of the role's. May be repeated.", show_default="all")
    ] = None,
    expires: Annotated[str | None, typer.Option(metavar="TIME", help="End after 90d, 12h, 30m.")] = None,
    local: Local = False,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Make a key, and print its secret: it is shown this once."""
    wanted: dict[str, Any] = {
        "name": name, "role": role.value, "project": project, "owner": owner,
        "scopes": [one.value for one in scope] if scope else None,
        "expires_in_s": None if expires is None else _seconds(expires),
    }  # fmt: skip
    if local:
        made = _create_locally(wanted)
    else:
        with connect(url) as client:
            made = {**client.create_key(**wanted)}
    _show_secret(made, as_json=as_json)


@app.command("list")
def list_keys(
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 100,
    local: Local = False,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """List keys, newest first, also those that have ended; secrets are kept nowhere."""
    if local:
        from retort.db import keys

        with _database() as database, database.read() as session:
            found = [_plain(row) for row in keys.page(session, limit=limit)]
    else:
        with connect(url) as client:
            found = [{**one} for one in islice(client.keys(), limit)]
    _show(found, as_json=as_json)


@app.command()
def rotate(
    key: Annotated[str | None, typer.Argument(metavar="[KEY]", help="A key's id; left out: the one in use.")] = None,
    grace: Annotated[str, typer.Option(metavar="TIME", help="The old one works for so long.")] = "1d",
    local: Local = False,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Replace a key by a new one with the same rights, and print its secret."""
    if local:
        if key is None:
            raise UserError("name the key", hint="retort keys list --local shows them", code="usage")
        made = _rotate_locally(key, _seconds(grace))
    else:
        with connect(url) as client:
            made = {**client.rotate_key(key, grace_s=_seconds(grace))}
    _show_secret(made, as_json=as_json)


@app.command()
def revoke(key: KeyArgument, local: Local = False, url: Url = None, as_json: AsJson = False) -> None:
    """End a key, and the browsers that logged in with it."""
    if local:
        from retort.db import keys
        from retort.db.session import database_now

        with _changing("keys revoke") as (session, act):
            act.target = key
            ended = _plain(keys.revoke(session, key, now=database_now(session)))
    else:
        with connect(url) as client:
            ended = {**client.revoke_key(key)}
    emit(ended) if as_json else say(f"{ended['id']} is revoked; every part of the service knows within five seconds")


@projects.command("list")
def list_projects(url: Url = None, as_json: AsJson = False) -> None:
    """List the projects by name."""
    with connect(url) as client:
        found = client.projects()
    emit(list(found)) if as_json else say("\n".join(one["name"] for one in found))


@projects.command("create")
def create_project(
    name: Annotated[str, typer.Argument(metavar="NAME")], url: Url = None, as_json: AsJson = False
) -> None:  # fmt: skip
    """Make a project: its people share jobs, data and models, and see nothing of others."""
    with connect(url) as client:
        made = client.create_project(name)
    emit(made) if as_json else say(made["name"])


def whoami(url: Url = None, as_json: AsJson = False) -> None:
    """Say to whom the key in use belongs, and what it allows."""
    with connect(url) as client:
        found = client.whoami()
    if as_json:
        emit(found)
        return
    say(f"{found['owner']} in the project {found['project']}, {found['role']}: {', '.join(found['scopes'])}")


def login(
    browser: Annotated[
        bool, typer.Option("--browser", help="Log this machine's browser in as you, by a link.")
    ] = False,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Log in at the service's provider, by a code; without one, print a link that logs a browser in as you."""
    with connect(url) as client:
        if not browser and _has_device_codes(client):
            _log_in(client, as_json=as_json)
            return
        link = client.login_link()
    emit({"url": link}) if as_json else say(link)
    if browser:
        import webbrowser

        if not webbrowser.open(link):
            note("no browser could be started here: open the link yourself")


def logout(url: Url = None, as_json: AsJson = False) -> None:
    """End the key that retort login got here, and forget it."""
    from retort.client.client import Client
    from retort.client.transport import ClientError

    address = (url or Settings().url).rstrip("/")
    found = credentials.read_login(address)
    if found is None:
        raise UserError(f"you are not logged in at {address}", hint="retort login does it", code="not_logged_in")
    credentials.forget_login(address)
    try:
        with Client(address, key=found["secret"]) as client:
            client.log_out()
    except ClientError as error:
        if error.status != _NOT_VALID:
            hint = f"an operator can revoke it: retort keys revoke {found.get('id')}; it ends {found.get('expires_at')}"
            told = f"the key is forgotten here, and the service could not be told: {error.message}"
            raise UserError(told, hint=hint, code="not_revoked") from error
    emit({"url": address, "key": found.get("id")}) if as_json else say(f"logged out of {address}")


def _has_device_codes(client: Client) -> bool:
    from retort.client.transport import ClientError

    try:
        return client.login_ways()["device"] is not None
    except ClientError as error:
        if error.status is None:
            raise
        return False  # a service of before there were any


def _log_in(client: Client, *, as_json: bool) -> None:
    from retort.client import device_login
    from retort.client.client import Client
    from retort.client.transport import ClientError

    def show(login: Mapping[str, Any]) -> None:
        note(f"open {login['verification_uri']} in any browser, and enter the code {login['user_code']}")
        if login["verification_uri_complete"]:
            note(f"or open {login['verification_uri_complete']}, and compare the code")

    made = device_login.log_in(client, show, name=_name_of_machine())
    before = credentials.read_login(client.url)
    credentials.keep_login(client.url, made)
    if before is not None:
        with suppress(ClientError), Client(client.url, key=before["secret"]) as former:
            former.log_out()  # it would end by itself
    told = {name: made[name] for name in ("id", "owner", "project", "role", "expires_at")}
    ends = f"until {made['expires_at']}"
    emit({"url": client.url, **told}) if as_json else say(
        f"logged in at {client.url} as {made['owner']}, {made['role']} in the project {made['project']}, {ends}"
    )
    if Settings().key.get_secret_value():
        note("RETORT_KEY is set, and is used before this")
    if not is_confidential(client.url):
        note("the connection is not encrypted: whoever is between can take the key; use https")


def _name_of_machine() -> str:
    """Return what the key of a login is called: where it is kept."""
    return re.sub(r"[^A-Za-z0-9 ._@-]", "-", f"login on {platform.node()}")[:63]


def _seconds(text: str) -> float:
    """Read a length of time such as 90d or 12h."""
    found = re.fullmatch(r"(\d{1,6})([smhd])", text.strip())
    if found is None:
        raise UserError(f"{text!r} is no length of time", hint="such as 90d, 12h, 30m or 60s", code="usage")
    return float(int(found[1]) * _UNITS_S[found[2]])


@contextmanager
def _database() -> Iterator[Database]:
    """Open the database of the settings, as an operator on its machine may."""
    from retort.db import Database
    from retort.files import keep_private

    keep_private()
    database = Database(Settings().database_url)
    try:
        yield database
    finally:
        database.close()


@contextmanager
def _changing(command: str) -> Iterator[tuple[Session, Act]]:
    """Open a write transaction that the audit log gets an entry of, under the name of this machine's user."""
    import os
    import pwd

    from retort.db import audit

    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        user = str(os.getuid())
    act = audit.Act(project=DEFAULT_PROJECT, owner=user, key_id="", action=f"retort {command} --local", address="local")
    with _database() as database, audit.acting(act), database.begin() as session:
        yield session, act


def _create_locally(wanted: Mapping[str, Any]) -> dict[str, Any]:
    from retort.db import keys
    from retort.db.session import database_now

    project = wanted["project"] or DEFAULT_PROJECT
    with _changing("keys create") as (session, act):
        now = database_now(session)
        keys.create_project(session, project, now=now)
        scopes = None if wanted["scopes"] is None else frozenset(Scope(one) for one in wanted["scopes"])
        ends = None if wanted["expires_in_s"] is None else now + wanted["expires_in_s"]
        made = keys.NewKey(
            name=wanted["name"], role=ClientRole(wanted["role"]), project=project,
            owner=wanted["owner"] or DEFAULT_OWNER, scopes=scopes, expires_at=ends,
        )  # fmt: skip
        row, secret = keys.create(session, made, now=now)
        act.target = row.id
        return {**_plain(row), "secret": secret}


def _rotate_locally(key_id: str, grace_s: float) -> dict[str, Any]:
    from retort.db import keys
    from retort.db.session import database_now

    with _changing("keys rotate") as (session, act):
        act.target = key_id
        row, secret = keys.rotate(session, key_id, now=database_now(session), grace_s=grace_s)
        return {**_plain(row), "secret": secret}


def _plain(row: Any) -> dict[str, Any]:
    """Return a key as the API shows it."""
    from datetime import UTC, datetime

    times = {"created_at", "expires_at", "revoked_at", "last_used_at"}
    names = ("id", "name", "prefix", "role", "scopes", "project", "owner", "created_by", *sorted(times))
    found = {name: getattr(row, name) for name in names}
    for name in times:
        at = found[name]
        found[name] = None if at is None else datetime.fromtimestamp(at, UTC).isoformat()
    return found


def _show_secret(made: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        emit(dict(made))
        return
    say(made["secret"])
    ends = f", until {made['expires_at']}" if made["expires_at"] else ""
    note(
        f"{made['id']} ({made['name']}): {made['role']} {made['owner']} in the project {made['project']}{ends}. "
        "Keep it: it is not shown again."
    )


def _show(found: Iterable[Mapping[str, Any]], *, as_json: bool) -> None:
    if as_json:
        emit([dict(one) for one in found])
        return
    from retort.cli import render

    column = render.Column
    table = render.FittedTable(
        "id", "name", column("begins", rank=4), "role", column("owner", rank=1), column("project", rank=2),
        column("last used", rank=3), column("ends", rank=1),
    )  # fmt: skip
    for one in found:
        ends = "revoked" if one["revoked_at"] else one["expires_at"] and render.clock(one["expires_at"], "%Y-%m-%d")
        used = one["last_used_at"] and render.clock(one["last_used_at"], "%Y-%m-%d %H:%M")
        table.add_row(
            one["id"], one["name"], one["prefix"], one["role"], one["owner"], one["project"], used or "never",
            ends or "never",
        )  # fmt: skip
    render.console().print(table)
