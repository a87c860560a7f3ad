"""How sweeps and their trials look on a terminal."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from retort.cli import view
from retort.states import SweepState, TrialState
from retort.sweeps.charts import shorten
from retort.sweeps.sentences import sentence

Json = Mapping[str, Any]

COLOURS: dict[str, str] = {
    TrialState.QUEUED: "yellow",
    TrialState.RUNNING: "cyan",
    TrialState.SUCCEEDED: "green",
    TrialState.FAILED: "red",
    TrialState.PRUNED: "blue",
    TrialState.CANCELLED: "magenta",
    SweepState.CANCELLING: "magenta",
}


def sweeps_table(sweeps: Iterable[Json]) -> Table:
    """One line per sweep."""
    table = _table("sweep", "name", "state", "search", "trials", "best", "created", right={"trials", "best"})
    for sweep in sweeps:
        best = sweep["best"]
        begun = sum(sweep["counts"].values())
        table.add_row(
            sweep["id"], sweep["name"], _state(sweep["state"]), sweep["strategy"], f"{begun}/{sweep['num_trials']}",
            view.score(best and best["value"]), view.clock(sweep["created_at"], "%Y-%m-%d %H:%M:%S"),
        )  # fmt: skip
    return table


def sweep_page(sweep: Json) -> RenderableType:
    """All that matters about one sweep."""
    head = Table.grid(padding=(0, 2))
    head.add_row("sweep", f"{sweep['id']}  {sweep['name']}")
    head.add_row("state", _state(sweep["state"]))
    counts = [f"{number} {state}" for state, number in sweep["counts"].items() if number]
    head.add_row("trials", f"{', '.join(counts) or 'none'} of {sweep['num_trials']}")
    parts: list[RenderableType] = [head, "", trials_table(sweep), "", sentence(sweep)]
    if sweep["failure"] and sweep["failure"]["hint"]:
        parts.append(f"hint: {sweep['failure']['hint']}")
    return Group(*parts)


def trials_table(sweep: Json) -> Table:
    """One line per trial, with its parameters."""
    paths = list(sweep["spec"]["parameters"])
    names, metric = shorten(paths), sweep["spec"]["objective"]["metric"]
    table = _table("trial", "state", *names, metric, "job", "reason", right={"trial", metric, *names})
    for trial in sweep["trials"]:
        best = sweep["best"] is not None and trial["number"] == sweep["best"]["number"]
        table.add_row(
            str(trial["number"]), _state(trial["state"]), *(_value(trial["parameters"][path]) for path in paths),
            view.score(trial["value"]), trial["job_id"] or "", trial["reason"] or "", style="bold" if best else "",
        )  # fmt: skip
    return table


def trial_line(trial: Json, sweep: Json) -> str:
    """Where one trial stands."""
    paths = list(sweep["spec"]["parameters"])
    given = " ".join(
        f"{name}={_value(trial['parameters'][path])}" for name, path in zip(shorten(paths), paths, strict=True)
    )
    value = "" if trial["value"] is None else f"  {sweep['spec']['objective']['metric']} {trial['value']:.4f}"
    reason = f"  ({trial['reason']})" if trial["reason"] else ""
    return f"trial {trial['number']:>3}  {trial['state']:<9}  {given}{value}{reason}"


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(value)


def _state(state: str) -> Text:
    return Text(state, style=COLOURS.get(state, ""))


def _table(*columns: str, right: set[str]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", no_wrap=column != "reason")
    return table
