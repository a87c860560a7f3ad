"""Settings as an operator writes them."""

from __future__ import annotations

from pathlib import Path

import pytest
from retort.settings import Settings
from sqlalchemy import make_url

PASSWORD = "p@ss:w/rd#100%? é"  # noqa: S105 - of nobody


def test_a_password_may_hold_any_character(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("RETORT_DATABASE_URL", "postgresql+psycopg://retort@db:5432/retort")
    monkeypatch.setenv("RETORT_DATABASE_PASSWORD", PASSWORD)
    monkeypatch.setenv("RETORT_BROKER_URL", "redis://redis:6379/0")
    monkeypatch.setenv("RETORT_BROKER_PASSWORD", PASSWORD)

    settings = Settings()

    database = make_url(settings.database_url)
    assert (database.username, database.password, database.host, database.database) == (
        "retort", PASSWORD, "db", "retort",
    )  # fmt: skip
    broker = make_url(settings.broker_url)
    assert (broker.username, broker.password, broker.host, broker.port) == ("", PASSWORD, "redis", 6379)
    assert PASSWORD not in repr(settings.database_password)


@pytest.mark.parametrize(
    ("text", "folders"),
    [("/data", ["/data"]), ("/data:/more", ["/data", "/more"]), ('["/data", "/a:b"]', ["/data", "/a:b"])],
)
def test_data_folders_are_read_as_people_write_them(text: str, folders: list[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("RETORT_DATA_DIRS", text)

    assert Settings().data_dirs == tuple(map(Path, folders))


def test_a_variable_of_something_else_is_none_of_ours(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("RETORT_NOTEBOOK_KERNEL", "x")

    assert Settings().port == 8000
