"""What is in the repository belongs there: no host of a package index, no machine's path, no secret."""

from __future__ import annotations

import re
import stat
import tomllib

import pytest
from house.source import LIBRARIES, ROOT, name, tracked

# Written so that no pattern matches itself.
FOREIGN = {
    "a package index": re.compile(
        r"p[y]pi\.org|python[h]osted\.org|download\.py[t]orch\.org|--(extra-)?index-url[ =]h|find-links[ =][/h]"
    ),
    "a machine's path": re.compile(r"(?<![\w.~-])/(root|home/[a-z]\w*|work|Users/\w+)/[\w.]"),
    "a secret": re.compile(r"-----BEGIN [A-Z ]*PRIVATE[ ]KEY|\bAKIA[0-9A-Z]{16}\b|\bghp_[0-9A-Za-z]{36}\b"),
}
BINARY = {".png", ".jpg", ".pt", ".onnx", ".ico", ".woff2"}
TEXTS = [path for path in tracked() if path.suffix not in BINARY and path.parent.name != "vendor"]


def test_no_file_names_what_is_only_here():
    found = [
        f"{name(path)} names {what}: {match.group()}"
        for path in TEXTS
        for what, pattern in FOREIGN.items()
        if (match := pattern.search(path.read_text(errors="replace")))
    ]

    assert found == []


def test_every_file_ends_with_one_newline_and_has_no_carriage_returns():
    contents = {name(path): path.read_bytes() for path in TEXTS}

    assert [path for path, content in contents.items() if b"\r\n" in content] == []
    assert [path for path, content in contents.items() if content and not re.search(rb"[^\n]\n\Z", content)] == []


def test_no_file_is_large():
    assert [name(path) for path in tracked() if path.stat().st_size > 1_000_000] == []


def test_scripts_can_be_started():
    scripts = [path for path in tracked() if path.read_bytes()[:2] == b"#!"]

    assert [name(path) for path in scripts if not path.stat().st_mode & stat.S_IXUSR] == []


@pytest.mark.parametrize(
    "required",
    [
        "README.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "LICENSE",
        "SECURITY.md",
        ".env.example",
        "Makefile",
        ".ci/run",
        "docker-compose.yml",
        "Dockerfile.gpu",
        "api/Dockerfile",
    ],
)
def test_what_a_repository_needs_is_there(required: str):
    assert (ROOT / required).is_file()


def test_the_changelogs_newest_version_is_the_packages():
    import retort

    versions = re.findall(r"^## \[?([0-9]+\.[0-9]+\.[0-9]+)\]?", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)

    assert "Unreleased" in (ROOT / "CHANGELOG.md").read_text()
    assert not versions or versions[0] == retort.__version__


def test_the_version_is_written_in_one_place():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    place = ROOT / project["tool"]["hatch"]["version"]["path"]
    literal = re.compile(r"^(__)?version(__)?\s*=\s*[\"'][0-9]", re.MULTILINE)

    assert project["project"]["dynamic"] == ["version"]
    assert [path for path in TEXTS if path.suffix in {".py", ".toml"} and literal.search(path.read_text())] == [place]


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_package_tells_type_checkers_that_it_is_typed(library: str):
    packages = [path.parent for path in (ROOT / library).glob("*/__init__.py")]

    assert packages
    assert [package.name for package in packages if not (package / "py.typed").is_file()] == []
