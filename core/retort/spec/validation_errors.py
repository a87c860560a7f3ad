"""Turn validation errors into sentences: where, what is wrong, what would be right."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

from retort.errors import FieldProblem

_TYPES = {
    "integer": "a whole number",
    "number": "a number",
    "string": "a text",
    "boolean": "true or false",
    "array": "a list",
    "object": "a mapping",
    "null": "null",
}
_BOUNDS = {
    "minimum": "at least",
    "exclusiveMinimum": "above",
    "maximum": "at most",
    "exclusiveMaximum": "below",
    "multipleOf": "a multiple of",
}


def describe(owners: Sequence[type[BaseModel]], field: str) -> str:
    """Return what *field* takes where *owners* stand, such as "a whole number, at least 1; default 100"."""
    owner = next((cls for cls in owners if field in cls.model_fields), None)
    if owner is None:
        return "see the schema"
    whole = owner.model_json_schema()
    schema = whole["properties"][field]
    words = _words(schema, whole.get("$defs", {}))
    if schema.get("default") is not None and not isinstance(schema["default"], list | dict):
        words = f"{words}; default {shown(schema['default'])}"
    about = str(schema.get("description", "")).replace("\n", " ").replace("``", "")
    return f"{words}. {about}" if about else words


def _words(schema: dict[str, Any], definitions: dict[str, Any]) -> str:
    if "$ref" in schema:
        schema = definitions[schema["$ref"].rpartition("/")[2]]
    if "anyOf" in schema:
        return " or ".join(_words(part, definitions) for part in schema["anyOf"])
    if "enum" in schema:
        return f"one of {', '.join(map(str, schema['enum']))}"
    kind = _TYPES.get(schema.get("type", ""), "a value")
    bounds = [f"{words} {schema[key]}" for key, words in _BOUNDS.items() if key in schema]
    if schema.get("minItems"):
        bounds.append(f"of {schema['minItems']} item{'s' if schema['minItems'] > 1 else ''} or more")
    return ", ".join([kind, *bounds])


def shown(value: object) -> str:
    """Return *value* as a document shows it, cut short; what is not a plain value is named by its type."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    if not isinstance(value, str | int | float):
        return type(value).__name__
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def plain(listed: str) -> str:
    """Take the quotation marks out of pydantic's lists."""
    return listed.replace("'", "")


_KEY = "[key]"
"""What pydantic says after a mapping's key that is itself wrong."""


@dataclass(frozen=True, slots=True)
class ValidationIssue:
    """One validation error with its path, without union tags."""

    code: str
    """Pydantic's name for it."""
    path: tuple[str | int, ...]
    owners: tuple[type[BaseModel], ...]
    """Models that may stand where the last part of the path is looked up."""
    inner: tuple[type[BaseModel], ...]
    """Models that may stand at the path itself."""
    input: Any
    message: str
    context: dict[str, Any]
    document: type[BaseModel]
    """The model of the whole document."""

    @property
    def field(self) -> str:
        """The last name in the path, whatever index follows it."""
        return next((part for part in reversed(self.path) if isinstance(part, str)), "")

    def problem(self, message: str, hint: str | None, *below: str) -> FieldProblem:
        """Say it about this place, or about a place *below* it."""
        return FieldProblem(".".join(map(str, (*self.path, *below))) or "$", message, hint)


def explain(error: ValidationError, model: type[BaseModel]) -> list[FieldProblem]:
    """Return one Problem per mistake in *error*, found while validating *model*, without what only follows from it."""
    mistakes = [_mistake(item, model) for item in error.errors(include_url=False)]
    return [_say(mistake) for mistake in mistakes if not _follows(mistake, mistakes)]


def _mistake(item: Any, model: type[BaseModel]) -> ValidationIssue:
    path, owners, inner = _place(model, item["loc"])
    context = item.get("ctx", {})
    return ValidationIssue(item["type"], path, owners, inner, item["input"], item["msg"], context, model)


