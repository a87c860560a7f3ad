"""Keep the last states of student and control, to add epochs in another job."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from retort.constants import Role
from retort.files import atomic_write
from retort.protocol.workdir import LAST
from retort.spec import AnySpec, JobSpec
from retort.spec.arms import SOURCES

if TYPE_CHECKING:
    from retort.training.config import TrainConfig

_ROLES = (Role.STUDENT, Role.CONTROL)


def extendable(spec: AnySpec) -> bool:
    """Return True for a job whose last states are kept.

    It trains student and control alone, and nothing but epochs bounds them. Arms that tell what further images brought
    do not count: an extension is made without them.
    """
    if not isinstance(spec, JobSpec) or set(spec.arms) - set(SOURCES):
        return False
    return spec.training.seeds == 1 and spec.training.time is None


def keep(workdir: Path, plan: TrainConfig) -> None:
    """Keep the last state of an ended training, in place of an earlier one."""
    from retort.training import checkpoint

    found = checkpoint.last_state(plan.folder, plan.epochs)
    folder = workdir / LAST / plan.role
    shutil.rmtree(folder, ignore_errors=True)
    for path in found:
        atomic_write(folder / path.relative_to(plan.folder), path.read_bytes())


def keep_same(workdir: Path) -> None:
    """Keep the student's last state as its control's, which the same training has left."""
    source, target = workdir / LAST / Role.STUDENT, workdir / LAST / Role.CONTROL
    if source.is_dir():
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(source, target)


def kept(workdir: Path) -> list[str]:
    """Return the kept files, relative to *workdir*."""
    found = (path for path in sorted((workdir / LAST).rglob("*")) if path.is_file())
    return [path.relative_to(workdir).as_posix() for path in found]


def all_kept(spec: JobSpec, workdir: Path) -> bool:
    """Return True if the last states of student and control are kept."""
    wanted = _ROLES if spec.control else _ROLES[:1]
    return all(any((workdir / LAST / role).rglob(f"{spec.training.epochs:05d}.state")) for role in wanted)


def lay_out(workdir: Path, plan: TrainConfig) -> None:
    """Put the state that *plan* extends into its folder.

    An earlier attempt may have done so.
    """
    if not plan.extended or any(plan.folder.rglob("*.state")):
        return
    folder = workdir / LAST / plan.role
    files = [path for path in folder.rglob("*") if path.is_file()]
    for path in sorted(files, key=lambda one: one.suffix == ".state"):  # the state last: it names the others
        atomic_write(plan.folder / path.relative_to(folder), path.read_bytes())
