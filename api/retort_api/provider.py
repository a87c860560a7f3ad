"""Speak to the OpenID provider: discovery, keys, codes, device codes."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from urllib.parse import urlencode

import httpx2 as httpx
import structlog
from authlib.oauth2.auth import ClientAuth
from authlib.oauth2.rfc6749.parameters import prepare_grant_uri, prepare_token_request
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from joserfc.jwk import Key
from retort import __version__
from retort.addresses import AddressError, resolve_public
from retort.errors import FetchError, TransientError, UserError
from retort.settings import Settings, is_confidential

from retort_api import id_tokens
from retort_api.id_tokens import ALGORITHMS, Expected, LoginRefused

_PATIENCE_S = 8.0
"""For one answer, from resolving the name to the last byte."""
_AT_A_TIME = 8
_KEEP_S = 3600.0
"""What the provider says of itself, and its keys, are asked for so often."""
_PAUSE_S = 2.0
"""After an answer that did not come."""
_AGAIN_S = 30.0
"""Keys are asked for no more often than this, whatever tokens name."""
_LARGEST = 1 << 20
_EVERYWHERE = (ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0"))
"""The operator names the provider, which may be in a network of their own."""
_DEVICE = "urn:ietf:params:oauth:grant-type:device_code"
_WAITING = frozenset({"authorization_pending", "slow_down"})
_OURS = frozenset({"invalid_client", "unauthorized_client", "unsupported_grant_type", "invalid_scope"})
"""Answers that the operator, and nobody who logs in, can do something about."""
_HEADERS = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": f"retort/{__version__}"}
_LATER = "try again in a while; keys, and browsers that are logged in, work on"
_log = structlog.get_logger("retort.api")


class ProviderAway(TransientError):
    """The provider cannot be asked, or does not answer as one does."""

    code = "login_unavailable"


class LoginExpired(UserError):
    """A login was not finished in time, or has been used."""

    code = "login_expired"


@dataclass(frozen=True, slots=True)
class BrowserLogin:
    """A login that a browser has begun."""

    state: str
    nonce: str
    verifier: str
    """Of PKCE."""
    next: str
    """Where to go afterwards."""


@dataclass(frozen=True, slots=True)
class Registration:
    """A client that the provider knows."""

    client_id: str
    secret: str

    def sign(self, url: str, form: str, methods: tuple[str, ...]) -> tuple[dict[str, str], str]:
        """Return headers and body of an authenticated request."""
        basic = "client_secret_basic" in methods or "client_secret_post" not in methods
        method = "none" if not self.secret else "client_secret_basic" if basic else "client_secret_post"
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        _, headers, form = ClientAuth(self.client_id, self.secret, method).prepare("POST", url, headers, form)
        return headers, form


@dataclass(frozen=True, slots=True)
class Metadata:
    """Endpoints and abilities of a provider."""

    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    device_endpoint: str | None
    algorithms: frozenset[str]
    client_auth: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StillPending:
    """A device login that nobody has approved or denied yet."""

    slow_down: bool


class Provider:
    """The OpenID provider of one service.

    Args:
        settings: with issuer, client and secret.

    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._redirect_uri = f"{settings.url.rstrip('/')}/login/oidc/callback"
        self._browsers = Registration(settings.oidc_client_id, settings.oidc_client_secret.get_secret_value())
        self._devices = self._browsers
        if settings.oidc_device_client_id:
            secret = settings.oidc_device_client_secret.get_secret_value()
            self._devices = Registration(settings.oidc_device_client_id, secret)
        self._room = asyncio.Semaphore(_AT_A_TIME)
        self._looking = asyncio.Lock()
        self._away_until = 0.0
        self._metadata: tuple[float, Metadata] | None = None
        self._keys: tuple[float, tuple[Key, ...]] = (float("-inf"), ())

    async def metadata(self) -> Metadata:
        """Return the provider's metadata, not older than an hour.

        Raises:
            ProviderAway: it does not say it, or says it of another issuer.

        """
        async with self._looking:
            now = time.monotonic()
            if self._metadata is not None and self._metadata[0] > now - _KEEP_S:
                return self._metadata[1]
            if now < self._away_until:  # whoever has waited for the same answer is not to wait for another
                raise ProviderAway("nobody can log in at the moment: the provider did not answer", hint=_LATER)
            try:
                found = await self._discover()
            except ProviderAway:
                self._away_until = time.monotonic() + _PAUSE_S
                raise
            self._metadata = time.monotonic(), found
            return found

    async def _discover(self) -> Metadata:
        issuer = self._settings.oidc_issuer
        status, said = await self._ask("GET", f"{issuer.rstrip('/')}/.well-known/openid-configuration")
        if status != httpx.codes.OK or said.get("issuer") != issuer:
            told = f"it says that it is {str(said.get('issuer'))[:200]!r}" if said else f"it answers {status}"
            raise _away(f"the provider is not {issuer}: {told}")
        return self._read(said)

    async def authorization_url(self, attempt: BrowserLogin) -> str:
        """Return the address that begins a login."""
        metadata = await self.metadata()
        return str(
            prepare_grant_uri(
                metadata.authorization_endpoint, self._settings.oidc_client_id, "code", self._redirect_uri,
                self._settings.oidc_scopes, attempt.state, nonce=attempt.nonce, code_challenge_method="S256",
                code_challenge=create_s256_code_challenge(attempt.verifier),
            )
        )  # fmt: skip

    async def redeem(self, code: str, attempt: BrowserLogin) -> dict[str, Any]:
        """Exchange a code for the claims of its ID token.

        Raises:
            LoginRefused: the code, or the ID token for it, is not valid.
            ProviderAway: the provider cannot be asked.

        """
        form = prepare_token_request(
            "authorization_code", "", self._redirect_uri, code=code, code_verifier=attempt.verifier
        )
        status, said = await self._post((await self.metadata()).token_endpoint, form, self._browsers)
        if "id_token" not in said:
            raise _unwilling(said, status)
        return await self._claims(said, self._browsers, attempt.nonce)

    async def begin_device(self) -> dict[str, Any]:
        """Request a device code with its user code.

        Raises:
            ProviderAway: the provider has none to give.

        """
        metadata = await self.metadata()
        if metadata.device_endpoint is None:
            raise _away("the provider has no device codes")
        form = urlencode({"scope": self._settings.oidc_scopes})
        status, said = await self._post(metadata.device_endpoint, form, self._devices)
        needed = ("device_code", "user_code", "verification_uri")
        if status != httpx.codes.OK or not all(isinstance(said.get(name), str) for name in needed):
            raise _unwilling(said, status)
        return said

    async def finish_device(self, device_code: str) -> dict[str, Any] | StillPending:
        """Exchange an approved device code for the claims of its ID token.

        Raises:
            LoginRefused: they have denied it, or the ID token is not valid.
            LoginExpired: nobody has decided in time, or it has been used.
            ProviderAway: the provider cannot be asked.

        """
        form = prepare_token_request(_DEVICE, "", device_code=device_code)
        status, said = await self._post((await self.metadata()).token_endpoint, form, self._devices)
        if "id_token" in said:
            return await self._claims(said, self._devices, None)
        error = said.get("error")
        if error in _WAITING:
            return StillPending(error == "slow_down")
        if error in {"expired_token", "invalid_grant"}:
            raise LoginExpired("this login is too old, has been used, or was never begun", hint="begin again")
        raise _unwilling(said, status)

    async def _claims(self, said: Mapping[str, Any], client: Registration, nonce: str | None) -> dict[str, Any]:
        token, access_token = said["id_token"], said.get("access_token")
        if not isinstance(token, str):
            raise LoginRefused("the provider gave no ID token")
        metadata = await self.metadata()
        expected = Expected(
            self._settings.oidc_issuer, client.client_id, metadata.algorithms, nonce,
            access_token if isinstance(access_token, str) else None,
        )  # fmt: skip
        keys = await self.signing_keys(metadata.jwks_uri, id_tokens.key_id(token))
        return id_tokens.check(token, keys, expected, now=time.time())

    async def signing_keys(self, address: str, wanted: str | None) -> tuple[Key, ...]:
        """Return the provider's keys, fetched again for an unknown one."""
        async with self._looking:
            at, keys = self._keys
            age_s = time.monotonic() - at
            known = wanted is None or any(key.get("kid") == wanted for key in keys)
            if age_s > _KEEP_S or (not known and age_s > _AGAIN_S):
                status, said = await self._ask("GET", address)
                if status != httpx.codes.OK:
                    raise _away(f"its keys cannot be had: it answers {status}")
                self._keys = time.monotonic(), id_tokens.import_keys(said)
            return self._keys[1]

    def _read(self, said: Mapping[str, Any]) -> Metadata:
        named = said.get("id_token_signing_alg_values_supported")
        methods = said.get("token_endpoint_auth_methods_supported")
        return Metadata(
            self._endpoint(said, "authorization_endpoint"),
            self._endpoint(said, "token_endpoint"),
            self._endpoint(said, "jwks_uri"),
            self._endpoint(said, name) if said.get(name := "device_authorization_endpoint") else None,
            ALGORITHMS.intersection(map(str, named)) if isinstance(named, list) else frozenset({"RS256"}),
            tuple(map(str, methods)) if isinstance(methods, list) else ("client_secret_basic",),
        )

    def _endpoint(self, said: Mapping[str, Any], name: str) -> str:
        address = said.get(name)
        plain = self._settings.oidc_issuer.startswith("http:")
        if not isinstance(address, str) or not is_confidential(address) or (address.startswith("http:") and not plain):
            raise _away(f"its {name} is no https:// address")
        return address

    async def _post(self, url: str, form: str, client: Registration) -> tuple[int, dict[str, Any]]:
        headers, form = client.sign(url, form, (await self.metadata()).client_auth)
        return await self._ask("POST", url, headers=headers, content=form.encode())

    async def _ask(self, method: str, url: str, **request: Any) -> tuple[int, dict[str, Any]]:
        """Return status and JSON object of an answer; redirects are not followed."""
        try:
            async with asyncio.timeout(_PATIENCE_S), self._room:
                target = await asyncio.to_thread(resolve_public, url, schemes=("https", "http"), trusted=_EVERYWHERE)
                headers = {**_HEADERS, **request.pop("headers", {}), **target.headers}
                async with (
                    httpx.AsyncClient(verify=self._trust, trust_env=False, timeout=_PATIENCE_S) as client,
                    client.stream(
                        method, target.pinned_url, headers=headers, extensions=target.extensions, **request
                    ) as answer,
                ):  # fmt: skip
                    return answer.status_code, _object(await _body(answer))
        except TimeoutError as error:
            raise _away(f"no answer within {_PATIENCE_S:g} s", error) from error
        except (httpx.HTTPError, httpx.InvalidURL, OSError, AddressError, FetchError) as error:
            raise _away(type(error).__name__, error) from error

    @cached_property
    def _trust(self) -> Any:
        return httpx.create_ssl_context()


def _unwilling(said: Mapping[str, Any], status: int) -> LoginRefused | ProviderAway:
    error = str(said.get("error", f"status {status}"))[:60]
    if error in _OURS or status >= httpx.codes.INTERNAL_SERVER_ERROR:
        return _away(f"the provider does not know this service as it should: {error}")
    return LoginRefused(f"the provider refuses this login: {error}", hint="log in again")


async def _body(answer: httpx.Response) -> bytes:
    data = bytearray()
    async for chunk in answer.aiter_bytes():
        data += chunk
        if len(data) > _LARGEST:
            raise _away("its answer is too large")
    return bytes(data)


def _object(data: bytes) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _away(why: str, error: BaseException | None = None) -> ProviderAway:
    _log.warning("login_unavailable", why=why, error=None if error is None else str(error)[:300])
    return ProviderAway(f"nobody can log in at the moment: {why}", hint=_LATER)
