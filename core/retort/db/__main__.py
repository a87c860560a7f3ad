"""Migrate the database: ``python -m retort.db upgrade|downgrade|current|revision``."""

from __future__ import annotations

import argparse
import sys

from alembic import command

from retort.db import migrate
from retort.db.session import Database
from retort.errors import RetortError
from retort.settings import Settings


def main(arguments: list[str] | None = None) -> int:
    """Run the database command of the command line; return exit code.

    The database is the one that the settings name.
    """
    given = _parser().parse_args(arguments)
    database = Database(Settings().database_url)
    try:
        if given.command == "upgrade":
            migrate.upgrade(database)
        elif given.command == "downgrade":
            migrate.downgrade(database, given.revision)
        elif given.command == "revision":
            migrate.upgrade(database)  # the draft is the difference to what the revisions make
            with database.engine.begin() as connection:
                command.revision(migrate.config(connection), given.message, autogenerate=True)
        at = migrate.current(database)
    except RetortError as error:
        sys.stderr.write(f"{error.code}: {error.message}\n")
        return 1
    finally:
        database.close()
    sys.stdout.write(f"{at or 'empty'}{' (head)' if at == migrate.head() else ''}\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m retort.db", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("upgrade", help="bring the tables to the latest revision")
    down = commands.add_parser("downgrade", help="go back; base removes all tables and what is in them")
    down.add_argument("revision")
    commands.add_parser("current", help="say which revision the tables are at")
    commands.add_parser("revision", help="draft a revision from the difference to the models").add_argument("message")
    return parser


if __name__ == "__main__":
    sys.exit(main())
