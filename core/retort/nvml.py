"""Find GPUs by NVML, the library of NVIDIA's driver."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

IN_ORDER: Mapping[str, str] = MappingProxyType({"CUDA_DEVICE_ORDER": "PCI_BUS_ID"})
"""NVML counts GPUs by their place on the bus, CUDA the fastest first unless it is told otherwise."""

_WORDS_FOR_NONE = frozenset({"", "none", "void", "nodevfiles"})
"""Beside negative numbers: what CUDA_VISIBLE_DEVICES holds where an operator wants no GPU to be used."""


@dataclass(frozen=True, slots=True)
class GpuDescription:
    """A GPU as its driver describes it; unknown facts are None."""

    name: str
    """As CUDA_VISIBLE_DEVICES names it: its number on the bus or its UUID; of a part of a divided one the UUID."""
    product: str | None = None
    memory_bytes: int | None = None
    compute_capability: str | None = None
    driver: str | None = None
    refused: str | None = None
    """Why no run can have it, and what to do; None where nothing is known against it."""


@dataclass(frozen=True, slots=True)
class GpuLoad:
    """Load of a GPU; None stands for an unknown figure."""

    percent: float | None = None
    """Share of the time in which a kernel ran."""
    memory_bytes: int | None = None
    """In use, by whomever."""
    temperature_c: float | None = None
    power_w: float | None = None


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
    each part is one, by its UUID: CUDA would show the first alone. Like CUDA, it reads *names* up to the first that is
    no GPU, so -1, none and NoDevFiles show none; one that is named twice counts once.
    """
    with nvml() as library:
        return [] if library is None else _visible(library, names)


def load(names: Sequence[str], since: float) -> list[GpuLoad]:
    """Return the load of each named GPU, its busy share *since* then.

    *since* is in Unix seconds; drivers remember some seconds. Empty is for no driver.
    """
    with nvml() as library:
        return [] if library is None else [_load(library, name, since) for name in names]


def _load(library: Any, name: str, since: float) -> GpuLoad:
    def told(ask: Callable[..., Any], *about: Any) -> Any:
        try:
            return ask(*about)
        except library.NVMLError:
            return None

    gpu = told(handle_of, library, name)
    if gpu is None:
        return GpuLoad()
    power = told(library.nvmlDeviceGetPowerUsage, gpu)
    return GpuLoad(
        percent=_busy(library, gpu, since, told), memory_bytes=told(used_bytes, library, gpu),
        temperature_c=told(library.nvmlDeviceGetTemperature, gpu, library.NVML_TEMPERATURE_GPU),
        power_w=None if power is None else power / 1000,
    )  # fmt: skip


def _busy(library: Any, gpu: Any, since: float, told: Callable[..., Any]) -> float | None:
    """Return the mean of the driver's latest samples, or else its latest one."""
    answer = told(library.nvmlDeviceGetSamples, gpu, library.NVML_GPU_UTILIZATION_SAMPLES, int(since * 1e6))
    values = [float(one.sampleValue.uiVal) for one in answer[1]] if answer else []
    if values:
        return sum(values) / len(values)
    rates = told(library.nvmlDeviceGetUtilizationRates, gpu)
    return None if rates is None else float(rates.gpu)


def used_bytes(library: Any, handle: Any) -> int:
    """Return the memory in use of a GPU.

    What the driver keeps for itself (615 MiB on an idle H200) counts in version 1 only.
    """
    try:
        return int(library.nvmlDeviceGetMemoryInfo(handle, version=library.nvmlMemory_v2).used)
    except library.NVMLError:  # a driver from before version 2
        return int(library.nvmlDeviceGetMemoryInfo(handle).used)


def _visible(library: Any, names: str | None) -> list[str]:
    parts = _parts(library)
    if names is None:
        return [name for number, divided in parts.items() for name in _shown(str(number), divided)]
    found: dict[str, None] = {}
    for name in names.split(","):
        chosen = _named(library, name.strip(), parts)
        if chosen is None:
            break
        found.update(dict.fromkeys(chosen))
    return list(found)


def is_part(name: str) -> bool:
    """Return True for a part of a divided GPU (MIG).

    A process sees one part alone, so that a run cannot have several.
    """
    return name.startswith("MIG-")


def handle_of(library: Any, name: str) -> Any:
    """Return the library's handle of a GPU, by its number or UUID."""
    if name.startswith(("GPU-", "MIG-")):
        return library.nvmlDeviceGetHandleByUUID(name)
    return library.nvmlDeviceGetHandleByIndex(int(name))


def describe(
    names: str | None, *, bus: Path = Path("/sys/bus/pci/devices"), devices: Path = Path("/dev")
) -> list[GpuDescription]:
    """Return the GPUs that *names* shows, and the unusable ones with their reasons.

    Unusable are those that are there and do not answer, and those that are named and not there. Empty is for a machine
    without GPUs, and for one whose operator has chosen that none be used.
    """
    if names is not None and _chooses_none(names):
        return []
    with nvml() as library:
        if library is not None:
            found = [_described(library, name) for name in _visible(library, names)]
            return found + [GpuDescription(name, refused=why) for name, why in _missing(library, names)]
    why = _why_silent(bus, devices)
    return (
        [] if why is None else [GpuDescription("0" if names is None else names.partition(",")[0].strip(), refused=why)]
    )


