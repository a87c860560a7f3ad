"""Turn errors of libraries and system into ours, with a code."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from functools import partial
from importlib import metadata

from retort.errors import DISK_FULL, RetortError, printable

LINE_CHARACTERS = 400
_SHARED = "/dev/shm"  # noqa: S108 - where Linux keeps it
_UNUSABLE = {
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.EEXIST,
}  # fmt: skip
"""What the system says of a path that a person has to see to."""


class ForeignError(RetortError):
    """An error of a library or of the system, in our words."""

    def __init__(self, message: str, hint: str, *, code: str, retryable: bool = False) -> None:
        super().__init__(message, hint=hint, code=code)
        self.retryable = retryable


def translate(error: BaseException, *, device: str = "cpu", what: str | None = None) -> RetortError:
    """Return *error* as one of ours, which it may be already.

    *device* is a run's: ``cpu``, or the number of a GPU; *what* has failed.
    """
    if isinstance(error, RetortError):
        return error
    # Shared memory first: it is too small in the words of a disk that is full, or of a machine without memory.
    known = (
        _shared_memory, _disk_full, _out_of_memory, _lost_loader, partial(_no_gpu, device=device),
        partial(_cuda, device=device), _not_installed,
    )  # fmt: skip
    for look in known:
        for one in _chain(error):
            found = look(one)
            if found is not None:
                return found
    named = printable(f"{type(error).__name__}: {error}")
    return ForeignError(
        f"{what} failed with {named}"[:LINE_CHARACTERS] if what else named[:LINE_CHARACTERS],
        "this is a mistake in Retort, or something that it did not foresee; the log has the details",
        code="internal",
    )


def unusable_path(error: BaseException) -> RetortError | None:
    """Return the error of an unusable file or folder, or None."""
    if not isinstance(error, OSError) or error.errno not in _UNUSABLE:
        return None
    return ForeignError(
        printable(f"{error.filename or 'a file'} cannot be used: {error.strerror}")[:LINE_CHARACTERS],
        "see to its permissions and its place, or name another",
        code="bad_path",
    )  # fmt: skip


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield *error*, and what it was raised from or while handling: libraries hide the system's own word there."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)


def _not_installed(error: BaseException) -> RetortError | None:
    """Know a package that belongs to an extra of ours which was not installed."""
    name = error.name if isinstance(error, ModuleNotFoundError) else None
    extra = None if name is None else extra_with(name.partition(".")[0])
    if extra is None:
        return None
    return ForeignError(
        f"{name} is not installed here, which this needs", f"pip install 'retort[{extra}]'", code="not_installed"
    )


def extra_with(module: str) -> str | None:
    """Return the extra of our distribution that installs *module*, if one does."""
    try:
        wanted = metadata.requires("retort") or []
    except metadata.PackageNotFoundError:
        return None
    for line in wanted:
        name = re.split(r"[^\w.-]", line, maxsplit=1)[0]
        extra = re.search(r"extra\s*==\s*['\"]([\w-]+)['\"]", line)
        if extra is not None and name.lower().replace("-", "_") == module.lower().replace("-", "_"):
            return extra[1]
    return None


def _shared_memory(error: BaseException) -> RetortError | None:
    told = str(error).lower()
    signs = ("bus error", "shared memory object", "shared memory file", "shared memory(shm)", "shm_open", "</torch_")
    there = isinstance(error, OSError) and str(error.filename or "").startswith(_SHARED)
    if not there and not any(sign in told for sign in signs):
        return None
    return ForeignError(
        _told("shared memory ran out", error),
        "give the worker's container more: shm_size; the next attempt loads images without processes",
        retryable=True,
        code="shared_memory",
    )


def _disk_full(error: BaseException) -> RetortError | None:
    """Know it by its number, and by what torch's writer of files says."""
    full = isinstance(error, OSError) and error.errno in DISK_FULL
    told = str(error)
    if not full and not ("PytorchStreamWriter failed writing" in told or "No space left on device" in told):
        return None
    return ForeignError(
        "the disk of the working folder is full",
        "free space on the worker",
        retryable=True,
        code="disk_full",
    )


_MEMORY_SIGNS = (
    "can't allocate memory", "out of memory", "cublas_status_alloc_failed", "cudnn_status_alloc_failed",
    "unable to find an engine to execute this computation",
)  # fmt: skip
"""What libraries say, in small letters, when memory ran out: cuDNN finds no algorithm that still fits."""


