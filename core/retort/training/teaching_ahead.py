"""Predict images with a teacher ahead of time, in several merged views."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch

from retort import images as reader
from retort.training import box_fusion, teachers
from retort.training.data.teacher_cache import MOST_BOXES, CachedBoxes, CacheOrigin
from retort.training.detection import BATCH
from retort.training.distillation.boxes import TeacherBoxes
from retort.training.environment import num_cores
from retort.training.halving import HalvedBatches
from retort.training.inference import IOU, halve, load_folded, network_output
from retort.training.teachers.base import BoxNetwork, box_output
from retort.training.ultralytics_api import LetterBox, nms, ops, select_device, version

if TYPE_CHECKING:
    from torch import Tensor

    from retort.spec import ViewName

Array = np.ndarray[Any, Any]

SCORE_FROM = 0.05
"""Boxes below it are left out: they would be anchors that learn next to nothing."""
_SCALES = 0.75, 1.25
_STRIDE = 32
_TILE, _STEP = 0.6, 0.4
"""Side of a tile, and the way to the next, as parts of the image's side: four tiles overlap by a fifth of it."""
_MARGIN = 0.005
"""Part of the image's side; a box that ends so near the edge of a tile is cut by it."""
_MOST_THREADS = 8

BoxTeacher = Callable[["Tensor"], TeacherBoxes]
"""From images (N, 3, S, S) in 0..1, on the teacher's device, to its boxes in their pixels, NMS done."""


@dataclass(frozen=True, slots=True)
class View:
    """One way to show an image to a teacher."""

    window: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)
    """What is shown: x1 y1 x2 y2 as parts of the image's sides."""
    mirrored: bool = False
    imgsz: int = 640
    """Side of the square that it is fitted into."""


def views_of(names: Collection[str], imgsz: int) -> tuple[View, ...]:
    """Return the views that *names* add to the image as it is, at *imgsz*."""
    found = [View(imgsz=imgsz)]
    if "flip" in names:
        found.append(View(mirrored=True, imgsz=imgsz))
    if "scales" in names:
        found += [View(imgsz=max(1, round(imgsz * factor / _STRIDE)) * _STRIDE) for factor in _SCALES]
    if "tiles" in names:
        corners = [(x * _STEP, y * _STEP) for y in (0, 1) for x in (0, 1)]
        found += [View((x, y, x + _TILE, y + _TILE), imgsz=imgsz) for x, y in corners]
    return tuple(found)


def origin_of(sha256: str, weights: Path, imgsz: int, views: Iterable[ViewName]) -> CacheOrigin:
    """Return the cache origin of the teacher *weights*, whose file has *sha256*.

    Raises:
        ModelError: the weights cannot be loaded.

    """
    names = tuple(str(name) for _, name in sorted(teachers.load(weights).names.items()))
    software = f"ultralytics {version}, torch {torch.__version__}"
    return CacheOrigin(sha256, names, imgsz, tuple(sorted(views)), SCORE_FROM, software)


class DenseBoxes:
    """Detector of any kind as a teacher of boxes with class probabilities.

    NMS takes boxes of all classes for each other's rivals: a box has the probabilities of all of them.

    Raises:
        ModelError: the weights cannot be loaded.

    """

    def __init__(self, weights: Path, device: torch.device) -> None:
        self._dtype = torch.float32
        if isinstance(found := teachers.load(weights), BoxNetwork):
            self._run = box_output(found.to(device))
            return
        network = load_folded(weights).to(device)
        if device.type == "cuda":
            network, self._dtype = halve(network), torch.float16
        self._run = network_output(network)

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> TeacherBoxes:
        """Return its boxes on *images* (N, 3, S, S) in 0..1."""
        raw = self._run(images.to(self._dtype)).float()  # N 4+K A
        kept, places = nms.non_max_suppression(
            raw, SCORE_FROM, IOU, agnostic=True, max_det=MOST_BOXES, max_time_img=10.0, return_idxs=True
        )
        owners = torch.cat([torch.full((len(one),), n, device=raw.device) for n, one in enumerate(kept)])
        classes = [raw[n, 4:, place.view(-1).long()].T for n, place in enumerate(places)]
        return TeacherBoxes(owners, torch.cat([one[:, :4] for one in kept]), torch.cat(classes))


Opened = tuple[list["Tensor"], tuple[int, int]]
"""Pixels of each view, uint8 (3, S, S), and the image's height and width."""


