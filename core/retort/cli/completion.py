"""Complete names and ids in the shell: quickly, and silently where no service answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from retort.client.client import Client

Words = list[tuple[str, str]]
"""What may stand there, each with what it is."""
_TIMEOUT_S = 1.0
"""For one answer: whoever presses a key does not wait longer."""
_NEWEST = 50


def jobs(context: typer.Context, incomplete: str) -> Words:
    """Return the names and ids of jobs, newest first; an id where several have the name."""
    from retort.cli.last_jobs import MARK

    found = _asked(context, lambda client: client.list())
    names = Counter(job["name"] for job in found)
    words = [(MARK, "the job made last from here")]
    for job in found:
        by_id = names[job["name"]] > 1 or incomplete.startswith("job_")
        words.append((job["id"] if by_id else job["name"], f"{job['name']}, {job['state']}"))
    shared = ((name, f"{number} jobs: the command names the newest") for name, number in names.items() if number > 1)
    return _beginning(incomplete, words) or _beginning(incomplete, shared)


def sweeps(context: typer.Context, incomplete: str) -> Words:
    """Return the names of sweeps, newest first; an id where several have the name."""
    found = _asked(context, lambda client: client.list_sweeps())
    names = Counter(sweep["name"] for sweep in found)
    return _beginning(incomplete, ((_named(one, names, incomplete), one["state"]) for one in found))


def _named(sweep: dict[str, Any], names: Counter[str], incomplete: str) -> str:
    by_id = names[sweep["name"]] > 1 or incomplete.startswith("swp_")
    return str(sweep["id"] if by_id else sweep["name"])


def models(context: typer.Context, incomplete: str) -> Words:
    """Return registered models by name and digits."""
    found = _asked(context, lambda client: client.models())
    return _beginning(
        incomplete, ((f"{one['name']}@{one['sha256'][:12]}", one["architecture"] or "weights") for one in found)
    )


def datasets(context: typer.Context, incomplete: str) -> Words:
    """Return registered datasets by name and digits."""
    found = _asked(context, lambda client: client.datasets.list())
    ready = (one for one in found if one["sha256"])
    return _beginning(incomplete, ((f"{one['name']}@{one['sha256'][:12]}", one["state"]) for one in ready))


def workers(context: typer.Context, incomplete: str) -> Words:
    """Return the running workers by host, and by name where several run on one.

    Names have colons, at which bash begins a word.
    """
    found = _asked(context, lambda client: client.workers())
    hosts = Counter(one["host"] for one in found)
    words = ((one["host"] if hosts[one["host"]] == 1 else one["name"], one) for one in found)
    return _beginning(incomplete, ((word, f"{one['busy']} of {one['slots']} busy") for word, one in words))


def webhooks(context: typer.Context, incomplete: str) -> Words:
    """Return the webhooks by id."""
    found = _asked(context, lambda client: client.webhooks.list())
    return _beginning(incomplete, ((one["id"], one["url"]) for one in found))


def known_datasets(incomplete: str) -> Words:
    """Return the data sets that are known by name."""
    from retort.data.catalog import CATALOGUE

    return _beginning(incomplete, ((one.name, one.about) for one in CATALOGUE.values()))


def students(incomplete: str) -> Words:
    """Return the networks that can learn."""
    from retort.constants import MODEL_NAMES

    return _beginning(incomplete, ((name, "a network") for name in MODEL_NAMES))


def _asked(context: typer.Context, ask: Callable[[Client], Iterable[Any]]) -> list[Any]:
    """Return the first of what the service lists; nothing where that fails, whatever the reason."""
    from retort.client.client import Client
    from retort.settings import Settings

    try:
        url = context.params.get("url") or Settings().url
        key = context.find_root().params.get("key")
        with Client(url, key=key, timeout_s=_TIMEOUT_S, patience_s=0) as client:
            return list(islice(ask(client), _NEWEST))
    except Exception:  # noqa: BLE001 - a shell that completes has no place for errors
        return []


def _beginning(incomplete: str, words: Iterable[tuple[str, str]]) -> Words:
    """Return the words with this beginning, each once, in characters that a shell takes as they are."""
    return list(dict(_plain(word for word in words if word[0].startswith(incomplete))).items())


def _plain(words: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    from retort.errors import printable

    for word, about in words:
        if printable(word) == word and not set(word) & _SPECIAL:
            yield word, printable(about)


_SPECIAL = frozenset(" \t\n\"'`$\\;|&<>()*?[]#!{}")
"""Characters that shells read in their way."""
