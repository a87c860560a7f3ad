"""Roles, scopes and principals, and the secrets by which clients are known."""

from __future__ import annotations

import hashlib
import re
import secrets
import zlib
from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from retort.errors import UserError

DEFAULT_PROJECT = "default"
DEFAULT_OWNER = "default"
NAME = r"[A-Za-z0-9][A-Za-z0-9._@-]{0,62}"
"""What owners and projects may be called."""


KEY_FILE = "operator.key"
"""In the home folder of a service on one machine: the key of whoever may read it."""


class Scope(StrEnum):
    """Permission of a key."""

    JOBS_READ = "jobs:read"
    JOBS_WRITE = "jobs:write"
    DATA_READ = "data:read"
    DATA_WRITE = "data:write"
    MODELS_READ = "models:read"
    MODELS_WRITE = "models:write"
    SERVICE_READ = "service:read"
    SERVICE_OPERATE = "service:operate"


class Admission(StrEnum):
    """Admission to a route without a scope."""

    PUBLIC = "public"
    ANY_KEY = "any_key"


PUBLIC = Admission.PUBLIC
"""Everybody, also strangers."""
ANY_KEY = Admission.ANY_KEY
"""Whoever has a valid key, whatever its scopes are."""


class ClientRole(StrEnum):
    """Role of a client, with default scopes."""

    READER = "reader"
    SUBMITTER = "submitter"
    OPERATOR = "operator"


_READING = frozenset({Scope.JOBS_READ, Scope.DATA_READ, Scope.MODELS_READ})
_WRITING = frozenset({Scope.JOBS_WRITE, Scope.DATA_WRITE, Scope.MODELS_WRITE})
SCOPES: dict[ClientRole, frozenset[Scope]] = {
    ClientRole.READER: _READING,
    ClientRole.SUBMITTER: _READING | _WRITING,
    ClientRole.OPERATOR: frozenset(Scope),
}
"""Scopes of each role, from which a key may leave some out."""


class Unauthorized(UserError):
    """The request carries no valid key."""

    code = "unauthorized"

    def __init__(self, message: str, *, hint: str | None = None, invalid: bool = False) -> None:
        super().__init__(message, hint=hint)
        error = ', error="invalid_token"' if invalid else ""
        self.headers = {"WWW-Authenticate": f'Bearer realm="retort"{error}'}


class Forbidden(UserError):
    """The key is valid, and does not allow the request."""

    code = "forbidden"


@dataclass(frozen=True, slots=True)
class Principal:
    """Somebody who is known to the service, as one request sees them."""

    owner: str
    project: str
    """Where what they make belongs."""
    role: ClientRole
    scopes: frozenset[Scope]
    key_id: str
    expires_with_browser: bool = False
    """Whether it is the session of a browser."""
    from_login: bool = False
    """Whether logging in made it, so that logging out ends it."""

    @classmethod
    def of_this_machine(cls) -> Principal:
        """Return the operator of the key file in the home folder."""
        role = ClientRole.OPERATOR
        return cls(DEFAULT_OWNER, DEFAULT_PROJECT, role, SCOPES[role], KEY_FILE)

    @property
    def reach(self) -> str | None:
        """Project whose rows they may see; None for operators, who see all."""
        return None if self.is_operator else self.project

    @property
    def is_operator(self) -> bool:
        """Whether they act in every project, and for other owners."""
        return self.role is ClientRole.OPERATOR

    def demand(self, scope: Scope | Admission) -> None:
        """Refuse what the key does not allow.

        Raises:
            Forbidden: the scope is missing.

        """
        if isinstance(scope, Scope) and scope not in self.scopes:
            roles = " or ".join(role for role in ClientRole if scope in SCOPES[role])
            hint = f"use a key of the role {roles} whose scopes include it"
            raise Forbidden(f"this key lacks the scope {scope}", hint=hint)


KEY_PREFIX, SESSION_PREFIX, LINK_PREFIX = "rtt_", "rts_", "rtl_"
"""Beginnings of API keys, of browser sessions, and of one-time links."""
_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_RANDOM_BYTES = 32
_RANDOM_CHARACTERS = 43  # 62**43 > 2**256
_CHECKSUM_CHARACTERS = 6  # 62**6 > 2**32
_SHAPE = re.compile(rf"rt[tsl]_[0-9A-Za-z]{{{_RANDOM_CHARACTERS + _CHECKSUM_CHARACTERS}}}")


def new_secret(prefix: str = KEY_PREFIX) -> str:
    """Make a secret of 256 random bits, with its prefix and checksum."""
    return spell_secret(secrets.token_bytes(_RANDOM_BYTES), prefix)


def spell_secret(number: bytes, prefix: str = KEY_PREFIX) -> str:
    """Return 256 bits as a secret with its prefix and checksum."""
    random = _base62(int.from_bytes(number), _RANDOM_CHARACTERS)
    return prefix + random + _checksum(prefix + random)


def is_secret(text: str, prefix: str = KEY_PREFIX) -> bool:
    """Return True if *text* has prefix, length and checksum of a secret.

    What was mistyped or made up is so refused before anything is looked up.
    """
    shaped = text.startswith(prefix) and _SHAPE.fullmatch(text) is not None
    return shaped and _checksum(text[:-_CHECKSUM_CHARACTERS]) == text[-_CHECKSUM_CHARACTERS:]


def read_key_file(path: Path) -> str | None:
    """Return the key in a file, or None."""
    try:
        text = path.read_text(encoding="ascii").strip()
    except (FileNotFoundError, NotADirectoryError, PermissionError, UnicodeDecodeError):
        return None
    return text if is_secret(text) else None


def digest_of(secret: str) -> str:
    """Return what is kept of a secret: its SHA-256.

    A slow hash is for passwords; nobody tries 256 random bits.
    """
    return hashlib.sha256(secret.encode()).hexdigest()


def shown_prefix(secret: str) -> str:
    """Return the beginning of a secret, by which people recognise keys."""
    return secret[:12]


def scopes_of(role: ClientRole, chosen: Collection[Scope] | None) -> frozenset[Scope]:
    """Return the scopes of a key: those *chosen*, or all of its role's.

    Raises:
        UserError: one is beyond the role, or there are none.

    """
    allowed = SCOPES[role]
    if chosen is None:
        return allowed
    if not chosen:
        raise UserError("a key without any scope opens nothing", hint="leave scopes out for all of the role's")
    if beyond := sorted(set(chosen) - allowed):
        hint = f"the scopes of a {role} are {', '.join(sorted(allowed))}"
        raise UserError(f"the role {role} has no scope {', '.join(beyond)}", hint=hint, code="bad_parameter")
    return frozenset(chosen)


def _checksum(text: str) -> str:
    return _base62(zlib.crc32(text.encode()), _CHECKSUM_CHARACTERS)


def _base62(number: int, length: int) -> str:
    digits = []
    for _ in range(length):
        number, digit = divmod(number, len(_DIGITS))
        digits.append(_DIGITS[digit])
    assert number == 0, "it fits"
    return "".join(reversed(digits))
