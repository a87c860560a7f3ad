"""NVML as a machine with GPUs would have it: to be put in the place of pynvml."""

# ruff: noqa: N802, N815 - the driver's library names its functions so

from __future__ import annotations

from importlib.machinery import ModuleSpec
from types import SimpleNamespace
from typing import Any


class Unreachable(Exception):
    """A driver that does not answer."""

    def __init__(self, value: int) -> None:
        super().__init__("Driver/library version mismatch" if value == 18 else "Driver Not Loaded")
        self.value = value


class Driver:
    """NVML of a machine with three GPUs, as far as it is asked."""

    __spec__ = ModuleSpec("pynvml", None)  # importlib asks whether it is there
    NVMLError = LookupError
    nvmlMemory_v2 = 2
    NVML_GPU_UTILIZATION_SAMPLES, NVML_TEMPERATURE_GPU = 1, 0
    NVML_ERROR_DRIVER_NOT_LOADED, NVML_ERROR_LIBRARY_NOT_FOUND, NVML_ERROR_GPU_NOT_FOUND = 9, 12, 28
    NVML_ERROR_LIB_RM_VERSION_MISMATCH = 18

    def __init__(self) -> None:
        self.processes: dict[int, list[int]] = {0: [], 1: [], 2: []}
        self.used = {0: 0, 1: 0, 2: 0}
        self.reserved, self.is_old = 0, False
        self.fails: int | None = None
        """The error with which the driver does not answer at all."""
        self.instances: dict[int, int] = {}
        """Of the GPUs that are divided."""
        self.capability = (9, 0)
        self.samples: dict[int, list[tuple[int, int]]] = {}
        """How busy a GPU was, in percent, at moments in microseconds."""

    def nvmlInit(self) -> None:
        if self.fails is not None:
            raise Unreachable(self.fails)

    def nvmlShutdown(self) -> None: ...

    def nvmlDeviceGetCount(self) -> int:
        return len(self.processes)

    def nvmlDeviceGetHandleByIndex(self, number: int) -> int:
        if number not in self.processes:
            raise self.NVMLError(number)
        return number

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> int | str:
        return uuid if uuid.startswith("MIG-") else int(uuid.removeprefix("GPU-")[0])

    def nvmlSystemGetDriverVersion(self) -> str:
        return "580.159.04"

    def nvmlSystemGetCudaDriverVersion_v2(self) -> int:
        return 13020

    def nvmlDeviceGetName(self, handle: int | str) -> str:
        return "NVIDIA H100 80GB HBM3" + (" MIG 1g.10gb" if isinstance(handle, str) else "")

    def nvmlDeviceGetDeviceHandleFromMigDeviceHandle(self, handle: str) -> int:
        return int(handle.removeprefix("MIG-")[0])

    def nvmlDeviceGetCudaComputeCapability(self, handle: int | str) -> tuple[int, int]:
        if isinstance(handle, str):
            raise self.NVMLError("not of a part")
        return self.capability

    def nvmlDeviceGetUUID(self, handle: int | str) -> str:
        return handle if isinstance(handle, str) else f"GPU-{handle}{handle}ab"

    def nvmlDeviceGetMigMode(self, handle: int) -> list[int]:
        if handle == 0:
            raise self.NVMLError("not supported")
        return [int(handle in self.instances), 0]

    def nvmlDeviceGetMaxMigDeviceCount(self, handle: int) -> int:  # noqa: ARG002 - as NVML has it
        return 7

    def nvmlDeviceGetMigDeviceHandleByIndex(self, handle: int, place: int) -> str:
        if place >= self.instances[handle]:
            raise self.NVMLError(place)
        return f"MIG-{handle}{place}"

    def nvmlDeviceGetComputeRunningProcesses(self, handle: int) -> list[Any]:
        return [SimpleNamespace(pid=pid) for pid in self.processes[handle]]

    def nvmlDeviceGetTemperature(self, handle: int, kind: int) -> int:  # noqa: ARG002 - as NVML has it
        return 61 + handle

    def nvmlDeviceGetPowerUsage(self, handle: int) -> int:
        if self.is_old:
            raise self.NVMLError("not supported")
        return 350_000 + 1000 * handle

    def nvmlDeviceGetUtilizationRates(self, handle: int) -> Any:  # noqa: ARG002 - as NVML has it
        return SimpleNamespace(gpu=44)

    def nvmlDeviceGetSamples(self, handle: int, kind: int, since_us: int) -> tuple[int, list[Any]]:  # noqa: ARG002
        if handle not in self.samples:
            raise self.NVMLError("not supported")
        found = [value for at_us, value in self.samples[handle] if at_us > since_us]
        return 1, [SimpleNamespace(sampleValue=SimpleNamespace(uiVal=value)) for value in found]

    def nvmlDeviceGetMemoryInfo(self, handle: int | str, version: int | None = None) -> Any:
        if isinstance(handle, str):
            return SimpleNamespace(used=0, total=10 << 30)
        if version is None:
            return SimpleNamespace(used=self.used[handle] + self.reserved, total=80 << 30)
        if self.is_old:
            raise self.NVMLError(version)
        return SimpleNamespace(used=self.used[handle], reserved=self.reserved)
