"""Each table that grows is kept small by somebody, and each time that something runs out follows the clock."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from retort.db import Database
from retort.db.clock import shift_times
from retort.db.models import Base
from retort.keeping import Keeper
from retort.settings import Settings
from retort.storage import Store
from sqlalchemy import func, select
from support.db_harness import T0
from support.table_rows import fill, timestamps

STAYS = {
    "projects": "as many as operators make",
    "quotas": "at most one for each project",
    "installation": "one for each of a few names",
    "webhooks": "20 of a project at most, until somebody deletes them",
}
"""Tables that nothing is taken from, and why that is no harm."""
KEY = f"sha256/00/{0:064x}"
OVER: dict[str, dict[str, Any]] = {
    "jobs": {"state": "failed", "recovery": None, "purged_at": None},
    "sweeps": {"state": "failed"},
    "attempts": {"state": "failed"},
    "datasets": {"state": "refused", "key": None, "sha256": None},
    "garbage": {"phase": "marked", "key": KEY},
    "artifacts": {"key": KEY},
    "models": {"key": KEY},
    "dataset_previews": {"key": KEY},
    "uploads": {"state": "complete"},
    "webhooks": {"events": []},
    "webhook_deliveries": {"state": "delivered", "next_at": None},
    "api_keys": {"kind": "session", "scopes": []},
    "workers": {"devices": []},
}
"""What a row is like that nobody needs any more."""
OPEN: dict[str, dict[str, Any]] = {
    **OVER,
    "jobs": {"state": "running", "purged_at": None},
    "sweeps": {"state": "running"},
    "attempts": {"state": "running", "ended_at": None},
    "trials": {"ended_at": None},
    "datasets": {"state": "checking"},
    "uploads": {"state": "open"},
    "webhook_deliveries": {"state": "pending"},
}
"""What a row is like that something is still to come of."""
TOLD = {
    "jobs.finished_at", "sweeps.finished_at", "attempts.ended_at", "trials.ended_at", "datasets.ended_at",
    "webhook_deliveries.ended_at", "jobs.purged_at",
}  # fmt: skip
"""Not set while something is open."""
HISTORY = {
    "transitions.at": "told as it was",
    "events.at": "told as it was",
    "metrics.at": "told as it was",
    "reviews.at": "told as it was",
    "artifacts.created_at": "told as it was",
    "models.created_at": "told as it was",
    "projects.created_at": "told as it was",
    "webhooks.created_at": "told as it was",
    "audit_log.at": "evidence, which nobody changes",
    "api_keys.created_at": "told as it was",
    "api_keys.revoked_at": "told as it was: what is revoked opens nothing, whatever the clock says",
    "api_keys.last_used_at": "told as it was",
}
"""Times that a step of the clock leaves alone, and why."""


@pytest.fixture
def keeper(database: Database, tmp_path: Path) -> Keeper:
    settings = Settings(home=tmp_path, database_url=str(database.url), store_url=(tmp_path / "store").as_uri())
    return Keeper(database, lambda: Store(settings.store_url), settings)


def counts(database: Database) -> dict[str, int]:
    with database.read() as session:
        tables = Base.metadata.tables.items()
        return {name: session.scalar(select(func.count()).select_from(table)) or 0 for name, table in tables}


def test_each_table_that_grows_is_emptied_of_what_is_over_by_one_round(database: Database, keeper: Keeper):
    """Ended sessions, links and keys stayed for ever: what deletes them was called by nobody."""
    with database.begin() as session:
        fill(session, at=T0, overrides=OVER)
    assert [name for name, number in counts(database).items() if not number] == [], "the test fills every table"
    for _ in range(2):  # what the first gives up is marked, and given its time
        keeper.round()
        with database.begin() as session:
            shift_times(session, -10 * 86_400.0)

    assert {name for name, number in counts(database).items() if number} - {"garbage"} == STAYS.keys()


def test_what_is_not_over_stays(database: Database, keeper: Keeper):
    with database.begin() as session:
        fill(session, at=4e9, overrides={**OPEN, "api_keys": {"kind": "key", "scopes": [], "revoked_at": None}})
    keeper.round()

    assert [name for name, number in counts(database).items() if not number] == []


def times(database: Database) -> dict[str, float | None]:
    with database.read() as session:
        return {
            f"{name}.{column}": session.scalar(select(table.c[column]))
            for name, table in Base.metadata.tables.items()
            for column in timestamps(table)
        }


@pytest.mark.parametrize("step", [7200.0, -7200.0])
def test_a_step_of_the_clock_leaves_to_everything_open_the_time_that_it_had(database: Database, step: float):
    """Only jobs had it: uploads, the trash, deliveries, sweeps and what collects bytes ran out at once, or never."""
    with database.begin() as session:
        fill(session, at=T0, overrides=OPEN)
        shift_times(session, step)

    after = times(database)
    assert {name for name, at in after.items() if at != T0 + step} == HISTORY.keys() | TOLD, (
        "a time that is compared with now follows the clock (retort.db.clock), or says here why not"
    )
    assert {after[name] for name in HISTORY} == {T0}


def test_a_step_of_days_takes_the_ages_of_what_has_ended_along(database: Database):
    """A clock that is set right after months on a dead battery would have retention take everything."""
    year = 365 * 86_400.0
    ended = {**OVER, "webhook_deliveries": {"state": "failed", "next_at": None}, "jobs": {"state": "succeeded"}}
    with database.begin() as session:
        fill(session, at=T0, overrides=ended)
        shift_times(session, year)

    after = times(database)
    assert {after[name] for name in TOLD - {"jobs.purged_at", "datasets.ended_at"}} == {T0 + year}
    assert {after[name] for name in HISTORY} == {T0}