class AheadTeacher:
    """A teacher that looks at image files in several views.

    It is a context, in which it holds memory and threads. Images are opened by threads ahead of the teacher. Views that
    do not fit into the memory together are asked in halves, and so are those after them.
    """

    def __init__(
        self, teacher: BoxTeacher, views: Sequence[View], device: torch.device, log: Callable[[str], None]
    ) -> None:
        self._teacher, self._views, self._device = teacher, views, device
        most = BATCH if device.type == "cuda" else 1  # on a CPU, sums would differ with the number
        self.batches = HalvedBatches(most, device, log, what="views")
        self._threads = ThreadPoolExecutor(min(_MOST_THREADS, num_cores()), thread_name_prefix="open-images")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.shutdown(cancel_futures=True)

    def __call__(self, images: Sequence[Path], on_image: Callable[[], None]) -> Iterator[CachedBoxes]:
        """Yield what the teacher sees on each image; *on_image* is called before each.

        Raises:
            DataError: a file is not an image.

        """
        rest, waiting = iter(images), deque[Future[Opened]]()
        try:
            while True:
                together = max(1, self.batches.most // len(self._views))
                while len(waiting) < 2 * together and (image := next(rest, None)) is not None:
                    waiting.append(self._threads.submit(_open, image, self._views))
                if not waiting:
                    return
                group = []
                for _ in range(min(together, len(waiting))):
                    on_image()
                    group.append(waiting.popleft().result())
                yield from self._merged(group)
        finally:
            for future in waiting:
                future.cancel()

    def _merged(self, group: Sequence[Opened]) -> Iterator[CachedBoxes]:
        """Yield the merged boxes of each image of a *group*."""
        found: dict[tuple[int, int], tuple[Array, Array]] = {}
        for size in dict.fromkeys(view.imgsz for view in self._views):
            keys = [(i, v) for i in range(len(group)) for v, view in enumerate(self._views) if view.imgsz == size]
            for start in range(0, len(keys), BATCH):
                part = keys[start : start + BATCH]
                found |= zip(part, self.batches([group[i][0][v] for i, v in part], self._ask), strict=True)
        for index, (_, shape) in enumerate(group):
            yield _joined([found[index, v] for v in range(len(self._views))], self._views, shape)

    def _ask(self, pixels: Sequence[Tensor]) -> list[tuple[Array, Array]]:
        """Return corners in pixels of the view, and probabilities, for each view."""
        said = self._teacher(torch.stack(list(pixels)).to(self._device).float() / 255)
        owners, corners, classes = (one.cpu().numpy() for one in (said.image, said.corners, said.probabilities.float()))
        return [(corners[owners == n], classes[owners == n]) for n in range(len(pixels))]


def load_ahead_teacher(
    weights: Path, views: Sequence[View], device: str, log: Callable[[str], None] = lambda _: None
) -> AheadTeacher:
    """Load the teacher in *weights* to be asked ahead of time.

    Raises:
        ModelError: the weights cannot be loaded.

    """
    where = select_device(device, verbose=False)
    return AheadTeacher(DenseBoxes(weights, where), views, where, log)


def _open(image: Path, views: Sequence[View]) -> Opened:
    bgr = reader.read(image)
    height, width = bgr.shape[:2]
    shown = []
    for view in views:
        x1, y1, x2, y2 = _pixels(view, height, width)
        part = bgr[y1:y2, x1:x2]
        part = np.ascontiguousarray(part[:, ::-1] if view.mirrored else part)
        fitted = LetterBox((view.imgsz, view.imgsz), auto=False)(image=part)  # S S 3, BGR
        shown.append(torch.from_numpy(fitted[..., ::-1].transpose(2, 0, 1).copy()))
    return shown, (height, width)


def _pixels(view: View, height: int, width: int) -> tuple[int, int, int, int]:
    """Return what a view shows in whole pixels, at least one of them."""
    x1, y1 = min(int(view.window[0] * width), width - 1), min(int(view.window[1] * height), height - 1)
    return x1, y1, max(x1 + 1, round(view.window[2] * width)), max(y1 + 1, round(view.window[3] * height))


def _joined(answers: Sequence[tuple[Array, Array]], views: Sequence[View], shape: tuple[int, int]) -> CachedBoxes:
    """Return the boxes of all views of one image of this *shape* (height, width), merged where there are several."""
    moved = [_in_image(corners, view, *shape) for (corners, _), view in zip(answers, views, strict=True)]
    corners, classes = np.concatenate(moved), np.concatenate([classes for _, classes in answers])
    there = (corners[:, 2] > corners[:, 0]) & (corners[:, 3] > corners[:, 1])
    there &= np.concatenate([_uncut(one, view) for one, view in zip(moved, views, strict=True)])
    if len(views) > 1:
        numbers = np.repeat(np.arange(len(views)), [len(one) for one in moved])
        windows = np.array([view.window for view in views])
        corners, classes = box_fusion.fuse(corners[there], classes[there], numbers[there], windows)
        there = np.ones(len(corners), bool)
    kept = there & (classes.max(1, initial=0) >= SCORE_FROM)
    order = np.argsort(-classes[kept].max(1, initial=0), kind="stable")
    made = CachedBoxes(corners[kept][order].astype(np.float32), classes[kept][order].astype(np.float16))
    return made.first(MOST_BOXES)


def _in_image(corners: Array, view: View, height: int, width: int) -> Array:
    """Move corners from the pixels of a view to parts of the image's sides."""
    x1, y1, x2, y2 = _pixels(view, height, width)
    own = ops.scale_boxes((view.imgsz, view.imgsz), corners.astype(np.float32).copy(), (y2 - y1, x2 - x1))
    if view.mirrored:
        own[:, [0, 2]] = (x2 - x1) - own[:, [2, 0]]
    found: Array = (own + np.array([x1, y1, x1, y1], np.float32)) / np.array([width, height] * 2, np.float32)
    return found.clip(0, 1)


def _uncut(corners: Array, view: View) -> Array:
    """Return a mask of the boxes that do not end where a view does inside the image: those may go on beyond it."""
    low, high = np.array(view.window[:2]), np.array(view.window[2:])
    begins = (corners[:, :2] > low + _MARGIN) | (low == 0)
    ends = (corners[:, 2:] < high - _MARGIN) | (high == 1)
    found: Array = (begins & ends).all(1)
    return found
