"""Keep a form and the YAML of a spec in step."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from retort.errors import FieldProblem, SpecError
from retort.exports import EXPORT_FORMATS
from retort.spec import RECIPES, JobSpec, parse_document
from retort.spec.assignment import put, take_out, value_at

from retort_api.pages.export_titles import export_title
from retort_api.pages.spec_fields import (
    CHOSEN,
    FIRST,
    LEFT_OUT,
    SECTIONS,
    FormControl,
    FormList,
    FormSection,
    State,
    controls,
    lists,
    section_of,
    sent,
)
from retort_api.pages.spec_text import revised

OTHER = "other"
"""The choice of a dataset that is written out, in the field of the same name."""
OTHER_DATA = "data.other"
TRAIN = "train:"
"""Before the architecture of a teacher that the job is to train."""
TERMS = ("labels", "priority")
"""Fields beside the spec, which belong to the submission."""
MOST_GROUPS = 32
"""Of a list, the first so many have controls: more than any list may have."""
_PICKERS = ("data", "teacher", "student", "exports")
_DATA = ("data.path", "data.dataset")
"""Fields that the picker of data writes, whatever they hold."""
_LOSSES, _EXPORTS = "distillation.losses", "exports"
EXPORTS: Mapping[str, str] = {
    one: export_title(*one.split("/"))
    for one in (
        "onnx/fp32", "onnx/int8", "openvino/fp32", "openvino/int8", "engine/fp16", "engine/int8", "ncnn/fp16",
        "torchscript/fp32",
    )
}  # fmt: skip
"""Forms of the student that can be ticked, as people call them."""


@dataclass(frozen=True, slots=True)
class FormGroup:
    """One group of a list, as the document has it."""

    path: str
    number: int
    """Counted from 1."""
    tag: str
    """Name of the control that says its variant; empty where there is one."""
    variant: str
    controls: tuple[FormControl, ...]


@dataclass(frozen=True, slots=True)
class ShownList:
    """A list with its groups."""

    described: FormList
    groups: tuple[FormGroup, ...]
    written: bool
    """Whether the document has it; else a recipe or a default stands here."""

    @property
    def variants(self) -> str:
        """Which kinds of groups there are: pages that differ in it have other controls."""
        return ",".join([str(self.written), *(one.variant or "-" for one in self.groups)])


@dataclass(frozen=True, slots=True)
class ShownSection:
    """Fields of one topic, folded."""

    section: FormSection
    fields: Mapping[str, tuple[FormControl, ...]]
    """By the section of the document that they are in."""
    lists: tuple[ShownList, ...]
    num_set: int
    """So many say something else than when they are left out."""

    def is_open(self, problems: Iterable[str], act: str) -> bool:
        """Return True if something in it is wrong, or was just added or removed."""
        inside = {control.path for inner in self.fields.values() for control in inner}
        above = [one.described.path for one in self.lists]
        changed = act.partition(":")[2]
        return _is_in(changed, above) or any(
            one in inside or (one != _EXPORTS and _is_in(one, above)) for one in problems
        )


def _is_in(path: str, lists_of_groups: Sequence[str]) -> bool:
    return any(path == one or path.startswith(f"{one}.") for one in lists_of_groups)


def shown_sections(document: Mapping[str, Any]) -> tuple[ShownSection, ...]:
    """Return the controls of the fields that few people need, by topic."""
    found = [_shown_list(document, one) for one in lists().values()]
    made = []
    for section in SECTIONS:
        fields: dict[str, list[FormControl]] = {}
        for path, control in controls().items():
            if path not in (*FIRST, *_DATA) and section_of(path) is section:
                fields.setdefault(path.rpartition(".")[0], []).append(control)
        inside = tuple(one for one in found if section_of(one.described.path) is section)
        given = sum(
            one.path not in CHOSEN and one.held(_at(document, one.path)) != one.held(LEFT_OUT)
            for inner in fields.values()
            for one in inner
        )
        made.append(ShownSection(
            section, {above: tuple(inner) for above, inner in fields.items()}, inside,
            given + sum(one.written for one in inside),
        ))  # fmt: skip
    return tuple(made)


def _shown_list(document: Mapping[str, Any], one: FormList) -> ShownList:
    shown = _items(document, one)[:MOST_GROUPS]
    groups = [_group(one, place, item) for place, item in enumerate(shown)]
    return ShownList(one, tuple(groups), isinstance(value_at(document, one.path), list))


def _group(one: FormList, place: int, item: Any) -> FormGroup:
    variant = item.get(one.tag, "") if isinstance(item, dict) and one.tag else ""
    variant = variant if isinstance(variant, str) else ""
    tag = one.tag_path(place) if one.tag else ""
    return FormGroup(f"{one.path}.{place}", place + 1, tag, variant, one.controls(place, variant))


def _items(document: Mapping[str, Any], one: FormList) -> list[Any]:
    """Return the groups of a list: the document's, or what counts where it has none."""
    given = value_at(document, one.path)
    return given if isinstance(given, list) else _usual(document, one)


