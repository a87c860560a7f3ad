"""Count what a newcomer meets in the source tree: modules, functions, importers, names; as a table and as JSON.

    python benchmarks/house_figures.py --json FILE [--root CHECKOUT]

Everything is read from the syntax, nothing is imported. The libraries are ``core``, ``api`` and ``worker``; files of at
most five lines, which only mark a package, are left out. A module's importers are the other modules that name it, what
it defines, or a module inside it where it is a package, in an import statement anywhere, those for typing included.
"""

from __future__ import annotations

import argparse
import ast
import statistics
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from provenance import ROOT, provenance, write_json

LIBRARIES = {"core": "core", "api": "api", "worker": "worker"}
"""Where each library's packages lie."""
SMALL_MODULE = 60
LONG_FUNCTION = 60
MARKER = 5
"""Lines up to which a file only marks a package."""


@dataclass(frozen=True)
class Module:
    """One source file."""

    name: str
    """As it is imported."""
    path: Path
    """Relative to the root of the checkout."""
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        """Its syntax."""
        return ast.parse(self.text, str(self.path))

    @property
    def lines(self) -> int:
        """How long it is."""
        return len(self.text.splitlines())

    def functions(self) -> Iterator[tuple[str, int]]:
        """Yield each function and method with its lines, signature and docstring included."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{self.path}:{node.lineno} {node.name}", (node.end_lineno or node.lineno) - node.lineno + 1

    def classes(self) -> Iterator[str]:
        """Yield the names of the classes at its top."""
        yield from (node.name for node in self.tree.body if isinstance(node, ast.ClassDef))

    def imports(self, known: Mapping[str, Module]) -> set[str]:
        """Return which of the *known* modules it names."""
        named: set[str] = set()
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                named |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                named |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        return (with_packages(named) & known.keys()) - {self.name}


def with_packages(names: set[str]) -> set[str]:
    """Add to names of modules those of the packages around them."""
    return {name.rsplit(".", inside)[0] for name in names for inside in range(name.count(".") + 1)}


def modules(root: Path, library: str) -> list[Module]:
    """Read the modules of one library, markers of packages included."""
    base = root / LIBRARIES[library]
    found = []
    for path in sorted(base.rglob("*.py")):
        parts = path.relative_to(base).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found.append(Module(name, path.relative_to(root), path.read_text()))
    return found


def importers(every: Sequence[Module]) -> dict[str, set[str]]:
    """Return the names of those that import each module."""
    known = {module.name: module for module in every}
    found: dict[str, set[str]] = defaultdict(set)
    for module in every:
        for name in module.imports(known):
            found[name].add(module.name)
    return found


def spread(values: Sequence[int]) -> dict[str, float]:
    """Return median, 90th percentile (a value that occurs) and maximum."""
    ordered = sorted(values)
    return {"median": statistics.median(ordered), "p90": ordered[len(ordered) * 9 // 10], "max": ordered[-1]}


def figures(some: Sequence[Module], imported_by: Mapping[str, set[str]]) -> dict[str, Any]:
    """Count over *some* modules."""
    lengths = [length for module in some for _, length in module.functions()]
    lonely = [module.name for module in some if len(imported_by[module.name]) == 1]
    return {
        "modules": len(some),
        "lines": sum(module.lines for module in some),
        "lines_per_module": spread([module.lines for module in some]),
        "functions": len(lengths),
        "lines_per_function": spread(lengths or [0]),
        "modules_under_60_lines": sum(module.lines < SMALL_MODULE for module in some),
        "functions_over_60_lines": sum(length > LONG_FUNCTION for length in lengths),
        "modules_with_one_importer": len(lonely),
    }


def repeated_classes(every: Sequence[Module]) -> dict[str, list[str]]:
    """Return each class name that several modules define, with those modules."""
    found: dict[str, list[str]] = defaultdict(list)
    for module in every:
        for name in module.classes():
            found[name].append(module.name)
    return {name: where for name, where in sorted(found.items()) if len(where) > 1}


def group(module: Module) -> str:
    """Name the part of the house that a module lies in: a package of the core, or a library."""
    parts = module.path.parts
    return "/".join(parts[:3]) if parts[0] == "core" and len(parts) > 3 else parts[0]


def measure(root: Path) -> dict[str, Any]:
    """Return all figures of the checkout at *root*."""
    every = [module for library in LIBRARIES for module in modules(root, library)]
    counted = [module for module in every if module.lines > MARKER]
    imported_by = importers(every)
    parts = sorted({group(module) for module in counted})
    repeated = repeated_classes(counted)
    return {
        "all": figures(counted, imported_by),
        "parts": {part: figures([m for m in counted if group(m) == part], imported_by) for part in parts},
        "class_names_defined_more_than_once": len(repeated),
        "repeated_classes": repeated,
        "one_importer": {
            module.name: next(iter(imported_by[module.name]))
            for module in counted
            if len(imported_by[module.name]) == 1
        },
    }


def table(found: Mapping[str, Any]) -> str:
    """Format the figures for a page, one part a line."""
    head = "| part | modules | lines | lines/module median/p90/max | functions | lines/function median/p90/max | "
    head += "modules < 60 | functions > 60 | one importer |"
    lines = [head, "|---|---:|---:|---:|---:|---:|---:|---:|---:|"]
    for part, one in {"all": found["all"], **found["parts"]}.items():
        module, function = (
            "{median:g} / {p90} / {max}".format(**one[key]) for key in ("lines_per_module", "lines_per_function")
        )
        cells = [part, one["modules"], one["lines"], module, one["functions"], function]
        cells += [one[name] for name in ("modules_under_60_lines", "functions_over_60_lines")]
        lines.append(f"| {' | '.join(map(str, [*cells, one['modules_with_one_importer']]))} |")
    return "\n".join([*lines, "", f"Class names defined more than once: {len(found['repeated_classes'])}"])


def main() -> None:
    """Print the table, and write the JSON where it is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--root", type=Path, default=ROOT, help="the checkout to read")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args()
    found = measure(options.root)
    print(table(found))
    if options.json:
        write_json(options.json, {"provenance": provenance(options.root), **found})


if __name__ == "__main__":
    main()
