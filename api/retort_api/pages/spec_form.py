"""Keep a form and the YAML of a spec in step."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from retort.errors import FieldProblem, SpecError
from retort.exports import EXPORT_FORMATS
from retort.spec import JobSpec, parse_document, schema
from retort.spec.assignment import put, take_out, value_at

from retort_api.pages.spec_commands import spec_text

Kind = Literal["text", "number", "choice", "check"]
State = Mapping[str, tuple[str, ...]]
"""What each control of the form holds, by its name."""

OTHER = "other"
"""The choice of a dataset that is written out, in the field of the same name."""
OTHER_DATA = "data.other"
TRAIN = "train:"
"""Before the architecture of a teacher that the job is to train."""
FIRST = (
    "name", "distillation.recipe", "training.epochs", "training.imgsz", "training.batch", "training.seeds", "control",
)  # fmt: skip
"""Fields that most people set."""
_SECTIONS = ("training", "distillation", "resources", "teacher.train")
_LABELS = {
    "name": "Name", "distillation.recipe": "Recipe", "training.epochs": "Epochs",
    "training.imgsz": "Image side in pixels", "training.batch": "Images in a batch",
    "training.seeds": "Seeds", "control": "Train a control, too",
    "teacher.train.epochs": "Epochs of a teacher that is trained first",
}  # fmt: skip
TERMS = ("labels", "priority")
"""Fields beside the spec, which belong to the submission."""
_CHOSEN = ("data", "teacher", "student", "exports")
_ELSEWHERE = frozenset({"teacher.train.model", "teacher.train.weights"})
"""Fields that controls of their own stand for."""
_BOTH = ("true", "false")
EXPORTS: Mapping[str, str] = {
    "onnx/fp32": "ONNX", "onnx/int8": "ONNX, INT8", "openvino/fp32": "OpenVINO", "openvino/int8": "OpenVINO, INT8",
    "engine/fp16": "TensorRT, FP16", "engine/int8": "TensorRT, INT8", "ncnn/fp16": "NCNN, FP16",
    "torchscript/fp32": "TorchScript",
}  # fmt: skip
"""Forms of the student that can be ticked, as people call them."""


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
    low: str | None = None
    high: str | None = None
    step: str | None = None

    @property
    def id(self) -> str:
        """Identifier of the control on the page."""
        return field_id(self.path)


def field_id(path: str) -> str:
    """Return the identifier of a control on the page."""
    return f"f-{path.replace('.', '-')}"


@cache
def controls() -> Mapping[str, FormControl]:
    """Return the controls that the schema gives, by the paths of their fields."""
    whole = schema()
    found = {}
    for path, described in _fields(whole, whole["properties"], ""):
        if path in _ELSEWHERE or not path.startswith((*(f"{one}." for one in _SECTIONS), "name", "control")):
            continue
        if (control := _control(path, described)) is not None:
            found[path] = control
    return found


def further() -> Mapping[str, tuple[FormControl, ...]]:
    """Return the controls that few people need, by section."""
    rest = [one for path, one in controls().items() if path not in FIRST]
    return {
        section: tuple(one for one in rest if one.path.rpartition(".")[0] == section)
        for section in dict.fromkeys(one.path.rpartition(".")[0] for one in rest)
    }


def _fields(whole: Mapping[str, Any], properties: Mapping[str, Any], above: str) -> Iterator[tuple[str, Any]]:
    for name, given in properties.items():
        described = _resolved(whole, given)
        if "properties" in described:
            yield from _fields(whole, described["properties"], f"{above}{name}.")
        else:
            yield f"{above}{name}", described


def _resolved(whole: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return a field's schema with what it refers to, and without null."""
    described = dict(given)
    forms = [one for one in described.pop("anyOf", []) if one.get("type") != "null"]
    if len(forms) == 1:
        described = {**forms[0], **described}
    elif forms:
        described["anyOf"] = forms
    if "$ref" in described:
        target = whole["$defs"][described.pop("$ref").rpartition("/")[2]]
        described = {**target, **described}
    return described


def _control(path: str, described: Mapping[str, Any]) -> FormControl | None:
    """Return the control of a field; None for a list, which the YAML is for."""
    kinds: dict[str, Kind] = {"integer": "number", "number": "number", "boolean": "check", "string": "text"}
    kind = kinds.get(described.get("type", ""))
    if "enum" in described:
        kind = "choice"
    elif "anyOf" in described and {one.get("type") for one in described["anyOf"]} == {"integer", "string"}:
        kind = "text"
    if kind is None:
        return None
    choices, default = tuple(map(str, described.get("enum", ()))), _written(described.get("default"))
    if kind == "check" and not default:
        kind, choices = "choice", _BOTH  # left open, it is neither
    low, above = described.get("minimum"), described.get("exclusiveMinimum")
    step = described.get("multipleOf", 1 if described.get("type") == "integer" else "any")
    number = kind == "number"
    return FormControl(
        path=path,
        label=_LABELS.get(path, path.rpartition(".")[2].replace("_", " ")),
        kind=kind,
        help=_first_sentence(str(described.get("description", ""))),
        default=default,
        choices=choices,
        low=str(low if low is not None else above) if number and (low is not None or above is not None) else None,
        high=str(described["maximum"]) if number and "maximum" in described else None,
        step=str(step) if number else None,
    )


