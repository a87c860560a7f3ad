"""``retort recipes``, and ``retort validate``: what a spec may say, and whether one does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer
import yaml

from retort.cli.documents import is_sweep, load
from retort.cli.options import AsJson, Sets, SpecFile
from retort.cli.output import emit

if TYPE_CHECKING:
    from retort.spec import AnySpec, SweepSpec


def list_recipes(as_json: AsJson = False) -> None:
    """Show the presets that distillation.recipe may name, fully expanded."""
    from retort.spec import RECIPES

    if as_json:
        emit(RECIPES)
        return
    for name, preset in RECIPES.items():
        typer.echo(f"{name}: {preset['summary']}")
        fields = {key: value for key, value in preset.items() if key != "summary"}
        text = yaml.safe_dump(fields, sort_keys=False, default_flow_style=None, width=110)
        typer.echo("".join(f"    {line}\n" for line in text.splitlines()))


def validate(spec: SpecFile, sets: Sets = None, as_json: AsJson = False) -> None:
    """Check a spec or a sweep without submitting it; print it with every default and preset written out."""
    full = _checked(load(spec, sets)).model_dump(mode="json")
    if as_json:
        emit(full)
    else:
        typer.echo(yaml.safe_dump(full, sort_keys=False, default_flow_style=None, width=110), nl=False)


def _checked(document: dict[str, Any]) -> AnySpec | SweepSpec:
    from retort.spec import parse_spec, parse_sweep
    from retort.sweeps.points import check

    if not is_sweep(document):
        return parse_spec(document)
    sweep = parse_sweep(document)
    check(sweep)
    return sweep
