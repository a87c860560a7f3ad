"""No password of an address is ever printed: in errors, logs, readiness, settings."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from pydantic import ValidationError
from retort import logs
from retort.cli.boundary import explain
from retort.cli.up import why_not_ready
from retort.db import Database
from retort.errors import RetortError, TransientError
from retort.redaction import redact
from retort.settings import Settings, explain_settings
from support.api_harness import serving

SECRET = "hunter2secret"  # noqa: S105 - of nobody
PASSWORDS = [SECRET, f"p@ss{SECRET}", f"a/b{SECRET}", f"a:b{SECRET}", f"{SECRET}@x", f"%40{SECRET}", f"a#b{SECRET}"]
ADDRESSES = sorted(name for name in Settings.model_fields if name.endswith(("url", "uri")))
SCHEMES = {
    "database_url": "postgresql+psycopg", "broker_url": "redis", "store_url": "s3", "mlflow_uri": "https",
    "url": "https", "browser_url": "https",
}  # fmt: skip


@pytest.fixture
def plain_logs() -> Iterator[None]:
    """Log as the service does, and as before afterwards."""
    root, hook = logging.getLogger(), sys.excepthook
    before = (root.handlers, root.level, structlog.get_config())
    yield
    root.handlers, root.level = before[0], before[1]
    structlog.configure(**before[2])
    sys.excepthook = hook


def test_each_setting_with_an_address_is_tried_here() -> None:
    assert set(ADDRESSES) == set(SCHEMES)


@pytest.mark.parametrize("password", PASSWORDS)
@pytest.mark.parametrize("scheme", ["postgresql+psycopg", "redis", "https", "sqla+postgresql", "s3"])
def test_a_password_is_hidden_wherever_it_stands_in_a_text(scheme: str, password: str) -> None:
    for text in [
        f"{scheme}://ann:{password}@host:1/x", f"cannot reach '{scheme}://:{password}@host', twice",
        f"({scheme}://ann:{password}@host/a?b=c)\n{scheme}://ben:{password}@host", f'{{"url": "{scheme}://a:{password}@h"}}',
    ]:  # fmt: skip
        assert SECRET not in redact(text)
        assert "host" in redact(text) or "@h" in redact(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://token123@host/x", "https://***@host/x"),
        ("redis://ann@host", "redis://ann@host"),
        ("postgresql://h/db?sslpassword=abc&x=1", "postgresql://h/db?sslpassword=***&x=1"),
        ("s3://b?secret_access_key=abc", "s3://b?secret_access_key=***"),
        ("/v1/x?token=abc&expires=3", "/v1/x?token=***&expires=3"),
        ("write to ann@example.org, a: b/c", "write to ann@example.org, a: b/c"),
        ("https://example.org/a/b?page=2", "https://example.org/a/b?page=2"),
        ("sqlite:////srv/retort/retort.db", "sqlite:////srv/retort/retort.db"),
    ],
)
def test_only_what_is_secret_is_hidden(text: str, shown: str) -> None:
    assert redact(text) == shown


@pytest.mark.parametrize("name", ADDRESSES)
@pytest.mark.parametrize("password", PASSWORDS)
def test_a_setting_with_a_password_is_not_printed(
    name: str, password: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"{SCHEMES[name]}://ann:{password}@127.0.0.1:1/none"
    monkeypatch.setenv(f"RETORT_{name.upper()}", address)
    monkeypatch.setenv("RETORT_PORT", "0")  # an error beside it
    with pytest.raises(ValidationError) as error:
        Settings(home=tmp_path)
    told = explain_settings(error.value)
    assert told is not None
    assert SECRET not in f"{error.value}{told}{told.hint}"

    monkeypatch.delenv("RETORT_PORT")
    printed = _printed(tmp_path)
    assert SECRET not in printed
    assert address.partition(":")[0] in printed


def _printed(home: Path) -> str:
    """Return what is said of the settings, or of why they are none."""
    try:
        settings = Settings(home=home)
    except ValidationError as refused:
        return f"{refused}{explain_settings(refused)}"
    return f"{settings!r}{settings}{why_not_ready(503, _failing(settings), settings.url, settings)}"


def _failing(settings: Settings) -> dict[str, object]:
    where = {"database": settings.database_url, "broker": settings.broker_url, "store": settings.store_url}
    return {"checks": {name: {"status": "failed", "detail": redact(f"no {one}")} for name, one in where.items()}}


@pytest.mark.usefixtures("plain_logs")
@pytest.mark.parametrize("name", ["database_url", "broker_url", "store_url"])
def test_readiness_and_log_tell_of_what_is_away_without_its_password(
    name: str, sqlite_url: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    away = f"{SCHEMES[name]}://ann:{SECRET}@127.0.0.1:1/none?connect_timeout=1"
    settings = Settings(**{"home": tmp_path, "database_url": sqlite_url, name: away})
    for as_json in (True, False):
        logs.configure(as_json=as_json)
        with serving(settings) as client:
            told = client.get("/readyz").text
        logging.getLogger("library").error("cannot reach %s", away)
        structlog.get_logger("retort.x").warning("away", url=away)
        sys.excepthook(ValueError, ValueError(away), None)
        printed = "".join(capfd.readouterr())

        assert '"checks"' in told
        assert SECRET not in told
        assert printed.count("127.0.0.1:1/none") >= 3, "the rest is told"
        assert SECRET not in printed


@pytest.mark.parametrize("address", [f"postgresql://ann:{SECRET}", f"nonsense {SECRET}", f"pg://a:b@h:{SECRET}/x"])
def test_an_address_that_no_driver_reads_is_refused_without_being_quoted(address: str) -> None:
    with pytest.raises(RetortError) as refused:
        Database(address)

    assert refused.value.code == "bad_settings"
    assert SECRET not in f"{refused.value}{refused.value.hint}{refused.value.__cause__}"


def test_errors_of_all_kinds_hide_passwords(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("retort.cli.boundary.user_log_path", lambda _: tmp_path)
    address = f"redis://:{SECRET}@host:6379/0"
    ours = TransientError(f"no answer from {address}", hint=f"see {address}")
    told = explain(RuntimeError(f"no answer from {address}"))

    assert SECRET not in f"{ours}{ours.message}{ours.hint}{told.message}{told.hint}"
    assert SECRET not in (tmp_path / "retort-cli.log").read_text()
