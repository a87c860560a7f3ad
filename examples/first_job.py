"""A first job in Python, with a running service (make up): submit a spec, follow it, fetch the student.

python examples/first_job.py [URL] [FOLDER WITH A DATASET] [EPOCHS]
"""

import sys
from pathlib import Path

from retort.client.client import Client

url = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000"
data = sys.argv[2] if len(sys.argv) > 2 else str(Path(__file__).parent.absolute() / "data" / "digits")
epochs = int(sys.argv[3]) if len(sys.argv) > 3 else 8

spec = {
    "name": "first-job",
    "data": {"path": data},
    "teacher": {"train": {"model": "yolo11n", "weights": None, "epochs": epochs}},
    "student": {"model": "yolov8n", "weights": None},
    "training": {
        "epochs": epochs, "imgsz": 96, "batch": 8, "optimizer": "AdamW", "lr": 0.002, "close_mosaic": 0,
    },
}  # fmt: skip

with Client(url) as client:
    job = client.submit(spec)
    print(f"submitted {job['id']}")
    for event in client.stream(job["id"]):
        print(event["seq"], event["type"], event["message"] or event["data"])
    job = client.get(job["id"])
    if job["result"] is None:
        sys.exit(f"{job['state']}: {job['failure']}")
    path = client.download(job["id"], "student.pt", Path("student.pt"))
    print(f"wrote {path}. {job['result']['verdict']['sentence']}")
