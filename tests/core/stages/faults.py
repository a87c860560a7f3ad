"""Inject faults into whatever a stage calls, one after the other, and count what each leads to."""

from __future__ import annotations

import errno
import gc
import shutil
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import BuiltinMethodType, CodeType, FunctionType, MethodType
from typing import Any

from core.answers import answers
from core.conftest import Life
from retort import pipeline
from retort.data.inputs import Inputs
from retort.pipeline import results, runner
from retort.pipeline.answers import MissingAnswer
from retort.pipeline.context import Context, find
from retort.pipeline.failures import explain
from retort.protocol.journal import Journal
from retort.protocol.workdir import Heartbeat
from retort.spec import JobSpec

FAULT = "an injected fault"
CORE = str(Path(pipeline.__file__).parents[1])
STAGES = {stage.name: stage for stage in find()}


class Foreign(Exception):
    """An error of a class that nobody here knows."""


ERRORS = (ValueError(FAULT), ImportError(FAULT), Foreign(FAULT), OSError(errno.EIO, FAULT), MemoryError(FAULT))
DISK_FULL = OSError(errno.ENOSPC, FAULT)
FAULTS = (*ERRORS, DISK_FULL)
"""The last may be in order next time."""


def place(code: CodeType) -> str:
    """Where a function of ours is defined, and its name."""
    return f"{code.co_filename.removeprefix(CORE)[1:]}: {code.co_qualname}"


def copied(life: Life, tmp_path: Path) -> Path:
    """Return a folder of the finished job's files.

    Records are replaced whole, so that links are enough; an export is written where it lies.
    """

    def copy(source: str, target: str) -> None:
        if source.endswith(".onnx"):
            shutil.copyfile(source, target)
        else:
            Path(target).hardlink_to(source)

    workdir = tmp_path / "work"
    shutil.copytree(life.workdir, workdir, symlinks=True, copy_function=copy)
    for journal in workdir.glob("journal-9.jsonl"):
        journal.unlink()
    return workdir


@contextmanager
def context_of(workdir: Path, stage: str, **changes: Any) -> Iterator[Context]:
    """The view of a stage that runs after all others that come before it."""
    known = answers(workdir)
    before = {name: known[name] for name in STAGES if name in known and name != stage}
    (workdir / "journal-9.jsonl").unlink(missing_ok=True)
    with Journal(workdir / "journal-9.jsonl") as said:
        yield Context(
            spec=JobSpec.model_validate_json((workdir / "spec.json").read_text()), inputs=Inputs.load(workdir),
            workdir=workdir, journal=said, stop=threading.Event(), results={**before, **changes},
            tell_progress=lambda _: None, heartbeat=Heartbeat(workdir), stage=stage, key="",
        )  # fmt: skip


def student_is_kept(workdir: Path) -> bool:
    """Whether another attempt goes on from the trained student."""
    record = results.StageRecord.model_validate_json((workdir / "stages" / "distill.json").read_bytes())
    return results.load(workdir, "distill", record.key) is not None


def calling(hook: Callable[..., Any]) -> CodeType:
    """Return the code of a function that calls *hook*, wherever that function has been imported."""

    def template(*given: object, **named: object) -> object:
        hook: Any = "the hook"
        return hook(*given, **named)

    constants = tuple(hook if one == "the hook" else one for one in template.__code__.co_consts)
    return template.__code__.replace(co_consts=constants)


def by_code() -> dict[CodeType, list[FunctionType]]:
    """Return the functions of ours that there are; code cannot be set where there are closures."""
    found: dict[CodeType, list[FunctionType]] = {}
    for one in gc.get_objects():
        if type(one) is FunctionType and one.__code__.co_filename.startswith(CORE) and one.__closure__ is None:
            found.setdefault(one.__code__, []).append(one)
    return found


@contextmanager
def replaced(functions: Sequence[FunctionType], hook: Callable[..., Any]) -> Iterator[None]:
    """Make the *functions*, which are one, call *hook*."""
    before = [one.__code__ for one in functions]
    for one in functions:
        one.__code__ = calling(hook)
    try:
        yield
    finally:
        for one, code in zip(functions, before, strict=True):
            one.__code__ = code


@dataclass
class Answer:
    """What a function answered in the sound run."""

    called: set[CodeType]
    """The functions that it called, and itself."""
    told: list[tuple[int | str, tuple[Any, ...]]] = field(default_factory=list)
    """What it told the functions that it was given."""
    value: Any = None


Key = tuple[CodeType, str]


def key_of(code: CodeType, given: Sequence[Any], named: Mapping[str, Any]) -> Key:
    """Name a call by the files, words and numbers that it was given."""

    def word(value: Any) -> str:
        if hasattr(value, "weights") and isinstance(value.weights, Path):
            value = value.weights
        if isinstance(value, Mapping):
            return ",".join(map(str, value))
        if isinstance(value, Path):
            return value.name if value.suffix else ""
        return str(value) if isinstance(value, str | int | float) else ""

    return code, " ".join([*map(word, given), *(f"{name}={word(value)}" for name, value in named.items())])