def first_line(error: BaseException) -> str:
    """Return the first line of what *error* says.

    One that says nothing gives its class's name.
    """
    return str(error).strip().partition("\n")[0] or type(error).__name__


def is_out_of_memory(error: BaseException) -> bool:
    """Return True if the device or the machine ran out of memory.

    It knows torch's own error by its name: this module does not import torch.
    """
    told = str(error).lower()
    return (
        isinstance(error, MemoryError)
        or (isinstance(error, OSError) and error.errno == errno.ENOMEM)
        or "OutOfMemoryError" in {cls.__name__ for cls in type(error).__mro__}
        or (isinstance(error, RuntimeError) and any(sign in told for sign in _MEMORY_SIGNS))
    )


def _out_of_memory(error: BaseException) -> RetortError | None:
    if not is_out_of_memory(error):
        return None
    return ForeignError(
        _told("the device or the machine ran out of memory", error),
        "lower training.batch or training.imgsz, choose smaller networks, or allow resources.halve_batch",
        code="out_of_memory",
    )


def _lost_loader(error: BaseException) -> RetortError | None:
    """Know a loader process that something has killed, which is the machine out of memory more often than not."""
    found = re.search(r"DataLoader worker \(pid \d+\) is killed by signal: ([\w ]+)", str(error))
    if found is None:
        return None
    killed = found[1] == "Killed"
    return ForeignError(
        f"a process that loads images was ended: {found[1]}",
        "the machine has probably run out of memory" if killed else "the run's log may say more",
        retryable=True,
        code="killed" if killed else "crashed",
    )


_NO_GPU_SIGNS = (
    "no kernel image is available", "cuda driver version is insufficient", "driver on your system is too old",
    "found no nvidia driver", "not compiled with cuda", "no cuda gpus are available", "invalid device ordinal",
    "invalid cuda 'device=", "no cuda-capable device", "ptx was compiled with an unsupported toolchain",
)  # fmt: skip
"""What PyTorch, CUDA and Ultralytics say, in small letters, of a GPU that no retry will make usable."""


def is_useless_gpu(told: str) -> bool:
    """Return True if a library's words mean that a GPU stays unusable.

    *told* is what it has said; no retry would help.
    """
    return any(sign in told.lower() for sign in _NO_GPU_SIGNS)


def _no_gpu(error: BaseException, device: str) -> RetortError | None:
    if not isinstance(error, RuntimeError | AssertionError | ValueError) or not is_useless_gpu(str(error)):
        return None
    named = "a GPU that is not the run's" if device == "cpu" else f"GPU {device} of the run"
    return ForeignError(
        _told(f"{named} cannot be used", error),
        "see to driver, card and PyTorch, which have to fit each other, or train on the CPU",
        code="no_gpu",
    )


def _cuda(error: BaseException, device: str) -> RetortError | None:
    names = {cls.__name__ for cls in type(error).__mro__}
    told = str(error)
    signs = ("CUDA error", "CUDNN_STATUS", "CUBLAS_STATUS", "NCCL", "unable to find an engine", "AcceleratorError")
    if "AcceleratorError" not in names and not (
        isinstance(error, RuntimeError) and any(sign in told for sign in signs)
    ):
        return None
    if "NCCL" in told:
        return failed_gpu(
            _told("the GPUs of the run could not talk to each other", error),
            "NCCL_DEBUG=INFO in the worker's environment tells why; where GPUs cannot reach each other's memory, as in "
            "many virtual machines, NCCL_P2P_DISABLE=1 helps; resources.gpus: 1 needs no NCCL",
        )
    return failed_gpu(
        _told(f"GPU {device} of the run, or its driver, failed", error),
        "look at the driver's log on the worker (dmesg, nvidia-smi); another GPU may be in order",
    )


def failed_gpu(message: str, hint: str) -> ForeignError:
    """Return the error of a GPU that has failed.

    It may be in order another time.
    """
    return ForeignError(message, hint, retryable=True, code="cuda_error")


def _told(what: str, error: BaseException) -> str:
    """Add the first line of what the system said, which has the numbers."""
    first = printable(str(error).partition("\n")[0])[:LINE_CHARACTERS]
    return f"{what}: {first}" if first else what
