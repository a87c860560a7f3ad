"""Define what a check of this machine finds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "warning", "failed"]


@dataclass(frozen=True, slots=True)
class DoctorFinding:
    """What one check has found."""

    name: str
    status: Status
    """``failed`` hinders work; ``warning`` may, or hinders some of it."""
    detail: str
    fix: str | None = None
    """What to do about it."""


def ok(name: str, detail: str) -> DoctorFinding:
    """Return that nothing is wrong."""
    return DoctorFinding(name, "ok", detail)


def warning(name: str, detail: str, fix: str) -> DoctorFinding:
    """Return a doubt, and what to do about it."""
    return DoctorFinding(name, "warning", detail, fix)


def failed(name: str, detail: str, fix: str) -> DoctorFinding:
    """Return what hinders work, and what to do about it."""
    return DoctorFinding(name, "failed", detail, fix)
