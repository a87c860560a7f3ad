"""Fill a service with a job that waits for its review: pictures with blobs, and a teacher's boxes on them."""

from __future__ import annotations

import io
import json
import random
from typing import Any

from PIL import Image, ImageDraw
from retort.db import transitions
from retort.db.session import database_now
from support.api_harness import Worker

CLASSES = ["red cell", "white cell", "platelet"]
_INKS = ["#b8405e", "#6a5acd", "#d9a441"]
WIDTH, HEIGHT = 480, 360


def _picture(number: int, most: int) -> tuple[dict[str, Any], bytes]:
    """Draw one picture; return what the teacher saw on it, and its bytes."""
    chance = random.Random(number)
    image = Image.new("RGB", (WIDTH, HEIGHT), "#e8d9d2")
    pen, boxes = ImageDraw.Draw(image), []
    for _ in range(chance.randint(1, most)):
        which, x, y = chance.randrange(len(CLASSES)), chance.uniform(0.05, 0.75), chance.uniform(0.08, 0.7)
        wide, high = chance.uniform(0.08, 0.2), chance.uniform(0.1, 0.25)
        corners = (x, y, x + wide, y + high)
        pen.ellipse([side * (WIDTH, HEIGHT)[index % 2] for index, side in enumerate(corners)], fill=_INKS[which])
        sides = {name: round(side, 6) for name, side in zip(("x1", "y1", "x2", "y2"), corners, strict=True)}
        boxes.append({"name": CLASSES[which], "score": round(chance.uniform(0.6, 0.99), 2), **sides})
    data = io.BytesIO()
    image.save(data, "JPEG", quality=80)
    doubtful = (
        [{"name": CLASSES[2], "x1": 0.8, "y1": 0.8, "x2": 0.9, "y2": 0.95, "score": 0.35}] if number % 3 == 0 else []
    )
    name = f"cell-{number:04d}"
    told = {
        "image": name, "file": f"slides/{name}.png", "width": WIDTH, "height": HEIGHT, "kept": boxes,
        "doubtful": doubtful, "left_out": None, "like": None,
    }  # fmt: skip
    return told, data.getvalue()


def await_review(worker: Worker, job_id: str, *, number: int = 12, most: int = 5) -> list[dict[str, Any]]:
    """Let a queued job wait for its review of so many pictures; return what the teacher saw on each."""
    lease = worker.claim(job_id)
    pictures = []
    for one in range(1, number + 1):
        told, data = _picture(one, most)
        pictures.append(told)
        worker.publish(lease, f"review/{told['image']}.jpg", data, media_type="image/jpeg")
    listed = {"mode": "sample", "classes": CLASSES, "pictures": pictures}
    worker.publish(lease, "review.json", json.dumps(listed).encode(), media_type="application/json")
    with worker.database.begin() as session:
        transitions.await_review(session, lease, now=database_now(session), exit_code=3)
    return pictures
