"""Describe the controls that the spec's schema gives a form."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Literal

from retort.documents import parse_document
from retort.errors import SpecError
from retort.spec import AugmentationFields, schema

from retort_api.pages.spec_text import inline, spec_text

Kind = Literal["text", "number", "choice", "check", "ticks", "list", "lines"]
"""``ticks`` takes several of a few words, ``list`` one value or several with commas, ``lines`` a mapping."""
State = Mapping[str, tuple[str, ...]]
"""What each control of the form holds, by its name."""

FIRST = (
    "name", "distillation.recipe", "training.epochs", "training.imgsz", "training.batch", "training.seeds", "control",
)  # fmt: skip
"""Fields that most people set."""
_LABELS = {
    "name": "Name", "distillation.recipe": "Recipe", "training.epochs": "Epochs",
    "training.imgsz": "Image side in pixels", "training.batch": "Images in a batch",
    "training.seeds": "Seeds", "control": "Train a control, too",
    "teacher.train.epochs": "Epochs of a teacher that is trained first",
}  # fmt: skip
CHOSEN = frozenset({
    "data.path", "data.dataset", "teacher.weights", "teacher.train.model", "teacher.train.weights", "student.model",
    "student.weights",
})  # fmt: skip
"""Fields that data and network pickers write."""
NULL = "null"
"""Written where nothing at all is meant, in fields that mean something else when they are left out."""
LEFT_OUT: Any = ...
"""In place of a value: the field is not there."""
_BOTH = ("true", "false")
_PLAIN = re.compile(r"[^,\[\]{}\"'#]+")


@dataclass(frozen=True, slots=True)
class FormControl:
    """One control of the form, as the schema describes its field."""

    path: str
    label: str
    kind: Kind
    help: str
    default: str
    """What counts where the field is left empty; empty where nothing is known."""
    choices: tuple[str, ...] = ()
    ticked: tuple[str, ...] = ()
    """Of ``ticks``, what counts where the field is left out."""
    whole: bool = False
    """Whether a number has no fraction."""
    is_text: bool = False
    """Whether what is written is a text, whatever it looks like."""
    nullable: bool = False
    """Whether ``null`` says something else than leaving the field out."""
    items: str = ""
    """Type of the values of what is always a list; empty where one value may stand without."""

    @property
    def id(self) -> str:
        """Identifier of the control on the page."""
        return field_id(self.path)

    def held(self, value: Any) -> tuple[str, ...]:
        """Return what the control holds for a value, as a browser sends it back."""
        if self.kind == "ticks":
            given = self.ticked if value is LEFT_OUT else value
            return tuple(one for one in self.choices if isinstance(given, list | tuple) and one in given)
        if value is None and self.nullable:
            return (NULL,)
        if value is None or value is LEFT_OUT:
            return (self.default if self.kind in {"check", "choice"} else "",)
        return (self._held(value) or (self.default if self.kind == "choice" else ""),)

    def _held(self, value: Any) -> str:
        if self.kind == "check":
            return str(value is True).lower()
        if self.kind == "lines" and isinstance(value, dict):
            return spec_text(value).strip() if value else ""
        if self.kind == "list" and isinstance(value, list):
            return _listed(value)
        if isinstance(value, dict | list):
            return ""
        return sent(str(value).lower() if isinstance(value, bool) else str(value))

    def meant(self, values: tuple[str, ...]) -> Any:
        """Return the value that is written into the document.

        What is no number stays a text, which the spec refuses.
        """
        if self.kind == "ticks":
            return LEFT_OUT if values == self.ticked else list(values)
        text = values[-1].strip() if values else ""
        if not text or (self.kind in {"check", "choice"} and text == self.default):
            return LEFT_OUT
        if self.nullable and text == NULL:
            return None
        return self._meant(text)

    def _meant(self, text: str) -> Any:
        if self.kind == "check" or (self.choices == _BOTH and text in _BOTH):
            return text == "true"
        if self.is_text or self.kind == "choice":
            return int(text) if self.whole and text.isdecimal() else text
        if self.kind == "list" and ("," in text or self.items) and not text.startswith("["):
            listed = [one.strip() for one in text.split(",") if one.strip()]
            return listed if self.items == "string" else [_read(one) for one in listed]
        found = _read(text)
        held = {"list": list, "lines": dict}.get(self.kind, str)
        return found if isinstance(found, int | float | str | held) else text


@dataclass(frozen=True, slots=True)
class FormList:
    """A list of groups of controls, to which groups can be added."""

    path: str
    label: str
    """Of one group."""
    help: str
    tag: str
    """Field that says which variant a group is; empty where there is one."""
    variants: Mapping[str, tuple[FormControl, ...]]
    """Controls by variant, with paths inside the group."""
    about: Mapping[str, str]
    """What each variant is."""
    required: bool
    """Whether it must not be empty."""

    @property
    def id(self) -> str:
        """Identifier of the list on the page."""
        return field_id(self.path)

    def controls(self, place: int, variant: str) -> tuple[FormControl, ...]:
        """Return the controls of one group."""
        inner = self.variants.get(variant, ())
        return tuple(replace(one, path=f"{self.path}.{place}.{one.path}") for one in inner)

    def tag_path(self, place: int) -> str:
        """Return the path of the field that says which variant a group is."""
        return f"{self.path}.{place}.{self.tag}"


@dataclass(frozen=True, slots=True)
class FormSection:
    """Fields that few people need, of one topic."""

    title: str
    about: str
    within: tuple[str, ...]
    """Beginnings of their paths."""

    def holds(self, path: str) -> bool:
        """Return True if a field belongs here."""
        return any(path == one or path.startswith(f"{one}.") for one in self.within)


SECTIONS = (
    FormSection("Images without labels", "for the teacher to answer or to label", ("data", "pseudo_labels")),
    FormSection("Networks", "sizes, starting weights, more teachers", ("teacher", "student")),
    FormSection("Distillation", "losses, balance, schedule", ("distillation",)),
    FormSection(
        "Augmentation", "how images are varied", tuple(f"training.{one}" for one in AugmentationFields.model_fields)
    ),
    FormSection("Training", "optimizer, learning rate, limits, frozen layers", ("training",)),
    FormSection("Further controls", "what else the student is compared with", ("arms",)),
    FormSection("Files to deploy, one by one", "sizes, thresholds, calibration", ("exports",)),
    FormSection("Tracking", "TensorBoard, Weights & Biases, MLflow", ("tracking",)),
    FormSection("Machine", "GPUs, limits in time", ("resources",)),
)  # fmt: skip
_ONE_OF = {"distillation.losses": "Loss", "teacher.ensemble": "Further teacher", "exports": "File"}


def field_id(path: str) -> str:
    """Return the identifier of a control on the page."""
    return f"f-{path.replace('.', '-')}"


def sent(text: str) -> str:
    """Return a text as a browser sends it from a field of one line."""
    return text.replace("\n", "").replace("\r", "").strip()


@cache
def controls() -> Mapping[str, FormControl]:
    """Return the controls of all fields outside lists of groups, by path."""
    return {one.path: one for one in _all_fields() if isinstance(one, FormControl)}


@cache
def lists() -> Mapping[str, FormList]:
    """Return the lists of groups, by path."""
    return {one.path: one for one in _all_fields() if isinstance(one, FormList)}


@cache
def _all_fields() -> tuple[FormControl | FormList, ...]:
    whole = schema()
    return tuple(_fields(whole, whole["properties"], ""))


def section_of(path: str) -> FormSection | None:
    """Return the section that holds a field."""
    return next((one for one in SECTIONS if one.holds(path)), None)


def _fields(whole: Mapping[str, Any], properties: Mapping[str, Any], above: str) -> Iterator[FormControl | FormList]:
    for name, given in properties.items():
        described, path = _resolved(whole, given), f"{above}{name}"
        if "properties" in described:
            yield from _fields(whole, described["properties"], f"{path}.")
        elif described.get("type") == "array" and (groups := _groups(whole, described["items"])):
            yield _list(whole, path, described, groups)
        elif "const" not in described:
            yield _control(whole, path, described, given)


def _groups(whole: Mapping[str, Any], items: Mapping[str, Any]) -> tuple[dict[str, Any], ...]:
    """Return the kinds of mappings that a list holds; empty for a list of plain values."""
    found = [_resolved(whole, one) for one in items.get("oneOf", [items])]
    return tuple(one for one in found if "properties" in one)


def _list(
    whole: Mapping[str, Any], path: str, described: Mapping[str, Any], groups: tuple[dict[str, Any], ...]
) -> FormList:  # fmt: skip
    tag = described["items"].get("discriminator", {}).get("propertyName", "")
    variants, about = {}, {}
    for one in groups:
        name = one["properties"][tag]["const"] if tag else ""
        fields = _fields(whole, one["properties"], "")
        variants[name] = tuple(inner for inner in fields if isinstance(inner, FormControl))
        about[name] = _first_sentence(one.get("description", ""))
    return FormList(
        path, _ONE_OF.get(path, _spoken(path)), _first_sentence(described.get("description", "")), tag, variants, about,
        required=described.get("minItems", 0) > 0,
    )  # fmt: skip


def _resolved(whole: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return a field's schema with what it refers to, and without null."""
    described = dict(given)
    forms = [one for one in described.pop("anyOf", []) if one.get("type") != NULL]
    if len(forms) == 1:
        described = {**forms[0], **described}
    elif forms:
        described["anyOf"] = forms
    if "$ref" in described:
        target = whole["$defs"][described.pop("$ref").rpartition("/")[2]]
        described = {**target, **described}
    return described


