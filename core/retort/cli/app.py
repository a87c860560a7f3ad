"""The command ``retort`` with all its subcommands, and how it ends."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from retort import __version__
from retort.cli import (
    advise,
    agents,
    boundary,
    browser,
    data,
    datasets,
    evaluate,
    init,
    jobs,
    keeping,
    keys,
    models,
    options,
    oversight,
    review,
    run,
    spec,
    sweeps,
    top,
    up,
    webhooks,
    workers,
)
from retort.cli.doctor.command import doctor
from retort.errors import RetortError, UserError

ERROR_EXIT = 4
"""The command itself could not do its work; the others speak of jobs."""
INTERRUPTED_EXIT = 130
"""Of a command that a person, or SIGTERM, has stopped."""

app = typer.Typer(
    name="retort",
    help="Distil YOLO detectors, and prove what the distillation bought.",
    epilog="Exit codes: 0 done (the job succeeded), 1 the job failed, 2 cancelled, 3 timeout, 4 the command failed, "
    "5 the run waits for a review.",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
SERVICE, SWEEPS, LOCAL, AGENTS = "The service", "Sweeps", "Without a service", "For agents"
app.command(rich_help_panel=SERVICE)(up.up)
app.command(rich_help_panel=SERVICE)(jobs.submit)
app.command("ls", rich_help_panel=SERVICE)(jobs.list_jobs)
app.command(rich_help_panel=SERVICE)(jobs.get)
app.command(rich_help_panel=SERVICE)(jobs.watch)
app.command(rich_help_panel=SERVICE)(top.top)
app.command(rich_help_panel=SERVICE)(evaluate.compare)
app.command("open", rich_help_panel=SERVICE)(browser.open_page)
app.command(rich_help_panel=SERVICE)(jobs.logs)
app.command(rich_help_panel=SERVICE)(workers.workers)
app.command(rich_help_panel=SERVICE)(workers.drain)
app.command(rich_help_panel=SERVICE)(jobs.wait)
for _command in (jobs.cancel, jobs.stop, jobs.pause, jobs.resume, jobs.retry, jobs.extend, jobs.clone):
    app.command(rich_help_panel=SERVICE)(_command)
app.command(rich_help_panel=SERVICE)(jobs.priority)
app.command(rich_help_panel=SERVICE)(jobs.label)
app.command(rich_help_panel=SERVICE)(jobs.predict)
app.command(rich_help_panel=SERVICE)(jobs.download)
app.command(rich_help_panel=SERVICE)(keeping.delete)
app.command(rich_help_panel=SERVICE)(keeping.restore)
app.command(rich_help_panel=SERVICE)(keeping.keep)
app.command(rich_help_panel=SERVICE)(keeping.prune)
app.command(rich_help_panel=SERVICE)(keeping.usage)
app.command(rich_help_panel=SERVICE)(oversight.audit)
app.command(rich_help_panel=SERVICE)(oversight.quota)
app.add_typer(review.app, name="review", rich_help_panel=SERVICE)
app.add_typer(datasets.app, name="datasets", rich_help_panel=SERVICE)
app.add_typer(keys.app, name="keys", rich_help_panel=SERVICE)
app.add_typer(keys.projects, name="projects", rich_help_panel=SERVICE)
app.add_typer(webhooks.app, name="webhooks", rich_help_panel=SERVICE)
app.command(rich_help_panel=SERVICE)(keys.whoami)
app.command(rich_help_panel=SERVICE)(keys.login)
app.command(rich_help_panel=SERVICE)(keys.logout)
app.add_typer(models.app, name="models", rich_help_panel=SERVICE)
app.command("sweep", rich_help_panel=SWEEPS)(sweeps.submit)
app.command("sweeps", rich_help_panel=SWEEPS)(sweeps.list_sweeps)
app.command("sweep-get", rich_help_panel=SWEEPS)(sweeps.get)
app.command("sweep-watch", rich_help_panel=SWEEPS)(sweeps.watch)
app.command("sweep-cancel", rich_help_panel=SWEEPS)(sweeps.cancel)
app.command("sweep-best", rich_help_panel=SWEEPS)(sweeps.best)
app.command("sweep-report", rich_help_panel=SWEEPS)(sweeps.report)
app.command(rich_help_panel=LOCAL)(init.init)
app.command(rich_help_panel=LOCAL)(doctor)
app.command(rich_help_panel=LOCAL)(run.run)
app.command(rich_help_panel=LOCAL)(advise.advise)
app.command("eval", rich_help_panel=LOCAL)(evaluate.evaluate)
app.command(rich_help_panel=LOCAL)(evaluate.export)
app.command(rich_help_panel=LOCAL)(spec.validate)
app.command("recipes", rich_help_panel=LOCAL)(spec.list_recipes)
app.add_typer(data.app, name="data", rich_help_panel=LOCAL)

app.command(rich_help_panel=AGENTS)(agents.mcp)
app.command(rich_help_panel=AGENTS)(agents.skill)


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
    key: Annotated[
        str | None, typer.Option("--key", help="API key of the service.", show_default="RETORT_KEY, or the home's")
    ] = None,
) -> None:
    """Distil YOLO detectors, and prove what the distillation bought."""
    options.chosen_key.set(key)
    if version:
        typer.echo(f"retort {__version__}")
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())
    else:
        return
    raise typer.Exit


def start(arguments: Sequence[str]) -> int:
    """Run one command; return its exit code. Errors become one line on stderr."""
    as_json = "--json" in arguments
    try:
        code = app(args=list(arguments), prog_name="retort", standalone_mode=False)
    except RetortError as error:
        options.report(error, as_json=as_json)
        return ERROR_EXIT
    except typer.TyperException as error:
        options.report(UserError(error.format_message(), hint="see retort --help", code="usage"), as_json=as_json)
        return ERROR_EXIT
    except (KeyboardInterrupt, typer.Abort):
        options.note("stopped")
        return INTERRUPTED_EXIT
    except BrokenPipeError:  # whoever read the output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ERROR_EXIT
    except Exception as error:  # noqa: BLE001 - the one boundary of this process
        options.report(boundary.explain(error), as_json=as_json)
        return ERROR_EXIT
    return code if isinstance(code, int) else 0
