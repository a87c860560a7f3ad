"""Find how far this worker's runs can be confined, GPUs included."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import structlog
from retort.confinement import PARTS, Facts, Part, Policy, confined
from retort.errors import UserError
from retort.settings import Settings

from retort_worker import gpu_check

_log = structlog.get_logger()
_PATIENCE_S = 60.0
_LEAVE_OUT: tuple[tuple[Part, ...], ...] = (
    (),
    ("processes",),
    ("processes", "mounts", "network"),
    ("processes", "mounts", "network", "files"),
    PARTS,
)
"""Parts left out where a GPU cannot be used inside, step by step."""

AskGpu = Callable[[str, Policy], str | None]


@dataclass(frozen=True, slots=True)
class HostConfinement:
    """Confinement of a worker's runs: parts left out, and the facts."""

    without: tuple[Part, ...] = ()
    facts: Facts = field(default_factory=lambda: Facts("off"))


def find(settings: Settings, gpus: Sequence[str] = (), *, ask: AskGpu | None = None) -> HostConfinement:
    """Return the confinement that this host allows, and log it.

    The first of *gpus* is tried inside, as a run would use it: where it cannot be used there, parts are left out.

    Raises:
        UserError: the operator demands all of it, and it cannot be had.

    """
    if settings.confinement == "off":
        _log.warning("runs are not confined: RETORT_CONFINEMENT=off")
        return HostConfinement()
    left_out = _for_gpu(settings, gpus, ask or _ask) if gpus else ()
    without = tuple(dict.fromkeys((*settings.confinement_without, *left_out)))
    facts = _told(Policy(without=without))
    lacking = facts.missing.keys() - set(settings.confinement_without)
    if settings.confinement == "strict" and lacking:
        raise UserError(
            f"runs cannot be confined as RETORT_CONFINEMENT=strict demands: {facts.sentence}",
            hint="docs/confinement.md says what each part needs; best takes what the host allows",
            code="unconfined",
        )
    (_log.warning if facts.missing else _log.info)("runs are " + facts.sentence)
    return HostConfinement(without, facts)


def _for_gpu(settings: Settings, gpus: Sequence[str], ask: AskGpu) -> tuple[Part, ...]:
    """Return the fewest parts to leave out for PyTorch to use the first GPU."""
    for left_out in _LEAVE_OUT:
        why = ask(gpus[0], Policy(gpus=True, without=(*settings.confinement_without, *left_out)))
        if why is None:
            return left_out
        _log.warning("GPU cannot be used inside of the confinement", gpu=gpus[0], reason=why, without=list(left_out))
    return ()  # nor can it outside: the confinement is not to blame


def _ask(gpu: str, policy: Policy) -> str | None:
    with tempfile.TemporaryDirectory(prefix="retort-") as folder:
        inside = Policy(gpus=policy.gpus, without=policy.without, write=(folder,), tmp=folder)
        own = {"HOME": folder, "TMPDIR": folder}
        return gpu_check.unusable([gpu], command=confined(gpu_check.CHECK, inside), own=own).get(gpu)


def _told(policy: Policy) -> Facts:
    """Return what the starter tells of a program that does nothing."""
    ours, theirs = os.pipe()
    try:
        with tempfile.TemporaryDirectory(prefix="retort-") as folder:
            inside = Policy(write=(folder,), tmp=folder, without=policy.without, facts=theirs)
            subprocess.run(
                confined([sys.executable, "-c", ""], inside), cwd=folder, pass_fds=(theirs,), check=False,
                env={}, start_new_session=True, timeout=_PATIENCE_S,
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        _log.warning("how far runs can be confined could not be asked", error=str(error))
    finally:
        os.close(theirs)
        with os.fdopen(ours, "rb") as file:
            text = file.read()
    return Facts.decode(text) or Facts("best", (), dict.fromkeys(PARTS, "its starter did not answer"))
