"""The contract in TypeScript: types made of it, and a program that submits a job with them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.api_harness import listening
from support.identity import OPERATOR

ROOT = Path(__file__).parents[2]
PROGRAM = Path(__file__).with_name("typescript")
COMMITTED = (".npmrc", "package.json", "package-lock.json", "tsconfig.json", "submit.ts")
INSTALL = ("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline", "--fetch-retries=0")
TSC = str(Path("node_modules") / ".bin" / "tsc")
UNREACHABLE = re.compile(
    r"ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENETUNREACH|EHOSTUNREACH|SOCKET_TIMEOUT"
)

pytestmark = pytest.mark.skipif(
    not (shutil.which("node") and shutil.which("npm")), reason="there is no Node.js with npm on the PATH"
)


def ran(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=60)


def install(folder: Path) -> None:
    """Install what the lock file names; skip where there is no registry to install from."""
    try:
        installed = ran(folder, *INSTALL)
    except subprocess.TimeoutExpired:
        pytest.skip("npm ci has not ended within a minute: its registry does not answer")
    if installed.returncode and (why := UNREACHABLE.search(installed.stderr)):
        pytest.skip(f"npm ci cannot reach a registry: {why.group()}")
    assert installed.returncode == 0, installed.stderr


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the program with the types of today's contract beside it."""
    folder = tmp_path_factory.mktemp("typescript")
    for name in COMMITTED:
        shutil.copy(PROGRAM / name, folder)
    shutil.copy(ROOT / "docs" / "openapi.json", folder)
    install(folder)
    typed = ran(folder, "npm", "run", "types")
    assert typed.returncode == 0, typed.stdout + typed.stderr
    return folder


@pytest.fixture(scope="module")
def service(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with listening(sqlite_template, tmp_path_factory.mktemp("served")) as address:
        yield address


def test_a_typescript_program_type_checks_and_submits_a_job(project: Path, service: str):
    built = ran(project, TSC)
    assert built.returncode == 0, built.stdout + built.stderr

    call = f"await submit('{service}', '{OPERATOR}')"
    code = f"import {{ submit }} from './made/submit.js'; console.log(JSON.stringify({call}))"
    submitted = ran(project, "node", "--input-type=module", "--eval", code)

    assert submitted.returncode == 0, submitted.stderr
    job = json.loads(submitted.stdout)
    assert (job["name"], job["state"]) == ("street-student", "queued")


def test_the_compiler_finds_a_wrong_field_in_a_spec_and_in_an_answer(project: Path):
    program = (project / "submit.ts").read_text()
    wrong = {"spec.ts": ("epochs:", "epohs:"), "answer.ts": (".links.self", ".links.me")}
    for name, (right, mistaken) in wrong.items():
        assert program.count(right) == 1
        (project / name).write_text(program.replace(right, mistaken))
    settings = {"extends": "./tsconfig.json", "compilerOptions": {"noEmit": True}, "files": list(wrong)}
    (project / "wrong.json").write_text(json.dumps(settings))

    checked = ran(project, TSC, "--project", "wrong.json")

    found = re.findall(r"^(\w+\.ts)\(.*'(\w+)' does not exist", checked.stdout, re.MULTILINE)
    assert sorted(found) == [("answer.ts", "me"), ("spec.ts", "epohs")], checked.stdout


def test_the_lock_file_names_no_registry():
    lock = json.loads((PROGRAM / "package-lock.json").read_text())

    assert {name for name, package in lock["packages"].items() if "resolved" in package} == set()
    assert all("integrity" in package for name, package in lock["packages"].items() if name)
