"""Checkpoints: generations on disk, their identity, saving and resuming."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import copy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from retort import files
from retort.errors import DISK_FULL, CannotExtend, Diverged, TransientError
from retort.files import sha256_of
from retort.spec import DistillationSpec
from retort.training import comm, models
from retort.training.background import BackgroundWork
from retort.training.config import Cycle, TeacherConfig, TrainConfig, Trainer
from retort.training.criterion import criterion_of
from retort.training.optim import GradientAccumulation
from retort.training.stopping import StopRule
from retort.training.ultralytics_api import version

STATES, BESTS, KEPT_NETWORKS = "states", "weights", "checkpoints"
"""Folders of a training."""
KEPT = 2
"""The newest, and the one before it."""
CLONE = "clone it with more epochs: retort clone JOB --set training.epochs=..."
State = dict[str, Any]
_MAGIC = b"retort-state-1 "
_HEADER = len(_MAGIC) + 64 + 1
"""Magic, SHA-256 of the rest in hex, newline."""


class Resumable(Trainer, Protocol):
    """Interface of a trainer whose state can be saved and restored."""

    accumulation: GradientAccumulation
    recovery: Checkpointer
    stop_rule: StopRule
    monitor: Any
    """What watches over a distillation; None in a plain training."""
    scaler: Any
    scheduler: Any
    start_epoch: int
    whole_epochs: int
    best_fitness: float | None
    best_epoch: int
    """Counted from 1; 0 is the start."""
    best_metrics: dict[str, float | None]

    @property
    def student(self) -> Any:
        """The network being trained."""


class CheckpointStore:
    """Numbered checkpoint files ``<number>.state`` in one folder with one writer."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, number: int, content: bytes | memoryview) -> None:
        """Write generation *number* whole and verified, then remove old generations.

        The newest two up to *number* are kept.

        Raises:
            OSError: as ``files.atomic_write``; the generations before are untouched.

        """
        header = _MAGIC + hashlib.sha256(content).hexdigest().encode() + b"\n"
        files.atomic_write(self.path(number), header, content)
        for other in [later for later in self.numbers() if later > number] + self._older(number):
            self.path(other).unlink()

    def numbers(self) -> list[int]:
        """Return the numbers of the existing files, newest first."""
        found = [int(path.stem) for path in self.folder.glob("*.state") if path.stem.isdigit()]
        return sorted(found, reverse=True)

    def read(self) -> Iterator[tuple[int, memoryview | None]]:
        """Yield number and content of each generation, newest first.

        The content of a damaged generation is None.
        """
        for number in self.numbers():
            whole = memoryview(self.path(number).read_bytes())
            header, content = bytes(whole[:_HEADER]), whole[_HEADER:]
            intact = header == _MAGIC + hashlib.sha256(content).hexdigest().encode() + b"\n"
            yield number, content if intact else None

    def clear(self) -> None:
        """Remove all generations."""
        for number in self.numbers():
            self.path(number).unlink()

    def path(self, number: int) -> Path:
        """Return the path of generation *number*."""
        return self.folder / f"{number:05d}.state"

    def _older(self, number: int) -> list[int]:
        return [earlier for earlier in self.numbers() if earlier <= number][KEPT:]


def latest_files(folder: Path) -> tuple[int, list[Path]] | None:
    """Return the files to resume the training elsewhere, and their epoch.

    The newest generation, the best networks, one of which it names, and the network of the same epoch if it was kept.
    """
    states = CheckpointStore(folder / STATES)
    for number in states.numbers():
        bests, last = (folder / BESTS).glob("best-*.pt"), (folder / KEPT_NETWORKS).glob(f"*-epoch-{number:04d}.pt")
        return number, [states.path(number), *sorted(bests), *sorted(last)]
    return None


def last_state(folder: Path, epochs: int) -> list[Path]:
    """Return the state after all *epochs* in *folder*, with the best networks.

    There is none of a training that ended before. One of the networks is the one that the state names.
    """
    path = CheckpointStore(folder / STATES).path(epochs)
    return [path, *sorted((folder / BESTS).glob("best-*.pt"))] if path.exists() else []


