"""Training images per second and core: upstream's loader and ours, side by side on the same data.

    python benchmarks/loader.py --data DIR --json FILE

One process, one thread, and that process's own processor time, so that what else runs on the machine counts less. The
loaders take turns in every repeat, so that a machine that slows down slows all of them. "Ours for a GPU" leaves the
change of colours to the device, as it does wherever a GPU trains; "ours" does all itself, as for a CPU.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from copy import copy
from pathlib import Path
from typing import Any

import yaml
from provenance import provenance, write_json
from retort.training import environment

Batches = Iterator[dict[str, Any]]
HEADLINE = "ours for a GPU, mosaic, both with a RAM cache"


def main() -> None:
    """Measure, print and write down."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a YOLO-layout folder or its data.yaml; drawn digits when left out")
    parser.add_argument("--imgsz", type=int, default=640)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=4.0, help="of processor time for each measurement")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the result here")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="retort-loader-") as scratch:
        environment.prepare(Path(scratch) / "config")
        data = _dataset(arguments.data, Path(scratch), arguments.imgsz)
        rates = measure(data, imgsz=arguments.imgsz, batch=arguments.batch, seconds=arguments.seconds,
                        repeats=arguments.repeats)  # fmt: skip
    result = {**summarise(rates), "images": data["images"], "imgsz": arguments.imgsz, "batch": arguments.batch,
              "seconds": arguments.seconds, "repeats": arguments.repeats, **provenance()}  # fmt: skip
    for name, found in result["images_per_s_per_core"].items():
        print(f"{name:44} {found['median']:7.1f} images/s  ({found['min']:.1f} to {found['max']:.1f})")
    for name, ratio in result["ratios"].items():
        print(f"{name:78} {ratio:5.2f}")
    if arguments.json:
        write_json(arguments.json, result)


def measure(data: dict[str, Any], *, imgsz: int, batch: int, seconds: float, repeats: int) -> dict[str, list[float]]:
    """Return images per second of each loader, one value per repeat."""
    import cv2
    import torch

    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    sources = _sources(data, imgsz, batch)
    rates: dict[str, list[float]] = {name: [] for name in sources}
    for batches in sources.values():
        for _ in range(4):  # caches and buffers fill
            next(batches)
    for _ in range(repeats):
        for name, batches in sources.items():
            rates[name].append(_rate(batches, seconds))
    return rates


def summarise(rates: dict[str, list[float]]) -> dict[str, Any]:
    """Return medians, spread, and the ratios of loaders that do the same under the same conditions."""
    rounded = {
        name: {"median": round(statistics.median(values), 1), "min": round(min(values), 1),
               "max": round(max(values), 1), "all": [round(value, 1) for value in values]}
        for name, values in rates.items()
    }  # fmt: skip
    ratios = {
        f"{who}, {phase}, {label}": _ratio(rates[f"{who}, {phase}, {ours}"], rates[f"upstream, {phase}, {theirs}"])
        for who in ("ours for a GPU", "ours")
        for phase in ("mosaic", "no mosaic")
        for label, ours, theirs in (
            ("both without a RAM cache", "no cache", "no cache"),
            ("both with a RAM cache", "RAM cache", "RAM cache"),
            ("ours with, upstream without (each by default)", "RAM cache", "no cache"),
        )
    }
    return {"ours_over_upstream": ratios[HEADLINE], "compares": HEADLINE,
            "time": "processor seconds of one thread", "ratios": ratios,
            "images_per_s_per_core": rounded}  # fmt: skip


def _ratio(ours: list[float], theirs: list[float]) -> float:
    return round(statistics.median(a / b for a, b in zip(ours, theirs, strict=True)), 3)


def _rate(batches: Batches, seconds: float) -> float:
    images, start = 0, time.process_time()
    while (spent := time.process_time() - start) < seconds:
        images += len(next(batches)["img"])
    return images / spent


def _sources(data: dict[str, Any], imgsz: int, batch: int) -> dict[str, Batches]:
    """Return endless batches of each loader under each condition."""
    from retort.training.data.loader import training_loader, training_set
    from retort.training.ultralytics_api import YOLODataset
    from ultralytics.cfg import get_cfg
    from ultralytics.data.build import build_dataloader

    hyp = get_cfg(overrides={"imgsz": imgsz, "deterministic": False})

    def ours(cache: str, *, later: bool = False) -> Any:
        room = 0 if cache == "no cache" else None
        dataset = training_set(
            hyp, data["train"], batch, data, stride=32, seed=0, max_cache_bytes=room, colours_later=later
        )
        return training_loader(dataset, batch, workers=0)

    def ours_on_gpu(cache: str) -> Any:
        return ours(cache, later=True)

    def upstream(cache: str) -> Any:
        dataset = YOLODataset(
            img_path=data["train"], imgsz=imgsz, batch_size=batch, augment=True, hyp=hyp, data=data, task="detect",
            cache=None if cache == "no cache" else "ram",
        )  # fmt: skip
        return build_dataloader(dataset, batch=batch, workers=0, device="cpu")

    made: dict[str, Batches] = {}
    makers: dict[str, Callable[[str], Any]] = {"upstream": upstream, "ours": ours, "ours for a GPU": ours_on_gpu}
    for phase in ("mosaic", "no mosaic"):
        for cache in ("no cache", "RAM cache"):
            for who, make in makers.items():
                loader = make(cache)
                if phase == "no mosaic":
                    loader.dataset.close_mosaic(copy(hyp))
                made[f"{who}, {phase}, {cache}"] = _endless(loader)
    return made


def _endless(loader: Any) -> Batches:
    while True:
        yield from loader


def _dataset(given: Path | None, scratch: Path, imgsz: int) -> dict[str, Any]:
    """Return the data set as upstream reads it; labels are copied, so that no cache is written beside the original."""
    from retort.training.ultralytics_api import check_det_dataset

    root = scratch / "data"
    if given is None:
        from retort.data.demo import write

        write(root, num_train=128, num_val=16, imgsz=imgsz)
    else:
        _link(given if given.is_dir() else given.parent, root)
    file = root / (given.name if given is not None and given.is_file() else "data.yaml")
    content = {**yaml.safe_load(file.read_text()), "path": str(root)}
    file.unlink()
    file.write_text(yaml.safe_dump(content))
    data: dict[str, Any] = check_det_dataset(str(file))
    data["images"] = sum(1 for path in Path(data["train"]).rglob("*") if path.is_file())
    return data


def _link(source: Path, target: Path) -> None:
    for path in sorted(source.rglob("*")):
        if path.is_file() and path.suffix != ".cache":
            place = target / path.relative_to(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(path.resolve())


if __name__ == "__main__":
    main()
