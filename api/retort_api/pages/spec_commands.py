"""Write a submission as commands: curl, the command line, Python."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pprint import pformat
from typing import Any
from urllib.parse import urlencode

from retort_api.pages.spec_text import spec_text

_WIDTH = 100


@dataclass(frozen=True, slots=True)
class SubmitCommand:
    """One way to submit a spec without this page."""

    name: str
    """For people."""
    text: str


def commands(
    document: Mapping[str, Any], url: str, *, labels: Mapping[str, str], priority: int
) -> tuple[SubmitCommand, ...]:
    """Return commands that submit *document* to the service at *url*."""
    return (
        SubmitCommand("curl", _curl(document, url, labels, priority)),
        SubmitCommand("Command line", _command_line(document, url, labels, priority)),
        SubmitCommand("Python", _python(document, url, labels, priority)),
    )


def _here_document(command: str, document: Mapping[str, Any]) -> str:
    """Return a command that reads the YAML; no line of it can be the mark that ends it."""
    return f"{command} <<'SPEC'\n{spec_text(document)}SPEC"


def _curl(document: Mapping[str, Any], url: str, labels: Mapping[str, str], priority: int) -> str:
    query = [("label", f"{name}={value}") for name, value in labels.items()]
    query += [("priority", str(priority))] if priority else []
    address = f"{url}/v1/jobs{'?' if query else ''}{urlencode(query)}"
    lines = (
        f"curl --fail-with-body {shlex.quote(address)}",
        '-H "Authorization: Bearer $RETORT_KEY"',
        "-H 'Content-Type: application/yaml'",
        "--data-binary @-",
    )
    return _here_document(" \\\n  ".join(lines), document)


def _command_line(document: Mapping[str, Any], url: str, labels: Mapping[str, str], priority: int) -> str:
    words = ["retort", "submit", "-", "--url", url]
    for name, value in labels.items():
        words += ["--label", f"{name}={value}"]
    words += [f"--priority={priority}"] if priority else []
    return _here_document(shlex.join(words), document)


def _python(document: Mapping[str, Any], url: str, labels: Mapping[str, str], priority: int) -> str:
    given = f", labels={labels!r}" if labels else ""
    given += f", priority={priority}" if priority else ""
    plain = json.loads(json.dumps(dict(document)))
    spec = pformat(plain, width=_WIDTH, sort_dicts=False)
    return (
        "from retort.client import Client\n\n"
        f"spec = {spec}\n"
        f"with Client({url!r}) as client:\n"
        f"    job = client.submit(spec{given})\n"
        '    print(job["id"])\n'
    )
