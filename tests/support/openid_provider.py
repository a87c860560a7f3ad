"""An OpenID provider of Django OAuth Toolkit, with people and clients, in a process of its own.

Run as a program it serves; the tests import what starts it, and people who log in at it with a browser.
"""

from __future__ import annotations

import json
import os
import re
import sqlite3
import ssl
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import dataclass, field
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urljoin, urlsplit

import httpx2

PASSWORD = "correct horse"  # noqa: S105 - of people who do not exist
PEOPLE: dict[str, dict[str, Any]] = {
    "ann": {"email": "Ann@example.org", "email_verified": True, "groups": ["everybody", "ml-team"]},
    "boss": {"email": "boss@example.org", "email_verified": True, "groups": ["ml-team", "ml-admins"], "team": "vision"},
    "eve": {"email": "eve@example.org", "email_verified": True, "groups": ["visitors"]},
    "ned": {"email": "ned@example.org", "email_verified": False, "groups": ["ml-team"]},
    "out": {"email": "out@elsewhere.example", "email_verified": True, "groups": ["ml-team"]},
}
BROWSER, DEVICE, CONFIDENTIAL, OTHER = "retort", "retort-cli", "retort-secret", "other"
SECRET = "between provider and service"  # noqa: S105 - of a client that does not exist
CALLBACK = "http://127.0.0.1:8000/login/oidc/callback"


def serve(port: int, folder: Path) -> None:
    """Serve until the process ends."""
    from django.conf import settings

    issuer = f"http://127.0.0.1:{port}/o"
    settings.configure(
        ALLOWED_HOSTS=["127.0.0.1"],
        AUTH_PASSWORD_VALIDATORS=[],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": folder / "provider.db"}},
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        INSTALLED_APPS=[
            "django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions", "oauth2_provider",
        ],
        LOGIN_URL="/login/",
        LOGGING={
            "version": 1, "handlers": {"stderr": {"class": "logging.StreamHandler"}},
            "loggers": {"django": {"handlers": ["stderr"], "propagate": False}},
        },
        MIDDLEWARE=[
            "django.contrib.sessions.middleware.SessionMiddleware", "django.middleware.csrf.CsrfViewMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
        ],
        MIGRATION_MODULES={"auth": None, "contenttypes": None, "sessions": None, "oauth2_provider": None},
        OAUTH2_PROVIDER={
            "COMPLIANT_BCP_RFC9700_AUTHZ_RESPONSE_ISS": True,
            "DEVICE_FLOW_INTERVAL": 1,
            "OAUTH2_VALIDATOR_CLASS": "support.openid_claims.Validator",
            "OAUTH_DEVICE_VERIFICATION_URI": f"{issuer}/device/",
            "OAUTH_DEVICE_VERIFICATION_URI_COMPLETE": f"{issuer}/device/?user_code={{user_code}}",
            "OIDC_ENABLED": True,
            "OIDC_ISS_ENDPOINT": issuer,
            "OIDC_RSA_PRIVATE_KEY": (folder / "signing.pem").read_text(),
            "OIDC_SERVER_CLASS": "support.openid_claims.Server",
            "PKCE_REQUIRED": True,
            "SCOPES": {"openid": "who you are", "email": "your address", "profile": "your groups"},
        },
        PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
        ROOT_URLCONF="support.openid_claims",
        SECRET_KEY="of a provider in a test",  # noqa: S106
        TEMPLATES=[
            {
                "BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True,
                "OPTIONS": {
                    "context_processors": ["django.template.context_processors.request"],
                },
            }
        ],
        USE_TZ=True,
    )  # fmt: skip
    import django

    django.setup()
    _fill()
    _listen(port)


def _fill() -> None:
    from django.contrib.auth.models import User
    from django.core.management import call_command
    from oauth2_provider.models import Application

    call_command("migrate", run_syncdb=True, verbosity=0)
    for name, claims in PEOPLE.items():
        User.objects.create_user(name, claims["email"], PASSWORD)
    code, device = Application.GRANT_AUTHORIZATION_CODE, Application.GRANT_DEVICE_CODE
    for client_id, grant in ((BROWSER, code), (DEVICE, device), (CONFIDENTIAL, code), (OTHER, code)):
        secret = client_id == CONFIDENTIAL
        Application.objects.create(
            client_id=client_id, client_secret=SECRET if secret else "", redirect_uris=CALLBACK, algorithm="RS256",
            client_type=Application.CLIENT_CONFIDENTIAL if secret else Application.CLIENT_PUBLIC, name=client_id,
            authorization_grant_type=grant,
        )  # fmt: skip


