"""Run the checks of ``retort doctor`` and show what they find."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict

from pydantic import ValidationError
from pydantic_settings import SettingsError
from rich.text import Text

from retort.cli import render
from retort.cli.doctor import machine
from retort.cli.doctor import service as services
from retort.cli.doctor.finding import DoctorFinding, Status, failed
from retort.cli.options import AsJson, Url, chosen_key, emit
from retort.settings import Settings, explain_settings

_STYLES: dict[Status, str] = {"ok": "green", "warning": "yellow", "failed": "red"}


def doctor(url: Url = None, as_json: AsJson = False) -> int:
    """Say what is missing on this machine, each with the fix. Exit code: 1 where something hinders work."""
    console = render.console()
    found = []
    for one in findings(url):
        found.append(one)
        if not as_json:
            _show(console, one)
    hindered = any(one.status == "failed" for one in found)
    if as_json:
        emit({"ok": not hindered, "checks": [asdict(one) for one in found]})
    else:
        counts = Counter(one.status for one in found)
        told = ", ".join(f"{counts[status]} {status}" for status in _STYLES if counts[status])
        console.print(render.paragraph(f"\n{'something hinders work' if hindered else 'nothing hinders work'}: {told}"))
    return int(hindered)


def findings(url: str | None) -> Iterator[DoctorFinding]:
    """Yield what each check finds, the quick ones first."""
    yield machine.python()
    yield from machine.packages()
    try:
        settings = Settings()
    except (ValidationError, SettingsError) as error:
        told = explain_settings(error)
        yield failed("settings", told.message if told else str(error), (told and told.hint) or "docs/settings.md")
        return
    address = url or settings.url
    yield machine.memory()
    yield services.home(settings)
    yield from services.disk(settings)
    yield services.port(settings, address)
    yield services.database(settings)
    yield services.broker(settings)
    yield machine.weights(settings)
    yield from services.service(address, chosen_key.get(), named=url is not None or "url" in settings.model_fields_set)
    yield machine.confinement(settings)
    yield from machine.exporters()
    yield from machine.torch()


def _show(console: render.PrintableConsole, one: DoctorFinding) -> None:
    """Print a finding: its status in words and in colour, and the fix below."""
    console.print(
        render.paragraph(Text.assemble((f"{one.status:<8} ", _STYLES[one.status]), f"{one.name}: {one.detail}"))
    )
    if one.fix:
        console.print(render.paragraph(f"         fix: {one.fix}"))
