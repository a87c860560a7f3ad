"""Choose the device of a run, and check that this install can train."""

from __future__ import annotations

from importlib.util import find_spec

from retort import nvml
from retort.errors import UserError
from retort.settings import visible_gpus

_TRAINING = ("torch", "torchvision", "ultralytics")


def require_training() -> None:
    """Check that the packages that train are installed.

    Raises:
        UserError: one is missing, as in an install without the extra ``train``.

    """
    missing = [name for name in _TRAINING if find_spec(name) is None]
    if missing:
        raise UserError(
            f"this install of Retort cannot train: {', '.join(missing)} is not installed",
            hint="pip install 'retort[train]', or submit the spec to a service: retort submit",
            code="not_installed",
        )


def choose(wanted: str | None) -> str:
    """Return the device that a run gets: ``cpu``, or the number of a GPU.

    Without a wish it is the first GPU, else the CPU.

    Raises:
        UserError: it is no device, or this machine has no such GPU.

    """
    if wanted == "cpu":
        return "cpu"
    number = num_gpus()
    if wanted is None:
        return "0" if number else "cpu"
    index = wanted.removeprefix("cuda:")
    if not (index.isascii() and index.isdecimal()):
        raise UserError(f"{wanted!r} is no device", hint=_spelled(wanted), code="usage")
    if number is not None and int(index) >= number:
        has = "no GPU that its driver shows" if not number else f"{number} GPU{'s' if number > 1 else ''}, from 0 on"
        hidden = "" if visible_gpus() is None else f" (CUDA_VISIBLE_DEVICES is {visible_gpus()!r})"
        raise UserError(
            f"there is no GPU {int(index)}: this machine has {has}{hidden}",
            hint="; ".join((*refused(), "--device cpu trains on the CPU; nvidia-smi shows what the driver sees")),
            code="no_gpu",
        )
    return str(int(index))


def refused() -> list[str]:
    """Return the GPUs that are there, or named, and cannot be had, with the reasons."""
    return [f"GPU {gpu.name}: {gpu.refused}" for gpu in nvml.describe(visible_gpus()) if gpu.refused is not None]


def seen_alone(device: str) -> tuple[str, dict[str, str]]:
    """Return the device and the variables with which a process sees it.

    Of divided GPUs (MIG) a process sees one part, the first unless told otherwise: there it is the only one, number 0.
    """
    names = nvml.visible(visible_gpus()) if device != "cpu" else []
    if any(map(nvml.is_part, names)) and int(device) < len(names):
        return "0", {"CUDA_VISIBLE_DEVICES": names[int(device)]}
    return device, {}


def _spelled(wanted: str) -> str:
    """Say how the device that *wanted* may mean is named."""
    if "," in wanted and wanted.replace(",", "").replace(" ", "").isdecimal():
        return "name the first GPU, --device 0, and say how many in the spec: resources.gpus"
    if wanted.lower() in {"cuda", "gpu"}:
        return "a GPU is named by its number: --device 0; without --device it is the first"
    if wanted.lower() == "mps":
        return "Retort trains on NVIDIA's GPUs and on the CPU: --device cpu"
    return "cpu, or the number of a GPU: --device 0"


def num_gpus() -> int | None:
    """Return the number of GPUs that CUDA_VISIBLE_DEVICES shows; None where the driver cannot be asked."""
    return len(nvml.visible(visible_gpus())) if find_spec("pynvml") else None