def _listen(port: int) -> None:
    from socketserver import ThreadingMixIn
    from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

    from django.core.wsgi import get_wsgi_application

    class Threading(ThreadingMixIn, WSGIServer):
        daemon_threads = True

    make_server("127.0.0.1", port, get_wsgi_application(), Threading, WSGIRequestHandler).serve_forever(0.05)


class ProviderProcess:
    """The provider as a process; *key* is what it signs with."""

    def __init__(self, folder: Path, port: int) -> None:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import rsa

        self.issuer = f"http://127.0.0.1:{port}/o"
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        (folder / "signing.pem").write_bytes(
            self.key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        self._folder = folder
        self._log = folder / "provider.log"
        tests = Path(__file__).parents[1]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM, str(port), str(folder)],
                env={**os.environ, "PYTHONPATH": str(tests)}, stdout=log, stderr=log,
            )  # fmt: skip

    def wait_until_up(self) -> None:
        deadline = time.monotonic() + 60
        while True:
            assert self._process.poll() is None, self._log.read_text()
            try:
                if httpx2.get(f"{self.issuer}/.well-known/openid-configuration").status_code == 200:
                    return
            except httpx2.TransportError:
                assert time.monotonic() < deadline, self._log.read_text()
                time.sleep(0.02)

    def expire(self, device_code: str) -> None:
        """Let the time of a device code pass."""
        with closing(sqlite3.connect(self._folder / "provider.db", timeout=30)) as database, database:
            change = "UPDATE oauth2_provider_devicegrant SET status = 'expired' WHERE device_code = ?"
            assert database.execute(change, [device_code]).rowcount == 1

    def close(self) -> None:
        self._process.kill()
        self._process.wait()

    def log(self) -> str:
        return self._log.read_text()


_PROGRAM = """
import sys
from pathlib import Path
from support.openid_provider import serve
serve(int(sys.argv[1]), Path(sys.argv[2]))
"""


_PLAIN = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Of nobody's certificates: the provider speaks plain HTTP, and these take long to read."""


@dataclass
class Visitor:
    """Somebody with a browser at the provider."""

    name: str
    http: httpx2.Client = field(
        default_factory=lambda: httpx2.Client(follow_redirects=False, timeout=30, verify=_PLAIN)
    )

    def authorize(self, address: str, *, allow: bool = True) -> str:
        """Log in and consent, as the provider's pages ask for it; return where the browser is sent back to."""
        page = self._past_login(address)
        if page.status_code == 302:
            return page.headers["Location"]
        sent = {**_form(page), **({"allow": "Authorize"} if allow else {})}
        answer = self.http.post(str(page.url), data=sent, headers={"Referer": str(page.url)})
        assert answer.status_code == 302, answer.text
        return str(answer.headers["Location"])

    def decide(self, address: str, action: str = "accept") -> None:
        """Open what a device shows, and accept or deny it."""
        page = self._past_login(address)
        form = _form(page)
        answer = self.http.post(str(page.url), data=form, headers={"Referer": str(page.url)})
        assert answer.status_code == 302, answer.text
        page = self.http.get(urljoin(str(page.url), answer.headers["Location"]))
        form = {**_form(page), "action": action}
        assert self.http.post(str(page.url), data=form, headers={"Referer": str(page.url)}).status_code == 302

    def _past_login(self, address: str) -> httpx2.Response:
        page = self.http.get(address)
        if page.status_code == 302 and "/login/" in page.headers["Location"]:
            login = self.http.get(urljoin(address, page.headers["Location"]))
            form = {**_form(login), "username": self.name, "password": PASSWORD}
            answer = self.http.post(str(login.url), data=form, headers={"Referer": str(login.url)})
            assert answer.status_code == 302, answer.text
            page = self.http.get(urljoin(address, answer.headers["Location"]))
        return page


_INPUT = re.compile(r'<input type="(?:hidden|text)" name="([^"]+)"(?: value="([^"]*)")?')


def _form(page: httpx2.Response) -> dict[str, str]:
    """Return what a page's form would send, untouched."""
    return {name: unescape(value) for name, value in _INPUT.findall(page.text)}


def query_of(address: str) -> dict[str, str]:
    """Return what an address says behind its question mark."""
    return {name: values[0] for name, values in parse_qs(urlsplit(address).query).items()}


def jwks(issuer: str) -> dict[str, Any]:
    """Return the keys that the provider publishes."""
    found: dict[str, Any] = json.loads(httpx2.get(f"{issuer}/.well-known/jwks.json").text)
    return found
