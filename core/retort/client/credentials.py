"""Find the API key that goes with the address of a service."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

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
    """Return the configured key, or the one in the home folder.

    The latter is for a service on this machine, and never leaves it.
    """
    settings = Settings()
    if configured := settings.key.get_secret_value():
        return configured
    host = urlsplit(url).hostname or ""
    return access.read_key_file(settings.home / KEY_FILE) if is_loopback(host) or host == settings.host else None


def is_loopback(host: str) -> bool:
    """Return True if *host* always means this machine."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    return address.is_loopback or address.is_unspecified
