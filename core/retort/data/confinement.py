"""Name the files that a run needs, and confine it to them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from retort.confinement import Part, Policy
from retort.data.inputs import Inputs
from retort.settings import Settings

_LINKED = ("data", "converted")
"""Folders of the working folder in which links lead to images elsewhere."""
_LARGEST_FILE = 256 << 30
_FEWEST_PROCESSES, _PROCESSES_PER_CORE = 4096, 512
"""Processes and threads: loaders, ranks and their libraries start some hundreds of them for each GPU."""


def run_policy(workdir: Path, settings: Settings, *, gpus: int, ranks: int, without: tuple[Part, ...] = ()) -> Policy:
    """Return the policy of the run in *workdir*.

    It trains on *gpus* GPUs, or on the CPU, by *ranks* processes. *without* are parts that this host cannot do.

    Raises:
        TransientError: its inputs are not there, or not complete.

    """
    inputs = Inputs.load(workdir)
    roots = _roots(inputs)
    return Policy(
        read=tuple(sorted({*roots, *_elsewhere(workdir, roots)})),
        write=() if inputs.teacher_caches is None else (str(inputs.teacher_caches),),
        network="loopback" if ranks > 1 else "none",
        gpus=gpus > 0,
        data_bytes=settings.run_memory_bytes,
        file_bytes=_LARGEST_FILE,
        num_processes=max(_FEWEST_PROCESSES, _PROCESSES_PER_CORE * (os.cpu_count() or 1)),
        mode=settings.confinement,
        without=tuple(dict.fromkeys((*settings.confinement_without, *without))),
    )


def _roots(inputs: Inputs) -> set[str]:
    """Return the files and folders that the inputs name."""
    found = [*inputs.weights.values(), *inputs.definitions.values(), Path(inputs.dataset.root)]
    found += [Path(one.root) for one in (inputs.unlabelled, inputs.to_label, *inputs.calibration.values()) if one]
    return {str(path) for path in found}


def _elsewhere(workdir: Path, roots: set[str]) -> Iterator[str]:
    """Yield the real folders outside of *roots* that links lead to."""
    seen: set[str] = set()
    for name in _LINKED:
        for folder, _, files in os.walk(workdir / name):
            for file in files:
                link = os.path.join(folder, file)  # noqa: PTH118 - there may be millions
                if not os.path.islink(link):  # noqa: PTH114
                    continue
                target = os.readlink(link)  # noqa: PTH115
                if os.path.islink(target):  # noqa: PTH114
                    target = os.path.realpath(target)
                seen.add(os.path.dirname(target))  # noqa: PTH120
    inside = [Path(root).resolve() for root in roots]
    for one in seen:
        real = Path(one).resolve()
        if not any(real.is_relative_to(root) for root in inside):
            yield str(real)