def kept_path(plan: TrainConfig, epoch: int) -> Path:
    """Return where the network after *epoch* epochs is kept."""
    return plan.folder / KEPT_NETWORKS / f"{plan.role}-epoch-{epoch:04d}.pt"


def identity_of(
    plan: TrainConfig, distillation: DistillationSpec | None, teachers: Iterable[Path], data: Mapping[str, Any]
) -> dict[str, str]:
    """Return the identity of a training: a digest or version per part.

    A state may be trained on only where all of these are equal. *data* is upstream's description of the data set. Where
    the files lie and which device trains does not count.
    """
    chosen = {key: value for key, value in asdict(plan).items() if key in {"role", "model", "epochs", "from_weights"}}
    chosen["definition"] = None if plan.definition is None else sha256_of(plan.definition)
    if plan.class_balance or not plan.terms:
        chosen["arm"] = [plan.class_balance, plan.terms]
    if plan.samples is not None or plan.mixture is not None:
        chosen["samples"] = [plan.samples, None if plan.mixture is None else asdict(plan.mixture)]
    if plan.extended:
        chosen["extended"] = list(plan.extended)
    chosen["teaching"] = _teaching(plan.teaching)
    if plan.teaching.ema:
        chosen["ema"] = plan.teaching.ema_classes
    chosen["training"] = plan.training.model_dump(mode="json")
    chosen["distillation"] = None if distillation is None else distillation.model_dump(mode="json")
    if distillation is not None and distillation.agreement == "none":
        del chosen["distillation"]["agreement"]  # so that a training of an earlier version goes on
    return {
        "plan": hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest(),
        "initial weights": "" if plan.weights is None else sha256_of(plan.weights),
        "teacher": " ".join(sha256_of(path) for path in teachers),
        "data": data_identity(data),
        "software": f"ultralytics {version}, torch {torch.__version__}",
    }


@dataclass(frozen=True)
class Extends:
    """A training to which another one adds epochs."""

    identity: Mapping[str, str]
    epochs: int

    def take(self, state: State, wanted: Mapping[str, str]) -> State:
        """Return its last *state* as that of the training *wanted*, before anything is added.

        Patience counts from here.

        Raises:
            CannotExtend: it is of another training, or not the last one.

        """
        if others := differences(state["identity"], self.identity):
            message = f"the training cannot be extended: what it goes on from has another {', '.join(others)}"
            hint = "extend it where data, weights and versions are as they were; or clone it with more epochs"
            raise CannotExtend(message, hint=hint)
        if state["done"] != self.epochs:
            raise CannotExtend(f"the training cannot be extended: it ended after epoch {state['done']}", hint=CLONE)
        stopping = {**state["stopping"], "best": [self.epochs, state["stopping"]["best"][1]], "reason": None}
        return {**state, "identity": dict(wanted), "stopping": stopping}


def extends(
    plan: TrainConfig, distillation: DistillationSpec | None, teachers: Iterable[Path], data: Mapping[str, Any]
) -> Extends | None:
    """Return the training that *plan* extends; None where it extends none."""
    if not plan.extended:
        return None
    return Extends(identity_of(plan.before(), distillation, teachers, data), plan.extended[-1])


def differences(found: Mapping[str, str], wanted: Mapping[str, str]) -> list[str]:
    """Name the parts in which two identities differ."""
    return [part for part in wanted if found.get(part) != wanted[part]]


def _teaching(teaching: TeacherConfig) -> list[Any]:
    """Tell apart what each teacher has to say, in which size it sees, and how many images have no labels."""
    more = teaching.unlabelled
    said = [(teaching.weight, teaching.imgsz), *((one.weight, one.imgsz) for one in teaching.further)]
    found: list[Any] = [
        said,
        None if more is None else (more.ratio, more.digest, sorted(path.name for path in more.folder.iterdir())),
    ]
    return found if teaching.cache is None else [*found, sha256_of(teaching.cache)]


