"""Know published weights by their digests."""

from __future__ import annotations

import json
import re
from pathlib import Path

from retort.constants import OFFICIAL_WEIGHTS
from retort.errors import ModelError
from retort.files import sha256_of

PINS = "pins.json"
"""In the model folder: digests by file name that the operator vouches for, beside those known here."""
_KNOWN = {
    "yolov8n.pt": "31e20dde3def09e2cf938c7be6fe23d9150bbbe503982af13345706515f2ef95",
    "yolov8s.pt": "268e5bb54c640c96c3510224833bc2eeacab4135c6deb41502156e39986b562d",
    "yolo11n.pt": "0ebbc80d4a7680d14987a577cd21342b65ecfd94632bd9a8da63ae6417644ee1",
    "yolo11s.pt": "85a76fe86dd8afe384648546b56a7a78580c7cb7b404fc595f97969322d502d5",
    "yolo26n.pt": "9b09cc8bf347f0fc8a5f7657480587f25db09b34bf33b0652110fb03a8ad4fef",
    "yolo26m.pt": "401cea9ab23ad19246ff7744859816bc599f350e93c9dd30367b6f0a0745d0b7",
}
"""As several people who do not know each other have written them down."""
_SHA256 = re.compile(r"[0-9a-f]{64}")


def pinned(name: str, model_dir: Path) -> str | None:
    """Return the SHA-256 that the published file *name* must have, if one is known.

    Raises:
        ModelError: the operator's file of digests cannot be read.

    """
    return (_KNOWN | _own(model_dir)).get(name)


def _own(model_dir: Path) -> dict[str, str]:
    path = model_dir / PINS
    if not path.is_file():
        return {}
    hint = 'a mapping such as {"yolo26n.pt": "64 hexadecimal digits"}'
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read: {error}", hint=hint) from error
    if not isinstance(found, dict) or not all(
        isinstance(one, str) and _SHA256.fullmatch(one) for one in found.values()
    ):
        raise ModelError(f"{path} does not hold digests by file name", hint=hint)
    return found


def check_published(name: str, file: Path, model_dir: Path, *, pinned_only: bool) -> str | None:
    """Compare a published file with its known digest and return a warning.

    Raises:
        ModelError: it is another file, or none is known, and *pinned_only* forbids that.

    """
    if name not in OFFICIAL_WEIGHTS:
        return None
    wanted = pinned(name, model_dir)
    if wanted is None and not pinned_only:
        return None
    found = sha256_of(file)
    if found == wanted:
        return None
    told = (
        f"no digest is known of the published file {name}; here it has sha256:{found}"
        if wanted is None
        else f"{name} has the name of a published file and other bytes: sha256:{found}, not sha256:{wanted}"
    )
    if pinned_only:
        hint = f"fetch it again; or vouch for this file in {model_dir / PINS}; or register it by another name"
        raise ModelError(told, hint=hint)
    return told
