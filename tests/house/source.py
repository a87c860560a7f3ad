"""The project's own files, as the house tests read them."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LIBRARIES = ("core", "api", "worker")


@cache
def tracked() -> tuple[Path, ...]:
    """Every file that git tracks, or would track when it is added."""
    command = ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\0")
    return tuple(path for name in listed if name and (path := ROOT / name).is_file())


def modules(*folders: str) -> list[Path]:
    """Python files in *folders* (the three libraries unless told)."""
    roots = [ROOT / folder for folder in folders or LIBRARIES]
    return [path for path in tracked() if path.suffix == ".py" and any(root in path.parents for root in roots)]


def name(path: Path) -> str:
    """Return the path as people say it."""
    return path.relative_to(ROOT).as_posix()


@cache
def tree(path: Path) -> ast.Module:
    """Parse a file once."""
    return ast.parse(path.read_text(), str(path))


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """Yield each function of a file with its length in lines, docstring and signature included."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{name(path)}:{node.lineno} {node.name}", (node.end_lineno or node.lineno) - node.lineno + 1