class SoundRun:
    """One run of a stage without faults: what it calls, and what was dear in it.

    The dear functions answer again what they answered then, but where one calls the function that is to fail.
    """

    def __init__(self, workdir: Path, stage: str, dear: Sequence[Any] = ()) -> None:
        self.workdir = workdir
        self.stage = stage
        self._answers: dict[Key, Answer] = {}
        self._within: list[set[CodeType]] = []
        self._faulty: CodeType | None = None
        self._spared = ""
        self._is_sound = True
        seen: dict[CodeType, None] = {}
        self._dear = [(one.__code__, one) for one in dear]
        with self.hooks(), context_of(workdir, stage) as context:
            sys.setprofile(lambda frame, event, _: self._note(frame.f_code, event, seen))
            try:
                runner._run(STAGES[stage], context)
            finally:
                sys.setprofile(None)
        self._is_sound = False
        self._functions = by_code()
        self.codes = [code for code in seen if code in self._functions and "<" not in code.co_qualname]

    def _note(self, code: CodeType, event: str, seen: dict[CodeType, None]) -> None:
        if event == "call" and code.co_filename.startswith(CORE):
            seen[code] = None
            for called in self._within:
                called.add(code)

    def called_by(self, function: Any, words: str) -> list[CodeType]:
        """Return what a dear *function* called where its call is named by *words*."""
        (found,) = [one.called for (code, said), one in self._answers.items()
                    if code is function.__code__ and words in said]  # fmt: skip
        return [code for code in self.codes if code in found]

    @contextmanager
    def hooks(self) -> Iterator[None]:
        """Let the dear functions answer from memory."""
        with ExitStack() as stack:
            for code, function in self._dear:
                real = FunctionType(code, function.__globals__, function.__name__, function.__defaults__)
                real.__kwdefaults__ = function.__kwdefaults__
                stack.enter_context(replaced([function], self._answering(code, real)))
            yield

    def _answering(self, code: CodeType, real: Callable[..., Any]) -> Callable[..., Any]:
        def answer(*given: Any, **named: Any) -> Any:
            key = key_of(code, given, named)
            known = self._answers.get(key)
            if self._is_sound:
                return self._first(key, real, given, named)
            spared = self._spared and self._spared in key[1]
            if known is None or (self._faulty in known.called and not spared):
                return real(*given, **named)
            for where, said in known.told:
                (given[where] if isinstance(where, int) else named[where])(*said)
            return known.value

        return answer

    def _first(self, key: Key, real: Callable[..., Any], given: Any, named: Any) -> Any:
        known = Answer({key[0]})

        def heard(where: int | str, one: Any) -> Any:
            if not isinstance(one, FunctionType | MethodType | BuiltinMethodType | partial):
                return one
            return lambda *said: known.told.append((where, said)) or one(*said)

        self._within.append(known.called)
        known.value = real(
            *(heard(at, one) for at, one in enumerate(given)),
            **{name: heard(name, one) for name, one in named.items()},
        )
        self._within.pop()
        self._answers.setdefault(key, known)
        return known.value

    def with_fault(self, code: CodeType, fail: Callable[..., Any], spared: str = "") -> Any:
        """Run the stage once more; the function of this *code* fails, but in what is *spared*."""
        self._faulty, self._spared = code, spared
        functions = self._functions[code]
        try:
            with context_of(self.workdir, self.stage) as context, replaced(functions, fail), self.hooks():
                return STAGES[self.stage].read(runner._run(STAGES[self.stage], context).result)
        finally:
            self._faulty, self._spared = None, ""


@dataclass
class Tally:
    """What faults in the functions of one stage led to."""

    told: int = 0
    """The job goes on, and its outcome has the reason."""
    harmless: int = 0
    """Nothing is missing."""
    again: list[str] = field(default_factory=list)
    """The attempt fails, and another goes on from the student."""
    lost: list[str] = field(default_factory=list)
    """The training is lost, or the attempt fails for something that the job can do without."""

    @property
    def tried(self) -> int:
        return self.told + self.harmless + len(self.again) + len(self.lost)

    def show(self, title: str) -> None:
        """Print a line that can be quoted."""
        print(  # noqa: T201
            f"faults in {title}: {self.tried} functions, {self.told} told as an extra, {self.harmless} harmless, "
            f"{len(self.again)} failed an attempt that kept the training, {len(self.lost)} lost"
        )


def outcomes(answer: Any) -> Sequence[Any]:
    """Return what became of the extras of a stage, or of it as an extra."""
    return [answer.missing] if isinstance(answer, MissingAnswer) else getattr(answer, "extras", ())


def tried_with_faults(
    run: SoundRun,
    codes: Sequence[CodeType],
    may_fail: Callable[[CodeType], bool],
    *,
    spared: str = "",
    examine: Callable[[Any], None] = lambda _: None,
) -> Tally:
    """Run the stage once for each function, which fails by a fault of each kind in turn.

    What may be in order next time is tried in two attempts. *examine* looks at the answer of each run that succeeds.
    """
    tally = Tally()
    for number, code in enumerate(codes):
        error, failed = FAULTS[number % len(FAULTS)], None

        def fail(*_: object, error: Exception = error, **__: object) -> None:
            raise error

        for _ in range(2):
            answer = failed = None
            try:
                answer = run.with_fault(code, fail, spared)
            except Exception as raised:  # noqa: BLE001 - whatever comes is judged
                failed = raised
            if failed is None or not explain(failed).retryable:
                break
        if not student_is_kept(run.workdir):
            tally.lost.append(f"{place(code)}: the student is gone")
        elif failed is not None:
            (tally.again if may_fail(code) else tally.lost).append(f"{place(code)}: {failed!r}")
        else:
            reasons = [one.reason or "" for one in outcomes(answer) if one.status != "done"]
            tally.told += bool(reasons)
            tally.harmless += not reasons
            examine(answer)
    return tally
