"""Send a service whatever its contract allows and forbids, in all phases of schemathesis, and count what it breaks.

    python benchmarks/contract.py [--examples 100] [--path REGEX] [--seed 1]

A service of its own is started on an empty SQLite database, and asked with an operator's key; ``ignored_auth`` asks
each operation without a key and with a wrong one, too. The exit code is schemathesis's: 0 where nothing was broken. Its
last lines have the number of cases; a hundred examples of each operation make more than ten thousand.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

from provenance import ROOT
from retort.db import Database, migrate
from support.api_harness import started
from support.identity import OPERATOR, seed

PHASES = "examples,coverage,fuzzing,stateful"
BEYOND_THE_SCHEMA = "positive_data_acceptance"
"""No JSON Schema can say where data may lie, what a checkpoint, a cursor or a version is, and which ids there are."""
STREAMS = "/stream$"
"""Events are text, which OpenAPI 3.1 cannot describe."""


def main() -> int:
    """Run schemathesis against a service of its own; return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=100, help="cases of each operation in the phase of fuzzing")
    parser.add_argument("--path", help="only operations whose path this regular expression finds")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        template, home = Path(folder) / "template.db", Path(folder) / "home"
        home.mkdir()
        with closing(Database(f"sqlite:///{template}")) as database:
            migrate.upgrade(database)
            seed(database)
        with started(template, home) as service:
            chosen = ["--include-path-regex", options.path] if options.path else ["--exclude-path-regex", STREAMS]
            command = [
                str(Path(sys.executable).with_name("schemathesis")), "run", str(ROOT / "docs" / "openapi.json"),
                "--url", service.url, "--header", f"Authorization: Bearer {OPERATOR}", "--phases", PHASES,
                "--checks", "all", "--exclude-checks", BEYOND_THE_SCHEMA, "--max-examples", str(options.examples),
                "--seed", str(options.seed), "--continue-on-failure", "--no-color", *chosen,
            ]  # fmt: skip
            return subprocess.run(command, check=False, cwd=folder).returncode


if __name__ == "__main__":
    sys.exit(main())
