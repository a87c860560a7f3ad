"""Files that pretend to be weights are refused by reading them: nothing in them is imported, made or called."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.malicious_checkpoints import CANARY, corpus

MOST_SECONDS = 5
MOST_BYTES = 200 << 20
_WATCHED = """
import encodings.cp437, encodings.raw_unicode_escape, json, re, sys, time
from pathlib import Path
from retort.data import weights
from retort.errors import ModelError
files = sorted(Path("files").iterdir())
seen, told, grown, watching = [], {}, {}, False
HARMLESS = {"open", "builtins.id"}
def watch(event, given):
    if not watching:
        return
    if event not in HARMLESS or (event == "open" and "w" in str(given[1])):
        seen.append([event, str(given)[:200]])
sys.addaudithook(watch)
for file in files:
    began, watching = time.monotonic(), True
    try:
        weights.check_checkpoint(file, "the body")
        outcome = None
    except ModelError as error:
        outcome = [error.message, error.hint]
    watching = False
    told[file.name] = [outcome, time.monotonic() - began]
    grown[file.name] = int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024
print(json.dumps({
    "told": told, "seen": seen, "grown": grown, "torch": "torch" in sys.modules,
}))
"""


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, str], dict[str, Any], Path]:
    """What one process says that checks every file while an audit hook looks on."""
    folder = tmp_path_factory.mktemp("malicious")
    (folder / "files").mkdir()
    titles = {}
    for number, (title, content) in enumerate(corpus().items()):
        titles[f"{number:03d}"] = title
        (folder / "files" / f"{number:03d}").write_bytes(content)
    done = subprocess.run([sys.executable, "-c", _WATCHED], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return titles, json.loads(done.stdout), folder


def test_the_corpus_has_a_file_for_each_known_trick():
    assert len(corpus()) >= 200


def test_every_file_is_refused_with_a_reason_and_a_hint(watched: Any):
    titles, found, _ = watched
    accepted = [titles[name] for name, (outcome, _) in found["told"].items() if outcome is None]
    assert accepted == []
    assert [titles[name] for name, (outcome, _) in found["told"].items() if not all(outcome)] == []


def test_nothing_is_imported_made_called_or_written_while_they_are_read(watched: Any):
    _, found, folder = watched
    assert found["seen"] == []
    assert not found["torch"]
    assert sorted(path.name for path in folder.iterdir()) == ["files"]
    assert not list(folder.rglob(CANARY))


def test_none_takes_long_or_much_memory(watched: Any):
    titles, found, _ = watched
    slow = {titles[name]: took for name, (_, took) in found["told"].items() if took > MOST_SECONDS}
    assert slow == {}
    assert {titles[name]: peak for name, peak in found["grown"].items() if peak > MOST_BYTES} == {}
