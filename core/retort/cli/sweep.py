"""``retort sweep`` and its companions: search for the best values of a spec's fields."""

from __future__ import annotations

import time
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from retort.cli import sweep_view, view
from retort.cli.documents import load
from retort.cli.options import AsJson, Sets, SweepFile, SweepId, Url
from retort.cli.output import emit, note
from retort.cli.service import connect, find_sweep
from retort.client import Client
from retort.states import LIVE_SWEEPS, SweepState

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
        sweep = client.submit_sweep(load(file, sets), idempotency_key=key, owner=owner, priority=priority)
        if follow:
            note(f"{sweep['id']} at {client.url}")
            return _show(client, sweep["id"], as_json=as_json)
        if as_json:
            emit(sweep)
        else:
            typer.echo(sweep["id"])
            note(f"follow it: retort sweep-watch {sweep['id']}")
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
        view.console().print(sweep_view.sweeps_table(found))


def get(sweep_id: SweepId, url: Url = None, as_json: AsJson = False) -> None:
    """Show a sweep: its trials with parameters and values, and the best so far."""
    with connect(url) as client:
        sweep = client.get_sweep(find_sweep(client, sweep_id))
    if as_json:
        emit(sweep)
    else:
        view.console().print(sweep_view.sweep_page(sweep))


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
        typer.echo(f"{sweep['id']} is {sweep['state']}")


def best(sweep_id: SweepId, out: Out = None, url: Url = None, as_json: AsJson = False) -> None:
    """Print the whole spec of the best trial so far as YAML, ready to submit."""
    with connect(url) as client:
        spec = client.best_spec(find_sweep(client, sweep_id))
    if as_json:
        emit(spec)
    else:
        _write(yaml.safe_dump(spec, sort_keys=False, default_flow_style=None, width=110), out)


def report(sweep_id: SweepId, out: Annotated[Path, typer.Option(help="File to write to.")], url: Url = None) -> None:
    """Write the sweep as one HTML page: a table, a plot of the parameters, and the best spec."""
    with connect(url) as client:
        _write(client.sweep_report(find_sweep(client, sweep_id)), out)


def _write(text: str, out: Path | None) -> None:
    if out is None:
        typer.echo(text, nl=False)
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
                if not as_json and (seen.get(trial["number"]) or {}).get("state") != trial["state"]:
                    typer.echo(sweep_view.trial_line(trial, sweep))
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
        view.console().print(sweep_view.sweep_page(sweep))
    return EXIT_CODES[sweep["state"]]