def _place(
    model: type[BaseModel], location: Iterable[str | int]
) -> tuple[tuple[str | int, ...], tuple[Any, ...], tuple[Any, ...]]:
    """Walk *location* down from *model*: the path as people see it, the models that own its last name, those there."""
    here: tuple[type[BaseModel], ...] = (model,)
    owners, path = here, []
    key_follows = False
    for part in location:
        if key_follows or part == _KEY:  # the key of a mapping is no field
            path += [part] if part != _KEY else []
            key_follows = False
            continue
        if isinstance(part, str) and len(here) > 1:  # pydantic names the member of the union it went into
            here = tuple(cls for cls in here if part in _tags(cls))
            owners = here
            continue
        path.append(part)
        if isinstance(part, str):
            owners = here
            key_follows = any(_is_mapping(cls, part) for cls in here)
            here = tuple(found for cls in here if part in cls.model_fields for found in _models(cls, part))
    return tuple(path), owners, here


def _is_mapping(cls: type[BaseModel], field: str) -> bool:
    return field in cls.model_fields and get_origin(cls.model_fields[field].annotation) is dict


def _tags(cls: type[BaseModel]) -> list[Any]:
    return [field.default for name, field in cls.model_fields.items() if name in _TAGS]


def _models(cls: type[BaseModel], field: str) -> list[type[BaseModel]]:
    """Models that the annotation of *field* speaks of, inside containers and unions."""
    waiting, found = [cls.model_fields[field].annotation], []
    while waiting:
        annotation = waiting.pop()
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            found.append(annotation)
        waiting.extend(get_args(annotation))
    return found


def _follows(mistake: ValidationIssue, mistakes: list[ValidationIssue]) -> bool:
    """Return True if *mistake* follows from another: a list emptied by bad items, a field misspelt beside its place."""
    if mistake.code == "too_short":
        depth = len(mistake.path)
        return any(other.path[:depth] == mistake.path and len(other.path) > depth for other in mistakes)
    if mistake.code == "missing":
        beside = [m for m in mistakes if m.code == "extra_forbidden" and m.path[:-1] == mistake.path[:-1]]
        return any(_closest(m.path[-1], _fields(m.owners)) == mistake.path[-1] for m in beside)
    return False


def _say(mistake: ValidationIssue) -> FieldProblem:
    return _SENTENCES.get(mistake.code, _other)(mistake)


def _unknown(mistake: ValidationIssue) -> FieldProblem:
    given, known = str(mistake.path[-1]), _fields(mistake.owners)
    return mistake.problem(f"unknown field {given!r}", _meant(given, known, mistake))


def _meant(given: str, known: list[str], mistake: ValidationIssue) -> str:
    """Return what an unknown field may have been meant as: its own place, another tool's word, a misspelling."""
    if given in OTHER_WORDS and OTHER_WORDS[given] in known:
        return f"did you mean {OTHER_WORDS[given]!r}?"
    if given in ADVICE:
        return ADVICE[given]
    if others := _variants_with(given, mistake):
        return f"it is a field of {', '.join(others)}; known fields here: {', '.join(known)}"
    close = _closest(given, known)
    if close and difflib.SequenceMatcher(None, given, close).ratio() >= _SURELY:
        return f"did you mean {close!r}?"
    if places := field_places(mistake.document, OTHER_WORDS.get(given, given)):
        likely = [*(f"{part}." for part in map(str, mistake.path[:1])), "training.", "distillation."]
        places.sort(key=lambda place: [not place.startswith(section) for section in likely])
        return f"did you mean {' or '.join(places)}?"
    return f"did you mean {close!r}?" if close else f"known fields here: {', '.join(known)}"


