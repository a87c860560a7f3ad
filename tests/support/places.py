"""What the pages of data, models, workers and settings have to show, written as workers and clients write it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw
from retort.access import DEFAULT_OWNER, DEFAULT_PROJECT
from retort.constants import MAP, MAP50, Role
from retort.db import Database, Session, datasets, model_registry, uploads, workers
from retort.db.datasets import DatasetClaim, DatasetFile
from retort.db.model_registry import NewModel
from retort.db.models import WorkerRow
from retort.db.session import database_now
from retort.db.uploads import NewPart, NewUpload
from retort.storage import Store

SUMMARY: dict[str, Any] = {
    "names": ["cell", "nucleus", "debris"],
    "splits": {
        "train": {"num_images": 120, "num_backgrounds": 4, "boxes": [800, 120, 3]},
        "val": {"num_images": 30, "num_backgrounds": 1, "boxes": [190, 31, 1]},
    },
    "findings": [
        {
            "severity": "warning", "code": "copied_image", "number": 2, "places": ["val/a.png = train/b.png"],
            "message": "images of val that are altered copies of training images", "hint": "move them to train",
        },
        {
            "severity": "warning", "code": "rare_class", "number": 1, "places": ["debris"],
            "message": "classes with fewer than 10 boxes", "hint": "label more of them",
        },
    ],
    "notes": ["2 labels were clipped to their images"],
    "digest": "d" * 64,
}  # fmt: skip


def put(store: Store, folder: Path, data: bytes) -> DatasetFile:
    """Keep bytes in the store."""
    (path := folder / "bytes").write_bytes(data)
    stored = store.put(path)
    return DatasetFile(stored.key, stored.sha256, stored.size_bytes)


def picture(number: int) -> bytes:
    """A small picture with boxes, as a preview is."""
    image = Image.new("RGB", (480, 320), (40 + 25 * number, 90, 140 - 15 * number))
    ImageDraw.Draw(image).rectangle((60 + 20 * number, 60, 240, 200), outline="#ff3b30", width=2)
    image.save(data := io.BytesIO(), "JPEG")
    return data.getvalue()


def begun_dataset(database: Database, name: str, *, project: str = DEFAULT_PROJECT, owner: str = DEFAULT_OWNER) -> str:
    """A dataset whose upload is complete, and which no worker has looked through yet; return its id."""
    with database.begin() as session:
        now = database_now(session)
        upload = uploads.create(session, NewUpload(project=project, owner=owner, size_bytes=1, name="a.zip"), now=now)
        part = NewPart("e" * 64, 1, "sha256/ee/" + "e" * 64)
        uploads.append(session, upload, part, now=now, most_parts=1)
        uploads.complete(session, upload.id, "e" * 64, now=now)
        session.refresh(upload)
        return datasets.create(session, project=project, owner=owner, name=name, upload=upload, now=now).id


def claim(session: Session, made: str, *, now: float) -> DatasetClaim:
    """Claim that dataset, and leave those that have waited for longer."""
    others: list[DatasetClaim] = []
    while (claimed := datasets.claim(session, worker="w", now=now, lease_s=60.0)) is not None and claimed.id != made:
        others.append(claimed)
    assert claimed is not None
    for other in others:
        datasets.give_back(session, other)
    return claimed


def ready_dataset(
    database: Database, store: Store, folder: Path, name: str, *, summary: dict[str, Any] = SUMMARY, **whose: str
) -> str:
    """A dataset that a worker has found to be good; return its reference."""
    made = begun_dataset(database, name, **whose)
    content = put(store, folder, f"{name}{summary}".encode())
    pictures = [put(store, folder, picture(number)) for number in range(6)]
    with database.begin() as session:
        now = database_now(session)
        claimed = claim(session, made, now=now)
        assert datasets.finish(session, claimed, summary, content, pictures, now=now)
    return f"dataset:{name}@sha256:{content.sha256}"


def refused_dataset(database: Database, name: str) -> str:
    """A dataset that a worker has refused; return its id."""
    made = begun_dataset(database, name)
    finding = {"severity": "error", "code": "no_boxes", "message": "no image has a box", "hint": "label some"}
    with database.begin() as session:
        now = database_now(session)
        claimed = claim(session, made, now=now)
        assert datasets.refuse(session, claimed, {"findings": [finding]}, now=now)
    return made


def model(database: Database, store: Store, folder: Path, name: str, *, job_id: str | None = None) -> str:
    """A registered model, with figures where a job has trained it; return its digest."""
    kept = put(store, folder, f"weights of {name}".encode())
    about: dict[str, Any] = {"classes": ["cell", "nucleus"]}
    if job_id is not None:
        figures = {MAP50: 0.712, MAP: 0.4831}
        about |= {
            "role": Role.STUDENT.value,
            "architecture": "yolo11n",
            "imgsz": 640,
            "metrics": figures,
            "job_id": job_id,
        }
    with database.begin() as session:
        wanted = NewModel(name=name, sha256=kept.sha256, size_bytes=kept.size_bytes, key=kept.key, **about)
        model_registry.register(session, wanted, now=database_now(session))
    return kept.sha256


def worker(database: Database, name: str, *, host: str = "gpu-box", gpus: int = 1, refused: str | None = None) -> None:
    """A worker that runs."""
    card = {
        "kind": "gpu", "name": "0000:01:00.0", "product": "NVIDIA RTX A5000", "memory_bytes": 25_756_696_576,
        "compute_capability": "8.6", "driver": "550.54", "refused": refused,
    }  # fmt: skip
    cpu = {**dict.fromkeys(card), "kind": "cpu", "name": "cpu"}
    with database.begin() as session:
        now = database_now(session)
        row = WorkerRow(
            name=name, host=host, slots=max(1, gpus), gpus=gpus, devices=[card if gpus or refused else cpu],
            started_at=now - 7200, seen_at=now,
        )  # fmt: skip
        workers.announce(session, row)
