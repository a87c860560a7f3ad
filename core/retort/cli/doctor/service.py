"""Check the places and services that settings name: folders, disk, ports, database, broker."""

from __future__ import annotations

import os
import shutil
import socket
import stat
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from retort import __version__
from retort.cli.doctor.finding import DoctorFinding, failed, ok, warning
from retort.client.client import Client
from retort.client.transport import ClientError
from retort.errors import RetortError
from retort.redaction import redact
from retort.settings import Settings

_TIMEOUT_S = 3.0
_COMFORT_BYTES = 10 << 30
"""Below, a training with its states, and its forms, may run out of room."""
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def home(settings: Settings) -> DoctorFinding:
    """Return whether the home folder can be used, and by nobody else."""
    folder = settings.home
    if not folder.exists():
        parent = next(one for one in (folder, *folder.absolute().parents) if one.exists())
        if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
            fix = f"make {folder} and give it to this user, or name another: RETORT_HOME"
            return failed("home", f"{folder} is not there, and cannot be made in {parent}", fix)
        return ok("home", f"{folder} is made at the first start")
    if not folder.is_dir() or not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        what = "may not be written by this user" if folder.is_dir() else "is no folder"
        return failed("home", f"{folder} {what}", "give it to this user (chown), or name another: RETORT_HOME")
    if folder.stat().st_mode & _OTHERS:
        fix = f"chmod 700 {folder}; retort up does so by itself"
        return warning("home", f"others may look into {folder}", fix)
    return ok("home", f"{folder}, for this user alone")


def disk(settings: Settings) -> Iterator[DoctorFinding]:
    """Yield how much room there is on each disk that is written."""
    wanted = [settings.home, settings.work_dir, settings.model_dir, settings.dataset_dir]
    if urlsplit(settings.store_url).scheme == "file":
        wanted.append(Path(urlsplit(settings.store_url).path))
    seen: set[int] = set()
    for folder in (one for one in wanted if one is not None):
        there = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
        if there.stat().st_dev in seen:
            continue
        seen.add(there.stat().st_dev)
        yield _room(there, shutil.disk_usage(there).free, settings.min_free_bytes)


def _room(place: Path, free: int, least: int) -> DoctorFinding:
    detail = f"{free / 1e9:.1f} GB free for {place}"
    fix = "make room (retort prune), or name another disk: RETORT_HOME"
    if free < least:
        return failed("disk", f"{detail}; below {least / 1e9:.1f} GB no job is taken (RETORT_MIN_FREE_BYTES)", fix)
    return ok("disk", detail) if free >= _COMFORT_BYTES else warning("disk", detail, fix)


def database(settings: Settings) -> DoctorFinding:
    """Return whether the database answers, and whether its tables are up to date."""
    if find_spec("sqlalchemy") is None:
        return ok("database", "not used by this install")
    url = redact(settings.database_url)
    parts = urlsplit(settings.database_url)
    if parts.scheme.startswith("sqlite") and not Path(parts.path.removeprefix("/") or "/").exists():
        return ok("database", f"{url} is made at the first start")
    from retort.db import Database, migrate

    try:
        opened = Database(settings.database_url)
        try:
            current, head = migrate.current(opened), migrate.head()
        finally:
            opened.close()
    except RetortError as error:
        return failed("database", error.message, error.hint or "see that it runs: RETORT_DATABASE_URL")
    except Exception as error:  # noqa: BLE001 - whatever is wrong is the answer
        told = redact(f"{type(error).__name__}: {error}".partition("\n")[0])
        return failed("database", f"{url}: {told}", "see that it runs and takes this user: RETORT_DATABASE_URL")
    if current != head:
        fix = "retort up brings it up to date; or: python -m retort.db upgrade"
        return warning("database", f"the tables of {url} are at {current}, not at {head}", fix)
    return ok("database", f"{url} answers, and its tables are up to date")


def broker(settings: Settings) -> DoctorFinding:
    """Return whether something answers at the broker's address."""
    parts = urlsplit(settings.broker_url)
    if not parts.hostname:
        return ok("broker", "a file in the home folder")
    port = parts.port or 6379
    try:
        socket.create_connection((parts.hostname, port), _TIMEOUT_S).close()
    except OSError as error:
        fix = "see that it runs: RETORT_BROKER_URL; without it jobs start by polling"
        return warning("broker", f"nothing answers at {parts.hostname}:{port}: {error}", fix)
    return ok("broker", f"{parts.hostname}:{port} answers")


def port(settings: Settings, url: str) -> DoctorFinding:
    """Return whether a service can listen where the settings say, or one does."""
    parts = urlsplit(url)
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            reason = error.strerror or str(error)
        else:
            return ok("port", f"{settings.host}:{settings.port} is free")
    if parts.port == settings.port and _version(url) is not None:
        return ok("port", f"a service listens on {settings.host}:{settings.port}")
    fix = "stop the other program, or name another port: retort up --port, RETORT_PORT"
    return warning("port", f"retort up cannot listen on {settings.host}:{settings.port}: {reason}", fix)


def _version(url: str) -> str | None:
    """Return the version of the service at *url*, or "" where it does not say; None where none answers."""
    try:
        with Client(url, timeout_s=_TIMEOUT_S, patience_s=0) as client:
            return client.alive()["version"] or ""
    except (RetortError, ValueError, KeyError, TypeError):
        return None


def service(url: str, key: str | None, *, named: bool) -> Iterator[DoctorFinding]:
    """Yield whether a service answers at *url*, of which version, how it stands, and who we are there.

    That none answers is a failure only where somebody has *named* it.
    """
    try:
        with Client(url, key=key, timeout_s=_TIMEOUT_S, patience_s=0) as client:
            yield _compared(url, client.alive()["version"])
            yield from _standing(client)
    except ClientError as error:
        if error.status is None and not named:
            yield ok("service", f"none answers at {url}; retort run needs none, retort up starts one")
        else:
            fix = error.hint or "see that it runs, and that --url or RETORT_URL is its address"
            yield failed("service", error.message, fix)
    except RetortError as error:
        yield failed("service", error.message, error.hint or "see --url, --key and RETORT_KEY")


def _compared(url: str, version: str | None) -> DoctorFinding:
    if version is None:
        return ok("service", f"{url} answers; it tells its version to keys alone")
    if version != __version__:
        fix = "install the same version here as there"
        return warning("service", f"{url} is Retort {version}, and this is {__version__}", fix)
    return ok("service", f"{url} answers, Retort {version}")


def _standing(client: Client) -> Iterator[DoctorFinding]:
    """Yield who we are at the service, and which of its own checks fail."""
    caller = client.whoami()
    yield ok("key", f"{caller['role']} {caller['owner']} in the project {caller['project']}")
    try:
        checks = client.ready()["checks"]
    except ClientError as error:
        checks = error.problem.get("checks") or {}
        if not checks:
            yield failed("service: readiness", error.message, error.hint or "its log says why")
    for name, check in checks.items():
        if check["status"] != "ok":
            told = check.get("detail") or "it fails; keys with the scope service:read are told why"
            yield warning(f"service: {name}", told, "docs/troubleshooting.md begins with what you see")
