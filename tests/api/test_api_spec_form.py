"""The form of a spec: it has every field of the schema, and keeps the YAML as people have written it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import yaml
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st
from retort.documents import parse_document
from retort.errors import SpecError
from retort.spec import schema
from retort.spec.assignment import value_at
from retort_api.pages.spec_form import edit, state_of
from retort_api.pages.spec_text import lines_of, revised, spec_text

SAME = {"Sec-Fetch-Site": "same-origin"}
PICKED = {"data.path": ("data", "/srv/street"), "data.dataset": ("data", "coco128")}
"""Fields that a picker of another name writes: its name, and what is chosen there."""
WRITTEN = """# what my boss wants
name: first  # its name

data: {dataset: coco128}   # small
teacher: {weights: 'yolo11l.pt'}
training:
  # long enough
  epochs: 30
  # two at least
  seeds: 2   # more is better

distillation:
  losses:
    # the classes
    - kind: class_logits   # as in the paper
      weight: 1

    # the features
    - {kind: pearson, levels: [P3]}
# the end
"""


def resolved(given: Mapping[str, Any]) -> dict[str, Any]:
    """Follow a reference, and leave null out of what may be given."""
    found = {**given}
    if "$ref" in found:
        found = {**schema()["$defs"][found["$ref"].rpartition("/")[2]], **found}
    forms = [one for one in found.get("anyOf", ()) if "type" in one or "$ref" in one]
    first = next((one for one in forms if one.get("type") != "null"), None)
    return found if first is None else {**found, **resolved(first)}


def fields_of(described: Mapping[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every field with its path; a list of mappings has one item of each variant."""
    found = resolved(described)
    if "properties" in found:
        for name, inner in found["properties"].items():
            yield from fields_of(inner, f"{path}.{name}" if path else name)
    elif found.get("type") == "array" and "properties" in resolved(found["items"].get("oneOf", [found["items"]])[0]):
        for place, one in enumerate(found["items"].get("oneOf", [found["items"]])):
            yield from fields_of(one, f"{path}.{place}")
    else:
        yield path, found


FIELDS = dict(fields_of({"properties": schema()["properties"]}, ""))
FULL: dict[str, Any] = {"name": "all", "distillation": {"losses": []}, "exports": [], "teacher": {"ensemble": [{}]}}
for path, field in FIELDS.items():
    if path.endswith((".kind", ".format")):
        value_at(FULL, path.rpartition(".")[0].rpartition(".")[0]).append({path.rpartition(".")[2]: field["const"]})


def another(field: Mapping[str, Any]) -> tuple[list[str], Any]:  # noqa: PLR0911 - one for each type
    """Return what is written or ticked for a value that is not the default, and that value."""
    if "enum" in field:
        chosen = next(one for one in field["enum"] if one != field.get("default"))
        return [str(chosen)], chosen
    if field["type"] == "boolean":
        chosen = not field.get("default", False)
        return [str(chosen).lower()], chosen
    if field["type"] == "array":
        items = resolved(field["items"])
        if items["type"] == "number":
            return ["0.125, 2, 0.5"], [0.125, 2, 0.5]
        if "enum" not in items:
            return ["car, 7"], ["car", "7"]
        return ["", items["enum"][-1]], [items["enum"][-1]]
    if field["type"] == "object":
        return ["car: 0.7\n'on': 0.25"], {"car": 0.7, "on": 0.25}
    if field["type"] == "string":
        return ["123"], "123"
    return ["0.375"], 0.375


@pytest.mark.parametrize("path", [path for path, field in FIELDS.items() if "const" not in field])
def test_every_field_of_the_schema_can_be_set_by_the_form(path: str):
    before = spec_text(FULL)
    name, values, meant = path, *another(FIELDS[path])
    if path in PICKED:
        name, meant = PICKED[path]
        values = [meant]
    edited = edit(before, before, {**state_of(FULL), name: tuple(values)})
    assert value_at(edited.document, path) == meant
    assert parse_document(edited.text) == edited.document
    back = edit(edited.text, edited.text, {**state_of(edited.document), name: state_of(FULL)[name]})
    if path not in PICKED:
        assert back.document == FULL, "what is taken back leaves nothing"