def data_identity(data: Mapping[str, Any]) -> str:
    """Digest the data: names, labels, and intake's digest of the images.

    A description that comes from elsewhere says nothing of the images; then their sizes have to do.
    """
    digest = hashlib.sha256(json.dumps([str(name) for _, name in sorted(data["names"].items())]).encode())
    digest.update(str(data.get("digest", "")).encode())
    for split in ("train", "val"):
        places = data[split] if isinstance(data[split], list) else [data[split]]
        for place in map(Path, places):
            for path in _files(place):
                size = "" if "digest" in data else path.stat().st_size
                digest.update(f"{split} {path.name} {size}\n".encode())
                if path.suffix == ".txt":
                    digest.update(path.read_bytes())
    return digest.hexdigest()


def _files(place: Path) -> Iterator[Path]:
    """List a folder of images and that of its labels, or a list of images."""
    if place.is_file():
        yield place
        return
    folders = [place, Path("labels".join(str(place).rsplit("images", 1)))]
    for folder in dict.fromkeys(folders):
        yield from (path for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix != ".cache")


class Checkpointer:
    """Exact save and restore of a trainer's state, in two generations.

    Each generation is named by its number of whole epochs. Upstream writes such a file in place and restores weights
    from a float16 average; this one is exact and whole. It holds tensors and plain values only. Of a state that belongs
    to another training nothing is used.
    """

    def __init__(
        self, folder: Path, wanted: Mapping[str, str], log: Callable[..., None], *, extends: Extends | None = None
    ) -> None:
        self._extends = extends
        self._store = CheckpointStore(folder / STATES)
        self._bests = folder / BESTS
        self._wanted = dict(wanted)
        self._log = log
        self._saving = BackgroundWork()
        self._new_best: tuple[int, State] | None = None
        self._named: list[int] = []
        """Epochs whose best networks the two kept generations name."""

    def best(self, epoch: int) -> Path:
        """Return the path of the best network, from *epoch*."""
        return self._bests / f"best-{epoch:04d}.pt"

    def find(self) -> State | None:
        """Return the newest valid state, on the CPU; None to start over.

        A generation counts only together with the best network that it names. One that is being saved is waited for.

        Raises:
            TransientError: as ``save``.
            CannotExtend: what an extension goes on from is not there, or of another training.

        """
        state = self._newest()
        if state is None and self._extends is not None:
            raise CannotExtend("the training cannot be extended: its last state is gone or damaged", hint=CLONE)
        return state

    def _newest(self) -> State | None:
        self.wait()
        for folder in (self._store.folder, self._bests):
            files.sweep(folder)
        damaged: list[int] = []
        for number, content in self._store.read():
            state = None if content is None else _read(content)
            if state is None or not self._has_best(state):
                damaged.append(number)
                continue
            others = differences(state["identity"], self._wanted)
            if others and self._extends is not None:
                state, others = self._extends.take(state, self._wanted), []
            if others:
                self._log(f"the state in the folder is of another {', '.join(others)}: starting anew", "warning")
                self._store.clear()
                return None
            self._named = [state["best"]["epoch"]]
            if damaged:
                message = f"the state after epoch {damaged[0]} is damaged: going on from the one after epoch {number}"
                self._log(message, "warning", damaged=damaged, epoch=number)
            return state
        if damaged:
            self._log("no state in the folder is whole and of this version: starting anew", "warning", damaged=damaged)
            self._store.clear()
        return None

    @property
    def busy(self) -> bool:
        """Whether a state is being saved, or has not been announced."""
        return self._saving.busy

    def add_best(self, epoch: int, network: State) -> None:
        """Have *network* written as the best with the next state.

        It is of *epoch*, and written first, as the state names it.
        """
        self._new_best = epoch, network

    def save(self, trainer: Resumable, done: int) -> None:
        """Write the state after *done* whole epochs, and remove unused networks.

        Best networks that no kept state names are removed.

        Raises:
            TransientError: the disk is full; the earlier generations are untouched.

        """
        self.start_saving(trainer, done, then=lambda: None)
        self.wait()

    def start_saving(self, trainer: Resumable, done: int, *, then: Callable[[], None]) -> None:
        """Write the state after *done* whole epochs in a thread, as ``save`` does.

        A copy is taken first, so that the training may go on meanwhile; but it must publish no best network. *then* is
        called by ``wait`` or ``poll`` once the state is on the disk. A state before it is waited for.
        """
        self.wait()
        state = copied({"identity": self._wanted, "done": done, **capture(trainer, done)})
        new_best, self._new_best = self._new_best, None
        self._saving.start(lambda: self._write(state, done, new_best), then)

    def wait(self) -> None:
        """Wait for the state that is being saved, if any, and announce it.

        Raises:
            TransientError: as ``save``.

        """
        self._saving.wait()

    def poll(self) -> None:
        """Announce the state that was being saved if that is done.

        Raises:
            TransientError: as ``save``.

        """
        self._saving.poll()

    def _write(self, state: State, done: int, new_best: tuple[int, State] | None) -> None:
        try:
            if new_best is not None:
                files.atomic_write(self.best(new_best[0]), models.serialized(new_best[1]))
            state["best"]["sha256"] = sha256_of(self.best(state["best"]["epoch"]))
            buffer = io.BytesIO()
            torch.save(state, buffer)
            self._store.write(done, buffer.getbuffer())
        except OSError as error:
            if error.errno not in DISK_FULL:
                raise
            message = f"the disk is full: the state after epoch {done} could not be written"
            hint = "free space on the worker; the next attempt goes on from the epoch before"
            raise TransientError(message, hint=hint, code="disk_full") from error
        self._forget_bests(state["best"]["epoch"])

    def load(self, trainer: Resumable) -> None:
        """Put the newest whole state back, in place."""
        state = self.find()
        assert state is not None, "there is no state to go back to"
        restore(trainer, state)

    def _has_best(self, state: State) -> bool:
        best = state["best"]
        path = self.best(best["epoch"])
        return path.is_file() and sha256_of(path) == best["sha256"]

    def _forget_bests(self, newest: int) -> None:
        self._named = [*self._named[-1:], newest]
        kept = {self.best(epoch) for epoch in self._named}
        for path in self._bests.glob("best-*.pt"):
            if path not in kept:
                path.unlink()


