"""Say why a run failed, in the words of ``retort.protocol.events.RunFailure``."""

from __future__ import annotations

import errno
import re
import traceback
from collections.abc import Iterator
from functools import partial

from retort.errors import DISK_FULL, RetortError
from retort.protocol.events import RunFailure

_EXCERPT_LINES = 30
_LINE_CHARACTERS = 400
_SHARED = "/dev/shm"  # noqa: S108 - where Linux keeps it


def explain(error: BaseException, device: str = "cpu", *, what: str | None = "the run") -> RunFailure:
    """Return the failure of *error* that people read.

    What is not an error of ours brings the end of its traceback along. *device* is the run's: ``cpu``, or the number of
    a GPU; *what* has failed.
    """
    if isinstance(error, RetortError):
        return RunFailure(code=error.code, message=error.message, hint=error.hint, retryable=error.retryable)
    excerpt = _excerpt(error)
    # Shared memory first: it is too small in the words of a disk that is full, or of a machine without memory.
    for known in (_shared_memory, _disk_full, _out_of_memory, _lost_loader, partial(_cuda, device=device)):
        for one in _chain(error):
            failure = known(one)
            if failure is not None:
                return failure.model_copy(update={"log_excerpt": excerpt})
    named = f"{type(error).__name__}: {error}"
    return RunFailure(
        code="internal",
        message=printable(f"{what} failed with {named}" if what else named)[:_LINE_CHARACTERS],
        hint="this is a mistake in Retort, or something that it did not foresee; the log has the details",
        log_excerpt=excerpt,
    )


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield *error*, and what it was raised from or while handling: libraries hide the system's own word there."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)


def printable(text: str) -> str:
    """Escape control characters in text that a run shows.

    What a run shows may come from strangers' files.
    """
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)


def _shared_memory(error: BaseException) -> RunFailure | None:
    told = str(error).lower()
    signs = ("bus error", "shared memory object", "shared memory file", "shared memory(shm)", "shm_open", "</torch_")
    there = isinstance(error, OSError) and str(error.filename or "").startswith(_SHARED)
    if not there and not any(sign in told for sign in signs):
        return None
    return RunFailure(
        code="shared_memory",
        message=_told("shared memory ran out", error),
        hint="give the worker's container more: shm_size; the next attempt loads images without processes",
        retryable=True,
    )


def _disk_full(error: BaseException) -> RunFailure | None:
    """Know it by its number, and by what torch's writer of files says."""
    full = isinstance(error, OSError) and error.errno in DISK_FULL
    told = str(error)
    if not full and not ("PytorchStreamWriter failed writing" in told or "No space left on device" in told):
        return None
    return RunFailure(
        code="disk_full",
        message="the disk of the working folder is full",
        hint="free space on the worker",
        retryable=True,
    )


def _out_of_memory(error: BaseException) -> RunFailure | None:
    """Know torch's own error by its name: this module does not import torch."""
    names = {cls.__name__ for cls in type(error).__mro__}
    told = str(error).lower()
    signs = ("can't allocate memory", "out of memory", "cublas_status_alloc_failed")
    if not (
        isinstance(error, MemoryError)
        or (isinstance(error, OSError) and error.errno == errno.ENOMEM)
        or "OutOfMemoryError" in names
        or (isinstance(error, RuntimeError) and any(sign in told for sign in signs))
    ):
        return None
    return RunFailure(
        code="out_of_memory",
        message=_told("the device or the machine ran out of memory", error),
        hint="lower training.batch or training.imgsz, choose smaller networks, or allow resources.halve_batch",
    )


def _lost_loader(error: BaseException) -> RunFailure | None:
    """Know a loader process that something has killed, which is the machine out of memory more often than not."""
    found = re.search(r"DataLoader worker \(pid \d+\) is killed by signal: ([\w ]+)", str(error))
    if found is None:
        return None
    killed = found[1] == "Killed"
    return RunFailure(
        code="killed" if killed else "crashed",
        message=f"a process that loads images was ended: {found[1]}",
        hint="the machine has probably run out of memory" if killed else "the run's log may say more",
        retryable=True,
    )


def _cuda(error: BaseException, device: str) -> RunFailure | None:
    names = {cls.__name__ for cls in type(error).__mro__}
    told = str(error)
    signs = ("CUDA error", "CUDNN_STATUS", "CUBLAS_STATUS", "NCCL", "unable to find an engine", "AcceleratorError")
    if "AcceleratorError" not in names and not (
        isinstance(error, RuntimeError) and any(sign in told for sign in signs)
    ):
        return None
    return RunFailure(
        code="cuda_error",
        message=_told(f"GPU {device} of the run, or its driver, failed", error),
        hint="look at the driver's log on the worker (dmesg, nvidia-smi); another GPU may be in order",
        retryable=True,
    )


def _told(what: str, error: BaseException) -> str:
    """Add the first line of what the system said, which has the numbers."""
    first = printable(str(error).partition("\n")[0])[:_LINE_CHARACTERS]
    return f"{what}: {first}" if first else what


def _excerpt(error: BaseException) -> str:
    lines = "".join(traceback.format_exception(error)).splitlines()[-_EXCERPT_LINES:]
    return "\n".join(printable(line)[:_LINE_CHARACTERS] for line in lines)
