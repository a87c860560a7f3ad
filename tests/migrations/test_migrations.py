"""The revisions make exactly the tables of the models, up and down and up again."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from retort.db import Database, migrate
from retort.db.__main__ import main
from retort.db.models import Base, JobRow
from sqlalchemy import Float, Integer, MetaData, Numeric, insert, inspect, select

TOP = Path(__file__).parents[2]


@pytest.fixture
def empty_database(empty_database_url: str) -> Iterator[Database]:
    with closing(Database(empty_database_url)) as database:
        yield database


def tables(database: Database) -> set[str]:
    return set(inspect(database.engine).get_table_names()) - {"alembic_version"}


def test_the_revisions_go_up_and_down_and_up_again(empty_database: Database):
    assert migrate.current(empty_database) is None
    for _ in range(2):
        migrate.upgrade(empty_database)
        assert migrate.current(empty_database) == migrate.head()
        assert tables(empty_database) == set(Base.metadata.tables)
        migrate.downgrade(empty_database, "base")
        assert migrate.current(empty_database) is None
        assert tables(empty_database) == set()


def test_every_single_revision_goes_up_and_down_and_up_again(empty_database: Database):
    revisions = [script.revision for script in ScriptDirectory.from_config(migrate.config()).walk_revisions()]
    for revision in reversed(revisions):
        migrate.upgrade(empty_database, revision)
        migrate.downgrade(empty_database, "-1")
        migrate.upgrade(empty_database, revision)
        assert migrate.current(empty_database) == revision


def test_jobs_of_before_keep_what_their_specs_say_of_a_gpu(empty_database: Database):
    migrate.upgrade(empty_database, "0007")
    wishes = {"a": {"require_gpu": True}, "b": {"require_gpu": False}, "c": {"gpus": 1}, "d": {"require_gpu": None}}
    with empty_database.engine.begin() as connection:
        tables_then = MetaData()
        tables_then.reflect(connection, only=["jobs"])
        jobs = tables_then.tables["jobs"]
        filled = {
            column.name: 0 if isinstance(column.type, Numeric | Float | Integer) else "x"
            for column in jobs.columns if not column.nullable
        }  # fmt: skip
        for name, resources in wishes.items():
            spec = {"resources": resources}
            row = {**filled, "id": name, "state": "queued", "finish_early": False, "spec": spec}
            connection.execute(insert(jobs).values(row))
    migrate.upgrade(empty_database)
    with empty_database.engine.connect() as connection:
        found = connection.execute(select(JobRow.id, JobRow.require_gpu)).all()
    assert {row.id: row.require_gpu for row in found} == {"a": True, "b": False, "c": None, "d": None}


def test_migrating_twice_changes_nothing(empty_database: Database):
    migrate.upgrade(empty_database)
    migrate.upgrade(empty_database)
    assert migrate.current(empty_database) == migrate.head()


def test_there_is_one_head():
    assert len(ScriptDirectory.from_config(migrate.config()).get_heads()) == 1


def test_the_models_and_the_migrated_tables_are_the_same(database: Database):
    with database.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []


def test_processes_that_migrate_at_the_same_time_take_turns(empty_database_url: str, tmp_path: Path):
    command = [sys.executable, "-m", "retort.db", "upgrade"]
    environment = {**os.environ, "RETORT_DATABASE_URL": empty_database_url}
    started = [subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [process.wait(240) for process in started] == [0, 0]
    with closing(Database(empty_database_url)) as database:
        assert tables(database) == set(Base.metadata.tables)


def test_the_command_line_goes_up_and_down(
    empty_database_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.setenv("RETORT_DATABASE_URL", empty_database_url)
    monkeypatch.chdir(tmp_path)
    for arguments, told in (
        (["current"], "empty\n"),
        (["upgrade"], f"{migrate.head()} (head)\n"),
        (["current"], f"{migrate.head()} (head)\n"),
        (["downgrade", "base"], "empty\n"),
    ):
        assert main(arguments) == 0
        assert capsys.readouterr().out == told


def test_the_command_line_says_when_there_is_no_database(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("RETORT_DATABASE_URL", "postgresql://nobody@127.0.0.1:9/none")
    for command in ("current", "upgrade"):
        assert main([command]) == 1
        assert capsys.readouterr().err.startswith("database_unavailable: ")


def test_the_wheel_brings_the_revisions_along(tmp_path: Path):
    build = "import sys; from hatchling.build import build_wheel; print(build_wheel(sys.argv[1]))"
    made = subprocess.run([sys.executable, "-c", build, tmp_path], cwd=TOP, capture_output=True, text=True, check=True)
    installed = tmp_path / "installed"
    with zipfile.ZipFile(tmp_path / made.stdout.split()[-1]) as wheel:
        wheel.extractall(installed)
    use = "from retort.db import migrate, __main__; print(migrate.folder(), __main__.main(['upgrade']))"
    environment = {**os.environ, "PYTHONPATH": str(installed), "RETORT_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-c", use]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    packed = installed / "retort" / "db" / "_migrations"
    assert done.stdout == f"{migrate.head()} (head)\n{packed} 0\n"