def _chooses_none(names: str) -> bool:
    first = names.partition(",")[0].strip().lower()
    return first in _WORDS_FOR_NONE or (first.startswith("-") and first[1:].isdecimal())


def _why_silent(bus: Path, devices: Path) -> str | None:
    """Return why the driver does not answer although a GPU is there; None where there is none, or no library."""
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
    except Exception as error:  # noqa: BLE001 - whatever it says is the reason
        value = getattr(error, "value", None)
        if value == pynvml.NVML_ERROR_LIBRARY_NOT_FOUND:
            return _NO_LIBRARY if any(devices.glob("nvidia[0-9]*")) else None
        if value == pynvml.NVML_ERROR_GPU_NOT_FOUND:
            return None
        if value == pynvml.NVML_ERROR_DRIVER_NOT_LOADED and not _on_the_bus(bus):
            return None
        return (
            f"NVIDIA's driver does not answer ({error}): restart the machine where the driver has just been updated, "
            "else install it again, until nvidia-smi lists the GPU"
        )
    pynvml.nvmlShutdown()
    return None


_NO_LIBRARY = (
    "it is there (/dev/nvidia…), and the driver's library is not (libnvidia-ml.so.1): a container needs "
    "NVIDIA_DRIVER_CAPABILITIES=compute,utility, a machine the whole driver"
)


def _on_the_bus(bus: Path) -> bool:
    """Return True if a device of NVIDIA's that draws or computes is plugged in."""
    for device in bus.glob("*"):
        try:
            vendor, kind = (device / "vendor").read_text().strip(), (device / "class").read_text().strip()
        except OSError:
            continue
        if vendor == "0x10de" and kind.startswith("0x03"):
            return True
    return False


def _missing(library: Any, names: str | None) -> Iterator[tuple[str, str]]:
    """Yield the GPUs that cannot be had, with the reason: divided ones without parts, and one that is not there."""
    parts = _parts(library)
    for name in map(str, parts) if names is None else (name.strip() for name in names.split(",")):
        chosen = _named(library, name, parts)
        if chosen is None:
            yield name, _not_there(name, len(parts))
            return  # like CUDA
        if not chosen:
            yield name, _NO_PART


_NO_PART = (
    "it is divided (MIG) and has no part: make parts (nvidia-smi mig -cgi … -C), or take it whole (nvidia-smi -mig 0)"
)


def _not_there(name: str, number: int) -> str:
    has = f"{number} GPU{'' if number == 1 else 's'}{', from 0 on' if number else ''}"
    return (
        f"CUDA_VISIBLE_DEVICES names {name!r}, and this machine has {has}: name those that are there, "
        "as nvidia-smi numbers them"
    )


def _described(library: Any, name: str) -> GpuDescription:
    """Return what the driver tells of a GPU, or of a part of one."""

    def told(ask: Callable[..., Any], *about: Any) -> Any:
        try:
            return ask(*about)
        except library.NVMLError:
            return None

    driver, gpu = told(library.nvmlSystemGetDriverVersion), told(handle_of, library, name)
    if gpu is None:
        return GpuDescription(name, driver=driver)
    # The compute capability is the whole GPU's: a part does not tell its own.
    whole = (told(library.nvmlDeviceGetDeviceHandleFromMigDeviceHandle, gpu) if is_part(name) else gpu) or gpu
    memory = told(library.nvmlDeviceGetMemoryInfo, gpu)
    capability = told(library.nvmlDeviceGetCudaComputeCapability, whole)
    return GpuDescription(
        name=name,
        product=told(library.nvmlDeviceGetName, gpu) or told(library.nvmlDeviceGetName, whole),
        memory_bytes=None if memory is None else int(memory.total),
        compute_capability=None if capability is None else ".".join(map(str, capability)),
        driver=driver,
    )


def _shown(name: str, parts: list[str] | None) -> list[str]:
    """Return what runs can have of a GPU: itself, or its parts."""
    return [name] if parts is None else parts


def _named(library: Any, name: str, parts: Mapping[int, list[str] | None]) -> list[str] | None:
    """Return what runs can have of the GPU with this name; None where there is none."""
    if name.isdecimal():
        return _shown(name, parts[int(name)]) if int(name) in parts else None
    if is_part(name):
        return [name]
    if not name.startswith("GPU-"):
        return None
    uuids = {number: _uuid(library, library.nvmlDeviceGetHandleByIndex(number)) for number in parts}
    matching = [number for number, uuid in uuids.items() if uuid.startswith(name)]  # CUDA takes a beginning too
    return _shown(uuids[matching[0]], parts[matching[0]]) if len(matching) == 1 else None


def _parts(library: Any) -> dict[int, list[str] | None]:
    """Return the parts of each GPU, by its number; None for one that is not divided."""
    return {number: _instances(library, number) for number in range(library.nvmlDeviceGetCount())}


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
