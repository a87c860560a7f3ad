"""NCNN: a traced network converted by pnnx."""

from __future__ import annotations

import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml

from retort import files
from retort.errors import RetortError
from retort.training.export.onnx import metadata
from retort.training.export.torchscript import saved, traced

_LONGEST_S = 600.0


def export_ncnn(weights: Path, folder: Path, *, imgsz: int, half: bool) -> None:
    """Write published *weights* as an NCNN model in *folder*; *half* stores its weights in 16 bits.

    Raises:
        RetortError: pnnx did not write it.

    """
    import pnnx

    network, trace = traced(weights, imgsz=imgsz)
    with TemporaryDirectory() as scratch:
        place = Path(scratch)
        (place / "model.pt").write_bytes(saved(trace))
        command = [pnnx.EXEC_PATH, "model.pt", f"inputshape=[1,3,{imgsz},{imgsz}]", f"fp16={int(half)}"]
        done = subprocess.run(command, cwd=place, capture_output=True, check=False, timeout=_LONGEST_S)
        made = [place / f"model.ncnn.{kind}" for kind in ("param", "bin")]
        if done.returncode or not all(file.is_file() for file in made):
            last = (done.stderr or done.stdout).decode(errors="replace").strip().splitlines()[-1:]
            raise RetortError(f"pnnx could not convert the network: {' '.join(last) or done.returncode}")
        folder.mkdir(parents=True, exist_ok=True)
        for file in made:
            files.atomic_write(folder / file.name, file.read_bytes())
    (folder / "metadata.yaml").write_text(yaml.safe_dump(metadata(network, imgsz=imgsz), sort_keys=False))
