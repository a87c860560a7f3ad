"""The worker's scripted runs, and one for the examples' first job."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from retort.journal import Journal
from retort.names import Role

from worker import scripted_run

FIGURES = {
    "model": "yolov8n", "map50": 0.5, "map": 0.25, "num_parameters": 3_000_000, "gflops": 8.7, "size_bytes": 6_000_000,
    "latency_ms": {"p50": 10.0, "p90": 12.0}, "per_class": {}, "epochs": 1,
}  # fmt: skip


def first_job(journal: Journal, workdir: Path, *_: int) -> None:
    (workdir / "student.pt").write_bytes(b"s" * 3_000_000)
    journal.artifact("student.pt", Role.STUDENT, "student.pt")
    roles = {"teacher": {**FIGURES, "map": 0.35}, "student": FIGURES, "control": {**FIGURES, "map": 0.20}}
    gain = {"map50": 0.0, "map": 0.05}
    journal.finished({"roles": roles, "gain": gain, "gap_closed": {"map50": None, "map": 1 / 3}})


scripted_run.SCRIPTS["first-job"] = first_job

if __name__ == "__main__":
    scripted_run.main()
