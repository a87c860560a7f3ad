"""Check the machine: packages, GPUs, memory, exporters and confinement."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from retort import __version__, nvml
from retort.cli.doctor.finding import DoctorFinding, failed, ok, warning
from retort.confinement import PARTS, Facts, Policy, confined
from retort.settings import Settings, visible_gpus

_EXTRAS = {
    "train": ("torch", "torchvision", "ultralytics"),
    "api": ("fastapi", "uvicorn", "celery", "sqlalchemy"),
    "worker": ("celery", "sqlalchemy", "optuna"),
}
_DOES = {"train": "train", "api": "serve", "worker": "take jobs from a service"}
_FORMS = {
    "onnx": ("onnx", "onnxruntime", "onnxslim"),
    "openvino": ("openvino", "nncf"),
    "ncnn": ("ncnn", "pnnx"),
    "tensorrt": ("tensorrt",),
}
"""Packages by the format of an export; TorchScript needs none but PyTorch."""
_ASK_TORCH = """
import json, torch
found = {"version": torch.__version__, "cuda": torch.version.cuda, "threads": torch.get_num_threads(), "gpus": 0}
if found["cuda"]:
    try:
        torch.cuda.init()
        found["gpus"] = torch.cuda.device_count()
    except Exception as error:
        found["trouble"] = str(error).partition("\\n")[0]
print(json.dumps(found))
"""
_PATIENCE_S = 120.0
_LITTLE_MEMORY = 4 << 30


def python() -> DoctorFinding:
    """Return which Python and Retort these are."""
    return ok(
        "python", f"{platform.python_version()} on {platform.system()} {platform.machine()}, Retort {__version__}"
    )


def packages() -> list[DoctorFinding]:
    """Return for each part of the installation what it lacks."""
    found = []
    for extra, names in _EXTRAS.items():
        missing = [name for name in names if find_spec(name) is None]
        name = f"packages: {extra}"
        if missing:
            told = f"this install cannot {_DOES[extra]}: {', '.join(missing)} is not installed"
            found.append(warning(name, told, f"pip install 'retort[{extra}]'"))
        else:
            found.append(ok(name, "installed"))
    return found


def torch() -> list[DoctorFinding]:
    """Return how PyTorch, the driver and the GPUs agree; nothing where PyTorch is not installed."""
    if find_spec("torch") is None:
        return []
    told = _torch()
    if "version" not in told:
        fix = "install PyTorch again: pip install --force-reinstall torch torchvision"
        return [failed("torch", f"it does not start: {told.get('trouble')}", fix)]
    build = f"for CUDA {told['cuda']}" if told["cuda"] else "for the CPU"
    return [ok("torch", f"{told['version']}, built {build}, {told['threads']} threads"), *_gpus(told)]


def _torch() -> dict[str, Any]:
    """Ask a process of its own: PyTorch takes seconds to start, and may crash over a driver."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", _ASK_TORCH], check=False, capture_output=True, text=True, timeout=_PATIENCE_S,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return {"trouble": f"no answer within {_PATIENCE_S:.0f} s"}
    try:
        found = json.loads(done.stdout.splitlines()[-1])
    except (ValueError, IndexError):
        lines = done.stderr.strip().splitlines()
        return {"trouble": lines[-1] if lines else f"exit code {done.returncode}"}
    return dict(found)


def _gpus(torch: dict[str, Any]) -> list[DoctorFinding]:
    gpus, driver = nvml.describe(visible_gpus()), nvml.driver()
    if not gpus:
        chosen = visible_gpus()
        none = "the driver shows none" if chosen is None else f"CUDA_VISIBLE_DEVICES is {chosen!r}"
        return [ok("gpu", f"{none}: training is on the CPU")]
    found = [
        ok("gpu", f"{gpu.product or 'GPU'} ({gpu.name}), {_gib(gpu.memory_bytes)}, driver {gpu.driver or 'unknown'}")
        if gpu.refused is None
        else failed(
            "gpu", f"GPU {gpu.name} cannot be used: {gpu.refused}", "mend it as the message says, or --device cpu"
        )
        for gpu in gpus
    ]
    if all(gpu.refused for gpu in gpus) or torch["gpus"]:
        return found
    if torch["cuda"] is None:
        fix = "install PyTorch as it is built for CUDA, in place of the one for the CPU"
        return [*found, failed("cuda", "this PyTorch is built for the CPU, and there is a GPU", fix)]
    knows = f"; the driver {driver[0]} knows CUDA up to {driver[1]}" if driver else ""
    why = torch.get("trouble") or "PyTorch sees no GPU"
    fix = f"update NVIDIA's driver to one for CUDA {torch['cuda']}, or install a PyTorch for an older CUDA"
    return [*found, failed("cuda", f"{why}{knows}", fix)]


