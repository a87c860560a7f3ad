"""Which weights teach: those that the job trained, or those that the spec names."""

from __future__ import annotations

from pathlib import Path

from retort.stages.context import Context


def weights(context: Context) -> Path:
    """Return the path of the teacher's weights."""
    trained = context.results.get("train_teacher")
    if trained is not None:
        return context.workdir / str(trained["weights"])
    name = context.spec.teacher.weights
    assert name is not None
    return context.inputs.weights[name]
