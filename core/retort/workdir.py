"""The files by which a run and its worker meet in the run's working folder."""

from __future__ import annotations

from pathlib import Path

SPEC = "spec.json"
LOCK = "run.lock"
"""Held with flock by the run as long as it lives."""
LOG = "run.log"
"""What the run and its children print."""
FINISH = "finish"
"""The worker creates it to have the run finish early; it stays for later attempts."""
PULSE = "pulse"
"""The run rewrites it whenever it gets on: ``<section> <count>``."""

DECISIONS = "decisions.json"
"""The worker writes it: what reviewers have decided about pseudo-labels."""

SECTIONS = ("setup", "step", "checkpoint")
"""What a run can be at: preparing something, going through batches, or writing its state."""


def journal(folder: Path, attempt: int) -> Path:
    """Where the run of this attempt writes its journal."""
    return folder / f"journal-{attempt}.jsonl"