def _gib(num_bytes: int | None) -> str:
    return "memory unknown" if num_bytes is None else f"{num_bytes / 2**30:.0f} GiB"


def memory() -> DoctorFinding:
    """Return how much memory this machine has."""
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return ok("memory", "this system does not tell")
    detail = f"{total / 2**30:.0f} GiB, {os.cpu_count()} processors"
    if total < _LITTLE_MEMORY:
        return warning("memory", detail, "training may not fit: smaller images (training.imgsz) and batches")
    return ok("memory", detail)


def exporters() -> list[DoctorFinding]:
    """Return which forms of a student this install makes; nothing where it cannot train."""
    if find_spec("torch") is None:
        return []
    lacking = {
        form: missing
        for form, names in _FORMS.items()
        if (form != "tensorrt" or nvml.driver() is not None)
        and (missing := [name for name in names if find_spec(name) is None])
    }
    made = ", ".join(["torchscript", *(form for form, names in _FORMS.items() if all(map(find_spec, names)))])
    found = [ok("exports", f"this install makes {made}")]
    for form, missing in lacking.items():
        needs = "a CUDA GPU, and pip install tensorrt" if form == "tensorrt" else "pip install 'retort[train]'"
        found.append(warning(f"exports: {form}", f"{', '.join(missing)} is not installed", needs))
    return found


def confinement(settings: Settings) -> DoctorFinding:
    """Return how far this host lets runs be confined."""
    if settings.confinement == "off":
        fix = "unset RETORT_CONFINEMENT where strangers' specs and weights come"
        return warning("confinement", "runs are not confined: RETORT_CONFINEMENT=off", fix)
    facts = _facts(Policy(without=settings.confinement_without))
    if not facts.missing:
        return ok("confinement", facts.sentence)
    judge = failed if settings.confinement == "strict" else warning
    return judge("confinement", facts.sentence, "docs/confinement.md says what each part takes of the host")


def _facts(policy: Policy) -> Facts:
    """Return what is in force on a program that does nothing."""
    ours, theirs = os.pipe()
    try:
        with tempfile.TemporaryDirectory(prefix="retort-") as folder:
            inside = Policy(write=(folder,), tmp=folder, without=policy.without, facts=theirs)
            subprocess.run(
                confined([sys.executable, "-c", ""], inside), cwd=folder, pass_fds=(theirs,), check=False, env={},
                start_new_session=True, timeout=_PATIENCE_S, stdin=subprocess.DEVNULL, capture_output=True,
            )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        pass  # then there are no facts
    finally:
        os.close(theirs)
        with os.fdopen(ours, "rb") as file:
            text = file.read()
    return Facts.decode(text) or Facts("best", (), dict.fromkeys(PARTS, "its starter did not answer"))


def weights(settings: Settings) -> DoctorFinding:
    """Return which weights are in the model folder, and whether others may be fetched."""
    folder = settings.model_dir
    assert folder is not None
    number = len(list(folder.glob("*.pt"))) if folder.is_dir() else 0
    detail = f"{number} files of weights in {_home_relative(folder)}"
    if settings.fetch_weights:
        return ok("weights", f"{detail}; published ones are fetched when a job names them")
    if number:
        return ok("weights", f"{detail}; others are not fetched (RETORT_FETCH_WEIGHTS)")
    fix = f"copy weights into {folder}, unset RETORT_FETCH_WEIGHTS, or start from random weights: weights: null"
    return warning("weights", f"{detail}, and none may be fetched", fix)


def _home_relative(path: Path) -> str:
    try:
        return f"~/{path.relative_to(Path.home())}"
    except (ValueError, RuntimeError):
        return str(path)
