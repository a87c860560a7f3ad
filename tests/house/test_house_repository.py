"""What is in the repository belongs there: no host of a package index, no machine's path, no secret."""

from __future__ import annotations

import re
import stat
from pathlib import Path

import pytest
from house.source import ROOT, name, tracked

# Written so that no pattern matches itself.
FOREIGN = {
    "a package index": re.compile(
        r"pypi\.org|pythonhosted\.org|download\.pytorch\.org|--(extra-)?index-url[ =]h|find-links[ =][/h]"
    ),
    "a machine's path": re.compile(r"(?<![\w.~-])/(root|home/[a-z]\w*|work|Users/\w+)/[\w.]"),
    "a secret": re.compile(r"-----BEGIN [A-Z ]*PRIVATE[ ]KEY|\bAKIA[0-9A-Z]{16}\b|\bghp_[0-9A-Za-z]{36}\b"),
}
TEXTS = [path for path in tracked() if path.suffix not in {".png", ".jpg", ".pt", ".onnx", ".ico", ".woff2"}]


@pytest.mark.parametrize("path", TEXTS, ids=name)
def test_a_file_names_nothing_that_is_only_here(path: Path):
    text = path.read_text(errors="replace")

    assert [f"{what}: {match.group()}" for what, pattern in FOREIGN.items() if (match := pattern.search(text))] == []


@pytest.mark.parametrize("path", TEXTS, ids=name)
def test_a_file_ends_with_one_newline_and_has_no_carriage_returns(path: Path):
    content = path.read_bytes()

    assert b"\r\n" not in content
    assert not content or (content.endswith(b"\n") and not content.endswith(b"\n\n"))


def test_no_file_is_large():
    assert [name(path) for path in tracked() if path.stat().st_size > 1_000_000] == []


@pytest.mark.parametrize("path", [path for path in tracked() if path.read_bytes()[:2] == b"#!"], ids=name)
def test_a_script_can_be_started(path: Path):
    assert path.stat().st_mode & stat.S_IXUSR


@pytest.mark.parametrize(
    "required",
    [
        "README.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "LICENSE",
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
