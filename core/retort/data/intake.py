"""Open every image of a dataset once, and count what is used."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from retort.data.listing import Listing
from retort.errors import DataError
from retort.files import atomic_write
from retort.images import MOST_PIXELS, ImageFacts, bits_of, examine, shown
from retort.spec.image_use import MOST_NAMED, ImageUse, UnusedImage

KEPT = "images.json"
"""In a job's folder: what is known of its images, so that no stage decodes them only to look at them again."""
UNUSABLE_SHARE = 0.1
"""Of the images of a split: above it a job is refused."""
_NAMED = 10
_VERSION = 2
_KEPT_EVERY = 4096
"""Images after which what was found is kept, so that an interrupted look at a large set is not lost."""

Facts = Mapping[Path, ImageFacts]


def examine_images(
    images: Iterable[Path], kept: Path | None = None, most_pixels: int = MOST_PIXELS
) -> dict[Path, ImageFacts]:
    """Open all *images* to their end, several at a time.

    What is found is kept in the file *kept* by digest, so that the same content is not decoded again. An image of more
    than *most_pixels* is not decoded, and cannot be used.
    """
    known = _load(kept)
    found: dict[Path, ImageFacts] = {}
    wanted = list(dict.fromkeys(images))
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        for start in range(0, len(wanted), _KEPT_EVERY):
            part = wanted[start : start + _KEPT_EVERY]
            found.update(zip(part, pool.map(lambda image: examine(image, known, most_pixels), part), strict=True))
            now = {facts.digest: facts for facts in found.values() if facts.digest}
            if kept is not None and not now.keys() <= known.keys():
                _save(kept, now)
    return found


def kept_file(folder: Path | None, root: Path) -> Path | None:
    """Return the file in *folder* about the images at *root*."""
    return None if folder is None else folder / f"{hashlib.sha256(os.fsencode(root)).hexdigest()[:32]}.json"


def use_of(listing: Listing, facts: Facts, root: Path) -> ImageUse:
    """Count the images of a split that are used, and name the others."""
    unused = [image for image in listing.images if facts[image].problem]
    return ImageUse(
        num_found=len(listing.images),
        num_used=len(listing.images) - len(unused),
        unused=tuple(
            UnusedImage(file=shown(image.relative_to(root)), problem=facts[image].problem)
            for image in unused[:MOST_NAMED]
        ),
        unread=dict(Counter(file.suffix.lower() for file in listing.unread)),
        num_sequences=sum(facts[image].frames > 1 and not facts[image].problem for image in listing.images),
    )


def check_use(uses: Mapping[str, ImageUse], share: float) -> None:
    """Refuse a split of which more than *share* cannot be used.

    Raises:
        DataError: it is; the message names the files.

    """
    for split, use in uses.items():
        if use.num_unused > share * use.num_found or (use.num_found and not use.num_used):
            named = ", ".join(f"{one.file} {one.problem}" for one in use.unused[:_NAMED])
            more = f" and {use.num_unused - _NAMED} more" if use.num_unused > _NAMED else ""
            raise DataError(
                f"{use.num_unused} of the {use.num_found} images of {split} cannot be used, more than a share of "
                f"{share:g}: {named}{more}",
                hint="replace or remove these files; retort data check names every kind of mistake",
            )


def usable(listing: Listing, facts: Facts) -> tuple[Path, ...]:
    """Return the images that are used."""
    return tuple(image for image in listing.images if not facts[image].problem)


def bits_in(facts: Iterable[ImageFacts]) -> int | None:
    """Return the bits that all images of 16 bits fill, or None."""
    brightest = max((one.brightest for one in facts if not one.problem), default=0)
    return bits_of(brightest) if brightest else None


def notes_of(listings: Mapping[str, Listing], bits: int | None) -> tuple[str, ...]:
    """Describe files that are passed over or changed."""
    told = []
    for split, listing in listings.items():
        if listing.num_attributes:
            told.append(f"{split}: {listing.num_attributes} files ._* of a Mac are no images")
        if listing.num_repeated:
            told.append(f"{split}: {listing.num_repeated} images are listed more than once, and used once")
    if bits is not None:
        told.append(f"images of 16 bits: 0 to {(1 << bits) - 1} are taken as black to white ({bits} bits are filled)")
    return tuple(told)


def _load(kept: Path | None) -> dict[str, ImageFacts]:
    try:
        document = json.loads(kept.read_bytes()) if kept is not None else {}
        if document.get("version") != _VERSION:
            return {}
        return {digest: ImageFacts(digest=digest, **about) for digest, about in document["images"].items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}


def _save(kept: Path, found: Mapping[str, ImageFacts]) -> None:
    images = {digest: {k: v for k, v in asdict(one).items() if k != "digest"} for digest, one in found.items()}
    with suppress(OSError):  # it saves time, no more
        kept.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(kept, json.dumps({"version": _VERSION, "images": images}).encode())
