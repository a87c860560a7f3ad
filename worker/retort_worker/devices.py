"""The devices of one worker, and which of them a run gets for itself."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Device:
    """What one run trains on: a *name* for people, its *index* as the run sees it, and the variables for that."""

    name: str
    index: str
    environment: Mapping[str, str] = field(default_factory=dict)
    gpus: tuple[str, ...] = ()
    """By the driver's numbers or UUIDs; empty on a CPU."""


CPU = Device("cpu", "cpu")


class Pool:
    """Free slots and free GPUs; each run has its GPUs alone, and sees no other."""

    def __init__(self, slots: int, gpus: Sequence[str] = ()) -> None:
        self._lock = threading.Lock()
        self._order = tuple(gpus)
        self._gpus = set(gpus)
        self._slots = min(slots, len(gpus)) if gpus else slots
        self._quarantined: set[str] = set()
        self.num_slots = self._slots

    @property
    def num_free(self) -> int:
        """Runs that could begin now, if each needed one GPU."""
        with self._lock:
            return min(self._slots, len(self._gpus)) if self._order else self._slots

    @property
    def most_gpus(self) -> int | None:
        """GPUs that one run could ever get here; None on a CPU, where a run makes as many processes as it likes."""
        with self._lock:
            return len(self._order) - len(self._quarantined) if self._order else None

    def take(self, gpus: int) -> Device | None:
        """Return a device for a run that needs so many *gpus*; None when they are not free at this moment."""
        with self._lock:
            if not self._slots or (self._order and len(self._gpus) < gpus):
                return None
            self._slots -= 1
            if not self._order:
                return CPU
            taken = tuple(name for name in self._order if name in self._gpus)[:gpus]
            self._gpus -= set(taken)
        names = ",".join(taken)
        return Device(f"cuda:{names}", "0", {"CUDA_VISIBLE_DEVICES": names}, taken)

    def give_back(self, device: Device, *, unclean: Sequence[str] = ()) -> None:
        """Let another run have the slot and the GPUs, but for those that are *unclean*: they are quarantined."""
        with self._lock:
            self._slots += 1
            self._gpus |= set(device.gpus) - set(unclean)
            self._quarantined |= set(unclean)

    def quarantined(self) -> list[str]:
        """Return the GPUs that no run gets."""
        with self._lock:
            return sorted(self._quarantined)

    def release(self, gpu: str) -> None:
        """Take a GPU that is clean again out of quarantine."""
        with self._lock:
            self._quarantined.discard(gpu)
            self._gpus.add(gpu)
