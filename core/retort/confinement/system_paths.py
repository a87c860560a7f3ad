"""Name the files of the system that a training process reads."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Mapping
from pathlib import Path

_READ = (
    "/usr", "/lib", "/lib32", "/lib64", "/libx32", "/bin", "/sbin", "/nix/store", "/gnu/store", "/opt/nvidia",
    "/opt/cuda*", "/etc/ld.so.*", "/etc/alternatives", "/etc/localtime", "/etc/timezone", "/etc/passwd", "/etc/group",
    "/etc/nsswitch.conf", "/etc/hosts", "/etc/host.conf", "/etc/resolv.conf", "/etc/hostname", "/etc/gai.conf",
    "/etc/protocols", "/etc/services", "/etc/ssl", "/etc/pki", "/etc/ca-certificates", "/etc/fonts", "/etc/mime.types",
    "/etc/os-release", "/etc/OpenCL", "/etc/vulkan", "/etc/nvidia*", "/etc/nccl.conf", "/etc/libibverbs.d",
    "/etc/magic", "/etc/locale*", "/etc/machine-id", "/proc", "/sys/devices", "/sys/bus", "/sys/class", "/sys/module",
    "/sys/dev", "/sys/fs/cgroup", "/sys/kernel/mm", "/var/cache/fontconfig", "/var/lib/dbus/machine-id",
    "/run/nvidia*", "/var/run/nvidia*",
)  # fmt: skip
_DEVICES = (
    "/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty", "/dev/ptmx", "/dev/pts",
)  # fmt: skip
_GPU_DEVICES = (
    "/dev/nvidia*", "/dev/nvidia-caps", "/dev/nvidia-caps-imex-channels", "/dev/dri", "/dev/dxg", "/dev/infiniband",
    "/dev/gdrdrv", "/dev/char",
)  # fmt: skip
_LIBRARIES = ("LD_LIBRARY_PATH", "CUDA_HOME", "CUDA_PATH", "CUDA_ROOT", "NVIDIA_DRIVER_ROOT")
_COMPILERS = ("CC", "CXX")


def readable(environment: Mapping[str, str]) -> list[Path]:
    """Return what Python, its packages and the system's libraries are read from."""
    python = [sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix, *sys.path]
    named = [folder for name in _LIBRARIES for folder in environment.get(name, "").split(os.pathsep)]
    compilers = [
        str(Path(environment[name]).parent) for name in _COMPILERS if environment.get(name, "").startswith("/")
    ]
    found = [Path(path) for pattern in _READ for path in glob.glob(pattern)]  # noqa: PTH207 - absolute patterns
    return [*found, *(Path(path) for path in (*python, *named, *compilers) if path.startswith("/") and path != "/")]


def devices(*, gpus: bool) -> list[Path]:
    """Return the devices that every program opens, and those of *gpus*."""
    patterns = (*_DEVICES, *(_GPU_DEVICES if gpus else ()))
    return [Path(path) for pattern in patterns for path in glob.glob(pattern)]  # noqa: PTH207 - absolute patterns
