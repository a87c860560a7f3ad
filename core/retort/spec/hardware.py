"""Define the result's figures of device and optimisations."""

from __future__ import annotations

from pydantic import Field

from retort.schema import StoredModel, absent


class DeviceFigures(StoredModel):
    """The device of a run, and why it is that one."""

    name: str
    """``cpu``, or the GPU's product name."""
    reason: str
    """Who has named it, or why the CPU stands in for a GPU."""
    number: int | None = Field(default=None, exclude_if=absent)
    """Of the GPU among those that the run sees; absent on a CPU, as is all that follows."""
    uuid: str | None = Field(default=None, exclude_if=absent)
    """By which ``nvidia-smi -L`` knows it: a worker's runs each see their GPU as number 0."""
    capability: str | None = Field(default=None, exclude_if=absent)
    """The GPU's compute capability, such as 9.0."""
    memory_bytes: int | None = Field(default=None, exclude_if=absent)
    """The GPU's memory."""
    free_bytes: int | None = Field(default=None, exclude_if=absent)
    """What was free of it when the run began."""
    driver: str | None = Field(default=None, exclude_if=absent)
    """Version of NVIDIA's driver."""
    cuda: str | None = Field(default=None, exclude_if=absent)
    """Version of CUDA that PyTorch is built for."""

    @property
    def sentence(self) -> str:
        """The device in one line for people."""
        if self.number is None:
            return f"this run is on the CPU: {self.reason}"
        facts = [self.name, *([f"uuid {self.uuid}"] if self.uuid else [])]
        if self.capability is not None:
            facts.append(f"compute capability {self.capability}")
        if self.memory_bytes is not None and self.free_bytes is not None:
            facts.append(f"{self.free_bytes / 2**30:.1f} of {self.memory_bytes / 2**30:.1f} GiB free")
        facts += [f"driver {self.driver}"] if self.driver else []
        facts += [f"PyTorch for CUDA {self.cuda}"] if self.cuda else []
        return f"this run is on GPU {self.number} ({', '.join(facts)}): {self.reason}"


class Optimisation(StoredModel):
    """One optimisation of a training, and how far it works.

    None of them changes a result.
    """

    name: str
    """``teacher recorded``, ``student compiled`` or ``half precision``; with several teachers each has its number."""
    outcome: str
    """``yes``, ``no``, how many layers of how many, or the kind of number."""
    whole: bool
    """Whether all of it was done that was asked for."""
    reason: str | None = Field(default=None, exclude_if=absent)
    """Why not, where that is known."""

    @property
    def sentence(self) -> str:
        """The fact in one line for people."""
        return f"{self.name}: {self.outcome}" + (f" ({self.reason})" if self.reason else "")
