"""Build a cache of teacher predictions, or reuse an earlier run's."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from retort import class_names
from retort.constants import Role
from retort.errors import TeacherMismatch
from retort.files import sha256_of
from retort.pipeline import train
from retort.pipeline.context import Context
from retort.spec.result import TaughtAhead

if TYPE_CHECKING:
    from retort.training.data.teacher_cache import CachedBoxes, CacheOrigin, TeacherCache

_AT_A_TIME = 128
"""Images whose boxes are kept together: what a killed run has to ask again."""
_AT_ONCE = 8
_WAIT_S = 0.5


def ask_ahead(
    context: Context, weights: Path, images: Sequence[Path], *, target: Path,
    tell: Callable[[float], None] = lambda _: None,
) -> TaughtAhead:  # fmt: skip
    """Write the predictions of *weights* for *images* to *target*; return their figures.

    Images with the same bytes are asked about once. Where another run has left the same, it is taken; one that does so
    at the moment is waited for. What an attempt before has asked is not asked again. *tell* is given the finished part.

    Raises:
        ModelError: the weights cannot be loaded.
        DataError: a file is not an image.
        TeacherMismatch: it has seen none of the data's classes.
        Stopped: the run was asked to stop.

    """
    from retort.training.teaching_ahead import origin_of

    started = time.monotonic()
    imgsz, views = train.imgsz(context.spec, Role.TEACHER), context.spec.teacher.views
    origin = origin_of(sha256_of(weights), weights, imgsz, views)
    files = _by_digest(context, images)
    digest = origin.digest(files)
    with _alone(context, digest) as shared:
        known = None if shared is None else _left(context, shared, digest)
        cache = known or _ask(context, weights, origin, files, tell)
        if shared is not None and known is None:
            _leave(context, shared, cache)
    _refuse_nothing(context, cache)
    cache.save(target)
    return TaughtAhead(
        file=target.name,
        digest=digest,
        num_images=len(cache.images),
        views=origin.views,
        imgsz=imgsz,
        num_boxes=len(cache.corners),
        size_bytes=target.stat().st_size,
        seconds=round(time.monotonic() - started, 1),
        reused=known is not None,
    )


def _refuse_nothing(context: Context, cache: TeacherCache) -> None:
    """Refuse a teacher whose boxes are all of other classes than the data's."""
    data = context.inputs.dataset
    theirs = [
        theirs for _, theirs in class_names.pairs(dict(enumerate(data.names)), dict(enumerate(cache.origin.names)))
    ]
    if data.merged or cache.probabilities[:, theirs].any():
        return
    others = sorted({cache.origin.names[label] for label in cache.probabilities.argmax(1)})
    found = f"its {len(cache.corners):,} boxes are of {', '.join(others[:5])}" if others else "it finds nothing"
    raise TeacherMismatch(
        f"the teacher sees none of {', '.join(data.names[:5])} on {len(cache.images):,} images: {found}",
        hint="a teacher that was trained on such images, or these classes by the names that it has for them",
    )


def _by_digest(context: Context, images: Sequence[Path]) -> dict[str, Path]:
    """Return one file of each content, by its SHA-256."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        found: dict[str, Path] = {}
        for path, digest in zip(images, pool.map(sha256_of, images), strict=True):
            _alive(context)
            found.setdefault(digest, path)
    return found


def _ask(
    context: Context, weights: Path, origin: CacheOrigin, files: Mapping[str, Path], tell: Callable[[float], None]
) -> TeacherCache:  # fmt: skip
    """Ask about all *files* by their digests, part by part."""
    from retort.training.data.teacher_cache import BadCache, TeacherCache
    from retort.training.teaching_ahead import load_ahead_teacher, views_of

    kept, ordered = context.lasting_folder(f"ahead-{origin.digest(files)[:12]}"), sorted(files)
    found: dict[str, CachedBoxes] = {}
    with contextlib.ExitStack() as stack:
        teacher = None  # images that an earlier attempt has asked about need none
        for start in range(0, len(ordered), _AT_A_TIME):
            part = ordered[start : start + _AT_A_TIME]
            path = kept / f"{start:08d}.npz"
            try:
                asked = TeacherCache.load(path, origin.digest(part))
            except BadCache:
                if teacher is None:
                    log = partial(context.journal.log, level="warning")
                    views = views_of(origin.views, origin.imgsz)
                    teacher = stack.enter_context(load_ahead_teacher(weights, views, context.inputs.device, log))
                boxes = teacher([files[image] for image in part], partial(_alive, context))
                asked = TeacherCache.of(origin, dict(zip(part, boxes, strict=True)))
                asked.save(path)
            found |= asked.by_image()
            tell((start + len(part)) / len(ordered))
    return TeacherCache.of(origin, found)


@contextlib.contextmanager
def _alone(context: Context, digest: str) -> Iterator[Path | None]:
    """Hold the file that runs leave each other, alone; None where there is no folder, or nothing can be written."""
    folder = context.inputs.teacher_caches
    with contextlib.ExitStack() as stack:
        path = None
        if folder is not None:
            with contextlib.suppress(OSError):
                lock = stack.enter_context((folder / f"{digest}.lock").open("ab"))
                path = folder / f"{digest}.npz"
        while path is not None:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                _alive(context)
                time.sleep(_WAIT_S)
        yield path


def _left(context: Context, path: Path, digest: str) -> TeacherCache | None:
    """Return what another run has left; None where there is nothing sound, which is told and goes."""
    from retort.training.data.teacher_cache import BadCache, TeacherCache

    if not path.exists():
        return None
    try:
        found = TeacherCache.load(path, digest)
    except BadCache as error:
        context.journal.log(
            f"what the teacher has said for an earlier run cannot be used: {error}; it is asked anew", "warning"
        )
        return None
    with contextlib.suppress(OSError):
        os.utime(path)
    context.journal.log(f"the teacher was asked by an earlier run: {len(found.images)} images", digest=digest)
    return found


def _leave(context: Context, path: Path, cache: TeacherCache) -> None:
    """Leave the file to later runs; where that cannot be, they ask anew."""
    try:
        cache.save(path)
    except OSError as error:
        context.journal.log(f"what the teacher said cannot be left to later runs: {error.strerror}", "warning")


def _alive(context: Context) -> None:
    context.check()
    context.heartbeat.beat("step")
