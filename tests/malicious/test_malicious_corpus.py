"""Whatever a stranger sends is refused in words, without an effect, a look elsewhere, or a large bill."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from malicious import (  # noqa: F401 - they add their cases
    addresses,
    archives,
    documents,
    doors,
    files,
)
from malicious.cases import CASES, DOORS, MaliciousCase
from retort.errors import RetortError, UserError

SMALL = [case for case in CASES.values() if not case.bomb]
BOMBS = [case.name for case in CASES.values() if case.bomb]
ACTS = (
    "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty", "os.startfile", "subprocess.Popen",
    "socket.connect", "socket.getaddrinfo", "socket.bind", "pickle.find_class", "os.kill", "urllib.Request",
)  # fmt: skip
"""What Python tells of programs that are started, addresses that are asked for, and constructors that are called."""
SEEN: list[tuple[str, str]] = []
WATCHING = [False]


def _watch(event: str, given: tuple[object, ...]) -> None:
    if WATCHING[0] and (event in ACTS or event == "open"):
        SEEN.append((event, str(given[0]) if given else ""))


sys.addaudithook(_watch)


@contextmanager
def watched() -> Iterator[list[tuple[str, str]]]:
    SEEN.clear()
    WATCHING[0] = True
    try:
        yield SEEN
    finally:
        WATCHING[0] = False


def everything(folder: Path) -> dict[str, bytes | str]:
    return {
        str(path.relative_to(folder)): str(path.readlink()) if path.is_symlink() else path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("given", "target", "outside"):
        (tmp_path / name).mkdir()
    (tmp_path / "outside/secret.txt").write_text("secret\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def outcome(case: MaliciousCase, given: object, target: Path) -> RetortError | None:
    try:
        DOORS[case.door](given, target)
    except RetortError as error:
        return error
    return None


@pytest.mark.filterwarnings("ignore")  # of Pillow, about what is wrong with an image
@pytest.mark.parametrize("case", SMALL, ids=lambda case: case.name)
def test_what_is_malicious_has_no_effect_and_is_told(case: MaliciousCase, place: Path):
    given = case.make(place / "given")
    before, began = everything(place), time.process_time()

    with watched() as seen:
        error = outcome(case, given, place / "target")

    assert time.process_time() - began < 5
    assert [act for act in seen if act[0] in ACTS] == []
    if case.harmless:
        assert error is None or error.hint
    else:
        assert isinstance(error, UserError), "it was taken"
        assert error.code != "internal"
        assert error.hint
        assert len(error.message) < 2000
        assert error.message.isprintable() or "\n" in error.message
    after = {name: found for name, found in everything(place).items() if not name.startswith("target/data/")}
    assert after == before or (case.harmless and not error), "a file was written"
    elsewhere = [name for event, name in seen if event == "open" and _is_elsewhere(name, place)]
    assert elsewhere == []


def _is_elsewhere(name: str, place: Path) -> bool:
    """Return whether a file is neither of the case nor of the programs."""
    if "/" not in name or (place / "outside") in Path(name).parents:
        return "secret" in name
    return Path(name).is_relative_to("/etc") or Path(name).is_relative_to("/proc/self/environ")


@pytest.fixture(scope="module")
def measured() -> dict[str, dict[str, object]]:
    """Each bomb in a process of its own."""
    tests = Path(__file__).parents[1]
    told = subprocess.run(
        [sys.executable, "-m", "malicious.measured"], check=True, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(tests)},
    )  # fmt: skip
    return {found["name"]: found for found in map(json.loads, told.stdout.splitlines())}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_in_little_time_and_memory(name: str, measured: dict[str, dict[str, object]]):
    found = measured[name]

    assert found["refused"] is True, found
    assert found["hint"], found
    assert float(str(found["cpu_s"])) <= 5, found
    assert float(str(found["peak_mib"])) <= 200, found
    assert found["left"] == [], found


def test_opencv_decodes_no_picture_that_only_it_takes_for_a_large_one(tmp_path: Path):
    (tmp_path / "large.png").write_bytes(files.png(20_000, 20_000))
    code = (
        "import sys, numpy; from retort import images\n"
        "data = numpy.fromfile(sys.argv[1], numpy.uint8)\n"
        "try: print(images._opencv().imdecode(data, 1) is None)\n"
        "except Exception as error: print(type(error).__name__)"
    )
    told = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "large.png"], check=True, capture_output=True, text=True
    )
    assert told.stdout.strip() in {"True", "error"}


def test_the_corpus_is_large_and_every_door_has_cases():
    assert len(CASES) >= 120
    assert {case.door for case in CASES.values()} == DOORS.keys()
