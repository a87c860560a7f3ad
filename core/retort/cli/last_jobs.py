"""Keep the jobs that commands on this machine have made, for ``@last``."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote, urlsplit

from platformdirs import user_state_path

from retort.errors import UserError
from retort.files import atomic_write

MARK = "@last"
"""Stands for the job that was made last; ``@last~1`` for the one before."""
_JOB = re.compile(r"job_[0-9a-f]{32}")
_KEPT = 100
_LONGEST_BYTES = 32_768
"""A longer file is shortened to the jobs that are kept."""


def remember(url: str, job_id: str) -> None:
    """Note a job that a command has made at *url*; where nothing can be written, do without."""
    path = _path(url)
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(descriptor, f"{job_id}\n".encode())  # one write: commands beside each other lose nothing
        finally:
            os.close(descriptor)
        if path.stat().st_size > _LONGEST_BYTES:
            atomic_write(path, "".join(f"{one}\n" for one in reversed(made(url))).encode())
            path.chmod(0o600)


def made(url: str) -> list[str]:
    """Return the jobs that commands have made at *url*, the last first; each counts where it was made last."""
    try:
        lines = _path(url).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    return list(dict.fromkeys(line for line in reversed(lines) if _JOB.fullmatch(line)))[:_KEPT]


def recall(url: str, text: str) -> str:
    """Return the job that ``@last`` or ``@last~N`` stands for.

    Raises:
        UserError: it is written otherwise, or so many were not made here.

    """
    if not (found := re.fullmatch(rf"{MARK}(?:~([0-9]{{1,4}}))?", text)):
        raise UserError(f"{text!r} names no job", hint=f"{MARK}, or {MARK}~1 for the one before", code="job_not_found")
    jobs, back = made(url), int(found[1] or 0)
    if back < len(jobs):
        return jobs[back]
    count = f"{len(jobs)} job{'' if len(jobs) == 1 else 's'}" if jobs else "no job"
    hint = "submit, retry, clone and extend are counted, on this machine; retort ls lists all jobs"
    raise UserError(f"{text}: {count} was made from here at {url}", hint=hint, code="job_not_found")


def _path(url: str) -> Path:
    """Return where the jobs at one scheme, host and port are noted."""
    parts = urlsplit(url)
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme, 0)
    return user_state_path("retort") / "jobs" / f"{parts.scheme}_{quote(parts.hostname or '', safe='')}_{port}.txt"
