"""Describe exports: their input, their boxes, and how they were judged."""

from __future__ import annotations

from retort.spec.exported import MeasuredExport


def described(form: MeasuredExport) -> str:
    """Return sentences on an export's input, its boxes, and the conditions of its figures."""
    return " ".join(part for part in (_input(form), _boxes(form), _conditions(form)) if part)


def _input(form: MeasuredExport) -> str:
    if form.shape is None:
        return ""
    size = f"{form.shape[0]} by {form.shape[1]} pixels (height by width)"
    if form.dynamic:
        most = f" and up to {form.batch} images at once" if form.boxes == "nms" else " and any number of images"
        return f"It takes any multiple of the network's stride{most}; it was judged at {size}."
    images = "one image" if (form.batch or 1) == 1 else f"{form.batch} images at once, no more and no fewer, each"
    return f"It takes {images} of {size}."


def _boxes(form: MeasuredExport) -> str:
    match form.boxes:
        case "nms":
            return (
                f"It gives final boxes: NMS is inside, at a score of {form.conf:g} and an overlap of {form.iou:g}, "
                f"{form.most_boxes} boxes at most; so what it lost is told against the student in PyTorch with NMS at "
                "the same thresholds, not against the student above."
            )
        case "nms_free":
            return (
                f"Boxes come without NMS: it has the NMS-free head, {form.most_boxes} boxes at most; what it lost is "
                "told against the student in PyTorch with its other head and NMS."
            )
        case "raw":
            return "It gives the box of every anchor, which needs NMS."
    return ""


def _conditions(form: MeasuredExport) -> str:
    if form.settings is None:
        return ""
    batch = form.batch or 1
    timed = f"; its latency is of {batch} images" if batch > 1 and not form.dynamic else ""
    return f"It was judged and timed as plain Ultralytics runs it, by {form.runtime} on {form.settings}{timed}."
