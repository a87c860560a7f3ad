"""More than a thousand hostile texts on a terminal, in logs, errors and file names: no character of them is obeyed."""

from __future__ import annotations

import io
import json
import logging
from typing import Any

import pytest
import structlog
from retort import logs
from retort.cli import render
from retort.errors import UNPRINTABLE, UserError
from retort_api.file_response import FILE_POLICY, StoredFile, _headers
from support.hostile import texts

ALL = texts()


def obeyed(printed: str) -> set[str]:
    """Return the characters in *printed* that a terminal would do something about."""
    return set(UNPRINTABLE.findall(printed)) - {"\n", "\t"}


def test_no_name_and_no_message_steers_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    for text in ALL:
        error = UserError(text, hint=text)
        assert obeyed(f"{error}{error.hint}") == set()
        line = render.event_line({"seq": 1, "type": "log", "level": "info", "message": text, "at": 0, "data": {}})
        failure = {"code": text, "message": text, "hint": text, "log": text, "retryable": False}
        console = render.console()
        console.print(render.failure_text(failure))
        console.print(line or "")
    printed = capsys.readouterr().out

    assert len(printed) > 100_000
    assert obeyed(printed) == set()


@pytest.mark.parametrize("as_json", [True, False])
def test_a_log_has_one_line_for_each_record_and_obeys_none(as_json: bool) -> None:
    root, before = logging.getLogger(), structlog.get_config()
    handlers, level = root.handlers, root.level
    try:
        logs.configure(as_json=as_json)
        written = io.StringIO()
        root.handlers[0].setStream(written)  # type: ignore[attr-defined]
        for text in ALL:
            structlog.get_logger("retort.x").info("request", path=text, error=text)
    finally:
        root.handlers, root.level = handlers, level
        structlog.configure(**before)

    lines = written.getvalue().splitlines() if not as_json else written.getvalue().split("\n")[:-1]
    assert obeyed(written.getvalue()) == set()
    assert not as_json or [json.loads(line)["event"] for line in lines] == ["request"] * len(ALL)


def test_no_file_name_breaks_out_of_its_header() -> None:
    for text in ALL:
        file = StoredFile(text, "0" * 64, 1, text, "key")
        headers: dict[str, Any] = _headers(file, '"x"', FILE_POLICY)

        assert headers["Content-Disposition"].startswith("attachment; filename=")
        assert all(value.isascii() and value.isprintable() for value in headers.values())
        assert headers["Content-Type"] == "application/octet-stream"
        assert headers["Content-Security-Policy"].startswith("sandbox;")