def test_the_page_has_a_control_for_every_field_and_a_label_for_every_control(small_client: TestClient):
    page = small_client.post("/new", data={"spec": spec_text(FULL), "do": "check"}, headers=SAME).text
    names = set(re.findall(r'<(?:input|select|textarea)\b[^>]*? name="([^"]+)"', page))
    wanted = {PICKED.get(path, (path,))[0] for path in FIELDS if path != "task"} - {
        path for path, field in FIELDS.items() if path.endswith(".precision") and "const" in field
    }
    assert wanted <= names
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids)), "no identifier stands twice"
    assert set(re.findall(r'\bfor="([^"]+)"', page)) <= set(ids)
    described = {one for found in re.findall(r'aria-describedby="([^"]+)"', page) for one in found.split()}
    assert described <= set(ids)
    linked = set(re.findall(r'href="#(f-[^"]+)"', page))
    assert linked
    assert linked <= set(ids), "what is wrong can be gone to"


@pytest.mark.parametrize(
    ("name", "values", "lost", "new"),
    [
        ("training.epochs", "7", {"  epochs: 30"}, {"  epochs: 7"}),
        ("training.epochs", "", {"  epochs: 30"}, set()),
        ("training.seeds", "1", {"  seeds: 2   # more is better"}, {"  seeds: 1   # more is better"}),
        ("training.freeze", "0, 23.cv2", set(), {"  freeze:", "  - 0", "  - 23.cv2"}),
        ("control", "false", set(), {"control: false"}),
        ("name", "1e3", {"name: first  # its name"}, {"name: '1e3'  # its name"}),
        ("student", "yolo11n", set(), {"student:", "  model: yolo11n"}),
        ("teacher.imgsz", "512", {"teacher: {weights: 'yolo11l.pt'}"}, {"teacher: {weights: yolo11l.pt, imgsz: 512}"}),
        ("distillation.losses.0.weight", "2", {"      weight: 1"}, {"      weight: 2"}),
        ("distillation.losses.1.weight", "2", {"    - {kind: pearson, levels: [P3]}"},
         {"    - {kind: pearson, levels: [P3], weight: 2}"}),
    ],
)  # fmt: skip
def test_a_change_of_the_form_changes_the_lines_that_mean_it_and_no_other(
    name: str, values: str, lost: set[str], new: set[str]
):
    document = parse_document(WRITTEN)
    edited = edit(WRITTEN, WRITTEN, {**state_of(document), name: (values,)})
    before, after = WRITTEN.splitlines(), edited.text.splitlines()
    assert [one for one in before if one not in lost] == [one for one in after if one not in new]
    assert new <= set(after)
    assert parse_document(edited.text) == edited.document


def test_groups_are_added_and_removed_and_comments_of_the_others_stay():
    document = parse_document(WRITTEN)
    state = state_of(document)
    more = edit(WRITTEN, WRITTEN, state, "add:distillation.losses")
    assert more.added == "distillation.losses.2"
    assert more.document["distillation"]["losses"][2] == {"kind": "box_giou"}
    less = edit(more.text, more.text, state_of(more.document), "remove:distillation.losses.0")
    assert [one["kind"] for one in less.document["distillation"]["losses"]] == ["pearson", "box_giou"]
    assert "# the features" in less.text
    assert "# the end" in less.text
    usual = edit(less.text, less.text, state_of(less.document), "usual:distillation.losses")
    assert "distillation" not in usual.document
    assert value_at(edit("name: a", "name: a", {}, "remove:exports.0").document, "exports") == []


def test_a_loss_of_another_kind_keeps_what_both_kinds_have():
    before = "distillation: {losses: [{kind: channel_wise, weight: 2, levels: [P4], temperature: 3}]}"
    state = state_of(parse_document(before))
    edited = edit(before, before, {**state, "distillation.losses.0.kind": ("pearson",)})
    assert edited.document["distillation"]["losses"] == [{"kind": "pearson", "weight": 2, "levels": ["P4"]}]