_ADDED: State = {"start_metrics": {}}
"""Parts that states of earlier versions lack, with what stands for them: there the start was not measured."""
_PARTS = frozenset({
    "identity", "done", "model", "ema", "updates", "optimizer", "scaler", "batch", "last_step", "gradients",
    "criterion", "objectives", "best_fitness", "best", "start_metrics", "teacher_metrics", "stopping", "judge",
})  # fmt: skip
"""Parts that every state has; without one of them it is of another version."""


def capture(trainer: Resumable, done: int) -> State:
    """Return the state of *trainer* after *done* epochs: tensors and plain values."""
    model = comm.unwrap(trainer.model)
    criterion = getattr(trainer.student, "criterion", None)
    pending = trainer.accumulation.pending(done * len(trainer.train_loader))
    return {
        "model": model.state_dict(),
        "ema": comm.unwrap(trainer.ema.ema).state_dict(),
        "updates": trainer.ema.updates,
        "optimizer": trainer.optimizer.state_dict(),
        "scaler": trainer.scaler.state_dict(),
        "batch": trainer.batch_size,
        "last_step": trainer.accumulation.last_step,
        "gradients": {n: p.grad for n, p in model.named_parameters() if pending and p.grad is not None},
        "criterion": getattr(criterion, "updates", None),
        "objectives": [objective.state() for objective in objectives(model)],
        "best_fitness": None if trainer.best_fitness is None else float(trainer.best_fitness),
        "best": {"epoch": trainer.best_epoch, "metrics": dict(trainer.best_metrics)},
        "start_metrics": dict(trainer.start_metrics),
        "teacher_metrics": dict(trainer.teacher_metrics),
        "stopping": trainer.stop_rule.state(),
        "judge": {} if trainer.monitor is None else trainer.monitor.rules.state(),
    }


def copied(value: Any) -> Any:
    """Return *value* with its tensors copied to the host's memory.

    They are found through mappings and lists, and keep their layout. The training changes its own in place.
    """
    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        found = copy(value)  # with what a state_dict has beside its entries
        found.update({key: copied(one) for key, one in value.items()})
        return found
    if isinstance(value, list | tuple):
        return type(value)(map(copied, value))
    return value


