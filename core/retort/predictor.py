"""Detect boxes on single images: ``python -m retort.predictor``.

It answers lines of JSON until its input ends. A question is ``{"weights", "image", "imgsz", "confidence"}``; an answer
has ``boxes`` and the image's size, or ``error``. ``{}`` asks it to load what every network needs. Networks stay in
memory, so that only the first question about one waits for it to load.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retort import images
from retort.errors import DataError, RetortError
from retort.training import environment

if TYPE_CHECKING:
    from retort.training.detection import Detector

LEAST_CONFIDENCE = 0.05
MOST_BOXES = 300
MOST_PIXELS = 64_000_000
"""Of an image; decoded it takes three bytes for each."""
_MOST_NETWORKS = 2
_KEPT_DIGITS = 4


class Predictor:
    """Detector of boxes that keeps the networks that were asked last."""

    def __init__(self) -> None:
        self._loaded: OrderedDict[tuple[str, int], tuple[Detector, dict[int, str]]] = OrderedDict()

    def answer(self, question: dict[str, Any]) -> dict[str, Any]:
        """Return the boxes on one image, most certain first.

        Raises:
            RetortError: the image or the network cannot be used.

        """
        if not question:
            return _ready()
        image, began = Path(question["image"]), time.perf_counter()
        width, height = images.size_of(image)
        if width * height > MOST_PIXELS:
            raise DataError(f"the image has {width} x {height} pixels", hint=f"at most {MOST_PIXELS:,} are looked at")
        detector, names = self._detector(Path(question["weights"]), int(question["imgsz"]))
        (found,) = detector([image])
        boxes = [
            {
                "name": names.get(box.class_id, str(box.class_id)), "score": round(box.score, _KEPT_DIGITS),
                "x1": box.x1 / width, "y1": box.y1 / height, "x2": box.x2 / width, "y2": box.y2 / height,
            }
            for box in found
            if box.score >= question["confidence"]
        ]  # fmt: skip
        took_ms = (time.perf_counter() - began) * 1000
        return {"boxes": boxes[:MOST_BOXES], "width": width, "height": height, "took_ms": round(took_ms, 1)}

    def _detector(self, weights: Path, imgsz: int) -> tuple[Detector, dict[int, str]]:
        from retort.training.detection import Detector
        from retort.training.inference import load_folded, network_output

        key = (str(weights), imgsz)
        if key not in self._loaded:
            network = load_folded(weights)
            detector = Detector(network_output(network), imgsz=imgsz, conf=LEAST_CONFIDENCE)
            self._loaded[key] = detector, dict(network.names)
        self._loaded.move_to_end(key)
        while len(self._loaded) > _MOST_NETWORKS:
            self._loaded.popitem(last=False)[1][0].close()
        return self._loaded[key]


def _ready() -> dict[str, Any]:
    """Load PyTorch, which takes longer than all else."""
    import retort.training.detection
    import retort.training.inference  # noqa: F401 - the first question finds it there

    return {"ready": True}


def main() -> None:
    """Answer each line of the input with one line of output."""
    output = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print is no answer
    environment.prepare(Path(sys.argv[1]))
    predictor = Predictor()
    for line in sys.stdin:
        try:
            answer = predictor.answer(json.loads(line))
        except RetortError as error:
            answer = {"error": {"code": error.code, "message": error.message, "hint": error.hint}}
        output.write(json.dumps(answer) + "\n")
        output.flush()


if __name__ == "__main__":
    main()