def _usual(document: Mapping[str, Any], one: FormList) -> list[Any]:
    if one.path == _LOSSES:
        recipe = value_at(document, "distillation.recipe")
        usual = RECIPES.get(recipe) if isinstance(recipe, str) else None
        return copy.deepcopy((usual or RECIPES["balanced"])["losses"])
    return [{"format": "onnx"}] if one.path == _EXPORTS and value_at(document, _EXPORTS) is None else []


def _group_controls(document: Mapping[str, Any]) -> Iterator[tuple[FormGroup, Any]]:
    """Yield the groups of all lists, with what the document says of them."""
    for one in lists().values():
        for place, item in enumerate(_items(document, one)[:MOST_GROUPS]):
            yield _group(one, place, item), item


def _at(document: Any, path: str) -> Any:
    """Return what stands at a dotted path, which may be null."""
    above, _, name = path.rpartition(".")
    section = value_at(document, above) if above else document
    return section.get(name, LEFT_OUT) if isinstance(section, dict) else LEFT_OUT


def state_of(document: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Return what the form holds for a document, right or wrong."""
    found = {path: control.held(_at(document, path)) for path, control in controls().items()}
    for group, item in _group_controls(document):
        for control in group.controls:
            found[control.path] = control.held(_at(item, control.path.removeprefix(f"{group.path}.")))
        if group.tag:
            found[group.tag] = (group.variant,)
    found["data"] = (_first_text(document, "data.dataset", "data.path"),)
    trained = value_at(document, "teacher.train.model")
    found["teacher"] = (f"{TRAIN}{sent(trained)}",) if isinstance(trained, str) else (
        _first_text(document, "teacher.weights", "teacher.train.weights"),
    )  # fmt: skip
    found["student"] = (_first_text(document, "student.model", "student.weights"),)
    given = {_export(one) for one in _exports(document)}
    found["exports"] = tuple(name for name in EXPORTS if name in given)
    return found


def posted_state(fields: Sequence[tuple[str, str]]) -> dict[str, tuple[str, ...]]:
    """Return the state of a submitted form.

    Fields that it lacks stay as they are.
    """
    given: dict[str, list[str]] = {}
    for name, value in fields:
        given.setdefault(name, []).append(value.strip())
    if given.get("data", [""])[-1] == OTHER:
        given["data"] = given.get(OTHER_DATA, [""])
    return {name: tuple(values) for name, values in given.items()}


def _first_text(document: Mapping[str, Any], *paths: str) -> str:
    return next((sent(found) for path in paths if isinstance(found := value_at(document, path), str)), "")


def _exports(document: Mapping[str, Any]) -> list[Any]:
    return _items(document, lists()[_EXPORTS])


def _export(given: Any) -> str:
    """Return the name of an export's tick box; any text for one that has none."""
    if not isinstance(given, dict):
        return ""
    form = EXPORT_FORMATS.get(str(given.get("format")))
    precision = form.model_fields["precision"].default if form is not None else ""
    return f"{given.get('format')}/{given.get('precision', precision)}"


@dataclass(frozen=True, slots=True)
class Edited:
    """A document after somebody edited its form, its YAML, or both."""

    document: dict[str, Any]
    text: str
    """The document as YAML: as it was written where the form changes nothing."""
    added: str = ""
    """Path of a group that has come into being."""


def edit(text: str, before: str, posted: State, act: str = "") -> Edited:
    """Return the YAML *text* with the changes of its form.

    Both were shown with the YAML *before*. *act* is what a button of the form says: ``add:LIST``, ``remove:GROUP``,
    ``usual:LIST`` or ``teacher:WEIGHTS``.

    Raises:
        SpecError: the text is no YAML, or no mapping.

    """
    document = read_mapping(text)
    try:
        shown = state_of(read_mapping(before))
    except SpecError:
        shown = state_of({})
    held = {name: _as_shown(name, values, shown[name]) for name, values in posted.items() if name in shown}
    changes = {name: values for name, values in held.items() if values != shown[name]}
    if not changes and ":" not in act:
        return Edited(document, text)
    document = copy.deepcopy(document)
    for name in sorted(changes, key=lambda name: (name not in _PICKERS, name == _EXPORTS or _is_tag(name))):
        _change(document, name, changes[name], shown[name])
    added = _act(document, *act.split(":", 1)) if ":" in act else ""
    document = _in_order(document)
    return Edited(document, revised(text, document), added)


def _as_shown(name: str, values: tuple[str, ...], shown: tuple[str, ...]) -> tuple[str, ...]:
    """Return what was posted in the form in which it is shown: one value, or those that are ticked."""
    if name == _EXPORTS:
        return tuple(one for one in EXPORTS if one in values)
    control = _control_at(name)
    if control is not None and control.kind == "ticks":
        return tuple(one for one in control.choices if one in values)
    return values[-1:] or shown


def _control_at(path: str) -> FormControl | None:
    """Return a control by its path; that of a group in any of its variants, which agree about its kind."""
    if path in controls():
        return controls()[path]
    for one in lists().values():
        place, _, inner = path.removeprefix(f"{one.path}.").partition(".")
        if path.startswith(f"{one.path}.") and place.isdecimal():
            known = (found for variant in one.variants.values() for found in variant if found.path == inner)
            return next(known, None)
    return None


def _is_tag(name: str) -> bool:
    return any(
        one.tag and name.startswith(f"{one.path}.") and name.rpartition(".")[2] == one.tag for one in lists().values()
    )


def read_mapping(text: str) -> dict[str, Any]:
    """Read a document that has to be a mapping.

    Raises:
        SpecError: it is none.

    """
    document = parse_document(text)
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise SpecError([FieldProblem("$", "must be a mapping", "lines such as name: first")])
    return document


def _change(document: dict[str, Any], name: str, values: tuple[str, ...], shown: tuple[str, ...]) -> None:
    """Write one change of the form into the document."""
    value = values[-1] if values else ""
    if name == _EXPORTS:
        _change_exports(document, set(values) - set(shown), set(shown) - set(values))
    elif name == "data":
        kept = _kept(document, "data", "dataset", "path")
        document["data"] = {("path" if "/" in value or "\\" in value else "dataset"): value, **kept}
    elif name == "teacher":
        kept = _kept(document, "teacher", "weights", "train")
        document["teacher"] = {**_teacher(document, value), **kept}
    elif name == "student":
        document["student"] = {"weights": value} if value.endswith(".pt") or ":" in value else {"model": value}
    elif name in controls():
        _change_field(document, controls()[name], values)
    else:
        _change_group(document, name, values)


def _kept(document: Mapping[str, Any], section: str, *without: str) -> dict[str, Any]:
    given = document.get(section)
    return {key: one for key, one in given.items() if key not in without} if isinstance(given, dict) else {}


def _teacher(document: Mapping[str, Any], value: str) -> dict[str, Any]:
    if not value.startswith(TRAIN):
        return {"weights": value}
    train = value_at(document, "teacher.train")
    kept = (
        {key: one for key, one in train.items() if key not in {"model", "weights"}} if isinstance(train, dict) else {}
    )
    return {"train": {"model": value.removeprefix(TRAIN), **kept}}


def _change_exports(document: dict[str, Any], added: set[str], removed: set[str]) -> None:
    found = [one for one in _exports(document) if _export(one) not in removed]
    for name in (one for one in EXPORTS if one in added):
        form, _, precision = name.partition("/")
        usual = EXPORT_FORMATS[form].model_fields["precision"].default
        found.append({"format": form} if precision == usual else {"format": form, "precision": precision})
    _write_list(document, lists()[_EXPORTS], found)


def _write_list(document: dict[str, Any], one: FormList, items: list[Any]) -> None:
    """Write a list; what stands there anyway is left out."""
    take_out(document, one.path)
    if items != _usual(document, one):
        _put(document, one.path, items)


def _change_group(document: dict[str, Any], name: str, values: tuple[str, ...]) -> None:
    """Change a field of a group; the list is written out for it."""
    one = next(found for found in lists().values() if name.startswith(f"{found.path}."))
    place, _, inner = name.removeprefix(f"{one.path}.").partition(".")
    items = _items(document, one)
    if int(place) >= len(items) or not isinstance(items[int(place)], dict):
        return  # the YAML has lost the group, or says something else there
    item = items[int(place)]
    if inner == one.tag:
        known = {control.path for control in one.variants.get(values[-1], ())}
        items[int(place)] = {inner: values[-1], **{key: value for key, value in item.items() if key in known}}
    else:
        control = next((found for found in one.variants.get(item.get(one.tag, ""), ()) if found.path == inner), None)
        if control is None:
            return
        _change_field(item, control, values)
    _write_list(document, one, items)


def _change_field(document: dict[str, Any], control: FormControl, values: tuple[str, ...]) -> None:
    value = control.meant(values)
    if value is LEFT_OUT:
        take_out(document, control.path)
    else:
        _put(document, control.path, value)


def _put(document: dict[str, Any], path: str, value: Any) -> None:
    try:
        put(document, path, value)
    except (ValueError, LookupError):  # a section that holds no fields: the YAML's mistake, which is told there
        document[path.partition(".")[0]] = {}
        put(document, path, value)


def _act(document: dict[str, Any], what: str, path: str) -> str:
    """Do what a button says; return the path of a group that has come into being."""
    if what == "teacher":
        _change(document, "teacher", (path,), ())
        return ""
    above, _, place = path.rpartition(".")
    one = lists().get(path if what in {"add", "usual"} else above)
    if one is None:
        return ""
    items = list(_items(document, one))
    if what == "add":
        items.append(_new_group(one, items))
        _write_list(document, one, items)
        return f"{one.path}.{len(items) - 1}"
    if what == "usual":
        take_out(document, one.path)
    elif what == "remove" and place in map(str, range(min(len(items), MOST_GROUPS))):
        del items[int(place)]
        _write_list(document, one, items)
    return ""


def _new_group(one: FormList, items: Sequence[Any]) -> dict[str, Any]:
    """Return a group of the first variant that the list has not yet."""
    if not one.tag:
        return {}
    had = {item.get(one.tag) for item in items if isinstance(item, dict)}
    return {one.tag: next((name for name in one.variants if name not in had), next(iter(one.variants)))}


def _in_order(document: dict[str, Any]) -> dict[str, Any]:
    """Return the document with its sections in the order of the reference."""
    order = [*JobSpec.model_fields]
    known = {name: document[name] for name in order if name in document}
    return {**known, **{name: one for name, one in document.items() if name not in known}}


def placed(problems: Sequence[FieldProblem], document: Mapping[str, Any]) -> dict[str, list[FieldProblem]]:
    """Return the problems by their controls, in the order of the page.

    Those of no control are under ``spec``, which is the YAML.
    """
    places = _places(document)
    found: dict[str, list[FieldProblem]] = {}
    for problem in problems:
        found.setdefault(_place(problem.path, places), []).append(problem)
    return {place: found[place] for place in places if place in found}


def _places(document: Mapping[str, Any]) -> tuple[str, ...]:
    """Return where problems can stand, from the top of the page to its end."""
    rest: list[str] = []
    for section in shown_sections(document):
        rest += [control.path for inner in section.fields.values() for control in inner]
        for one in section.lists:
            rest.append(one.described.path)
            for group in one.groups:
                rest += [group.path, group.tag, *(control.path for control in group.controls)]
    return tuple(dict.fromkeys(["data", "teacher", "student", *FIRST, "exports", *TERMS, *filter(None, rest), "spec"]))


def _place(path: str, places: Sequence[str]) -> str:
    """Return the control of a path, or of the nearest one above it."""
    if path in CHOSEN:
        return path.partition(".")[0]
    while path:
        if path in places:
            return path
        path = path.rpartition(".")[0]
    return "spec"
