"""Sign addresses of downloads that work without a key until they expire."""

from __future__ import annotations

import hashlib
import os
import secrets
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from itsdangerous import BadData, URLSafeSerializer, URLSafeTimedSerializer
from retort.errors import UserError

SECRET_FILE = "link-secret"  # noqa: S105 - its name
"""In the home folder; made when the first link is, and readable by its owner alone."""
_LENGTH = 64
_SALT = "retort.download"


class LinkInvalid(UserError):
    """The address was not signed with the present secret."""

    code = "link_invalid"


class LinkExpired(UserError):
    """The address was valid until a time that has passed."""

    code = "link_expired"


@dataclass(frozen=True, slots=True)
class Link:
    """Right to read one file until a time."""

    artifact_id: str
    sha256: str
    expires_at: int


class LinkSigner:
    """Signer of download addresses.

    Args:
        home: folder of the secret.
        shared: the secret of several servers; empty takes the one in *home*.

    """

    def __init__(self, home: Path, shared: str = "") -> None:
        self._path = home / SECRET_FILE
        self._shared = shared

    def sign(self, link: Link) -> str:
        """Return the token of *link*."""
        token: str | bytes = self._serializer().dumps([link.artifact_id, link.sha256, link.expires_at])
        return token if isinstance(token, str) else token.decode()

    def read(self, token: str, *, now: float) -> Link:
        """Return what *token* allows.

        Raises:
            LinkInvalid: it was not signed with the present secret.
            LinkExpired: its time has passed.

        """
        try:
            artifact_id, sha256, expires_at = self._serializer().loads(token)
        except (BadData, TypeError, ValueError) as error:
            raise LinkInvalid("this download address is not valid", hint="ask for a new one") from error
        if expires_at <= now:
            raise LinkExpired("this download address has expired", hint="ask for a new one")
        return Link(artifact_id, sha256, expires_at)

    def stamper(self, purpose: str) -> URLSafeTimedSerializer:
        """Return a signer of values that expire, valid for one *purpose*."""
        return URLSafeTimedSerializer(self._secret(), salt=purpose, signer_kwargs={"digest_method": hashlib.sha256})

    def rotate(self) -> None:
        """Make a new secret: no address that was signed before is valid any more."""
        self._write(replace=True)

    def _serializer(self) -> URLSafeSerializer:
        return URLSafeSerializer(self._secret(), salt=_SALT, signer_kwargs={"digest_method": hashlib.sha256})

    def _secret(self) -> str:
        """Read the secret each time: another process may have rotated it."""
        if self._shared:
            return self._shared
        with suppress(FileNotFoundError):
            return self._path.read_text(encoding="ascii")
        self._write(replace=False)
        return self._path.read_text(encoding="ascii")

    def _write(self, *, replace: bool) -> None:
        """Write a secret that appears whole; of several processes that make the first one, one wins."""
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        part = self._path.with_name(f".{SECRET_FILE}.{secrets.token_hex(8)}")
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(secrets.token_hex(_LENGTH))
            if replace:
                part.replace(self._path)
            else:
                with suppress(FileExistsError):
                    os.link(part, self._path)
        finally:
            part.unlink(missing_ok=True)
