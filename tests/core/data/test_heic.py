"""HEIC is read where pi-heif is installed; elsewhere the refusal says how to get it, or to convert."""

from __future__ import annotations

import base64
import importlib.util
from pathlib import Path

import pytest
from core.data.test_datasets import ANYWHERE, add, describe
from retort import images
from retort.data import audit

HERE = importlib.util.find_spec("pi_heif") is not None
PHOTO = base64.b64decode(
    "AAAAHGZ0eXBoZWljAAAAAG1pZjFoZWljbWlhZgAAAXxtZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAAAAAAAAAAAAAA"
    "ACJpbG9jAAAAAERAAAEAAQAAAAABoAABAAAAAAAAAFMAAAAjaWluZgAAAAAAAQAAABVpbmZlAgAAAAABAABodmMxAAAAAA5waXRt"
    "AAAAAAABAAAA/GlwcnAAAADcaXBjbwAAAHVodmNDAQNwAAAAkAAAAAAAHvAA/P34+AAADwNgAAEAGEABDAH//wNwAAADAJAAAAMA"
    "AAMAHroCQGEAAQApQgEBA3AAAAMAkAAAAwAAAwAeoCCBBZbqrprm4CGgwIAAAAyAAAADAIRiAAEABkQBwXPBiQAAABNjb2xybmNs"
    "eAABAA0ABoAAAAAUaXNwZQAAAAAAAABAAAAAQAAAAChjbGFwAAAAIAAAAAEAAAAQAAAAAf///+AAAAAC////0AAAAAIAAAAQcGl4"
    "aQAAAAADCAgIAAAAGGlwbWEAAAAAAAAAAQABBYECAwWEAAAAW21kYXQAAABPKAGvUhdPdOb86r//lSv/6cSQ8nEAr/6Q9V9wvz/T"
    "h4QftNq0LK5CnxaK7soFxKoqa22Vi35Uv1Xt6db+m+pxqMCMmIVbcKrISPjhyABRQA=="
)
"""32 x 16 pixels: red on the left, blue on the right; by pillow-heif's encoder."""


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.heic"
    path.write_bytes(PHOTO)
    return path


@pytest.mark.skipif(HERE, reason="pi-heif is installed: the refusal cannot be seen")
def test_without_pi_heif_the_refusal_says_how_to_get_it_or_to_convert(photo: Path, tmp_path: Path):
    """It said only that HEIC is read where pi-heif is installed."""
    for split in ("train", "val"):
        add(tmp_path, f"images/{split}/0.png", "0 0.5 0.5 0.2 0.2\n")
    photo.rename(tmp_path / "images" / "train" / "photo.heic")
    describe(tmp_path)

    told = [place for one in audit.check(str(tmp_path), ANYWHERE).findings for place in one.places]

    (said,) = (place for place in told if "photo.heic" in place and "HEIC" in place)
    assert "pip install pi-heif" in said
    assert "magick mogrify -format jpg *.heic" in said


@pytest.mark.skipif(not HERE, reason="pi-heif is not installed (pip install pi-heif): HEIC cannot be read here")
def test_with_pi_heif_it_is_read(photo: Path):
    facts, pixels = images.examine(photo), images.read(photo)

    assert (facts.kind, facts.problem, facts.width, facts.height) == ("heif", "", 32, 16)
    assert pixels[8, 4].tolist() == pytest.approx([30, 30, 200], abs=6)
    assert pixels[8, 28].tolist() == pytest.approx([200, 30, 30], abs=6)
