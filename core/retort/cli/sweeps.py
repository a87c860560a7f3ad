"""``retort sweep`` and its companions: submit, watch and show sweeps."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from retort.cli import pages, render
from retort.cli.options import AsJson, Sets, SweepFile, SweepId, Url, connect, emit, find_sweep, note, say
from retort.cli.spec import load
from retort.cli.weights import register_weights, register_with
from retort.client.client import Client
from retort.states import LIVE_SWEEPS, SweepState, TrialState
from retort.sweeps.planner import sentence
from retort.sweeps.trial_plots import shorten

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


def sweeps_table(sweeps: Iterable[Json]) -> render.FittedTable:
    """One line per sweep."""
    table = render.FittedTable(
        "sweep", "name", "state", render.Column("search", rank=1), render.figure("trials"), render.figure("best"),
        render.Column("created", rank=2),
    )  # fmt: skip
    for sweep in sweeps:
        best = sweep["best"]
        begun = sum(sweep["counts"].values())
        table.add_row(
            sweep["id"], sweep["name"], _state(sweep["state"]), sweep["strategy"], f"{begun}/{sweep['num_trials']}",
            render.score(best and best["value"]), render.clock(sweep["created_at"], "%Y-%m-%d %H:%M:%S"),
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


def trials_table(sweep: Json) -> render.FittedTable:
    """One line per trial, with its parameters."""
    paths = list(sweep["spec"]["parameters"])
    names, metric = shorten(paths), sweep["spec"]["objective"]["metric"]
    table = render.FittedTable(
        render.figure("trial"), "state", *map(render.figure, names), render.figure(metric),
        render.Column("job", rank=2), render.Column("reason", rank=1),
    )  # fmt: skip
    for trial in sweep["trials"]:
        best = sweep["best"] is not None and trial["number"] == sweep["best"]["number"]
        table.add_row(
            str(trial["number"]), _state(trial["state"]), *(_value(trial["parameters"][path]) for path in paths),
            render.score(trial["value"]), trial["job_id"] or "", trial["reason"] or "", style="bold" if best else "",
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


EXIT_CODES: dict[str, int] = {SweepState.SUCCEEDED: 0, SweepState.FAILED: 1, SweepState.CANCELLED: 2}
EVERY_S = 1.0

Out = Annotated[Path | None, typer.Option(help="File to write to.", show_default="standard output")]


def submit(  # noqa: PLR0917 - typer gives each by name
    file: SweepFile,
    sets: Sets = None,
    follow: Annotated[bool, typer.Option("--watch", help="Stay, and show the sweep until it has ended.")] = False,
    key: Annotated[
        str | None, typer.Option("--idempotency-key", help="Submitting twice with one key makes one sweep.")
    ] = None,
    owner: Annotated[str | None, typer.Option(help="Owner of its jobs.")] = None,
    priority: Annotated[int | None, typer.Option(min=-100, max=100, help="Priority of its jobs.")] = None,
    url: Url = None,
    as_json: AsJson = False,
) -> int:
    """Search for the best values of a spec's fields, by many jobs; print the sweep's id."""
    with connect(url) as client:
        document = register_weights(load(file, sets), register_with(client))
        sweep = client.submit_sweep(document, idempotency_key=key, owner=owner, priority=priority)
        if follow:
            note(sweep["id"])
            return _show(client, sweep["id"], as_json=as_json)
        if as_json:
            emit(sweep)
        else:
            say(sweep["id"])
            note(f"follow it: retort sweep-watch {sweep['id']}")
            pages.tell(client, pages.sweep(sweep["id"]))
    return 0


def list_sweeps(
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 20, url: Url = None, as_json: AsJson = False
) -> None:
    """List sweeps, newest first."""
    with connect(url) as client:
        found = list(islice(client.list_sweeps(), limit))
    if as_json:
        emit(found)
    else:
        render.console().print(sweeps_table(found))


def get(sweep_id: SweepId, url: Url = None, as_json: AsJson = False) -> None:
    """Show a sweep: its trials with parameters and values, and the best so far."""
    with connect(url) as client:
        sweep = client.get_sweep(find_sweep(client, sweep_id))
    if as_json:
        emit(sweep)
    else:
        render.console().print(sweep_page(sweep))


def watch(sweep_id: SweepId, url: Url = None, as_json: AsJson = False) -> int:
    """Tell of each trial as it begins and ends, until the sweep has ended; Ctrl-C leaves it running."""
    with connect(url) as client:
        return _show(client, find_sweep(client, sweep_id), as_json=as_json)


def cancel(sweep_id: SweepId, url: Url = None, as_json: AsJson = False) -> None:
    """Make no more trials, and cancel the jobs of those under way."""
    with connect(url) as client:
        sweep = client.cancel_sweep(find_sweep(client, sweep_id))
    if as_json:
        emit(sweep)
    else:
        say(f"{sweep['id']} is {sweep['state']}")


def best(sweep_id: SweepId, out: Out = None, url: Url = None, as_json: AsJson = False) -> None:
    """Print the whole spec of the best trial so far as YAML, ready to submit."""
    with connect(url) as client:
        spec = client.best_spec(find_sweep(client, sweep_id))
    if as_json:
        emit(spec)
    else:
        _write(yaml.safe_dump(spec, sort_keys=False, default_flow_style=None, width=110), out)


def report(
    sweep_id: SweepId,
    out: Annotated[Path, typer.Option(help="File to write to.")],
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Write the sweep as one HTML page: a table, a plot of the parameters, and the best spec."""
    with connect(url) as client:
        page = client.sweep_report(find_sweep(client, sweep_id))
    if as_json:
        out.write_text(page)
        emit({"path": str(out)})
    else:
        _write(page, out)


def _write(text: str, out: Path | None) -> None:
    if out is None:
        say(text, nl=False)
    else:
        out.write_text(text)
        note(str(out))


def _show(client: Client, sweep_id: str, *, as_json: bool) -> int:
    """Show a sweep until it has ended; return the exit code that says how."""
    seen: dict[int, Mapping[str, Any]] = {}
    try:
        while True:
            sweep = client.get_sweep(sweep_id)
            for trial in sweep["trials"]:
                if (seen.get(trial["number"]) or {}).get("state") != trial["state"]:
                    emit(trial) if as_json else say(trial_line(trial, sweep))
                seen[trial["number"]] = trial
            if sweep["state"] not in LIVE_SWEEPS:
                break
            time.sleep(EVERY_S)
    except KeyboardInterrupt:
        note(f"{sweep_id} goes on; cancel it: retort sweep-cancel {sweep_id}")
        raise
    if as_json:
        emit(sweep)
    else:
        render.console().print(sweep_page(sweep))
        pages.tell(client, pages.sweep(sweep_id))
        if sweep["best"] is not None:
            note(f"next: retort sweep-best {sweep_id}")
    return EXIT_CODES[sweep["state"]]
