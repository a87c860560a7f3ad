"""Which device each slot of this worker trains on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Device:
    """One slot's device: its *name* for people, its *index* as the run sees it, and the variables that make it so."""

    name: str
    index: str
    environment: Mapping[str, str] = field(default_factory=dict)


CPU = Device("cpu", "cpu")


def detect(slots: int, visible: str | None) -> list[Device]:
    """Spread *slots* over the GPUs that NVML finds, or put them all on the CPU.

    *visible* is the operator's ``CUDA_VISIBLE_DEVICES``, if any. A run sees its GPU alone, as number 0; the run of a
    worker with one slot sees all of them, for jobs that ask for several.
    """
    names = _gpus() if visible is None else [name.strip() for name in visible.split(",") if name.strip()]
    if visible is not None and names and not _gpus():
        names = []
    if slots == 1 and len(names) > 1:
        return [Device(f"cuda:{names[0]}", "0", {"CUDA_VISIBLE_DEVICES": ",".join(names)})]
    gpus = [Device(f"cuda:{name}", "0", {"CUDA_VISIBLE_DEVICES": name}) for name in names]
    return [gpus[slot % len(gpus)] if gpus else CPU for slot in range(slots)]


def _gpus() -> list[str]:
    """Numbers of the GPUs by NVML, which needs no torch; empty where there is no driver."""
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception:  # noqa: BLE001 - no library, no driver or no permission all mean: no GPU
        return []
    try:
        return [str(number) for number in range(pynvml.nvmlDeviceGetCount())]
    finally:
        pynvml.nvmlShutdown()
