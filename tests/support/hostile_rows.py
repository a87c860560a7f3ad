"""Write hostile texts into a service's database, wherever it keeps what people, runs and workers have written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import cycle
from typing import Any

from retort.db import Database, identity_models, models, webhook_models
from sqlalchemy import select
from sqlalchemy.orm.attributes import flag_modified

MARK = "zz9x"
"""Of elements, attributes and addresses that nothing of ours has."""
HIT = "window.hit=1"
ATTACKS = (
    f'"><script>{HIT}</script><b class="{MARK}">',
    f"' onmouseover='{HIT}' data-{MARK}='1",
    f'" autofocus onfocus="{HIT}" data-{MARK}="1',
    f'" hx-get="/{MARK}" hx-trigger="load" x="{MARK}{{{{7*7}}}}{MARK}${{7*7}}',
    "\u202etxet\u200b\x1b[31m\x07\u2066 \U0001f70f\U0001d54f",
    "\U0001f70f" * 40,
    f"</script></style></textarea></title><img src=x onerror={HIT} class={MARK}>",
    f"<svg/onload={HIT} class={MARK}><a href=javascript:{HIT} class={MARK}>x</a>",
    f"<form action=/{MARK}><base href=/{MARK}><iframe srcdoc='<script>parent.{HIT}</script>'>",
)
LONG = "W" * 60
"""After each: nothing in it can be broken."""
_COLUMNS: Mapping[Any, tuple[str, ...]] = {
    identity_models.KeyRow: ("name", "created_by"),
    identity_models.AuditRow: ("target", "address", "request_id"),
    models.DatasetRow: ("summary",),
    models.JobRow: ("name", "labels", "failure", "result", "best"),
    models.SweepRow: ("name", "failure"),
    models.UploadRow: ("name", "source_url", "failure"),
    webhook_models.WebhookRow: ("url", "description", "disabled_reason"),
    models.WorkerRow: ("host", "devices"),
    models.AttemptRow: ("host", "device", "failure"),
    models.EventRow: ("message", "data"),
    models.ModelRow: ("architecture", "classes"),
    models.TransitionRow: ("actor", "reason"),
    models.SweepTrialRow: ("reason",),
    webhook_models.DeliveryRow: ("error",),
}
_PROSE = frozenset((
    "names", "classes", "places", "notes", "message", "hint", "model", "file", "cause", "advice", "sentence", "caveats",
))  # fmt: skip
_BY_NAME = frozenset({"per_class", "boxes"})


def poison(database: Database) -> int:
    """Put an attack before every such text; return how many texts there were."""
    attacks = cycle(ATTACKS)
    number = 0
    with database.begin() as session:
        for row, column in _texts(session):
            before = getattr(row, column)
            if before is None or before == {}:
                continue
            setattr(row, column, _attacked(before, attacks, prose=isinstance(before, str) or column == "labels"))
            flag_modified(row, column)
            number += 1
    return number


def _texts(session: Any) -> Iterator[tuple[Any, str]]:
    for model, columns in _COLUMNS.items():
        for row in session.scalars(select(model)):
            yield from ((row, column) for column in columns)


def _attacked(value: Any, attacks: Iterator[str], *, prose: bool = False, named: bool = False) -> Any:
    """Return *value* with attacks in its prose, and in keys where things are told by name."""
    if isinstance(value, str):
        return next(attacks) + LONG + value if prose or " " in value else value
    if isinstance(value, Mapping):
        return {
            next(attacks) + LONG + key if named else key: _attacked(
                part, attacks, prose=(prose or key in _PROSE), named=key in _BY_NAME and isinstance(part, Mapping)
            )
            for key, part in value.items()
        }
    return [_attacked(part, attacks, prose=prose) for part in value] if isinstance(value, list | tuple) else value
