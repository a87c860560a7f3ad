"""Start a program confined: ``python -m retort.confinement POLICY COMMAND``."""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Callable, MutableMapping, Sequence
from pathlib import Path

from retort.confinement import PARTS, UNCONFINED, Facts, Policy, kernel, landlock, namespaces, needs_beneath, seccomp
from retort.confinement.system_paths import devices, readable

_NAMESPACES = (("mounts", "processes", "network"), ("mounts", "network"), ("network",), ("mounts",))
"""Sets of namespaces to try, the best first."""
_LOOPBACK = {"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"}
_TMP, _MPS = "/tmp", "/tmp/nvidia-mps"  # noqa: S108 - names, not files of this program
_CANNOT_START = 127
_DEEP = 3
_OF_ROOT = frozenset({0, 1, 3})
"""CAP_CHOWN, CAP_DAC_OVERRIDE and CAP_FOWNER: without them root cannot read what others own."""


class Starter:
    """Confine this process step by step, and note how far it went."""

    def __init__(self, policy: Policy, command: Sequence[str], environment: MutableMapping[str, str]) -> None:
        self._policy = policy
        self._command = command
        self._environment = environment
        self._in_force: list[str] = []
        self._missing: dict[str, str] = dict.fromkeys(policy.without, "left out by RETORT_CONFINEMENT_WITHOUT")
        self._namespaces: list[str] = []

    def start(self) -> int:
        """Become the command, or run it; return only where it did not begin."""
        self._enter_namespaces()
        if "processes" in self._namespaces:
            namespaces.end_as(namespaces.beside(lambda pipe: namespaces.first_process(self._in_own_proc, pipe)))
        return self._become_program()

    def _enter_namespaces(self) -> None:
        for every in _NAMESPACES:
            wanted = [name for name in every if name not in self._policy.without]
            if self._policy.network == "open" and "network" in wanted:
                wanted.remove("network")
            why = namespaces.possible(wanted) if wanted else None
            if why is None:
                break
            for name in wanted:
                self._missing.setdefault(name, why)
        if wanted and why is None:
            self._try(wanted, lambda: self._namespaces.extend(namespaces.enter(wanted)))
        self._in_force += [name for name in self._namespaces if name not in self._in_force]
        for name in self._namespaces:
            self._missing.pop(name, None)
        if "mounts" in self._namespaces:
            self._cover()
        if "network" in self._namespaces:
            self._environment.update(_LOOPBACK)

    def _cover(self) -> None:
        """Show this program's own /tmp, /dev/shm and /run, as far as it needs nothing of the machine's."""
        policy = self._policy
        needed = [*policy.read, *policy.write, *self._command, sys.prefix, sys.base_prefix, *sys.path, str(Path.cwd())]
        tmp, needs_mps = policy.tmp, policy.gpus and Path(_MPS).exists()
        if tmp is not None and not needs_mps and not needs_beneath(_TMP, [*needed, tmp]):
            self._try(["mounts"], lambda: namespaces.cover(Path(tmp), Path(_TMP)))
            self._environment["TMPDIR"] = _TMP
        if not needs_beneath("/run", needed):
            self._try(["mounts"], namespaces.cover_run)
        self._try(["mounts"], namespaces.cover_shared_memory)

    def _in_own_proc(self) -> None:
        self._try(["processes"], namespaces.mount_proc)
        os._exit(self._become_program())

    def _become_program(self) -> int:
        """Give up the rest, tell the facts, and become the program."""
        self._try(["limits"], self._limit)
        self._try(["privileges"], self._give_up_privileges)
        self._try(["files"], self._restrict_files)
        self._try(["calls"], lambda: seccomp.install(internet=self._policy.network != "none"))
        self._judge_network()
        if self._policy.gpus and self._policy.data_bytes is not None:
            self._missing["memory"] = "not limited with a GPU, whose driver maps what it likes"
        in_force = tuple(part for part in (*PARTS, "users") if part in self._in_force and part not in self._missing)
        facts = Facts(self._policy.mode, in_force, self._missing)
        if self._policy.facts is not None:
            os.write(self._policy.facts, facts.encode() + b"\n")
            os.close(self._policy.facts)
        if self._policy.mode == "strict" and facts.missing.keys() - set(self._policy.without):
            sys.stderr.write(f"the program was not started, because RETORT_CONFINEMENT=strict: {facts.sentence}\n")
            return UNCONFINED
        try:
            os.execvpe(self._command[0], list(self._command), dict(self._environment))  # noqa: S606 - no shell is wanted
        except OSError as error:
            sys.stderr.write(f"{self._command[0]} cannot be started: {error}\n")
            return _CANNOT_START

    def _limit(self) -> None:
        """Set the limits, of processes only where this user has none outside that would be counted too."""
        policy = self._policy
        wanted = {
            resource.RLIMIT_CORE: 0,
            resource.RLIMIT_AS: policy.memory_bytes,
            resource.RLIMIT_DATA: None if policy.gpus else policy.data_bytes,
            resource.RLIMIT_CPU: policy.cpu_s,
            resource.RLIMIT_FSIZE: policy.file_bytes,
            resource.RLIMIT_NPROC: policy.num_processes if "users" in self._namespaces else None,
        }
        for which, most in wanted.items():
            hard = resource.getrlimit(which)[1]
            if most is not None:
                lower = most if hard == resource.RLIM_INFINITY else min(most, hard)
                resource.setrlimit(which, (lower, lower))

    def _give_up_privileges(self) -> None:
        kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
        as_root = os.getuid() == 0 and "users" not in self._namespaces
        kernel.keep_capabilities(_OF_ROOT if as_root else frozenset())

    def _restrict_files(self) -> None:
        policy = self._policy
        landlock.restrict(
            read=[*readable(self._environment), *_folders_of(self._command), *map(Path, policy.read)],
            write=[Path("/dev/shm"), *map(Path, policy.write), *([Path(policy.tmp)] if policy.tmp else [])],  # noqa: S108 - it is this program's own
            devices=devices(gpus=policy.gpus),
            scoped=policy.network != "open",
        )

    def _judge_network(self) -> None:
        """Say how it stands with the network: without a namespace, the filter of calls can do as much."""
        if self._policy.network == "none" and "calls" in self._in_force and "network" not in self._policy.without:
            self._missing.pop("network", None)
            self._in_force.append("network")
        if self._policy.network == "open":
            self._missing.pop("network", None)

    def _try(self, parts: Sequence[str], work: Callable[[], None]) -> None:
        """Do *work*, and note that *parts* are in force, or why not."""
        if set(parts) & set(self._policy.without):
            return
        try:
            work()
        except OSError as error:
            self._missing.update(dict.fromkeys(parts, os.strerror(error.errno) if error.errno else str(error)))
        else:
            self._in_force += parts


def _folders_of(command: Sequence[str]) -> list[Path]:
    """Return what the command names: its files, and the folders that its scripts import from."""
    named = [Path(word) for word in command if word.startswith("/") and Path(word).exists()]
    scripts = [path for path in named if path.suffix == ".py"]
    beside = [path.parents[1] for path in scripts if len(path.parents) > _DEEP]  # never one of the system's
    return [*named, *(path.parent for path in scripts), *beside]


if __name__ == "__main__":
    sys.exit(Starter(Policy.decode(sys.argv[1]), sys.argv[2:], dict(os.environ)).start())
