"""Confine a child process as far as the host allows.

The child is started by a program of its own, ``python -m retort.confinement``, because what it gives up can only be
given up by a process with a single thread. Nothing here needs more than Python's own library.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

from retort.confinement import kernel

Mode = Literal["best", "strict", "off"]
"""``best``: what the host allows; ``strict``: all of it, or the program is not started; ``off``: nothing."""
Part = Literal["privileges", "limits", "files", "calls", "mounts", "processes", "network"]
PARTS: tuple[Part, ...] = ("privileges", "limits", "files", "calls", "mounts", "processes", "network")
"""What a confinement is made of; docs/confinement.md says what each part does."""
Network = Literal["none", "loopback", "open"]

UNCONFINED = 78
"""Exit code of a program that was not started because *strict* could not be had (EX_CONFIG of sysexits.h)."""


@dataclass(frozen=True, slots=True)
class Policy:
    """Rights and limits of a confined program."""

    read: tuple[str, ...] = ()
    """Files and folders that it may read, besides Python and the system's libraries."""
    write: tuple[str, ...] = ()
    """Files and folders that it may change as well."""
    tmp: str | None = None
    """Folder of its temporary files; it takes the place of /tmp where the host allows that."""
    network: Network = "none"
    """``none``: no sockets of the internet's kind; ``loopback``: within this program and its children."""
    gpus: bool = False
    """Whether it may open the devices of GPUs and of networks between them."""
    memory_bytes: int | None = None
    """Most address space of each process; never with GPUs, whose driver reserves far more than it uses."""
    data_bytes: int | None = None
    """Most memory of its own that each process may ask for; not limited with GPUs, which is told."""
    cpu_s: int | None = None
    """Most seconds on a core of each process."""
    file_bytes: int | None = None
    """Largest file that it may write."""
    num_processes: int | None = None
    """Most processes and threads of its user."""
    mode: Mode = "best"
    without: tuple[Part, ...] = ()
    """Parts to leave out."""
    facts: int | None = None
    """Descriptor of an open pipe to which the facts are written before the program begins."""

    def encode(self) -> str:
        """Return the policy as an argument of the starter."""
        return json.dumps(asdict(self))

    @classmethod
    def decode(cls, text: str) -> Self:
        """Read what ``encode`` wrote."""
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in json.loads(text).items()
        }
        return cls(**values)


@dataclass(frozen=True, slots=True)
class Facts:
    """Parts of a confinement in force, and missing ones with reasons."""

    mode: Mode
    in_force: tuple[str, ...] = ()
    missing: dict[str, str] = field(default_factory=dict)
    """Parts that could not be had or were left out, with the reasons."""

    @property
    def sentence(self) -> str:
        """The facts for people."""
        if self.mode == "off":
            return "not confined: RETORT_CONFINEMENT=off"
        lacking = "; ".join(f"{part}: {why}" for part, why in self.missing.items())
        return f"confined in {', '.join(self.in_force) or 'nothing'}" + (f"; not in {lacking}" if lacking else "")

    def encode(self) -> bytes:
        """Return the facts as JSON."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def decode(cls, text: bytes) -> Self | None:
        """Read what ``encode`` wrote; None where it is not that."""
        try:
            given = json.loads(text)
            return cls(given["mode"], tuple(given["in_force"]), dict(given["missing"]))
        except (ValueError, KeyError, TypeError):
            return None


def confined(command: Sequence[str], policy: Policy) -> list[str]:
    """Return the command that runs *command* under *policy*.

    Start it with ``start_new_session=True`` and a scrubbed environment; hand on ``policy.facts`` with ``pass_fds``. Its
    exit code and the signals sent to it are those of *command*; with *strict*, ``UNCONFINED`` may come instead.
    """
    if policy.mode == "off":
        return list(command)
    return [sys.executable, "-I", "-m", "retort.confinement", policy.encode(), *command]


def hide_environment() -> None:
    """Hide this process's environment and memory in /proc from the user's others."""
    try:
        kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
    except OSError:
        return  # no Linux: there is no /proc


def needs_beneath(folder: str, paths: Sequence[str]) -> bool:
    """Return True where one of *paths* lies in *folder*."""
    top = os.path.realpath(folder)
    return any(Path(os.path.realpath(path)).is_relative_to(top) for path in paths)
