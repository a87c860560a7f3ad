"""``retort recipes`` and ``retort validate``: recipes, and reading spec documents."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from retort.cli.options import AsJson, Sets, SpecFile, emit, say
from retort.cli.spec_options import Options
from retort.cli.weights import anchor_weights, check_classes, complete_here, reference_only, register_weights
from retort.errors import FieldProblem, SpecError, UserError
from retort.spec import parse_document, parse_spec
from retort.spec.assignment import assign, is_sweep

if TYPE_CHECKING:
    from retort.spec import AnySpec, SweepSpec


def load(source: str | None, sets: Sequence[str] | None = None, more: Options | None = None) -> dict[str, Any]:
    """Read the document *source* (a file, or - for stdin), replace fields by *more* and *sets*, anchor its paths.

    Relative paths of data, images and weights in a file are looked for beside that file first, then in the current
    folder; those from stdin, from *more* or from *sets* mean the current folder. The service gets absolute paths. With
    no source the document is made from *more* alone.

    Raises:
        UserError: there is no such file, or an assignment is malformed.
        SpecError: the text is not a YAML or JSON mapping.

    """
    document = _read(source) if source is not None else {}
    if source is not None and source != "-":
        document = _anchored_document(document, Path(source).absolute().parent, Path.cwd())
    if more is not None:
        more.apply(document, alone=source is None)
    for assignment in sets or ():
        assign(document, assignment)
    return _anchored_document(document, Path.cwd())


def _read(source: str) -> dict[str, Any]:
    document = parse_document(_text(source))
    if not isinstance(document, dict):
        raise SpecError([FieldProblem("$", f"must be a mapping, not {type(document).__name__}")])
    return document


def _anchored_document(document: dict[str, Any], *folders: Path) -> dict[str, Any]:
    anchored: dict[str, Any] = anchor_weights(document, folders)
    anchor(_spec(anchored), *folders)
    return anchored


def _spec(document: dict[str, Any]) -> dict[str, Any]:
    return document["base"] if is_sweep(document) else document


def _text(source: str) -> bytes:
    if source == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(source).read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {source}: {error.strerror}", hint="name a YAML or JSON file, or -") from error


def anchor(document: dict[str, Any], *folders: Path) -> None:
    """Make ``data.path`` and the other folders of images absolute: in the first folder that has it, or the last."""
    if isinstance(document.get("pseudo_labels"), dict):
        document["pseudo_labels"] = _anchored(document["pseudo_labels"], *folders)
    if isinstance(exports := document.get("exports"), list):
        document["exports"] = [
            _anchored(one, *folders, field="calibration_path") if isinstance(one, dict) else one for one in exports
        ]
    data = document.get("data")
    if not isinstance(data, dict):
        return
    document["data"] = data = _anchored(data, *folders)
    if isinstance(data.get("unlabelled"), dict):
        data["unlabelled"] = _anchored(data["unlabelled"], *folders)


def _anchored(section: dict[str, Any], *folders: Path, field: str = "path") -> dict[str, Any]:
    path = section.get(field)
    if not isinstance(path, str) or not path or Path(path).is_absolute():
        return dict(section)
    candidates = [folder / Path(path).expanduser() for folder in folders]
    found = next((candidate for candidate in candidates if candidate.exists()), candidates[-1])
    return {**section, field: str(found.resolve())}


def list_recipes(as_json: AsJson = False) -> None:
    """Show the presets that distillation.recipe may name, fully expanded."""
    from retort.spec import RECIPES

    if as_json:
        emit(RECIPES)
        return
    for name, preset in RECIPES.items():
        say(f"{name}: {preset['summary']}")
        fields = {key: value for key, value in preset.items() if key != "summary"}
        text = yaml.safe_dump(fields, sort_keys=False, default_flow_style=None, width=110)
        say("".join(f"    {line}\n" for line in text.splitlines()))


def validate(spec: SpecFile, sets: Sets = None, as_json: AsJson = False) -> None:
    """Check a spec or a sweep without submitting it; print it with every default and preset written out."""
    files: dict[str, Path] = {}

    def register(path: Path, name: str) -> str:
        reference = reference_only(path, name)
        files[reference] = path
        return reference

    document = complete_here(register_weights(load(spec, sets), register))
    checked = _checked(document)
    if not is_sweep(document):
        check_classes(parse_spec(document), files)
    full = checked.model_dump(mode="json")
    if as_json:
        emit(full)
    else:
        say(yaml.safe_dump(full, sort_keys=False, default_flow_style=None, width=110), nl=False)


def _checked(document: dict[str, Any]) -> AnySpec | SweepSpec:
    from retort.spec import parse_sweep
    from retort.sweeps.search_space import check

    if not is_sweep(document):
        return parse_spec(document)
    sweep = parse_sweep(document)
    check(sweep)
    return sweep