def test_the_losses_of_a_recipe_are_written_out_once_one_of_them_is_changed():
    state = state_of({"name": "a"})
    assert state["distillation.losses.0.kind"] == ("class_logits",)
    edited = edit("name: a", "name: a", {**state, "distillation.losses.1.weight": ("2",)})
    kinds = [one["kind"] for one in edited.document["distillation"]["losses"]]
    assert kinds == ["class_logits", "dfl", "pearson"]
    back = edit(edited.text, edited.text, {**state_of(edited.document), "distillation.losses.1.weight": ("0.5",)})
    assert "distillation" not in back.document, "what the recipe says anyway is not written"


def test_starting_from_random_weights_is_said_by_null_and_not_by_nothing():
    before = "student: {model: yolo11n}"
    edited = edit(before, before, {**state_of(parse_document(before)), "student.weights": ("null",)})
    assert edited.document == {"student": {"model": "yolo11n", "weights": None}}
    assert state_of(edited.document)["student.weights"] == ("null",)
    left_out = edit(edited.text, edited.text, {**state_of(edited.document), "student.weights": ("",)})
    assert left_out.document == {"student": {"model": "yolo11n"}}


@pytest.mark.parametrize(
    "act", ["add:nothing", "remove:exports.99", "remove:exports." + "9" * 9000, "usual:", "x:y", ":"]
)
def test_a_button_that_the_page_has_not_changes_nothing(act: str):
    before = "name: a\nexports: [{format: onnx}, {format: ncnn}]\n"
    assert edit(before, before, {}, act).text == before


def test_what_is_no_value_of_its_field_stays_as_it_was_typed():
    for name, typed in (("training.epochs", "{a: 1}"), ("training.lr", "[1]"), ("pseudo_labels.per_class", "car 7")):
        edited = edit("name: a", "name: a", {**state_of({"name": "a"}), name: (typed,)})
        assert state_of(edited.document)[name] == (typed,)


def test_a_list_of_very_many_groups_costs_no_more_than_the_longest_that_may_be(small_client: TestClient):
    text = "name: a\nexports:\n" + "- format: engine\n" * 3_000
    answer = small_client.post(
        "/new", data={"spec": text, "before": text, "control": "false", "do": "check"}, headers=SAME
    )
    assert answer.status_code == 200
    assert answer.text.count('class="group"') < 100
    assert edit(text, text, {"exports.1.batch": ("4",)}).document["exports"][1] == {"format": "engine", "batch": 4}


def test_lines_of_fields_are_known_and_what_is_missing_has_that_of_its_section():
    found = lines_of(WRITTEN, ["training.seeds", "distillation.losses.1.levels", "training.batch", "nothing"])
    assert found == {"training.seeds": 10, "distillation.losses.1.levels": 19, "training.batch": 6}


_scalars = st.none() | st.booleans() | st.integers(-9, 2000) | st.floats() | st.text(max_size=10)
_values = st.recursive(
    _scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
_documents = st.dictionaries(st.sampled_from("abcd") | st.text(max_size=4), _values, max_size=5)


@settings(max_examples=60, deadline=None)
@given(old=_documents, new=_documents, flow=st.booleans(), comment=st.booleans())
def test_a_text_means_what_its_document_has_become_whatever_was_in_it(
    old: dict[str, Any], new: dict[str, Any], flow: bool, comment: bool
):
    text = yaml.safe_dump(old, default_flow_style=flow, sort_keys=False, allow_unicode=True)
    text = f"# first\n{text}# last" if comment else text
    try:
        parse_document(text)
    except SpecError:
        return
    mixed = {**old, **dict(list(new.items())[:2])}
    for document in (new, mixed):
        found = parse_document(revised(text, document)) or {}
        assert json.dumps(found, sort_keys=True) == json.dumps(document, sort_keys=True), (
            "what stood there keeps its place"
        )
