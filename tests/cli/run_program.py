"""The worker's scripted runs, and one for the examples' first job."""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from results import result
from retort import chart_program
from retort.constants import Role
from retort.protocol.journal import Journal
from retort.spec.result import parse_result
from stored_results import EXPORTS, advice, candidate
from support import scripted_run


def first_job(journal: Journal, workdir: Path, *_: int) -> None:
    (workdir / "student.pt").write_bytes(b"s" * 3_000_000)
    journal.artifact("student.pt", Role.STUDENT, "student.pt")
    journal.finished(result(teacher=0.35, student=0.25, control=0.20))


def edge_student(journal: Journal, workdir: Path, *_: int) -> None:
    """Publish what a job publishes whose spec is the one of SKILL.md."""
    contents = {name: name for name in ("student.pt", "student-int8.onnx")}
    for name, content in {**contents, "report.html": f"<p>charts</p>{chart_program.embedded()}"}.items():
        (workdir / name).write_text(content)
        journal.artifact(name, Role.STUDENT, name)
    journal.finished(result(exports=[{**EXPORTS["passed"], "path": "student-int8.onnx", "precision": "int8"}]))


def advise(journal: Journal, workdir: Path, *_: int) -> None:
    """Recommend the first candidate, whatever it is; refuse one that is called so."""
    spec = json.loads((workdir / "spec.json").read_text())
    verdicts = {name: "refused" if "weak" in name else "recommended" for name in spec["candidates"]}
    journal.finished(parse_result(advice(*(candidate(name, verdict) for name, verdict in verdicts.items()))))


scripted_run.SCRIPTS["first-job"] = first_job
scripted_run.SCRIPTS["edge-student"] = edge_student
scripted_run.SCRIPTS["advice"] = advise

if __name__ == "__main__":
    scripted_run.main()