def restore(trainer: Resumable, state: State) -> None:
    """Restore *state* into *trainer*, whose networks and optimizer are built.

    Gradients follow when the epoch starts.
    """
    model = comm.unwrap(trainer.model)
    model.train()
    model.load_state_dict(state["model"])
    comm.unwrap(trainer.ema.ema).load_state_dict(state["ema"])
    trainer.ema.updates = state["updates"]
    trainer.optimizer.load_state_dict(state["optimizer"])
    trainer.scaler.load_state_dict(state["scaler"])
    trainer.accumulation.restore(state["last_step"], state["gradients"])
    _restore_criterion(trainer.student, state["criterion"], trainer.plan.cycle)
    for objective, told in zip(objectives(model), state["objectives"], strict=True):
        objective.restore(told)
    _restore_results(trainer, state)
    # A later epoch's scheduler counts from here, as upstream's resume does.
    trainer.scheduler.last_epoch = state["done"] - 1


def resume(trainer: Resumable, state: State) -> None:
    """Resume *trainer*, set up but not started, from *state*."""
    restore(trainer, state)
    trainer.start_epoch = trainer.whole_epochs = state["done"]
    cycle = trainer.plan.cycle
    if cycle is not None and state["done"] == cycle.begins:
        message = f"extending: {cycle.ends - cycle.begins} epochs follow the {cycle.begins} of the job before; the "
        message += f"learning rate is that of the last epochs of {cycle.length}"
    else:
        message = f"going on after epoch {state['done']} of {trainer.epochs}, which an earlier attempt has done"
    trainer.callback.log(message, epoch=state["done"])


def rollback(trainer: Resumable, epoch: int, attempt: int) -> None:
    """Let *trainer* repeat *epoch* (from 0), which had non-finite numbers.

    The repetition is announced.

    Raises:
        Diverged: it was done again three times already.

    """
    if trainer.monitor is not None:
        trainer.monitor.not_finite(epoch + 1)
    if attempt > 3:
        hint = "a lower learning rate, a smaller distillation weight, or amp: false"
        raise Diverged(f"epoch {epoch + 1} keeps leaving the finite numbers", hint=hint)
    trainer.callback.log(f"epoch {epoch + 1} is not finite: going back", "warning", attempt=attempt)
    trainer.recovery.load(trainer)


def load_results(trainer: Resumable, state: State) -> None:
    """Load the results of *state* into a *trainer* that has ended.

    It will not run any more; this is announced.
    """
    _restore_results(trainer, state)
    trainer.epoch = state["done"] - 1
    which = f"all {state['done']}" if state["done"] >= trainer.epochs else f"{state['done']} of {trainer.epochs}"
    trainer.callback.log(f"{which} epochs were done by an earlier attempt", epoch=state["done"])


def _restore_results(trainer: Resumable, state: State) -> None:
    trainer.best_fitness = state["best_fitness"]
    trainer.best_epoch = state["best"]["epoch"]
    trainer.best_metrics = dict(state["best"]["metrics"])
    trainer.start_metrics = dict(state["start_metrics"])
    trainer.teacher_metrics = dict(state["teacher_metrics"])
    trainer.stop_rule.restore(state["stopping"])


def objectives(model: Any) -> list[Any]:
    """Return the objectives that weigh the distillation terms.

    Their ``state()`` and ``restore(state)`` keep plain values.
    """
    return [one.objective for one in getattr(model, "slots", ())]


def _restore_criterion(student: Any, updates: int | None, cycle: Cycle | None) -> None:
    """Move upstream's end-to-end criterion, whose one-to-many share falls with each epoch, to its place."""
    criterion: Any = getattr(student, "criterion", None)
    if updates is not None and criterion is None:
        student.criterion = criterion = criterion_of(student)
    if hasattr(criterion, "updates"):
        criterion.cycle = cycle
        criterion.updates = (updates or 0) - 1
        criterion.update()


def _read(content: memoryview) -> State | None:
    """Open a state whose checksum is right; one of another layout is as good as damaged."""
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError):
        return None
    if not isinstance(state, dict):
        return None
    state = {**_ADDED, **state}
    return state if state.keys() >= _PARTS else None
