"""Find out who sends a request, by its key or the browser's cookie."""

from __future__ import annotations

import asyncio
import hmac
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

from retort import access
from retort.access import KEY_FILE, PUBLIC, Admission, Principal, Scope, Unauthorized
from retort.db import Database, DatabaseUnavailable, keys
from retort.db.keys import KnownKey
from retort.db.session import database_now
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.requests import cookie_parser
from starlette.types import Scope as ScopeMap

from retort_api.batching import Batcher

CACHE_S = 5.0
"""For so long a key is taken for valid without another look: what is revoked ends so much later at the latest."""
OUTAGE_S = 300.0
"""So long a key that was valid is taken for valid while the database cannot be asked."""
SESSION_COOKIE = "retort_session"
_MOST = 4096
_HINT = (
    "send Authorization: Bearer rtt_…; on the service's machine the command line finds its key by itself, elsewhere "
    "set RETORT_KEY; docs/keys.md says how keys are made"
)


class KeyRing:
    """Keys as the database knows them, remembered for a few seconds."""

    def __init__(self, database: Database, home: Path) -> None:
        self._database = database
        self._key_file = home / KEY_FILE
        self._known: OrderedDict[str, tuple[float, KnownKey | None]] = OrderedDict()
        self._lock = threading.Lock()
        self._look = Batcher(self._find)
        self._writing: set[asyncio.Task[None]] = set()

    async def admit(self, scope: ScopeMap, demanded: Scope | Admission) -> Principal | None:
        """Return who asks; None for strangers on a public route.

        Raises:
            Unauthorized: there is no valid key.
            Forbidden: the key lacks the scope.

        """
        secret, kind = _credentials(scope)
        if demanded is PUBLIC:
            return await self._guest(secret, kind)
        if secret is None:
            raise Unauthorized("this address needs a key, and the request carries none", hint=_HINT)
        known = await self._known_key(secret, kind)
        if known is None:
            raise Unauthorized("the key is not valid: unknown, expired or revoked", hint=_HINT, invalid=True)
        known.principal.demand(demanded)
        return known.principal

    def _without_database(self, digest: str, secret: str, kind: str) -> KnownKey:
        """Return whose key it is while the database is away, for those who look after the service.

        It is the key of this machine, which its operator alone can read, or one that was valid a while ago.

        Raises:
            DatabaseUnavailable: it is neither.

        """
        with self._lock:
            until, known = self._known.get(digest, (0.0, None))
        if known is not None and known.kind == kind and until > time.monotonic() - known.outlives_s(OUTAGE_S):
            return known
        own = access.read_key_file(self._key_file)
        if own is not None and kind == "key" and hmac.compare_digest(own, secret):
            return KnownKey(Principal.of_this_machine(), kind, None, stale=False)
        raise DatabaseUnavailable("keys cannot be looked up: the database is not available")

    async def _guest(self, secret: str | None, kind: str) -> Principal | None:
        """Return who asks where strangers may ask, too, and the database may be away."""
        if secret is None:
            return None
        try:
            known = await self._known_key(secret, kind)
        except DatabaseUnavailable:
            return None
        return None if known is None else known.principal

    async def _known_key(self, secret: str, kind: str) -> KnownKey | None:
        digest = access.digest_of(secret)
        found, known = self._remembered(digest)
        if not found:
            prefix = access.SESSION_PREFIX if kind == "session" else access.KEY_PREFIX
            if not access.is_secret(secret, prefix):
                return None
            try:
                known = await self._look(digest)
            except DatabaseUnavailable:
                return self._without_database(digest, secret, kind)
            self._remember(digest, known)
            if known is not None and known.stale:
                self._touch(known.principal.key_id)
        return known if known is not None and known.kind == kind else None

    def _remembered(self, digest: str) -> tuple[bool, KnownKey | None]:
        with self._lock:
            until, known = self._known.get(digest, (0.0, None))
            if until <= time.monotonic():
                return False, None
            self._known.move_to_end(digest)
            return True, known

    def _remember(self, digest: str, known: KnownKey | None) -> None:
        left_s = CACHE_S if known is None or known.left_s is None else min(CACHE_S, known.left_s)
        with self._lock:
            self._known[digest] = time.monotonic() + left_s, known
            self._known.move_to_end(digest)
            while len(self._known) > _MOST:
                self._known.popitem(last=False)

    async def close(self) -> None:
        """Wait until what is being written is written."""
        while self._writing:
            await asyncio.wait(self._writing)

    def forget(self) -> None:
        """Look every key up again: some have changed."""
        with self._lock:
            self._known.clear()

    def _find(self, digests: Sequence[str]) -> Sequence[KnownKey | None]:
        with self._database.autocommit_read() as session:
            found = keys.find(session, digests, now=database_now(session))
        return [found.get(digest) for digest in digests]

    def _touch(self, key_id: str) -> None:
        """Write the last use down, later: nobody waits for it, and it may fail."""
        task = asyncio.create_task(run_in_threadpool(self._write_use, key_id))
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)

    def _write_use(self, key_id: str) -> None:
        try:
            with self._database.begin() as session:
                keys.touch(session, [key_id], now=database_now(session))
        except DatabaseUnavailable:
            return  # the next look writes it


def _credentials(scope: ScopeMap) -> tuple[str | None, str]:
    """Return the secret that a request carries, and what it is: a key, or a browser's session."""
    headers = Headers(scope=scope)
    given = headers.get("authorization")
    if given is not None:
        scheme, _, secret = given.partition(" ")
        return (secret.strip() if scheme.lower() == "bearer" else ""), "key"
    cookie = cookie_parser(headers.get("cookie", "")).get(SESSION_COOKIE)
    return cookie, "session"
