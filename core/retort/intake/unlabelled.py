"""Folders of images without labels, looked at as strictly as datasets; labels that lie there are never read."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from retort.errors import DataError
from retort.intake.datasets import IMAGE_SUFFIXES, digest_of


@dataclass(frozen=True, slots=True)
class Unlabelled:
    """Images whose every file has been looked at."""

    root: Path
    images: tuple[Path, ...]
    """Sorted."""
    digest: str
    """SHA-256 over name and content of every image; the place does not count."""
    num_shared: int
    """How many have the bytes of a validation image."""
    notes: tuple[str, ...]


def locate(path: str, data_dirs: Sequence[Path], *, validation: Sequence[Path] = ()) -> Unlabelled:
    """Read and check the folder at *path*; a relative one is looked for in each of the *data_dirs*.

    Raises:
        DataError: it is missing, lies outside *data_dirs*, leads out of itself, or holds no images.

    """
    root = _find(path, data_dirs)
    images = _images(root)
    with ThreadPoolExecutor(max_workers=4) as pool:
        digests = list(pool.map(digest_of, images))
        known = set(pool.map(digest_of, validation))
    whole = hashlib.sha256()
    for image, digest in zip(images, digests, strict=True):
        whole.update(repr((image.relative_to(root).as_posix(), digest)).encode())
    num_labels = sum(1 for file in root.rglob("*.txt") if file.is_file())
    notes = (f"unlabelled images: {num_labels} text files beside them are not read",) if num_labels else ()
    return Unlabelled(root, images, whole.hexdigest(), sum(digest in known for digest in digests), notes)


def overlay(found: Unlabelled, folder: Path) -> Path:
    """Fill the new *folder* with links to the images, and return the folder that holds them.

    Each gets an empty label file: for Ultralytics these are images of background, which its loader takes as they are.
    """
    images, labels = folder / "images" / "unlabelled", folder / "labels" / "unlabelled"
    images.mkdir(parents=True)
    labels.mkdir(parents=True)
    for number, image in enumerate(found.images):
        (images / f"{number:07d}{image.suffix.lower()}").symlink_to(image)
        (labels / f"{number:07d}.txt").touch()
    return images


def _find(path: str, data_dirs: Sequence[Path]) -> Path:
    """Return the resolved folder, which lies in one of the operator's."""
    given = Path(path).expanduser()
    candidates = [given] if given.is_absolute() else [folder / given for folder in data_dirs]
    for candidate in candidates:
        resolved = candidate.resolve()
        if resolved.is_dir() and any(resolved.is_relative_to(folder.resolve()) for folder in data_dirs):
            return resolved
    shown = ", ".join(str(folder) for folder in data_dirs)
    raise DataError(f"no folder of unlabelled images at {path}", hint=f"name a folder inside one of: {shown}")


def _images(root: Path) -> tuple[Path, ...]:
    found = sorted(file for file in root.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES and file.is_file())
    for image in found:
        if not image.resolve().is_relative_to(root):
            hint = "copy the image into the folder, or name a common folder"
            raise DataError(f"{image} leads out of the folder, to {image.resolve()}", hint=hint)
    if not found:
        hint = f"put images there; known endings: {', '.join(sorted(IMAGE_SUFFIXES))}"
        raise DataError(f"no unlabelled images in {root}", hint=hint)
    return tuple(found)
