"""Find the API key that goes with the address of a service."""

from __future__ import annotations

import ipaddress
import json
import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from platformdirs import user_config_path

from retort import access
from retort.access import KEY_FILE
from retort.errors import UserError
from retort.settings import Settings


def headers(url: str, key: str | None = None) -> dict[str, str]:
    """Return the authorization headers for *url*; none without a key.

    Raises:
        UserError: what was given as a key is none.

    """
    found = key or find_key(url)
    if found is None:
        return {}
    if not access.is_secret(found):
        hint = "a key begins with rtt_ and ends with a checksum: copy all of it (--key, RETORT_KEY)"
        raise UserError("the API key is not whole, or no API key of Retort", hint=hint, code="bad_key")
    return {"Authorization": f"Bearer {found}"}


def find_key(url: str) -> str | None:
    """Return the configured key, that of a login, or the home folder's.

    The last is for a service on this machine, and never leaves it; that of a login goes to no other address.
    """
    settings = Settings()
    if configured := settings.key.get_secret_value():
        return configured
    if (logged_in := read_login(url)) is not None and not _has_ended(logged_in):
        return str(logged_in["secret"])
    host = urlsplit(url).hostname or ""
    return access.read_key_file(settings.home / KEY_FILE) if is_loopback(host) or host == settings.host else None


def is_loopback(host: str) -> bool:
    """Return True if *host* always means this machine."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    return address.is_loopback or address.is_unspecified


def keep_login(url: str, key: Mapping[str, Any]) -> None:
    """Store the key of a login at *url*, readable by its owner only."""
    path = _login_path(url)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    part = path.with_name(f".{secrets.token_hex(8)}")
    kept = {name: key[name] for name in ("id", "owner", "project", "role", "expires_at", "secret")}
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(kept, file)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def read_login(url: str) -> dict[str, Any] | None:
    """Return the key that a login at *url* gave, or None."""
    try:
        found = json.loads(_login_path(url).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    whole = isinstance(found, dict) and isinstance(found.get("secret"), str) and access.is_secret(found["secret"])
    return found if whole else None


def forget_login(url: str) -> None:
    """Remove the key of a login at *url*."""
    with suppress(FileNotFoundError):
        _login_path(url).unlink()


def _login_path(url: str) -> Path:
    """Return where the key of one scheme, host and port is kept."""
    parts = urlsplit(url)
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme, 0)
    return user_config_path("retort") / "logins" / f"{parts.scheme}_{quote(parts.hostname or '', safe='')}_{port}.json"


def _has_ended(login: dict[str, Any]) -> bool:
    try:
        return datetime.fromisoformat(str(login.get("expires_at"))) <= datetime.now(UTC)
    except (ValueError, TypeError):
        return True
