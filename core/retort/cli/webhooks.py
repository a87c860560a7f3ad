"""``retort webhooks``: manage webhooks, list deliveries and send them again."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Annotated, get_args

import typer

from retort.cli import completion, pages, render
from retort.cli.options import AsJson, Url, connect, emit, note, say
from retort.client.answer_parts import WebhookEvent
from retort.client.answers import Delivery, Webhook
from retort.client.client import Client
from retort.errors import UserError

app = typer.Typer(help="Make, try and delete webhooks; list what was sent, and send it again.", no_args_is_help=True)

EVENTS: tuple[str, ...] = get_args(WebhookEvent)
WebhookId = Annotated[
    str,
    typer.Argument(
        metavar="WEBHOOK",
        help="A webhook's id, or a unique beginning or end of it.",
        autocompletion=completion.webhooks,
    ),
]


@app.command("list")
def list_webhooks(url: Url = None, as_json: AsJson = False) -> None:
    """List the webhooks of the project, oldest first."""
    with connect(url) as client:
        found = list(client.webhooks.list())
    if as_json:
        emit(found)
        return
    table = render.FittedTable("webhook", "address", render.Column("events", rank=1), "state")
    for one in found:
        table.add_row(render.short(one["id"]), one["url"], " ".join(one["events"]), _state(one))
    render.console().print(table)


def _state(webhook: Webhook) -> str:
    return "enabled" if webhook["enabled"] else f"disabled {webhook['disabled_reason'] or ''}".strip()


@app.command()
def create(
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="An https:// address that takes POST requests.")],
    events: Annotated[
        list[str] | None,
        typer.Option("--event", help=f"May be repeated; none means all: {', '.join(EVENTS)}.", show_default=False),
    ] = None,
    description: Annotated[str, typer.Option(help="For people.")] = "",
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Have an address told of events; print the signing secret: it is shown this once."""
    with connect(url) as client:
        made = client.webhooks.create(address, events or EVENTS, description=description)
        if as_json:
            emit(made)
            return
        say(made["secret"] or "")
        note(f"try it: retort webhooks test {render.short(made['id'])}")
        pages.tell(client, pages.webhook(made["id"]))


@app.command()
def rotate(webhook: WebhookId, url: Url = None, as_json: AsJson = False) -> None:
    """Give a webhook a new signing secret, and print it; for a day the old one signs beside it."""
    with connect(url) as client:
        made = client.webhooks.rotate(_find(client, webhook))
    emit(made) if as_json else say(made["secret"] or "")


@app.command()
def enable(
    webhook: WebhookId,
    off: Annotated[bool, typer.Option("--off", help="Send it nothing more.")] = False,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Send a webhook what happens, and what has waited; with --off nothing more."""
    with connect(url) as client:
        changed = client.webhooks.change(_find(client, webhook), enabled=not off)
    emit(changed) if as_json else say(f"{changed['id']} is {_state(changed)}")


@app.command("rm")
def remove(webhook: WebhookId, url: Url = None, as_json: AsJson = False) -> None:
    """Delete a webhook with its deliveries."""
    with connect(url) as client:
        found = _find(client, webhook)
        client.webhooks.delete(found)
    emit({"id": found}) if as_json else say(f"{found} is deleted")


@app.command("test")
def try_one(webhook: WebhookId, url: Url = None, as_json: AsJson = False) -> None:
    """Have a test event sent."""
    with connect(url) as client:
        found = _find(client, webhook)
        _tell_sent(client, found, client.webhooks.test(found), as_json=as_json)


@app.command()
def deliveries(
    webhook: WebhookId,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 20,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """List what was sent to a webhook and what is to be sent, newest first."""
    with connect(url) as client:
        found = list(islice(client.webhooks.deliveries(_find(client, webhook)), limit))
    emit(found) if as_json else render.console().print(_table(found))


@app.command()
def redeliver(
    webhook: WebhookId,
    delivery: Annotated[
        str, typer.Argument(metavar="DELIVERY", help="A delivery's id, or a unique beginning or end of it.")
    ],
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Send a delivery again that was delivered or given up, with the id and body of the first time."""
    with connect(url) as client:
        found = _find(client, webhook)
        ids = (one["id"] for one in islice(client.webhooks.deliveries(found), _SEARCHED))
        wanted = delivery if _is_whole(delivery, "msg_") else _only(delivery, ids, f"delivery of {found}")
        _tell_sent(client, found, client.webhooks.redeliver(found, wanted), as_json=as_json)


_SEARCHED = 1000
"""How many of the newest deliveries an abbreviation is looked up in."""


def _tell_sent(client: Client, webhook_id: str, sent: Delivery, *, as_json: bool) -> None:
    if as_json:
        emit(sent)
        return
    say(sent["id"])
    note(f"a worker sends it; see the answer: retort webhooks deliveries {render.short(webhook_id)}")
    pages.tell(client, pages.webhook(webhook_id))


def _table(found: Iterable[Delivery]) -> render.FittedTable:
    figure = render.figure
    table = render.FittedTable(
        "delivery", "event", "state", figure("tries", 3), figure("status"), render.Column("answer", rank=2),
        render.Column("next", rank=4), render.Column("created", rank=1),
    )  # fmt: skip
    for one in found:
        table.add_row(
            render.short(one["id"]), one["event"], one["state"], str(one["attempts"]), str(one["status"] or ""),
            one["error"], one["next_at"] and render.clock(one["next_at"]),
            render.clock(one["created_at"], "%Y-%m-%d %H:%M:%S"),
        )  # fmt: skip
    return table


def _find(client: Client, text: str) -> str:
    """Return the id of the one webhook that *text* names."""
    if _is_whole(text, "whk_"):
        return text
    return _only(text, (one["id"] for one in client.webhooks.list()), "webhook")


def _is_whole(text: str, prefix: str) -> bool:
    return text.startswith(prefix) and len(text) == len(prefix) + 32


def _only(text: str, ids: Iterable[str], what: str) -> str:
    fitting = [one for one in ids if one.startswith(text) or one[4:].startswith(text) or one.endswith(text)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise UserError(f"{text!r} fits {len(fitting)} of them", hint="give more of the id", code="usage")
    raise UserError(
        f"no {what} is {text!r}", hint="retort webhooks list shows webhooks, deliveries theirs", code="usage"
    )
