"""Choose how batches are loaded by the memory that they take."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch

from retort.constants import VALIDATION_BATCH
from retort.training.config import PREFETCH, Loading

VALIDATION_PREFETCH = 2
"""Batches that each process has ready at most, for validation and of unlabelled images."""
SHARE = 0.25
"""Of the memory that is free when training starts, for batches on their way; as much again is for decoded images."""
_PADDING = 32
"""Pixels by which upstream's validation images may be wider than training's."""
_MARGIN = 0.8
"""Part of what is free in /dev/shm that may be used: others use it too."""
_IN_HAND = 3
"""Page-locked batches beside those that are ready: one that is trained on, the next, and one that is being copied."""
_SHARED = Path("/dev/shm")  # noqa: S108 - where Linux keeps it
_GIB = 2**30


@dataclass(frozen=True, slots=True)
class BatchMemory:
    """Host memory of one rank's loaders: uint8 (N, 3, H, W).

    Measured on two processes at most, 320 to 640 pixels and batches of 4 to 16, by what became used of shared memory:
    1% more than this at most, of both loaders.
    """

    batch: int
    """One rank's."""
    imgsz: int
    validation: int = VALIDATION_BATCH
    """Images of a validation batch."""
    unlabelled: int = 0
    """Images without labels in a step."""
    trains: bool = True
    """Whether training batches are loaded beside those of the validation."""

    def shared_bytes(self, loading: Loading) -> int:
        """Return what processes have ready and the trainer holds; 0 without processes."""
        workers = loading.workers
        if workers == 0:
            return 0
        size = _bytes(self.validation, self.imgsz + _PADDING) * (workers * VALIDATION_PREFETCH + 1)
        if self.trains:
            size += _bytes(self.batch, self.imgsz) * (workers * loading.prefetch + 2)
        return size + _bytes(self.unlabelled, self.imgsz) * (workers * min(loading.prefetch, VALIDATION_PREFETCH) + 1)

    def pinned_bytes(self, loading: Loading) -> int:
        """Return what is page-locked, of which nothing is given back before the end.

        A thread empties the processes' queues, and each batch takes a power of two. Validation has none.
        """
        if not loading.pinned:
            return 0
        ready = loading.workers * loading.prefetch + _IN_HAND
        more = loading.workers * min(loading.prefetch, VALIDATION_PREFETCH) + _IN_HAND
        return _rounded(_bytes(self.batch, self.imgsz)) * ready + _rounded(_bytes(self.unlabelled, self.imgsz)) * more

    def host_bytes(self, loading: Loading) -> int:
        """Return the sum of both.

        Page-locked batches have left shared memory, but for one of each process.
        """
        shared = replace(loading, prefetch=1) if loading.pinned else loading
        return self.shared_bytes(shared) + self.pinned_bytes(loading)


def _bytes(images: int, side: int) -> int:
    return 3 * images * side**2


def _rounded(size: int) -> int:
    return 1 << (size - 1).bit_length() if size else 0


def choose(
    wanted: int, memory: BatchMemory, *, cuda: bool, host: int | None, shared: int | None, ranks: int = 1
) -> Loading:
    """Return how to load with up to *wanted* processes.

    Of *host*, the free memory, batches get a share; *shared* is what is free of a shared memory that is bounded. None
    is not known, or without a bound. *ranks* share both. Fewer batches are ready first; then they are not page-locked;
    then there are fewer processes.
    """
    for loading in _preferred(wanted, cuda=cuda):
        fits = host is None or ranks * memory.host_bytes(loading) <= host * SHARE
        if fits and (shared is None or ranks * memory.shared_bytes(loading) <= shared * _MARGIN):
            return loading
    return Loading(0, 1)


def _preferred(wanted: int, *, cuda: bool) -> Iterator[Loading]:
    for workers in range(wanted, -1, -1):
        for pinned in (True, False) if cuda else (False,):
            for prefetch in range(PREFETCH if workers else 1, 0, -1):
                yield Loading(workers, prefetch, pinned)


