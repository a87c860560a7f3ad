"""Check ID tokens of an OpenID provider: signature, issuer, audience, time, nonce."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from authlib.oidc.core import CodeIDToken
from joserfc import jws, jwt
from joserfc.errors import JoseError
from joserfc.jwk import Key, import_key
from retort.errors import UserError

ALGORITHMS = frozenset(
    {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519"}
)
"""Signatures with a private key alone: neither ``none``, nor HS256, for which the public key would be the secret."""
LEEWAY_S = 60
_LONGEST = 32_768
_TYPES = {"R": "RSA", "P": "RSA", "E": "EC"}
_EDWARDS = frozenset({"EdDSA", "Ed25519"})


class LoginRefused(UserError):
    """Somebody could not be logged in."""

    code = "login_refused"


@dataclass(frozen=True, slots=True)
class Expected:
    """Values that an ID token must have."""

    issuer: str
    client_id: str
    algorithms: frozenset[str] = ALGORITHMS
    nonce: str | None = None
    """None where none was sent: a device has no browser to bind it to."""
    access_token: str | None = None
    """That came with it, for its ``at_hash``."""


def key_id(text: str) -> str | None:
    """Return the id of the key that an ID token names.

    Raises:
        LoginRefused: it is no signed token.

    """
    found = _header(text).get("kid")
    return found if isinstance(found, str) else None


def import_keys(document: Mapping[str, Any]) -> tuple[Key, ...]:
    """Return the public keys of a JWK set that check signatures.

    What cannot be one is left out.
    """
    found = []
    listed = document.get("keys")
    for one in listed if isinstance(listed, list) else ():
        if isinstance(one, dict) and one.get("kty") in {"RSA", "EC", "OKP"} and one.get("use", "sig") == "sig":
            try:
                found.append(import_key({name: one[name] for name in one if name not in {"d", "key_ops"}}))
            except (JoseError, ValueError, TypeError, KeyError):
                continue
    return tuple(found)


def check(text: str, keys: Sequence[Key], expected: Expected, *, now: float) -> dict[str, Any]:
    """Return the claims of an ID token.

    Raises:
        LoginRefused: it is not signed by one of the keys, or not for this service, this login and this time.

    """
    header = _header(text)
    algorithm = header.get("alg")
    if not isinstance(algorithm, str) or algorithm not in expected.algorithms & ALGORITHMS:
        raise _refused(f"it is signed by {str(algorithm)[:20]!r}, which is not accepted")
    key = _key_for(header, algorithm, keys)
    try:
        token = jwt.decode(text, key, algorithms=[algorithm])
        options = {
            "iss": {"essential": True, "value": expected.issuer},
            "aud": {"essential": True, "value": expected.client_id},
        }
        params = {
            "client_id": expected.client_id, "nonce": expected.nonce, "access_token": expected.access_token,
        }  # fmt: skip
        claims = CodeIDToken(token.claims, token.header, options, params)
        claims.validate(int(now), LEEWAY_S)
    except JoseError as error:
        raise _refused(str(error) or type(error).__name__) from error
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
        raise _refused("a claim has a type that it cannot have") from error
    if not isinstance(claims["sub"], str) or not claims["sub"]:
        raise _refused("it names nobody")
    return dict(claims)


def _header(text: str) -> dict[str, Any]:
    if len(text) > _LONGEST or not text.isascii():
        raise _refused("it is no signed token")
    try:
        return dict(jws.extract_compact(text.encode()).headers())
    except (JoseError, ValueError, TypeError, RecursionError) as error:
        raise _refused("it is no signed token") from error


def _key_for(header: Mapping[str, Any], algorithm: str, keys: Sequence[Key]) -> Key:
    """Return the one key that can have signed; without a name there must be no choice."""
    kind = "OKP" if algorithm in _EDWARDS else _TYPES[algorithm[0]]
    fitting = [key for key in keys if key.key_type == kind and key.get("alg") in {None, algorithm}]
    if "kid" in header:
        fitting = [key for key in fitting if key.get("kid") == header["kid"]]
    if len(fitting) != 1:
        raise _refused("it is signed with a key that the provider does not have")
    return fitting[0]


def _refused(why: str) -> LoginRefused:
    hint = "log in again; if it stays so, the operator has to look at the provider's settings"
    return LoginRefused(f"the provider's ID token is not valid: {why}", hint=hint)
