"""Send a service whatever its contract allows and forbids, in all phases of schemathesis, and count what it breaks.

    python benchmarks/contract.py [--examples 100] [--path REGEX] [--seed 1]

A service of its own is started on an empty SQLite database, and asked with an operator's key; ``ignored_auth`` asks
each operation without a key and with a wrong one, too. What ends the key that asks has a service of its own: behind a
key that has ended nothing would be tested. The exit code is 0 where nothing was broken. The last lines of each run have
its number of cases; a hundred examples of each operation make more than ten thousand.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

import httpx2
from provenance import ROOT
from retort.db import Database, migrate
from support.api_harness import started
from support.identity import OPERATOR, seed

PHASES = "examples,coverage,fuzzing,stateful"
BEYOND_THE_SCHEMA = "positive_data_acceptance"
"""No JSON Schema can say where data may lie, what a checkpoint, a cursor or a version is, and which ids there are."""
STREAMS = "/stream$"
"""Events are text, which OpenAPI 3.1 cannot describe."""


ENDS_THE_KEY = "^/v1/(me/rotate|keys/[^/]+/(revoke|rotate)|logout)$"
"""Whoever asks for these may have no valid key afterwards."""
CONFIGURATION = ROOT / "tests" / "support" / "schemathesis.toml"


def main() -> int:
    """Run schemathesis against services of its own; return 0 where nothing was broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=100, help="cases of each operation in the phase of fuzzing")
    parser.add_argument("--path", help="only operations whose path this regular expression finds")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    given = ["--max-examples", str(options.examples), "--seed", str(options.seed)]
    if options.path:
        return _broken(given, "--include-path-regex", options.path)
    most = _broken(given, "--exclude-path-regex", f"{STREAMS}|{ENDS_THE_KEY}")
    return _broken(given, "--include-path-regex", ENDS_THE_KEY, ends_key=True) or most


def _broken(given: list[str], *chosen: str, ends_key: bool = False) -> int:
    """Ask a new service; return the exit code of schemathesis, or 1 where the key has ended meanwhile."""
    with tempfile.TemporaryDirectory() as folder:
        template, home = Path(folder) / "template.db", Path(folder) / "home"
        home.mkdir()
        with closing(Database(f"sqlite:///{template}")) as database:
            migrate.upgrade(database)
            seed(database)
        with started(template, home, failed_key_limit="") as service:
            key = f"Bearer {OPERATOR}"
            command = [
                str(Path(sys.executable).with_name("schemathesis")), "--config-file", str(CONFIGURATION), "run",
                str(ROOT / "docs" / "openapi.json"), "--url", service.url, "--header", f"Authorization: {key}",
                "--phases", PHASES, "--checks", "all", "--exclude-checks", BEYOND_THE_SCHEMA, "--continue-on-failure",
                "--no-color", *given, *chosen,
            ]  # fmt: skip
            code = subprocess.run(command, check=False, cwd=folder).returncode
            sys.stdout.writelines(
                f"{line}\n" for line in service.log.read_text().splitlines() if '"level": "error"' in line
            )
            if not ends_key and httpx2.get(f"{service.url}/v1/me", headers={"Authorization": key}).is_error:
                sys.stdout.write("the key has ended while it was asked with: nothing behind it was tested\n")
                return 1
            return code


if __name__ == "__main__":
    sys.exit(main())
