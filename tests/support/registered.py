"""Put datasets and models into the registry as a worker leaves them, with pictures and nothing trained."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from retort.access import DEFAULT_OWNER, DEFAULT_PROJECT
from retort.data.dataset_summary import DatasetSummary
from retort.dataset_ref import DatasetRef
from retort.db import Database, model_registry
from retort.db.model_registry import NewModel
from retort.db.models import DATASET_PREFIX, DatasetPreviewRow, DatasetRow, new_id
from retort.db.session import database_now
from retort.model_ref import ModelRef
from retort.states import DatasetState
from retort.storage import Store

NAMES = ("red", "blue", "<b>green</b>")
COLOURS = ("#8a5a44", "#4a6a8a", "#5a7a4a", "#7a6a9a")


def put_dataset(
    database: Database,
    store: Store,
    folder: Path,
    name: str = "street",
    *,
    names: Sequence[str] = NAMES,
    findings: Sequence[Mapping[str, Any]] = (),
    num_pictures: int = 4,
) -> str:
    """Register a dataset that is ready; return its reference."""
    boxes = [900 // (place + 1) for place in range(len(names))]
    summary = DatasetSummary.model_validate({
        "names": names, "findings": findings, "digest": hashlib.sha256(name.encode()).hexdigest(),
        "splits": {
            "train": {"num_images": 400, "num_backgrounds": 3, "boxes": boxes},
            "val": {"num_images": 100, "num_backgrounds": 1, "boxes": [one // 4 for one in boxes]},
        },
    })  # fmt: skip
    content = _kept(store, folder, f"content of {name}".encode())
    kept = [_kept(store, folder, _picture(number)) for number in range(num_pictures)]
    with database.begin() as session:
        now = database_now(session)
        row = DatasetRow(
            id=new_id(DATASET_PREFIX), project=DEFAULT_PROJECT, owner=DEFAULT_OWNER, name=name, upload_id=None,
            state=DatasetState.READY, source_sha256=content.sha256, sha256=content.sha256,
            size_bytes=content.size_bytes, key=content.key, summary=summary.model_dump(mode="json"), attempts=1,
            created_at=now, ended_at=now,
        )  # fmt: skip
        session.add(row)
        session.flush()
        for number, one in enumerate(kept, 1):
            session.add(
                DatasetPreviewRow(
                    dataset_id=row.id, number=number, sha256=one.sha256, size_bytes=one.size_bytes, key=one.key
                )
            )
    return str(DatasetRef(name, content.sha256))


def put_model(
    database: Database, store: Store, folder: Path, name: str, *, role: str = "teacher", reached: float = 0.61
) -> str:
    """Register weights; return the reference."""
    kept = _kept(store, folder, f"weights of {name}".encode())
    with database.begin() as session:
        model_registry.register(
            session,
            NewModel(
                name=name, sha256=kept.sha256, size_bytes=kept.size_bytes, key=kept.key, role=role,
                architecture="yolo11s", classes=list(NAMES), imgsz=640, metrics={"val/mAP50-95": reached},
            ),
            now=database_now(session),
        )  # fmt: skip
    return str(ModelRef(name, kept.sha256))


def _picture(number: int) -> bytes:
    buffer = io.BytesIO()
    picture = Image.new("RGB", (160, 120), COLOURS[number % len(COLOURS)])
    picture.paste((240, 200, 80), (30 + 10 * number, 30, 90 + 10 * number, 80))
    picture.save(buffer, "JPEG")
    return buffer.getvalue()


def _kept(store: Store, folder: Path, content: bytes) -> Any:
    path = folder / "kept"
    path.write_bytes(content)
    return store.put(path)
