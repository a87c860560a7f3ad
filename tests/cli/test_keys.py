"""Keys on the command line: found without asking, made, listed, replaced and revoked."""

from __future__ import annotations

import stat
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from cli.commands import Retort
from retort.access import is_secret, new_secret
from retort.cli.app import start
from retort.client import credentials
from retort.db import Database, audit
from retort.settings import Settings


def test_nothing_in_the_home_folder_can_be_read_by_others(ready: dict[str, Any]):
    home = Path(ready["home"])
    # The folders of runs come and go; the images in them keep the modes that they have in the data set. Models are put
    # there by people.
    kept = [path for path in home.iterdir() if path.name not in {"work", "models"}]
    found = [home, *(path for part in kept for path in (part, *part.rglob("*")) if path.is_file())]
    assert {"operator.key", "retort.db", "broker.db"} <= {path.name for path in found}
    assert [path.relative_to(home).as_posix() for path in found if stat.S_IMODE(path.stat().st_mode) & 0o077] == []


def test_the_command_line_finds_the_key_of_its_machine_and_sends_it_nowhere_else(
    ready: dict[str, Any], retort: Retort, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("RETORT_HOME", ready["home"])
    assert retort("whoami", "--url", ready["url"], keyed=False).out.startswith(
        "default in the project default, operator"
    )
    for elsewhere in (
        "http://10.0.0.1:8000",
        "https://retort.example",
        "http://127.0.0.1.example",
        "http://[fe80::1]/",
    ):
        assert credentials.headers(elsewhere) == {}
    assert credentials.headers("http://localhost:1")["Authorization"].startswith("Bearer rtt_")
    monkeypatch.setenv("RETORT_KEY", key := new_secret())
    assert credentials.headers("https://retort.example") == {"Authorization": f"Bearer {key}"}
    assert key not in repr(Settings())


def test_a_mistyped_key_is_told_before_anything_is_sent(retort: Retort):
    wrong = new_secret()[:-1] + "-"
    ended = retort("--key", wrong, "whoami", "--url", "http://127.0.0.1:9", "--json")
    assert (ended.code, ended.error["code"]) == (4, "bad_key")
    assert wrong not in ended.err


def test_without_a_key_the_answer_says_how_to_get_one(
    service: str, retort: Retort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("RETORT_HOME", str(tmp_path))
    ended = retort("ls", "--url", service, "--json", keyed=False)
    assert (ended.code, ended.error["code"]) == (4, "unauthorized")
    assert "RETORT_KEY" in ended.error["hint"]


def test_keys_are_made_replaced_and_revoked(served: Retort, service: str, retort: Retort):
    served("projects", "create", "vision")
    made = served("keys", "create", "ci", "--project", "vision", "--owner", "ann", "--expires", "2h", "--json").json
    assert is_secret(made["secret"])
    assert (made["role"], made["project"], made["owner"]) == ("submitter", "vision", "ann")
    assert "vision" in served("projects", "list").out.split()
    mine = ("--key", made["secret"])
    assert retort(*mine, "whoami", "--url", service).out.startswith("ann in the project vision, submitter")
    new = retort(*mine, "keys", "rotate", "--grace", "0s", "--url", service).out.strip()
    assert retort(*mine, "whoami", "--url", service).code == 4
    assert retort("--key", new, "whoami", "--url", service, "--json").json["owner"] == "ann"
    listed = served("keys", "list", "--json").json
    latest = next(one["id"] for one in listed if new.startswith(one["prefix"]))
    assert latest in served("keys", "revoke", latest).out
    assert retort("--key", new, "whoami", "--url", service).code == 4
    assert served("keys", "create", "x", "--expires", "soon").code == 4


def test_the_first_key_is_made_in_the_database_without_the_api(
    sqlite_url: str, retort: Retort, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("RETORT_DATABASE_URL", sqlite_url)
    made = retort("keys", "create", "admin", "--role", "operator", "--local", "--json").json

    assert is_secret(made["secret"])
    assert made["secret"] not in retort("keys", "list", "--local", "--json").out
    new = retort("keys", "rotate", made["id"], "--local").out.strip()
    assert is_secret(new)
    assert new != made["secret"]
    assert retort("keys", "revoke", made["id"], "--local", "--json").json["revoked_at"]
    with closing(Database(sqlite_url)) as database, database.read() as session:
        told = [(row.action, row.target, row.address) for row in reversed(audit.entries(session))]
    changed = [(f"retort keys {command} --local", made["id"], "local") for command in ("create", "rotate", "revoke")]
    assert told == changed, "changes past the API are in the audit log, too"


def test_a_link_logs_a_browser_in(served: Retort, ready: dict[str, Any]):
    for link in (ready["browser"], served("login", "--json").json["url"]):
        assert link.startswith(f"{ready['url']}/login#rtl_")


def test_a_host_for_everybody_still_asks_for_a_key(ready: dict[str, Any]):
    """There is no option that removes keys."""
    assert not [name for name in Settings.model_fields if "auth" in name or "anonymous" in name or "insecure" in name]
    assert start(["--key", "nonsense", "whoami", "--url", ready["url"]]) == 4
