"""Where a sweep stands, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def sentence(sweep: Mapping[str, Any]) -> str:
    """Say of a sweep, as the API shows it, how far it is and what is best."""
    best, objective = sweep["best"], sweep["spec"]["objective"]
    if sweep["failure"]:
        told = f"Gave up: {sweep['failure']['message']}."
        return told if best is None else f"{told} The best until then is trial {best['number']} ({best['value']:.4f})."
    done = sum(sweep["counts"][state] for state in ("succeeded", "failed", "pruned", "cancelled"))
    far = f"{done} of {sweep['num_trials']} trials have ended"
    if best is None:
        return f"{far}; none has succeeded yet."
    what = f"{objective['role']} {objective['metric']} {best['value']:.4f}"
    if sweep["state"] == "succeeded":
        return f"Trial {best['number']} is the best of {sweep['num_trials']}: {what}."
    return f"{far}; the best so far is trial {best['number']}: {what}."
