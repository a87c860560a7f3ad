"""Take passwords and tokens out of addresses before anybody reads them."""

from __future__ import annotations

import re

HIDDEN = "***"
# Up to the last @ of a word: passwords hold characters that should have been escaped, such as / and @ itself.
_USER = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*:/{1,3})(?P<user>[^\s\"'<>`]+)@")
_PARAMETER = re.compile(
    r"(?P<name>[?&;#][^=&;\s\"'<>]*(?:pass|pwd|secret|token|key|sig|credential|auth)[^=&;\s\"'<>]*=)[^&;#\s\"'<>]+",
    re.IGNORECASE,
)
_WEB = frozenset({"http", "https"})


def redact(text: str) -> str:
    """Return *text* with the passwords and tokens of all addresses in it hidden."""
    if "@" in text and ":/" in text:
        text = _USER.sub(_without_password, text)
    return _PARAMETER.sub(rf"\g<name>{HIDDEN}", text) if "=" in text else text


def _without_password(found: re.Match[str]) -> str:
    """Keep a user's name; what stands alone before an @ is a token on the web, and a name elsewhere."""
    user, colon, _ = found["user"].partition(":")
    if colon:
        return f"{found['scheme']}{user}:{HIDDEN}@"
    hidden = found["scheme"].partition(":")[0].lower() in _WEB or "/" in user
    return f"{found['scheme']}{HIDDEN}@" if hidden else found[0]
