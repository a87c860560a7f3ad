"""What people and their programs see from outside stays as it is: help texts, tables, names to import, fields."""

from __future__ import annotations

import importlib
import inspect
import json
import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from frozen.golden import FOLDER, Golden
from retort.client.client import Client
from retort.db import Database, migrate
from retort.spec import schema
from sqlalchemy import text

EVERY_HELP = """
import sys, typer
from retort.cli.app import app, start

def show(command, names):
    print("$ retort", *names, "--help", flush=True)
    start([*names, "--help"])
    for name, child in getattr(command, "commands", {}).items():
        show(child, [*names, name])

show(typer.main.get_command(app), [])
"""
PLAIN = {"NO_COLOR": "1", "TERM": "dumb", "COLUMNS": "80", "TERMINAL_WIDTH": "80", "LC_ALL": "C.UTF-8"}
PUBLIC: dict[str, Any] = json.loads((FOLDER / "public.json").read_text())
"""Written by hand: what README, docs and examples tell people to import and to start."""


def said(*command: str, folder: Path) -> tuple[int, str]:
    """Start our own interpreter in *folder*; return its exit code and all that it printed."""
    here = {name: value for name, value in os.environ.items() if not name.startswith("RETORT_")}
    environment = {**here, **PLAIN, "PYTHONPATH": "", "RETORT_HOME": str(folder)}
    done = subprocess.run(
        [sys.executable, *command], cwd=folder, env=environment, input="", capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


def test_every_command_explains_itself_as_before(golden: Golden, tmp_path: Path):
    code, printed = said("-c", EVERY_HELP, folder=tmp_path)
    assert code == 0, printed
    golden.same("cli-help.txt", "".join(f"{line.rstrip()}\n" for line in printed.splitlines()))


def test_the_migrated_tables_are_as_before(golden: Golden, tmp_path: Path):
    with closing(Database(f"sqlite:///{tmp_path / 'retort.db'}")) as database:
        migrate.upgrade(database)
        with database.engine.connect() as connection:
            rows = connection.execute(
                text("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY tbl_name, type DESC, name")
            )
            statements = [str(row.sql) for row in rows]
    golden.same("schema.sql", "".join(f"{statement.strip()};\n\n" for statement in statements))


@pytest.mark.parametrize("address", PUBLIC["imports"])
def test_a_name_that_people_import_is_where_it_was(address: str):
    module, _, name = address.partition(":")
    found = importlib.import_module(module)
    assert not name or hasattr(found, name), address


@pytest.mark.parametrize("program", PUBLIC["programs"])
def test_a_program_that_people_start_answers_as_before(program: str, golden: Golden, tmp_path: Path):
    code, printed = said("-m", program, "--help", folder=tmp_path)
    golden.same(f"programs/{program}.txt", f"{printed}exit code {code}\n")


def test_the_script_is_installed_and_names_the_version(tmp_path: Path):
    script = Path(sys.executable).with_name("retort")
    done = subprocess.run([script, "--version"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("retort ")


def test_the_clients_methods_take_what_they_took(golden: Golden):
    methods = {
        name: [
            f"{parameter.name} ({parameter.kind.description})"
            + ("" if parameter.default is inspect.Parameter.empty else f" = {parameter.default!r}")
            for parameter in inspect.signature(method).parameters.values()
        ]
        for name, method in inspect.getmembers(Client, inspect.isfunction)
        if not name.startswith("_") or name == "__init__"
    }
    golden.same_data("client.json", methods)


@pytest.mark.parametrize("task", ["distill", "advise"])
def test_a_spec_has_the_fields_it_had(task: str, golden: Golden):
    golden.same_data(f"spec-{task}.json", without_prose(schema(task)))


def without_prose(value: Any) -> Any:
    """Drop titles and descriptions, which may become clearer at any time."""
    if isinstance(value, dict):
        return {
            key: without_prose(entry)
            for key, entry in value.items()
            if not (key in {"title", "description", "examples"} and not isinstance(entry, dict))
        }
    return [without_prose(entry) for entry in value] if isinstance(value, list) else value
