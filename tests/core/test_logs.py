"""Log lines: what strangers have named reaches no terminal as a command."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from retort.errors import DataError, printable
from retort.logs import LineLimit

HOSTILE = "a\x1b]0;owned\x07\x9b31m\u202eb\rc"
PROGRAM = """
import logging, pathlib, sys, structlog
from retort import logs
logs.configure(as_json=sys.argv[1] == "json")
hostile = sys.argv[2]
log = structlog.get_logger("test")
log.info("job " + hostile, name=hostile, file=pathlib.Path(hostile), several=[hostile])
logging.getLogger("uvicorn.error").warning("GET %s", "/v1/jobs/" + hostile)
try:
    raise ValueError(hostile)
except ValueError:
    log.exception("failed")
logging.getLogger("alembic.runtime.migration").info("Context impl")
"""


@pytest.mark.parametrize("form", ["text", "json"])
def test_escape_sequences_in_names_files_and_addresses_reach_no_log(form: str):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, form, HOSTILE], capture_output=True, text=True, check=True, errors="strict"
    )

    assert not set(done.stderr) & set("\x1b\x07\x9b\u202e\r")
    assert "Context impl" not in done.stderr
    if form == "json":
        lines = [json.loads(line) for line in done.stderr.splitlines()]
        assert [line["event"] for line in lines] == ["job " + HOSTILE, "GET /v1/jobs/" + HOSTILE, "failed"]
    else:
        assert done.stderr.count("a\\x1b]0;owned\\x07\\x9b31m\\u202eb\\rc") >= 4


def test_an_error_names_a_hostile_file_without_obeying_it():
    error = DataError(f"{HOSTILE} is no image", hint=f"remove\n{HOSTILE}")

    assert error.message == "a\\x1b]0;owned\\x07\\x9b31m\\u202eb\\rc is no image"
    assert error.hint == "remove\na\\x1b]0;owned\\x07\\x9b31m\\u202eb\\rc"


@pytest.mark.parametrize("name", ["Straße", "犬 と 猫", "👩\u200d🔬", "a\u00a0b"])
def test_names_in_any_script_stay_as_they_are(name: str):
    assert printable(name) == name


def test_bytes_that_are_no_text_are_spelled_out():
    assert printable(b"\xff.png".decode(errors="surrogateescape")) == "\\udcff.png"


def test_lines_of_one_kind_are_limited_in_a_minute_and_what_was_left_out_is_counted():
    now = [0.0]
    limit = LineLimit(2, monotonic=lambda: now[0])

    assert [limit.passed(404) for _ in range(5)] == [0, 0, None, None, None]
    assert limit.passed(503) == 0
    now[0] = 61.0
    assert [limit.passed(404) for _ in range(3)] == [3, 0, None]