def _first_sentence(description: str) -> str:
    """Return the first sentence of a field's description; the reference has the others."""
    plain = " ".join(description.replace("``", "").split())
    return f"{plain.partition('. ')[0].rstrip('.')}."


def _written(value: Any) -> str:
    """Return a plain value as the form holds it."""
    if value is None or isinstance(value, dict | list):
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def state_of(document: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Return what the form holds for a document, right or wrong."""
    found: dict[str, tuple[str, ...]] = {
        path: (_written(value_at(document, path)) or (control.default if control.kind in {"check", "choice"} else ""),)
        for path, control in controls().items()
    }
    found["data"] = (_first_text(document, "data.dataset", "data.path"),)
    trained = value_at(document, "teacher.train.model")
    found["teacher"] = (f"{TRAIN}{trained}",) if isinstance(trained, str) else (
        _first_text(document, "teacher.weights", "teacher.train.weights"),
    )  # fmt: skip
    weights = value_at(document, "student.weights")
    found["student"] = (_first_text(document, "student.model") or (weights if isinstance(weights, str) else ""),)
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
    known = {*controls(), *_CHOSEN}
    found: dict[str, tuple[str, ...]] = {
        name: (values[-1],) for name, values in given.items() if name in known and name != "exports"
    }
    if "exports" in given:
        found["exports"] = tuple(name for name in EXPORTS if name in given["exports"])
    return found


def _first_text(document: Mapping[str, Any], *paths: str) -> str:
    return next((found for path in paths if isinstance(found := value_at(document, path), str)), "")


def _exports(document: Mapping[str, Any]) -> list[Any]:
    given = document.get("exports", [{"format": "onnx"}])
    return given if isinstance(given, list) else []


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


def edit(text: str, before: str, posted: State) -> Edited:
    """Return the YAML *text* with the changes of its form.

    Both were shown with the YAML *before*.

    Raises:
        SpecError: the text is no YAML, or no mapping.

    """
    document = read_mapping(text)
    try:
        shown = state_of(read_mapping(before))
    except SpecError:
        shown = state_of({})
    changes = {name: value for name, value in posted.items() if name in shown and value != shown[name]}
    if not changes:
        return Edited(document, text)
    document = copy.deepcopy(document)
    for name, values in changes.items():
        _change(document, name, values, shown[name])
    document = _in_order(document)
    return Edited(document, spec_text(document))


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
    if name == "exports":
        _change_exports(document, set(values) - set(shown), set(shown) - set(values))
    elif name == "data":
        kept = _kept(document, "data", "dataset", "path")
        document["data"] = {("path" if "/" in value or "\\" in value else "dataset"): value, **kept}
    elif name == "teacher":
        kept = _kept(document, "teacher", "weights", "train")
        document["teacher"] = {**_teacher(document, value), **kept}
    elif name == "student":
        document["student"] = {"weights": value} if value.endswith(".pt") or ":" in value else {"model": value}
    else:
        _change_field(document, controls()[name], value)


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
    if found == [{"format": "onnx"}]:
        document.pop("exports", None)
    else:
        document["exports"] = found


def _change_field(document: dict[str, Any], control: FormControl, value: str) -> None:
    text = value.strip()
    if not text or (control.kind in {"check", "choice"} and text == control.default):
        take_out(document, control.path)
        return
    try:
        put(document, control.path, _value(control, text))
    except (ValueError, LookupError):  # a section that holds no fields: the YAML's mistake, which is told there
        above = control.path.partition(".")[0]
        document[above] = {}
        put(document, control.path, _value(control, text))


def _value(control: FormControl, text: str) -> Any:
    """Return what a control's text means; one that is no number stays a text, which the spec refuses."""
    if control.kind == "check" or (control.choices == _BOTH and text in _BOTH):
        return text == "true"
    if control.path == "name" or control.kind == "choice":
        return text
    try:
        found = parse_document(text)
    except SpecError:
        return text
    return found if isinstance(found, int | float | str) else text


def _in_order(document: dict[str, Any]) -> dict[str, Any]:
    """Return the document with its sections in the order of the reference."""
    order = [*JobSpec.model_fields]
    known = {name: document[name] for name in order if name in document}
    return {**known, **{name: one for name, one in document.items() if name not in known}}


def placed(problems: Sequence[FieldProblem]) -> dict[str, list[FieldProblem]]:
    """Return the problems by their controls.

    Those of no control are under ``spec``, which is the YAML.
    """
    found: dict[str, list[FieldProblem]] = {}
    for problem in problems:
        found.setdefault(_place(problem.path), []).append(problem)
    return found


def _place(path: str) -> str:
    if path in controls() or path in TERMS:
        return path
    inside = [one for one in controls() if path.startswith(f"{one}.")]
    if inside:
        return inside[0]
    section = path.partition(".")[0]
    return section if section in _CHOSEN and not path.startswith("teacher.ensemble") else "spec"
