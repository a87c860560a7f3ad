"""Find the stages in this package, and put them in order."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol, cast, get_type_hints

from pydantic import TypeAdapter

from retort.stages.context import Context


class StageModule(Protocol):
    """What a module must say to be a stage; one that is not for distillations also says ``task``."""

    after: str | None

    def applies(self, spec: Any) -> bool:
        """Whether a job needs this stage."""

    def cost(self, spec: Any) -> float:
        """How long it takes, in the unit of ``retort.stages.cost``."""

    def run(self, context: Context) -> Any:
        """Do it; the answer, a model or plain JSON, is what later stages see, and is read again by its annotation."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage and its place."""

    name: str
    """The module's name."""
    after: str | None
    module: StageModule

    def read(self, kept: object) -> object:
        """Return the answer that an earlier attempt has left; pydantic.ValidationError where it is none."""
        answer: TypeAdapter[object] = TypeAdapter(get_type_hints(self.module.run)["return"])
        return answer.validate_python(kept)


def find(task: str = "distill") -> list[Stage]:
    """Import every module of this package and return those that are stages of *task*, in order."""
    package = importlib.import_module(__package__ or "retort.stages")
    found: list[Stage] = []
    for item in pkgutil.iter_modules(package.__path__):
        module = importlib.import_module(f"{package.__name__}.{item.name}")
        if hasattr(module, "after") and getattr(module, "task", "distill") == task:
            found.append(Stage(item.name, module.after, cast("StageModule", module)))
    return ordered(found)


def ordered(stages: Iterable[Stage]) -> list[Stage]:
    """Order *stages* so that each comes after the one it names.

    Of several that follow the same stage, the one with the fewest followers of its own comes first: an added stage runs
    at once, and the report stays last.
    """
    known = {stage.name: stage for stage in stages}
    following: dict[str | None, list[Stage]] = {}
    for stage in known.values():
        assert stage.after is None or stage.after in known, f"{stage.name} is after {stage.after}, which is no stage"
        following.setdefault(stage.after, []).append(stage)

    def branch(stage: Stage) -> list[Stage]:
        branches = sorted(map(branch, following.get(stage.name, [])), key=lambda found: (len(found), found[0].name))
        return [stage, *(one for found in branches for one in found)]

    roots = sorted(following.get(None, []), key=lambda stage: stage.name)
    result = [stage for root in roots for stage in branch(root)]
    assert len(result) == len(known), "stages wait for each other"
    return result
