"""Choose the device of a run by facts about GPU, driver and PyTorch."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from retort import nvml
from retort.errors import UserError
from retort.foreign import ForeignError, failed_gpu, first_line, is_useless_gpu
from retort.spec.hardware import DeviceFigures

NEEDED_DRIVER = {11: "450", 12: "525", 13: "580"}
"""The first driver that runs programs for any CUDA of this major version."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU as PyTorch sees it."""

    name: str
    capability: tuple[int, int]
    total_bytes: int
    uuid: str | None = None
    """By which nvidia-smi knows it, whatever number it has in this process."""
    free_bytes: int | None = None
    """None where no program of ours has run on it."""


@dataclass(frozen=True, slots=True)
class GpuFacts:
    """Facts about one GPU and the software that is to use it."""

    torch: str
    """Version of PyTorch."""
    cuda: str | None
    """Version of CUDA that PyTorch is built for; None where for none."""
    kernels: tuple[str, ...] = ()
    """What PyTorch has kernels for, such as ``sm_90`` and ``compute_90``; empty where that is not known."""
    driver: str | None = None
    """Version of the driver; None where NVML does not answer."""
    driver_cuda: str | None = None
    """The newest CUDA that the driver knows."""
    number: int = 0
    """GPUs that PyTorch sees."""
    gpu: Gpu | None = None
    """None where it cannot be asked."""
    error: str | None = None
    """What was said when the GPU was tried; None where it can be used."""


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Reason why a GPU cannot be used, with its remedy."""

    reason: str
    remedy: str
    lasting: bool = True
    """Whether it will be the same next time: a fault of the GPU, or memory that others hold, may pass."""


@dataclass(frozen=True, slots=True)
class Wish:
    """Wishes of spec, user and operator for the device."""

    device: str
    """``cpu``, or the number of a GPU that the process can see."""
    by: str = "user"
    """Who has named it: ``user``, ``worker``, or nobody (``default``)."""
    required: bool | None = None
    """``resources.require_gpu``."""
    cpu_allowed: bool = True
    """Whether the operator lets the CPU stand in, where the spec does not say."""
    gpus: int = 1
    """``resources.gpus``: from this GPU on."""

    @property
    def may_fall_back(self) -> bool:
        """Whether the CPU may stand in for a GPU that cannot be used."""
        allowed = self.cpu_allowed if self.required is None else not self.required
        return allowed and self.by != "user"


def read_all(wish: Wish) -> list[GpuFacts]:
    """Return the facts about the GPUs that are asked for.

    Only the first is tried: the others are for processes of their own.
    """
    if wish.device == "cpu":
        return []
    first = int(wish.device)
    return [read(str(first + more), kernel=not more) for more in range(wish.gpus)]


def read(device: str, *, kernel: bool = True) -> GpuFacts:
    """Return the facts about the GPU *device*.

    It is tried by a first *kernel*, which takes some of its memory for this process.
    """
    driver, driver_cuda = nvml.driver() or (None, None)
    number, gpu, error = 0, None, None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what torch warns of is found here too
        try:
            torch.cuda.init()  # type: ignore[no-untyped-call]
            number = torch.cuda.device_count()
            if int(device) < number:
                gpu = _asked(int(device))
                gpu = _tried(int(device), gpu) if kernel else gpu
        except (RuntimeError, AssertionError) as failure:
            error = first_line(failure)
    return GpuFacts(
        torch=str(torch.__version__), cuda=torch.version.cuda or torch.version.hip,
        kernels=tuple(torch.cuda.get_arch_list()), driver=driver, driver_cuda=driver_cuda,
        number=number, gpu=gpu, error=error,
    )  # fmt: skip


def _asked(number: int) -> Gpu:
    found = torch.cuda.get_device_properties(number)
    uuid = getattr(found, "uuid", None)
    return Gpu(found.name, (found.major, found.minor), found.total_memory, None if uuid is None else str(uuid))


def _tried(number: int, gpu: Gpu) -> Gpu:
    """Return the GPU *number* with its free memory, once a kernel has run on it."""
    free, total = torch.cuda.mem_get_info(number)
    float(torch.ones(1, device=f"cuda:{number}").add_(1))
    return replace(gpu, total_bytes=total, free_bytes=free)


def obstacle(facts: GpuFacts, device: str) -> Obstacle | None:
    """Return why the GPU *device* cannot be used; None where it can."""
    if facts.cuda is None:
        return Obstacle(
            f"this PyTorch ({facts.torch}) is built without CUDA", "install a PyTorch that is built for CUDA"
        )
    if _older(facts.driver_cuda, facts.cuda):
        return _old_driver(facts, facts.cuda)
    if facts.gpu is not None and not _has_kernels(facts.kernels, facts.gpu.capability):
        return _other_card(facts, facts.gpu)
    if facts.error is None and int(device) < facts.number:
        return None
    return _no_answer(facts, facts.cuda, device)


def _no_answer(facts: GpuFacts, cuda: str, device: str) -> Obstacle:
    """Return why a GPU is not there, or does not work.

    Driver and PyTorch are made for it.
    """
    said = (facts.error or "").partition(". ")[0].rstrip(".")  # what follows is advice for everybody
    told = f": {said}" if said else ""
    if facts.driver is None and not facts.number:
        known = "no nvidia driver" in said.lower()
        return Obstacle(
            f"no driver of NVIDIA answers{'' if known else told}",
            f"install NVIDIA's driver{_from(cuda, 'of version')}; a container has to be started with its GPUs",
        )
    if int(device) >= facts.number:
        return Obstacle(
            f"there is no GPU {device}, PyTorch sees {facts.number} GPU{'' if facts.number == 1 else 's'}{told}",
            "nvidia-smi lists the GPUs; CUDA_VISIBLE_DEVICES may hide them",
        )
    return Obstacle(
        f"GPU {device} failed at its first kernel{told}",
        "nvidia-smi shows who holds it, the driver's log (dmesg) what is wrong with it",
        lasting=is_useless_gpu(facts.error or ""),
    )


def _old_driver(facts: GpuFacts, cuda: str) -> Obstacle:
    major = str(facts.driver_cuda).partition(".")[0]
    return Obstacle(
        f"the driver {facts.driver} knows CUDA up to {facts.driver_cuda}, and this PyTorch ({facts.torch}) is built "
        f"for CUDA {cuda}",
        f"update the driver{_from(cuda, 'to')}, or install a PyTorch that is built for CUDA {major}",
    )


def _other_card(facts: GpuFacts, gpu: Gpu) -> Obstacle:
    known = ", ".join(f"{major}.{minor}" for major, minor in sorted({_capability(one) for one in facts.kernels}))
    return Obstacle(
        f"{gpu.name} has compute capability {gpu.capability[0]}.{gpu.capability[1]}, and this PyTorch ({facts.torch}) "
        f"has kernels for {known} alone",
        "take another GPU, or install a PyTorch that has kernels for this one",
    )


def _from(cuda: str, word: str) -> str:
    needed = NEEDED_DRIVER.get(int(cuda.partition(".")[0]))
    return f" {word} {needed} or later" if needed else ""


def _older(driver_cuda: str | None, cuda: str) -> bool:
    """Return True if a driver is of an older major version of CUDA.

    Within one, minor versions run each other's programs.
    """
    return driver_cuda is not None and int(driver_cuda.partition(".")[0]) < int(cuda.partition(".")[0])


def _has_kernels(kernels: Sequence[str], capability: tuple[int, int]) -> bool:
    """Return True if one of *kernels* runs on a GPU of this capability.

    Machine code runs on later GPUs of its major version, code for the driver's compiler (``compute``) on all later.
    """
    known = [one for one in kernels if one.startswith(("sm_", "compute_"))]
    if not known:  # AMD's have other names
        return True
    for one in known:
        needed = _capability(one)
        same = needed[0] == capability[0] or one.startswith("compute_")
        if same and needed <= capability:
            return True
    return False


def _capability(kernel: str) -> tuple[int, int]:
    digits = re.sub(r"\D", "", kernel)
    return int(digits[:-1]), int(digits[-1])


def place(wish: Wish, facts: Sequence[GpuFacts]) -> DeviceFigures:
    """Return the device that a run gets, and why.

    *facts* are those of the wished GPUs, none for a CPU.

    Raises:
        ForeignError: no GPU can be used, and the CPU must not stand in (``no_gpu``), or it may work later.
        UserError: there are fewer GPUs than the spec asks for.

    """
    if not facts:
        return _on_cpu(wish)
    first, seen = int(wish.device), facts[0].number
    if first < seen < first + wish.gpus:
        message = f"resources.gpus is {wish.gpus}, but this run sees {seen} GPU{'' if seen == 1 else 's'}"
        raise UserError(message, hint="fewer gpus, or a worker with more of them", code="too_few_gpus")
    for number, one in enumerate(facts, start=first):
        found = obstacle(one, str(number))
        if found is None:
            continue
        if not found.lasting and (wish.by != "default" or not wish.may_fall_back):
            raise failed_gpu(found.reason, found.remedy)
        return _instead(wish, found)
    gpu, known = facts[0].gpu, facts[0]
    assert gpu is not None, "a GPU without an obstacle has been asked"
    return DeviceFigures(
        name=gpu.name, number=first, uuid=gpu.uuid, capability=f"{gpu.capability[0]}.{gpu.capability[1]}",
        memory_bytes=gpu.total_bytes, free_bytes=gpu.free_bytes, driver=known.driver, cuda=known.cuda,
        reason=_NAMED[wish.by] if wish.gpus == 1 else f"{_NAMED[wish.by]}, the first of {wish.gpus}",
    )  # fmt: skip


_NAMED = {
    "user": "named by --device",
    "worker": "given by the worker",
    "default": "the first GPU here, as nobody has named a device",
}


def _on_cpu(wish: Wish) -> DeviceFigures:
    if wish.by == "user" and not wish.required:
        return DeviceFigures(name="cpu", reason="named by --device")
    where = "this worker gives out no GPU" if wish.by == "worker" else "this machine shows no GPU"
    if wish.by == "user":
        where = "--device names the CPU"
    return _instead(wish, Obstacle(where, "nvidia-smi shows what the driver sees"))


def _instead(wish: Wish, found: Obstacle) -> DeviceFigures:
    """Return the CPU in place of a GPU, where that is allowed."""
    if wish.may_fall_back:
        operator = "the operator allows the CPU" if wish.by == "worker" else "nothing insists on a GPU"
        allowed = "the spec allows the CPU" if wish.required is False else operator
        return DeviceFigures(name="cpu", reason=f"{found.reason}, and {allowed}")
    raise ForeignError(f"no GPU can be used: {found.reason}", f"{found.remedy}; {_way_to_cpu(wish)}", code="no_gpu")


def _way_to_cpu(wish: Wish) -> str:
    if wish.required:
        return "the CPU trains where the spec is without resources.require_gpu: true"
    return "--device cpu trains on the CPU" if wish.by == "user" else "resources.require_gpu: false allows the CPU"