def _kind(whole: Mapping[str, Any], described: Mapping[str, Any]) -> Kind:
    if "enum" in described:
        return "choice"
    forms = described.get("anyOf", [described])
    if any(one.get("type") == "array" for one in forms):
        return "ticks" if "enum" in _resolved(whole, described.get("items", {})) else "list"
    kinds: dict[str, Kind] = {"integer": "number", "number": "number", "boolean": "check", "object": "lines"}
    return kinds.get(described.get("type", ""), "text")


def _control(
    whole: Mapping[str, Any], path: str, described: Mapping[str, Any], given: Mapping[str, Any]
) -> FormControl:  # fmt: skip
    """Return the control of a field."""
    kind, default = _kind(whole, described), described.get("default")
    written = "" if default is None or isinstance(default, dict | list) else str(default)
    choices = tuple(map(str, described.get("enum", ())))
    if kind == "check":
        written = written.lower()
        kind, choices = (kind, choices) if written else ("choice", _BOTH)  # left open, it is neither
    if kind == "ticks":
        choices = tuple(_resolved(whole, described["items"])["enum"])
    takes_null = any(one.get("type") == NULL for one in given.get("anyOf", ()))
    return FormControl(
        path=path, label=_LABELS.get(path, _spoken(path)), kind=kind,
        help=_first_sentence(str(described.get("description", ""))), default=written, choices=choices,
        ticked=tuple(default or ()) if kind == "ticks" else (),
        whole=described.get("type") == "integer", is_text=described.get("type") == "string",
        nullable=takes_null and (default is not None or "default" not in described),
        items=described.get("items", {}).get("type", "") if kind == "list" else "",
    )  # fmt: skip


def _spoken(path: str) -> str:
    return path.rpartition(".")[2].replace("_", " ")


def _first_sentence(description: str) -> str:
    """Return the first sentence of a field's description; the reference has the others."""
    plain = " ".join(description.replace("``", "").split())
    return f"{plain.partition('. ')[0].rstrip('.')}."


def _listed(value: list[Any]) -> str:
    """Return a list as people write it: with commas, and in brackets where it could be taken for one value."""
    texts = [sent(str(one)) for one in value if isinstance(one, int | float | str)]
    if len(texts) == len(value) > 1 and all(map(_PLAIN.fullmatch, texts)) and [*map(_read, texts)] == value:
        return ", ".join(texts)
    return sent(inline(value))


def _read(text: str) -> Any:
    """Return what a text means in YAML; one that means nothing stays as it is."""
    try:
        found = parse_document(text)
    except SpecError:
        return text
    return text if found is None else found
