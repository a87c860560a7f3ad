"""What INT8 loses: calibrated alone, trained on by labels, and trained on under the float student.

    python benchmarks/qat.py --student cells=student.pt --data cells=DIR --imgsz 160 --seeds 2 --json FILE

A student is a published network, which has one data set. Every file is measured as it runs, on the validation images in
squares: by mAP50-95, and by how far its scores and boxes are from the float student's, where that sees something.
Finished measurements are kept in the JSON file and are not made again: stop it and start it as often as you like.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from retort.training import environment

environment.prepare(Path.home() / ".cache" / "retort-benchmarks")

import torch  # noqa: E402
from provenance import provenance, write_json  # noqa: E402
from retort.data import datasets  # noqa: E402
from retort.training import models  # noqa: E402
from retort.training.evaluate import Conditions, RuntimeAsModule, accuracy  # noqa: E402
from retort.training.export import openvino  # noqa: E402
from retort.training.export.calibration import choose  # noqa: E402
from retort.training.export.folding import folded  # noqa: E402
from retort.training.export.form import Form, metadata  # noqa: E402
from retort.training.export.onnx import export_onnx  # noqa: E402
from retort.training.export.qat import QATConfig, train_aware  # noqa: E402
from retort.training.export.quantization import CalibratedGraph, difference  # noqa: E402
from retort.training.inference import Runtime, load_folded, load_onnx, prepare, wrap_network  # noqa: E402


class Subject:
    """One student, its data and what is made of it."""

    def __init__(self, name: str, weights: Path, data: Path, options: argparse.Namespace) -> None:
        self.name, self.weights, self.options = name, weights.resolve(), options
        self.folder = options.work / name
        shutil.rmtree(self.folder, ignore_errors=True)
        dataset = datasets.locate(str(data.resolve()), [Path("/")])
        self.data_yaml = datasets.overlay(dataset, self.folder / "data")
        self.network = models.load(self.weights)
        self.key = [hashlib.sha256(self.weights.read_bytes()).hexdigest(), dataset.digest, options.imgsz, options.batch]
        self.form = Form((options.imgsz, options.imgsz))
        self.judged = Conditions(
            self.data_yaml, imgsz=options.imgsz, device=options.device, square=True, loader_workers=0
        )

    def map(self, runtime: Runtime) -> float:
        """Return the mAP50-95 of what runs."""
        return accuracy(RuntimeAsModule(runtime, self.network.names), self.judged).map

    def figures(self, runtime: Runtime) -> dict[str, Any]:
        """Measure what runs."""
        images = sorted((self.data_yaml.parent / "images" / "val").iterdir())
        seen = torch.cat([prepare(image, self.options.imgsz)[0] for image in images])
        expected = wrap_network(load_folded(self.weights)).run_all(seen)
        error = difference(expected, runtime.run_all(seen), imgsz=self.options.imgsz)
        return {"map": self.map(runtime), "error": round(error, 6)}

    def float(self) -> dict[str, Any]:
        """Measure the student in PyTorch."""
        return self.figures(wrap_network(load_folded(self.weights)))

    def ranged(self) -> CalibratedGraph:
        """Return its float graph with ranges over training images."""
        path = self.folder / "float.onnx"
        export_onnx(self.weights, path, self.options.imgsz)
        images = choose(self.data_yaml.parent, list(self.network.names.values()), number=300, seed=0)
        return CalibratedGraph(path, images, self.form)

    def onnx(self) -> dict[str, Any]:
        """Calibrate alone, for onnxruntime."""
        path = self.folder / "calibrated.onnx"
        self.ranged().write(path)
        return self.figures(load_onnx(path))

    def symmetric(self) -> dict[str, Any]:
        """Calibrate alone with symmetric ranges, as TensorRT insists and as training simulates."""
        path = self.folder / "symmetric.onnx"
        self.ranged().write(path, symmetric=True)
        return self.figures(load_onnx(path))

    def openvino(self) -> dict[str, Any]:
        """Calibrate alone by NNCF, for OpenVINO."""
        path = self.folder / "openvino"
        openvino.quantize_openvino(self.ranged(), path, kept=(), metadata=metadata(self.network, self.form))
        return self.figures(openvino.load(path))

    def trained(self, teacher: Path | None, seed: int) -> dict[str, Any]:
        """Train on with simulated INT8."""
        given, began = self.options, time.monotonic()
        config = QATConfig(
            data_yaml=self.data_yaml, imgsz=given.imgsz, batch=given.batch, epochs=given.epochs, device=given.device,
            seed=seed, on_batch=lambda: None, judge=self.map, teacher=teacher,
        )  # fmt: skip
        found = train_aware(self.weights, config, self.folder / "training")
        path = self.folder / "trained.onnx"
        path.write_bytes(folded(found.graph.read_bytes()))
        return {
            **self.figures(load_onnx(path)),
            "maps": list(found.maps),
            "best_epoch": found.best_epoch,
            "integer_share": found.integer_share,
            "size_bytes": path.stat().st_size,
            "seconds": round(time.monotonic() - began, 1),
        }

    def arms(self) -> dict[str, tuple[list[Any], Callable[[], dict[str, Any]]]]:
        """Return what is measured: the facts that decide it, and how."""
        given = self.options
        found: dict[str, tuple[list[Any], Callable[[], dict[str, Any]]]] = {
            name: ([name], getattr(self, name)) for name in ("float", "onnx", "symmetric")
        }
        teachers = {"labels alone": None, "float student": self.weights}
        for seed in range(given.seeds):
            for name, teacher in teachers.items():
                facts = [name, seed, given.epochs]
                found[f"{name}, seed {seed}"] = facts, lambda t=teacher, s=seed: self.trained(t, s)  # type: ignore[misc]
        return {**found, "openvino": (["openvino"], self.openvino)}


def main() -> None:
    """Measure what is missing; write and print after every measurement."""
    options = parse()
    known: dict[str, Any] = json.loads(options.json.read_text())["runs"] if options.json.exists() else {}
    for name, weights in options.student.items():
        subject = Subject(name, weights, options.data[name], options)
        for arm, (facts, measure) in subject.arms().items():
            key = hashlib.sha256(json.dumps([*subject.key, *facts]).encode()).hexdigest()[:16]
            if key not in known:
                told = {"student": name, "arm": arm, "imgsz": options.imgsz, "epochs": options.epochs}
                known[key] = {**told, **measure()}
                write_json(options.json, {"runs": known, **provenance()})
            print(f"{name}, {arm}: {known[key]['map']:.4f}, {known[key]['error']:.4f} from float", flush=True)


def pairs(text: str) -> tuple[str, Path]:
    """Read ``name=path``."""
    name, _, path = text.partition("=")
    return name, Path(path)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--student", type=pairs, action="append", required=True, help="NAME=FILE, as often as you like")
    parser.add_argument("--data", type=pairs, action="append", required=True, help="NAME=DIR, of each student")
    parser.add_argument("--imgsz", type=int, default=160)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--work", type=Path, default=Path("runs/qat"))
    parser.add_argument("--json", type=Path, required=True)
    options = parser.parse_args()
    options.student, options.data, options.work = dict(options.student), dict(options.data), options.work.resolve()
    return options


if __name__ == "__main__":
    main()
