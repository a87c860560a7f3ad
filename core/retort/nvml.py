"""Find GPUs by NVML, the library of NVIDIA's driver."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

IN_ORDER: Mapping[str, str] = MappingProxyType({"CUDA_DEVICE_ORDER": "PCI_BUS_ID"})
"""NVML counts GPUs by their place on the bus, CUDA the fastest first unless it is told otherwise."""


@contextmanager
def nvml() -> Iterator[Any]:
    """Give the library, or None where there is no GPU.

    No library, no driver or no permission all mean that.
    """
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception:  # noqa: BLE001 - as said
        yield None
        return
    try:
        yield pynvml
    finally:
        pynvml.nvmlShutdown()


def driver() -> tuple[str, str] | None:
    """Return the driver's version and the newest CUDA that it knows.

    None where there is none that answers.
    """
    with nvml() as library:
        if library is None:
            return None
        try:
            version, cuda = library.nvmlSystemGetDriverVersion(), library.nvmlSystemGetCudaDriverVersion_v2()
        except library.NVMLError:
            return None
    return version.decode() if isinstance(version, bytes) else str(version), f"{cuda // 1000}.{cuda % 1000 // 10}"


def visible(names: str | None) -> list[str]:
    """Return the GPUs that CUDA_VISIBLE_DEVICES (*names*) shows; None shows all.

    They are named by number in the order of the bus, or by UUID where *names* does so. Of a GPU that is divided (MIG)
    each instance is one, by its UUID: CUDA would show the first alone. Like CUDA, it reads *names* up to the first that
    is no GPU, so -1, none and NoDevFiles show none; one that is named twice counts once.
    """
    with nvml() as library:
        if library is None:
            return []
        instances = {number: _instances(library, number) for number in range(library.nvmlDeviceGetCount())}
        if names is None:
            return [name for number, divided in instances.items() for name in _shown(str(number), divided)]
        found: dict[str, None] = {}
        for name in (part.strip() for part in names.split(",")):
            chosen = _named(library, name, instances)
            if not chosen:
                break
            found.update(dict.fromkeys(chosen))
        return list(found)


def _shown(name: str, instances: list[str] | None) -> list[str]:
    """Return what runs can have of a GPU: itself, or its instances."""
    return [name] if instances is None else instances


def _named(library: Any, name: str, instances: Mapping[int, list[str] | None]) -> list[str]:
    if name.isdecimal():
        return _shown(name, instances[int(name)]) if int(name) in instances else []
    if name.startswith("MIG-"):
        return [name]
    if not name.startswith("GPU-"):
        return []
    uuids = {number: _uuid(library, library.nvmlDeviceGetHandleByIndex(number)) for number in instances}
    matching = [number for number, uuid in uuids.items() if uuid.startswith(name)]  # CUDA takes a beginning too
    return _shown(uuids[matching[0]], instances[matching[0]]) if len(matching) == 1 else []


def _instances(library: Any, number: int) -> list[str] | None:
    """Return the UUIDs of a divided GPU's instances; None where it is not divided."""
    try:
        gpu = library.nvmlDeviceGetHandleByIndex(number)
        if not library.nvmlDeviceGetMigMode(gpu)[0]:
            return None
        most = library.nvmlDeviceGetMaxMigDeviceCount(gpu)
    except library.NVMLError:  # a GPU that cannot be divided
        return None
    found = []
    for place in range(most):
        try:
            found.append(_uuid(library, library.nvmlDeviceGetMigDeviceHandleByIndex(gpu, place)))
        except library.NVMLError:  # an empty place
            continue
    return found


def _uuid(library: Any, handle: Any) -> str:
    uuid = library.nvmlDeviceGetUUID(handle)
    return uuid.decode() if isinstance(uuid, bytes) else str(uuid)
