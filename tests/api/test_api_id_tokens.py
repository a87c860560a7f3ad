"""An ID token opens something only if the provider has signed it, for this service, this login and this time."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from joserfc.jwk import Key, OctKey
from retort.settings import Settings
from retort_api.id_tokens import Expected, LoginRefused, check, import_keys, key_id
from retort_api.provider import Provider
from support.openid_provider import BROWSER, OTHER, ProviderProcess, jwks

NOW = 1_800_000_000.0
ACCESS = "an access token"
HASH = base64.urlsafe_b64encode(hashlib.sha256(ACCESS.encode()).digest()[:16]).decode().rstrip("=")


@pytest.fixture(scope="module")
def published(openid: ProviderProcess) -> tuple[Key, ...]:
    """What the provider publishes."""
    return import_keys(jwks(openid.issuer))


@pytest.fixture(scope="module")
def kid(published: tuple[Key, ...]) -> str:
    """Name of the key that it signs with."""
    return str(published[0].get("kid"))


def claims(openid: ProviderProcess, **changed: Any) -> dict[str, Any]:
    said = {
        "iss": openid.issuer, "aud": BROWSER, "sub": "1", "iat": int(NOW), "exp": int(NOW) + 300, "nonce": "n",
        "at_hash": HASH, "email": "ann@example.org",
    }  # fmt: skip
    return {name: value for name, value in {**said, **changed}.items() if value is not None}


def sign(said: dict[str, Any], key: Any, **header: Any) -> str:
    """Sign as any program could, whatever the header says; bytes are the secret of an HMAC."""
    head = {name: value for name, value in {"alg": "RS256", **header}.items() if value is not None}
    text = f"{encoded(json.dumps(head).encode())}.{encoded(json.dumps(said).encode())}"
    if isinstance(key, bytes):
        signature = hmac.digest(key, text.encode(), f"sha{head['alg'][2:]}")
    elif isinstance(key, ec.EllipticCurvePrivateKey):
        numbers = decode_dss_signature(key.sign(text.encode(), ec.ECDSA(SHA256())))
        signature = b"".join(number.to_bytes(32) for number in numbers)
    else:
        signature = key.sign(text.encode(), PKCS1v15(), SHA256())
    return f"{text}.{encoded(signature)}"


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def expected(openid: ProviderProcess) -> Expected:
    return Expected(openid.issuer, BROWSER, nonce="n", access_token=ACCESS)


def test_a_token_that_the_provider_has_signed_for_this_login_says_who_it_is(
    openid: ProviderProcess, published: tuple[Key, ...], kid: str
):
    for changed in ({}, {"aud": [BROWSER]}, {"aud": [OTHER, BROWSER], "azp": BROWSER}, {"exp": int(NOW) - 30}):
        token = sign(claims(openid, **changed), openid.key, kid=kid)
        assert check(token, published, expected(openid), now=NOW)["email"] == "ann@example.org"
    assert check(sign(claims(openid), openid.key), published, expected(openid), now=NOW)["sub"] == "1"


@pytest.mark.parametrize(
    "changed",
    [
        {"iss": "https://elsewhere.example"}, {"iss": None}, {"aud": OTHER}, {"aud": None}, {"aud": []},
        {"aud": [OTHER]},
        {"aud": [OTHER, BROWSER]}, {"aud": [OTHER, BROWSER], "azp": OTHER}, {"azp": OTHER}, {"sub": None}, {"sub": ""},
        {"sub": 5}, {"exp": None}, {"exp": int(NOW) - 61}, {"exp": "never"}, {"exp": [int(NOW) + 9]}, {"iat": None},
        {"iat": int(NOW) + 3600}, {"nbf": int(NOW) + 3600}, {"nonce": None}, {"nonce": "other"}, {"nonce": ["n"]},
        {"at_hash": "x" * 22}, {"at_hash": 1}, {"aud": {"retort": 1}}, {"iss": ["x"]},
    ],
)  # fmt: skip
def test_a_token_for_another_service_login_or_time_is_refused(
    openid: ProviderProcess, published: tuple[Key, ...], kid: str, changed: dict[str, Any]
):
    with pytest.raises(LoginRefused):
        check(sign(claims(openid, **changed), openid.key, kid=kid), published, expected(openid), now=NOW)


def test_a_token_that_the_provider_has_not_signed_is_refused(
    openid: ProviderProcess, published: tuple[Key, ...], kid: str
):
    said = claims(openid)
    other, curve = rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP256R1())
    own = {"kty": "RSA", "e": "AQAB", "n": encoded(other.public_key().public_numbers().n.to_bytes(256))}
    right = sign(said, openid.key, kid=kid)
    head, body, signature = right.split(".")
    altered = encoded(json.dumps({**said, "sub": "2"}).encode())
    none = encoded(json.dumps({"alg": "none", "kid": kid}).encode())
    public = openid.key.public_key()
    shapes = (PublicFormat.SubjectPublicKeyInfo, PublicFormat.PKCS1)
    shared = [public.public_bytes(form, shape) for form in (Encoding.PEM, Encoding.DER) for shape in shapes]
    tokens = [
        sign(said, other, kid=kid), sign(said, other, kid="unknown"), sign(said, other), sign(said, other, kid=1),
        sign(said, other, kid=kid, jwk=own), sign(said, other, kid=kid, jku="https://elsewhere.example/keys"),
        sign(said, other, kid=kid, x5u="https://elsewhere.example/keys"), sign(said, curve, alg="ES256", kid=kid),
        sign(said, openid.key, kid=kid, crit=["exp"]), sign(said, openid.key, kid=kid, alg="RS1"),
        sign(said, openid.key, kid=kid, alg="PS256"), sign(said, openid.key, kid=kid, alg=["RS256"]),
        f"{head}.{altered}.{signature}", f"{head}.{body}.", f"{head}.{body}", f"{none}.{body}.",
        f"{none}.{body}.{signature}", f"{right}.x", right[:-8], "", "a.b.c", "\u00e9.\u00e9.\u00e9", "." * 50_000,
        f"{encoded(b'[' * 20_000)}.{body}.{signature}",
        *(sign(said, secret, alg=algorithm, kid=kid) for secret in shared for algorithm in ("HS256", "HS384", "HS512")),
    ]  # fmt: skip
    for token in tokens:
        with pytest.raises(LoginRefused):
            check(token, published, expected(openid), now=NOW)
    strict = Expected(openid.issuer, BROWSER, frozenset({"ES256"}), nonce="n")
    with pytest.raises(LoginRefused, match="RS256"):
        check(right, published, strict, now=NOW)


def test_of_a_set_of_keys_only_public_ones_for_signatures_are_taken(
    published: tuple[Key, ...], openid: ProviderProcess
):
    (plain,) = jwks(openid.issuer)["keys"]
    secret = OctKey.generate_key(256, private=True).as_dict(private=True)
    hostile = [{**plain, "use": "enc"}, secret, {"kty": "RSA"}, {"kty": "RSA", "n": 1, "e": 2}, "x", None, {}]

    assert len(import_keys({"keys": [plain, *hostile]})) == len(published) == 1
    for nothing in ({}, {"keys": None}, {"keys": "x"}, {"keys": {"a": plain}}):
        assert import_keys(nothing) == ()


async def _ask(provider: Provider, kids: list[str | None]) -> list[int]:
    address = (await provider.metadata()).jwks_uri
    return [len(await provider.signing_keys(address, kid)) for kid in kids]


def test_a_new_key_is_looked_up_once_and_not_for_every_token_that_names_one(
    openid: ProviderProcess, published: tuple[Key, ...], monkeypatch: pytest.MonkeyPatch
):
    """Whoever sends tokens with made-up keys does not have the service ask the provider each time."""
    given = {"oidc_issuer": openid.issuer, "oidc_client_id": BROWSER, "oidc_domains": "*"}
    provider = Provider(Settings(**given))
    known = published[0].get("kid")
    before = openid.log().count("jwks")

    assert asyncio.run(_ask(provider, [known, "new", "newer", known, None])) == [1] * 5
    assert openid.log().count("jwks") - before == 1
    monkeypatch.setattr("retort_api.provider._AGAIN_S", 0.0)
    asyncio.run(_ask(provider, [known, "rotated"]))
    assert openid.log().count("jwks") - before == 2
    assert key_id(sign(claims(openid), openid.key, kid="k")) == "k"