def _variants_with(field: str, mistake: ValidationIssue) -> list[str]:
    """Return the other variants of the family, such as export formats, that have a field of this name."""
    family: tuple[type[BaseModel], ...] = (mistake.document,)
    for part in mistake.path[:-1]:
        if isinstance(part, str):
            family = tuple(found for cls in family if part in cls.model_fields for found in _models(cls, part))
    return sorted(str(tag) for cls in family if field in cls.model_fields for tag in _tags(cls)[:1])


_SURELY = 0.75
"""Likeness of two words from which one is a misspelling of the other rather than a field of another section."""
_MOST_PLACES = 4
OTHER_WORDS = {
    "batch_size": "batch", "classes": "names", "cosine_lr": "cos_lr", "gpu": "gpus", "image_size": "imgsz",
    "img_size": "imgsz", "input_size": "imgsz", "learning_rate": "lr", "loss": "losses", "lr0": "lr",
    "max_grad_norm": "grad_clip", "num_epochs": "epochs", "num_gpus": "gpus", "save_period": "checkpoint_every",
}  # fmt: skip
"""Fields of this document by what other tools call them."""
ADVICE = {
    "device": "the device is chosen where the job runs: retort run --device 0; resources.gpus says how many",
    "int8": "write precision: int8",
    "end2end": "write nms: false for the NMS-free head of YOLO26 and YOLOv10",
    "half": "write precision: fp16, where the format has it",
}
"""What to do instead of fields that have no counterpart of their own."""


def field_places(document: type[BaseModel], field: str) -> list[str]:
    """Return the places of *document* that have a field of this name, as dotted paths; [] for none or too many."""
    found: list[str] = []
    waiting: list[tuple[str, type[BaseModel], tuple[type[BaseModel], ...]]] = [("", document, ())]
    while waiting:
        prefix, cls, above = waiting.pop(0)
        if field in cls.model_fields and prefix:
            found.append(f"{prefix}{field}")
        for name in cls.model_fields:
            inside = [model for model in _models(cls, name) if model not in above and model is not cls]
            index = "0." if len(inside) > 1 or _is_list(cls, name) else ""
            waiting += [(f"{prefix}{name}.{index}", model, (*above, cls)) for model in inside]
    distinct = list(dict.fromkeys(found))
    return distinct if len(distinct) <= _MOST_PLACES else []


def _is_list(cls: type[BaseModel], field: str) -> bool:
    waiting = [cls.model_fields[field].annotation]
    while waiting:
        annotation = waiting.pop()
        if get_origin(annotation) is tuple:
            return True
        waiting.extend(get_args(annotation))
    return False


def _missing(mistake: ValidationIssue) -> FieldProblem:
    return mistake.problem("is required", f"add it: {describe(mistake.owners, mistake.field)}")


OTHER_VALUES = {
    "half": "fp16", "float16": "fp16", "float32": "fp32", "trt": "engine", "tensorrt": "engine",
    "plan": "engine", "torch_script": "torchscript", "pytorch": "torchscript", "ov": "openvino",
}  # fmt: skip
"""Values by what other tools call them."""


def _unknown_tag(mistake: ValidationIssue) -> FieldProblem:
    tag, known = plain(mistake.context["discriminator"]), plain(mistake.context["expected_tags"]).split(", ")
    given = mistake.context["tag"]
    return mistake.problem(f"unknown {tag} {given!r}", _choose(given, known), tag)


def _missing_tag(mistake: ValidationIssue) -> FieldProblem:
    tag = plain(mistake.context["discriminator"])
    known = sorted(str(name) for cls in _models(mistake.owners[0], mistake.field) for name in _tags(cls))
    return mistake.problem("is required", f"add it: one of {', '.join(known)}", tag)


def _choice(mistake: ValidationIssue) -> FieldProblem:
    known = plain(mistake.context["expected"]).replace(" or ", ", ").split(", ")
    return mistake.problem(f"{shown(mistake.input)} is not one of the known values", _choose(mistake.input, known))


