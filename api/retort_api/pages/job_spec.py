"""Show a job's spec: what differs from the defaults, and what each field means."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import yaml
from fastapi import Request
from fastapi.responses import HTMLResponse
from retort.access import Scope
from retort.db import jobs
from retort.errors import SpecError
from retort.spec import parse_spec, schema
from retort.spec.notes import NOTES

from retort_api.deps import Caller, JobId, Serving
from retort_api.pages.job_head import show
from retort_api.pages.page_router import PageRouter

router = PageRouter()

_NONE = object()
_VARIANTS = ((re.compile(r"^distillation\.losses\.\d+\."), "loss."), (re.compile(r"^exports\.\d+\."), "export."))
_PLACE = re.compile(r"\.\d+(?=\.|$)")
_ALWAYS = ("task", "name", "data.path", "data.dataset", "teacher.weights", "student.model", "distillation.recipe")


@dataclass(frozen=True, slots=True)
class FieldOfSpec:
    """One field of a job's spec beside its default."""

    path: str
    value: str
    default: str | None
    """None where it has none."""
    meaning: str
    unit: str
    when: str


@router.page("/jobs/{job_id}/spec", scope=Scope.JOBS_READ)
def show_spec(request: Request, service: Serving, caller: Caller, job_id: JobId) -> HTMLResponse:
    """Show the spec, and how it differs from the defaults."""
    with service.read(caller) as session:
        spec = dict(jobs.get(session, job_id).spec)
    return show(
        request, service, caller, job_id, "spec", "job_spec.html", text=_spelled(spec),
        changed=tuple(differences(spec)), everything=tuple(fields(spec)),
    )  # fmt: skip


def _spelled(spec: Mapping[str, Any]) -> str:
    return yaml.safe_dump(dict(spec), sort_keys=False, allow_unicode=True)


def differences(spec: Mapping[str, Any]) -> Iterator[FieldOfSpec]:
    """Yield the fields that differ from the defaults of the same recipe."""
    usual = dict(_leaves(_usual(spec)))
    for path, value in _leaves(spec):
        if path in _ALWAYS or usual.get(path, _NONE) != value:
            yield _field(spec, path, value, usual.get(path, _NONE))


def fields(spec: Mapping[str, Any]) -> Iterator[FieldOfSpec]:
    """Yield all fields with their meanings."""
    usual = dict(_leaves(_usual(spec)))
    for path, value in _leaves(spec):
        yield _field(spec, path, value, usual.get(path, _NONE))


def _usual(spec: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the spec that names the same data, networks and recipe, and nothing else; empty where there is none."""
    task = spec.get("task") or "distill"
    kept: dict[str, Any] = {"task": task, "name": spec.get("name"), "data": _part(spec, "data", ("path", "dataset"))}
    if task == "distill":
        teacher = spec.get("teacher") or {}
        trains = _part(teacher, "train", ("model", "weights"))
        kept["teacher"] = {"train": trains} if trains else {"weights": teacher.get("weights")}
        kept["distillation"] = _part(spec, "distillation", ("recipe",))
        kept["student"] = _part(spec, "student", ("model",))
    kept |= {name: spec[name] for name in ("networks", "candidates", "student") if name in spec and task != "distill"}
    try:
        return parse_spec(kept).model_dump(mode="json")
    except SpecError:  # what was valid when it was submitted may be no more
        return {}


def _part(spec: Mapping[str, Any], name: str, wanted: tuple[str, ...]) -> dict[str, Any]:
    section = spec.get(name) or {}
    return {key: section[key] for key in wanted if section.get(key) is not None}


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _leaves(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list) and any(isinstance(one, Mapping) for one in value):
        for place, inner in enumerate(value):
            yield from _leaves(inner, f"{path}.{place}")
    else:
        yield path, value


def _field(spec: Mapping[str, Any], path: str, value: Any, default: Any) -> FieldOfSpec:
    task = spec.get("task") or "distill"
    unit, when = _note(task, path)
    return FieldOfSpec(
        path, _text(value), None if default is _NONE else _text(default), _meaning(task, path), unit, when
    )  # fmt: skip


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _note(task: str, path: str) -> tuple[str, str]:
    known = path
    for pattern, name in _VARIANTS:
        known = pattern.sub(name, known)
    found = NOTES[task].get(_PLACE.sub("", known))
    return ("", "") if found is None else (found.unit, found.when.replace("`", ""))


def _meaning(task: str, path: str) -> str:
    """Return what the schema says of the field at a path; of the nearest section where a key is the user's own."""
    whole = _schema(task)
    found = ""
    nodes: list[Mapping[str, Any]] = [whole]
    for part in path.split("."):
        inner = [one for node in nodes for one in _inside(node, part, whole["$defs"])]
        if not inner:
            break
        nodes = [resolved for one in inner for resolved in _resolved(one, whole["$defs"])]
        found = next((one["description"] for one in inner if "description" in one), found)
    return " ".join(found.replace("``", "").split())


def _inside(node: Mapping[str, Any], part: str, known: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    if part in node.get("properties", {}):
        yield node["properties"][part]
    if part.isdecimal() and isinstance(node.get("items"), Mapping):
        yield node["items"]
    for key in ("anyOf", "oneOf"):
        for variant in node.get(key, ()):
            for inner in _resolved(variant, known):
                if inner is not node:
                    yield from _inside(inner, part, known)


def _resolved(node: Mapping[str, Any], known: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield what a reference means, as far as it has fields."""
    if "$ref" in node:
        yield from _resolved(known[node["$ref"].rpartition("/")[2]], known)
    else:
        yield node


@cache
def _schema(task: str) -> dict[str, Any]:
    found = schema(task)
    found.setdefault("$defs", {})
    return found
