"""The worker's scripted runs, and one for the examples' first job."""

from __future__ import annotations

import json
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


def advice(journal: Journal, workdir: Path, *_: int) -> None:
    """Recommend the first candidate, whatever it is; refuse one that is called so."""
    spec = json.loads((workdir / "spec.json").read_text())
    figures = {
        "model": "yolo11s", "map50": 0.6, "map": 0.4, "num_parameters": 9_400_000, "capacity": {"gflops": 2.5},
        "step": {"ratio": 1.2}, "ap_over_student": {"0": 0.1}, "weaker_classes": [], "reasons": ["It is better."],
    }  # fmt: skip
    candidates = [
        {
            "weights": name,
            "title": name.removesuffix(".pt"),
            **figures,
            "verdict": "refused" if "weak" in name else "recommended",
        }
        for name in spec["candidates"]
    ]
    best = next((one for one in candidates if one["verdict"] == "recommended"), None)
    journal.finished({
        "task": "advise", "student": {**FIGURES, "weights": None}, "candidates": candidates, "recommended": best,
        "sentence": f"Take {best['title']}." if best else "None of them should teach this student.",
    })  # fmt: skip


scripted_run.SCRIPTS["first-job"] = first_job
scripted_run.SCRIPTS["advice"] = advice

if __name__ == "__main__":
    scripted_run.main()
