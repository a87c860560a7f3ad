"""What the stages of a finished run have answered, read from its folder."""

from __future__ import annotations

import json
from pathlib import Path

from retort.pipeline.context import find


def answers(workdir: Path) -> dict[str, object]:
    """Return each stage's answer as a later stage gets it."""
    stages = {stage.name: stage for task in ("distill", "advise") for stage in find(task)}
    kept = {path.stem: json.loads(path.read_text())["result"] for path in (workdir / "stages").iterdir()}
    return {name: stages[name].read(found) for name, found in kept.items()}
