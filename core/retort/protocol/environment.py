"""Choose the environment variables of a run, for worker and command line."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path

from retort.nvml import IN_ORDER

_ALLOWED = frozenset({"PATH", "LANG", "TZ", "LD_LIBRARY_PATH", "OMP_NUM_THREADS", "GOMP_SPINCOUNT", "CC", "CXX"})
_ALLOWED_PREFIXES = (
    "LC_", "CUDA_", "CUBLAS_", "CUDNN_", "NVIDIA_", "NCCL_", "GLOO_", "PYTORCH_", "TORCH_", "TORCHINDUCTOR_", "TRITON_",
)  # fmt: skip
"""Of languages, the GPU, its libraries and PyTorch: what hosts, containers and drivers need to be told."""
_SECRET = re.compile("KEY|TOKEN|SECRET|PASSW|CREDENTIAL", re.IGNORECASE)
"""Of names that are none of a run's business, whatever they begin with: NVIDIA_API_KEY."""
_LONGEST_TMP = 70
"""Bytes; Python's own Unix sockets add 31 to the temporary folder, and the kernel takes 107 in all."""


def allowed(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of *environment* that a run may see.

    A run opens files of strangers: keys, tokens and addresses are none of its business.
    """
    return {name: value for name, value in environment.items() if _is_allowed(name)}


def _is_allowed(name: str) -> bool:
    return name in _ALLOWED or (name.startswith(_ALLOWED_PREFIXES) and not _SECRET.search(name))


def run_environment(
    environment: Mapping[str, str], workdir: Path, *, compiled: Path | None = None
) -> tuple[dict[str, str], Path | None]:
    """Return a run's environment, and a folder to remove after it.

    Its home is its working folder, and temporary files go there too, unless that path is too long for sockets. What is
    compiled for the machine is kept in the folder *compiled*, where the next run finds it.
    """
    tmp = workdir / "tmp"
    tmp.mkdir(exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix="retort-")) if len(os.fsencode(tmp)) > _LONGEST_TMP else None
    kept_home = {name: str(workdir / folder) for name, folder in _HOME.items()}
    own = {**kept_home, "HOME": str(workdir), "TMPDIR": str(scratch or tmp), "PYTHONUNBUFFERED": "1"}
    kept = {} if compiled is None else _caches(compiled)
    return {**kept, **allowed(environment), **IN_ORDER, **own}, scratch


_HOME = {
    "XDG_CACHE_HOME": ".cache", "XDG_CONFIG_HOME": ".config", "XDG_DATA_HOME": ".local/share",
    "TORCH_HOME": ".cache/torch", "MPLCONFIGDIR": ".config/matplotlib", "YOLO_CONFIG_DIR": "work/ultralytics",
}  # fmt: skip
"""Where libraries keep settings and downloads, in the working folder."""
_CACHES = {"TORCHINDUCTOR_CACHE_DIR": "inductor", "CUDA_CACHE_PATH": "cuda", "PYTORCH_KERNEL_CACHE_PATH": "kernels"}
"""By default below the home or the temporary folder, both of which are the run's: each would compile everything again.
Triton keeps its kernels below Inductor's."""


def _caches(folder: Path) -> dict[str, str]:
    """Return the variables that name the compilers' caches; none where there is no folder to write."""
    try:
        for name in _CACHES.values():
            (folder / name).mkdir(parents=True, exist_ok=True)
    except OSError:
        return {}
    return {variable: str(folder / name) for variable, name in _CACHES.items()}


def caches_of(environment: Mapping[str, str]) -> list[str]:
    """Return the folders of the compilers' caches that *environment* names."""
    return [environment[name] for name in (*_CACHES, "TRITON_CACHE_DIR", "TRITON_HOME") if name in environment]