def _mapping(mistake: ValidationIssue) -> FieldProblem:
    """Say which mapping the given value may stand for."""
    forms = _forms(mistake.input, mistake.inner)
    hint = f"write {' or '.join(forms)}" if forms else f"known fields here: {', '.join(_fields(mistake.inner))}"
    return mistake.problem(f"must be a mapping, not {shown(mistake.input)}", hint)


def _forms(value: object, models: Iterable[type[BaseModel]]) -> list[str]:
    """Return the mappings of one field that mean the lone *value*, such as ``{weights: yolo11s.pt}``."""
    if not isinstance(value, str):
        return []
    value = OTHER_VALUES.get(value.lower(), value)
    found = [
        f"{{{field}: {value}}}"
        for cls in models
        for field in cls.model_fields
        if field not in _ASIDE and _fits(cls, field, value)
    ]
    return list(dict.fromkeys(found))


_ASIDE = frozenset({"dataset_dir", "entity", "otherwise"})
"""Fields that nobody means by a lone value."""


def _fits(cls: type[BaseModel], field: str, value: str) -> bool:
    """Return True if a document with this one field is accepted; a field may want others beside it."""
    if field in _TAGS:
        return value in _tags(cls)
    try:
        cls.model_validate({field: value})
    except ValidationError as error:
        return all(item["loc"] and item["loc"][0] != field and item["type"] == "missing" for item in error.errors())
    return True


_TAGS = frozenset({"kind", "format"})


def _list(mistake: ValidationIssue) -> FieldProblem:
    """Say what a list of the given value looks like."""
    value = mistake.input
    forms = [_flow(value)] if isinstance(value, dict) else _forms(value, mistake.inner)
    if not mistake.inner or not forms:
        return _other(mistake)
    return mistake.problem(f"must be a list, not {shown(value)}", f"write {mistake.field}: [{forms[0]}]")


def _flow(value: dict[str, Any]) -> str:
    return "{" + ", ".join(f"{name}: {shown(one).strip(chr(39))}" for name, one in value.items()) + "}"


def _own(mistake: ValidationIssue) -> FieldProblem:
    """Say what one of our own validators said."""
    at = mistake.context.get("at")
    return mistake.problem(mistake.context["text"], mistake.context.get("hint"), *(at.split(".") if at else ()))


def _other(mistake: ValidationIssue) -> FieldProblem:
    """Say pydantic's sentence, with what came and what is wanted."""
    message = mistake.message.removeprefix("Input ")
    for theirs, ours in (("a valid tuple", "a list"), ("Tuple should", "should"), (" after validation", "")):
        message = message.replace(theirs, ours)
    if mistake.code == "string_pattern_mismatch":
        message = "is not in the form that is wanted"
    came = "" if mistake.code in {"too_short", "too_long"} else f", got {shown(mistake.input)}"
    return mistake.problem(f"{message}{came}", describe(mistake.owners, mistake.field))


_SENTENCES: dict[str, Callable[[ValidationIssue], FieldProblem]] = {
    "extra_forbidden": _unknown,
    "missing": _missing,
    "union_tag_invalid": _unknown_tag,
    "union_tag_not_found": _missing_tag,
    "literal_error": _choice,
    "enum": _choice,
    "model_type": _mapping,
    "model_attributes_type": _mapping,
    "tuple_type": _list,
    "mistake": _own,
}


def _fields(owners: Iterable[type[BaseModel]]) -> list[str]:
    return sorted({name for cls in owners for name in cls.model_fields})


def _closest(given: object, known: list[str]) -> str | None:
    return next(iter(difflib.get_close_matches(str(given), known, n=1)), None)


def _choose(given: object, known: list[str]) -> str:
    word = str(given).lower()
    word = OTHER_VALUES.get(word, word)
    close = word if word in known else _closest(given, known)
    return (f"did you mean {close!r}? " if close else "") + f"known: {', '.join(known)}"
