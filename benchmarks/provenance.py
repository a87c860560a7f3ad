"""Where a measurement comes from: the commit, the machine and the versions behind its numbers."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("numpy", "opencv-python", "opencv-python-headless", "torch", "torchvision", "ultralytics")


def provenance(root: Path = ROOT) -> dict[str, Any]:
    """Return what a reader needs to repeat a measurement of the checkout at *root*; names no host and no path."""
    return {
        "commit": _git(root, "rev-parse", "HEAD"),
        "clean": _git(root, "status", "--porcelain", "--untracked-files=no") == "",
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": ["python", *(Path(sys.argv[0]).name, *map(_shown, sys.argv[1:]))],
        "machine": machine(),
        "versions": {"python": platform.python_version(), **_versions()},
    }


def machine() -> dict[str, Any]:
    """Return the processor, the cores this process may use, the memory, the load, and the GPU where one is used."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(pages / 2**30, 1),
        "load_1min": round(os.getloadavg()[0], 2),
        "gpus": _gpus(),
    }


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write *content* to *path*, whole or not at all, its folders included."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    part.write_text(NUMBERS.sub(_one_line, json.dumps(content, indent=2, allow_nan=False)) + "\n")
    part.replace(path)


NUMBERS = re.compile(r"\[\s+((?:[-+.\deE]+|null)(?:,\s+(?:[-+.\deE]+|null))*)\s+\]")
"""A list of numbers, which takes one line."""


def _one_line(found: re.Match[str]) -> str:
    return f"[{' '.join(found[1].split())}]"


def _shown(argument: str) -> str:
    """Leave this machine's folders out of what is committed."""
    name, equals, value = argument.rpartition("=")
    return f"{name}{equals}{Path(value).name}" if Path(value).is_absolute() else argument


def _git(root: Path, *arguments: str) -> str | None:
    command = ["git", "-C", str(root), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):  # an installed copy without its history
        return None


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def _gpus() -> list[str]:
    torch = sys.modules.get("torch")  # a benchmark without torch does not start it for this
    if torch is None or not torch.cuda.is_available():
        return []
    return [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
