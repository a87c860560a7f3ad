"""Each thing is done in one place: the environment, HTTP's codes, changes of state, and the layers between them."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from house.source import ROOT, modules, name, tree

ENVIRONMENT = {
    "core/retort/training/environment.py",  # Ultralytics reads its variables when it is imported
    "core/retort/settings.py",
    # These six give a child process its environment.
    "core/retort/confinement/__main__.py",
    "core/retort/cli/run.py",
    "core/retort/cli/up.py",
    "core/retort/images.py",  # it sets OpenCV's own limits
    "core/retort/tracking/dispatcher.py",
    "worker/retort_worker/gpu_check.py",
    "worker/retort_worker/process.py",
}
STATUS_NAMES = {"status_code", "status"}


def _lines(find: Callable[[Path], Iterator[int]], paths: list[Path]) -> list[str]:
    """Return the places that *find* finds in *paths*."""
    assert paths
    return [f"{name(path)}:{line}" for path in paths for line in find(path)]


def _environment(module: Path) -> Iterator[int]:
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Attribute) and node.attr in {"environ", "environb", "getenv", "putenv", "unsetenv"}:
            yield node.lineno
        if isinstance(node, ast.ImportFrom) and node.module in {"os", "decouple", "dotenv"}:
            yield from (node.lineno for alias in node.names if alias.name in {"environ", "getenv"})


def test_the_environment_is_read_through_the_settings_only():
    assert _lines(_environment, [path for path in modules() if name(path) not in ENVIRONMENT]) == []


@pytest.mark.parametrize("module", sorted(ENVIRONMENT))
def test_an_exception_for_the_environment_is_needed(module: str):
    assert list(_environment(ROOT / module))


def _is_status(node: ast.expr | None) -> bool:
    return isinstance(node, ast.Constant) and type(node.value) is int and 100 <= node.value < 600


def _status_codes(module: Path) -> Iterator[int]:
    """Lines on which a number is given, compared or documented as an HTTP status."""
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.keyword) and node.arg in STATUS_NAMES and _is_status(node.value):
            yield node.value.lineno
        if isinstance(node, ast.keyword) and node.arg == "responses" and isinstance(node.value, ast.Dict):
            yield from (key.lineno for key in node.value.keys if key is not None and _is_status(key))
        if isinstance(node, ast.Assign) and _is_status(node.value):
            targets = [target.attr for target in node.targets if isinstance(target, ast.Attribute)]
            yield from (node.lineno for target in targets if target in STATUS_NAMES)
        if isinstance(node, ast.Compare) and isinstance(node.left, ast.Attribute) and node.left.attr in STATUS_NAMES:
            yield from (node.lineno for other in node.comparators if _is_status(other))
        if isinstance(node, ast.Attribute) and node.attr.startswith("HTTP_"):
            yield node.lineno
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "HTTPException":
            yield node.lineno


def test_status_codes_live_in_the_apis_errors_only():
    others = [path for path in modules("api", "worker", "core/retort/db") if path.name != "errors.py"]

    assert _lines(_status_codes, others) == []


def _state_writes(module: Path) -> Iterator[int]:
    """Lines that set a state: an assignment to an attribute, a keyword of values(), or a row being made."""
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (
                node.lineno for target in targets if isinstance(target, ast.Attribute) and target.attr == "state"
            )
        if isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            writes = called in {"values", "JobRow", "AttemptRow"}
            yield from (node.lineno for keyword in node.keywords if writes and keyword.arg == "state")


WRITERS = {
    "core/retort/db/queue.py",
    "core/retort/db/transitions.py",
    "core/retort/db/webhooks.py",  # the states of deliveries
    "core/retort/db/sweeps.py",  # the states of sweeps, which have a table of their own
}


def test_states_change_where_the_table_of_transitions_is_kept():
    assert _lines(_state_writes, [path for path in modules() if name(path) not in WRITERS]) == []


def test_these_places_do_change_states():
    assert all(list(_state_writes(ROOT / f"core/retort/db/{name}.py")) for name in ("queue", "transitions"))


def _loaded_by(module: str, unwanted: tuple[str, ...]) -> str:
    code = f"import sys, {module}; print(*sorted(m for m in {unwanted} if m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return done.stdout.strip()


@pytest.mark.parametrize(
    "module", ["retort_api.app", "retort_worker.celery_app", "retort.cli.app", "retort.spec", "retort.client"]
)
def test_only_the_run_imports_torch(module: str):
    assert _loaded_by(module, ("torch", "torchvision", "ultralytics", "onnxruntime", "cv2", "plotly", "optuna")) == ""


def test_the_run_knows_neither_database_nor_queue_nor_network():
    assert (
        _loaded_by("retort.run", ("sqlalchemy", "celery", "redis", "fastapi", "httpx2", "obstore", "retort.settings"))
        == ""
    )


def test_the_layers_hold():
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )

    assert done.returncode == 0, done.stdout


_READERS = {"imread", "imreadmulti", "imdecode", "imdecodemulti", "read_image", "decode_image", "decode_jpeg"}


def _opened_images(module: Path) -> Iterator[int]:
    """Lines that decode a picture, in OpenCV, Pillow or torchvision."""
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Attribute) and node.attr in _READERS:
            yield node.lineno
        if isinstance(node, ast.Attribute) and node.attr in {"open", "OPEN"} and ast.unparse(node.value) in PILLOW:
            yield node.lineno
        if isinstance(node, ast.ImportFrom):
            yield from (node.lineno for alias in node.names if alias.name in _READERS)


PILLOW = {"Image", "PIL.Image"}
READER = "core/retort/images.py"


def test_a_picture_is_opened_by_the_one_reader_only():
    assert _lines(_opened_images, [path for path in modules() if name(path) != READER]) == []
    assert list(_opened_images(ROOT / READER)), "the search finds nothing any more"


DOCUMENTS = "core/retort/documents.py"


def _read_yaml(module: Path) -> Iterator[int]:
    """Lines that use a library of YAML for anything else than to write."""
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "yaml" and node.attr != "safe_dump":
            yield node.lineno
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in {"yaml", "ruamel", "_yaml"}:
            yield node.lineno
        if isinstance(node, ast.Import):
            named = ((alias.name, alias.asname) for alias in node.names)
            yield from (
                node.lineno for found, other in named if found.startswith("ruamel") or (found == "yaml" and other)
            )


def test_yaml_from_outside_is_read_by_the_one_reader_only():
    assert _lines(_read_yaml, [path for path in modules() if name(path) != DOCUMENTS]) == []
    assert list(_read_yaml(ROOT / DOCUMENTS)), "the search finds nothing any more"
