"""``retort recipes``, and ``retort validate``: what a spec may say, and whether one does."""

from __future__ import annotations

import typer
import yaml

from retort.cli.documents import load
from retort.cli.options import AsJson, Sets, SpecFile
from retort.cli.output import emit


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
    """Check a spec without submitting it; print it with every default and preset written out."""
    from retort.spec import parse_spec

    full = parse_spec(load(spec, sets)).model_dump(mode="json")
    if as_json:
        emit(full)
    else:
        typer.echo(yaml.safe_dump(full, sort_keys=False, default_flow_style=None, width=110), nl=False)
