"""The documentation says what the code knows: every loss, export, stage, setting, example and address."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from house.source import ROOT
from retort.exports import EXPORT_FORMATS
from retort.losses import LOSS_KINDS
from retort.settings import Settings
from retort.spec import RECIPES, parse_document, parse_spec, parse_sweep
from retort.states import diagram
from retort.sweeps.search_space import check

DOCS = ROOT / "docs"


def page(title: str) -> str:
    return (DOCS / f"{title}.md").read_text()


def pages_of_settings() -> str:
    """The page of settings, and those that it leads to: one alone would be too long to be read."""
    return "\n".join(file.read_text() for file in sorted(DOCS.glob("settings*.md")))


def section(text: str, heading: str) -> str:
    """Return what stands under a heading, up to the next of its rank."""
    found = re.search(rf"^(#+) `{re.escape(heading)}`.*?$(.*?)(?=^\1 |\Z)", text, re.MULTILINE | re.DOTALL)
    return found.group(2) if found else ""


LOSS_PAGES = page("response-losses") + page("feature-losses")


@pytest.mark.parametrize("kind", sorted(LOSS_KINDS))
def test_every_loss_is_documented_with_its_formula_source_shapes_and_use(kind: str):
    text = section(LOSS_PAGES, kind)

    assert text, f"no page of losses has a section `{kind}`"
    assert all(word in text for word in ("**Formula**", "**Source**", "**Shapes**", "**Use it**")), text
    own = set(LOSS_KINDS[kind].model_fields) - {"kind", "weight", "levels"}
    assert {field for field in own if f"`{field}`" not in text} == set()


def test_no_loss_is_documented_that_is_not_there():
    documented = re.findall(r"^## `(\w+)`", LOSS_PAGES, re.MULTILINE)

    assert sorted(documented) == sorted(LOSS_KINDS)


@pytest.mark.parametrize("recipe", sorted(RECIPES))
def test_every_recipe_is_documented(recipe: str):
    assert f"`{recipe}`" in page("losses")


@pytest.mark.parametrize("kind", sorted(EXPORT_FORMATS))
def test_every_export_format_is_documented_with_its_options(kind: str):
    text = page("exports")

    assert f"## `{kind}`" in text
    assert {field for field in EXPORT_FORMATS[kind].model_fields if f"`{field}`" not in text} == set()


def test_every_stage_is_documented_in_the_order_in_which_it_runs():
    from retort.pipeline.context import find

    documented = re.findall(r"^\d+\. `(\w+)`", page("runs"), re.MULTILINE)

    assert documented == [stage.name for stage in find()]


def test_every_setting_is_documented_and_none_that_is_not_there():
    documented = set(re.findall(r"^\| `(RETORT_[A-Z_]+)`", pages_of_settings(), re.MULTILINE))

    assert documented == {f"RETORT_{field.upper()}" for field in Settings.model_fields}


@pytest.mark.parametrize(
    "file", ["docker-compose.yml", ".env.example", "README.md", "Makefile", "Dockerfile.gpu", "api/Dockerfile"]
)
def test_no_file_sets_a_variable_that_nobody_reads(file: str):
    named = set(re.findall(r"\bRETORT_[A-Z_]+\b", (ROOT / file).read_text()))

    assert named <= {f"RETORT_{field.upper()}" for field in Settings.model_fields} | {"RETORT_"}


def test_the_diagram_of_states_is_drawn_from_the_table():
    assert f"```mermaid\n{diagram()}\n```" in page("states")


def test_every_rule_of_health_is_documented_with_the_thresholds_it_has():
    from retort.training.health import rules
    from retort.training.health.rules import RULES

    text = page("health-rules")
    rows = re.findall(r"^\| `([a-z_]+)` \|", text, re.MULTILINE)
    values = {name: value for name, value in vars(rules).items() if name.isupper() and isinstance(value, int | float)}

    assert rows == [rule.name for rule in RULES]
    assert dict(re.findall(r"^\| `([A-Z_]+)` \| (\S+) \|", text, re.MULTILINE)) == {
        name: f"{value:g}" for name, value in values.items()
    }
    assert {name for name in values if text.count(f"`{name}`") < 2} == set()


def test_every_known_data_set_is_documented_with_what_it_is_checked_against():
    from retort.data.catalog import CATALOGUE

    rows = dict(re.findall(r"^\| `([a-z0-9-]+)` \| .+ \| (.+?) \|$", page("datasets"), re.MULTILINE))

    assert list(rows) == list(CATALOGUE)
    for name, known in CATALOGUE.items():
        published = all(archive.checksum for archive in known.archives)
        assert published != (rows[name] == "what was fetched first"), name


def test_every_table_is_documented():
    from retort.db.models import Base

    text = page("states")

    assert {table for table in Base.metadata.tables if f"| `{table}` |" not in text} == set()


SPECS = sorted((ROOT / "examples").rglob("specs/*.yaml"))


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.name)
def test_every_example_spec_is_valid(path: Path):
    document = parse_document(path.read_bytes())
    if "base" in document:
        check(parse_sweep(document))
    else:
        parse_spec(document)


def test_there_are_example_specs():
    assert SPECS


def _blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("path", [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))], ids=lambda path: path.name)
def test_every_whole_spec_in_the_documentation_is_valid(path: Path):
    for block in _blocks(path.read_text(), "ya?ml"):
        document: Any = parse_document(block)
        if isinstance(document, dict) and ({"name", "data", "teacher"} <= document.keys() or "task" in document):
            parse_spec(document)
        elif isinstance(document, dict) and {"base", "parameters"} <= document.keys():
            check(parse_sweep(document))


@pytest.mark.parametrize(
    "path", [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))], ids=lambda path: path.name
)
def test_links_in_the_documentation_lead_somewhere(path: Path):
    targets = re.findall(r"\]\((?!https?:|mailto:|#)([^)#\s]+)", path.read_text())

    assert [target for target in targets if not (path.parent / target).exists()] == []


def test_the_log_lists_every_entry_of_its_pages():
    listed = re.findall(r"^\* \[(.+)\]\((log/[a-z-]+\.md)#", page("LOG"), re.MULTILINE)
    pages = {path.relative_to(DOCS).as_posix(): path.read_text() for path in (DOCS / "log").glob("*.md")}
    written = [(entry, name) for name, text in pages.items() for entry in re.findall(r"^## (.+)", text, re.MULTILINE)]

    assert sorted(listed) == sorted(written)


def test_the_readme_names_the_two_commands():
    readme = (ROOT / "README.md").read_text()

    assert "make demo" in readme
    assert "make test" in readme


def test_ci_runs_the_gate_and_the_gate_runs_the_readmes_test_command():
    assert re.search(r"make( --no-print-directory)? check", (ROOT / ".ci/run").read_text())
    gate = re.search(r"^check:.*?(?=^\S)", (ROOT / "Makefile").read_text(), re.MULTILINE | re.DOTALL)
    assert gate is not None
    assert re.search(r"\btest$", gate.group().strip())


def test_the_committed_openapi_document_is_the_apps():
    code = (
        "import json, sys; from retort.settings import Settings; from retort_api.app import create_app;"
        "json.dump(create_app(Settings(home='unused')).openapi(), sys.stdout)"
    )
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert json.loads((DOCS / "openapi.json").read_text()) == json.loads(made.stdout)