def tell(
    wanted: int, chosen: Loading, memory: BatchMemory, log: Callable[..., None], *, cuda: bool, host: int | None,
    shared: int | None, ranks: int = 1,
) -> None:  # fmt: skip
    """Log in one line what free memory has lowered, if anything."""
    full = Loading(wanted, PREFETCH if wanted else chosen.prefetch, cuda)
    if chosen == full:
        return
    need = ranks * memory.shared_bytes(full)
    if shared is not None and need > shared * _MARGIN:
        of, free, remedy = "shared memory has", shared, "give the worker's container more (shm_size)"
        room = f"{free >> 20} MiB free"
    else:
        need, free = ranks * memory.host_bytes(full), host or 0
        of, remedy = "batches on their way may take", "give the worker more memory, or lower training.batch"
        room = f"{int(free * SHARE) >> 20} of {free >> 20} MiB of free memory"
    ready = f", each with {chosen.prefetch} of {PREFETCH} batches ready" if chosen.workers else ""
    locked = "; none is page-locked" if cuda and not chosen.pinned else ""
    log(
        f"{of} {room}, and {ranks * wanted} loader processes would need {need >> 20} MiB: "
        f"{ranks * chosen.workers} are started{ready}{locked}; {remedy}",
        "warning" if chosen.workers < wanted else "info",
        free_mib=free >> 20, need_mib=need >> 20, workers=chosen.workers, prefetch=chosen.prefetch,
        pinned=chosen.pinned,
    )  # fmt: skip


def available_bytes(proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Return the memory that this process may still fill.

    None is not known. It is what the machine has, or less where a control group of this process is limited, as in a
    container. Pages of files that were read are no obstacle.
    """
    meminfo = proc / "meminfo"
    if not meminfo.exists():
        return None
    words = next(line.split() for line in meminfo.read_text().splitlines() if line.startswith("MemAvailable"))
    return max(0, min([int(words[1]) * 1024, *_left_by_groups(proc / "self" / "cgroup", cgroups)]))


def _left_by_groups(membership: Path, root: Path) -> Iterator[int]:
    """Yield what each limited group leaves, of both versions: the process's own and those around it."""
    lines = membership.read_text().splitlines() if membership.exists() else ["0::/", "0:memory:/"]
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            base, names = root, ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            base, names = root / "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        own = base / path.lstrip("/")
        for group in (own, *own.parents):
            left = _left(group, *names)
            if left is not None:
                yield left
            if group == base:
                break


def _left(group: Path, limit: str, used: str, reclaimable: str) -> int | None:
    try:
        most, taken = int((group / limit).read_text()), int((group / used).read_text())
        stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):  # there is none, or its limit is "max"
        return None
    return most - taken + int(stat.get(reclaimable, 0))


def free_shared_bytes(folder: Path = _SHARED) -> int | None:
    """Return what is free where processes hand images over.

    None where it is not known, or bounded by the memory alone.
    """
    if hands_over_without_files():
        return None
    try:
        found = os.statvfs(folder)
    except OSError:
        return None
    return found.f_bavail * found.f_frsize


@cache
def hands_over_without_files() -> bool:
    """Return True if processes can share memory that lies in no folder.

    Containers have 64 MB of /dev/shm unless told, and a whole machine's memory.
    """
    strategy: Any = torch.multiprocessing.get_sharing_strategy
    if strategy() != "file_descriptor":
        return False
    try:
        _anonymous(1)
    except (AttributeError, OSError, RuntimeError):  # another system, or one that forbids it
        return False
    return True


def empty_batch(*shape: int) -> torch.Tensor:
    """Return an empty batch of images, uint8 (N, 3, H, W).

    It lies in memory shared with the trainer where a loader process asks.
    """
    if torch.utils.data.get_worker_info() is None:
        return torch.empty(shape, dtype=torch.uint8)
    named: Any = torch.UntypedStorage._new_shared  # noqa: SLF001 - torch's own collation does so
    storage = (_anonymous if hands_over_without_files() else named)(math.prod(shape))
    return torch.empty(0, dtype=torch.uint8).set_(storage).view(shape)


def hand_over(made: torch.Tensor) -> torch.Tensor:
    """Return *made* in memory that a loader process shares with the trainer."""
    if torch.utils.data.get_worker_info() is None or not hands_over_without_files():
        return made
    return torch.empty(0, dtype=made.dtype).set_(_anonymous(made.nbytes)).view(made.shape).copy_(made)


def _anonymous(size: int) -> torch.UntypedStorage:
    """Return shared memory of *size* bytes without a name; torch hands its descriptor over, as that of a named one."""
    share: Any = torch.UntypedStorage._new_shared_fd_cpu  # type: ignore[attr-defined]  # noqa: SLF001
    descriptor = os.memfd_create("retort-batch", os.MFD_CLOEXEC)
    try:
        os.ftruncate(descriptor, size)
        made: torch.UntypedStorage = share(descriptor, size)
    finally:
        os.close(descriptor)
    return made
