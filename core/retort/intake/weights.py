"""Weight files by name: from the operator's model folder, else a published one, fetched into it."""

from __future__ import annotations

import fcntl
import os
import zipfile
from pathlib import Path
from typing import BinaryIO

import httpx2 as httpx

from retort import references
from retort.errors import FetchError, ModelError
from retort.intake import registered
from retort.names import OFFICIAL_WEIGHTS

ASSETS_URL = "https://github.com/ultralytics/assets/releases/download/v8.4.0"
"""The release that Ultralytics 8.4.190 takes its published weights from."""
_LARGEST_BYTES = 1 << 30
_CHUNK_BYTES = 1 << 20


def resolve(name: str, model_dir: Path, *, fetch: bool, source: str = ASSETS_URL) -> Path:
    """Return the path of the weight file *name* in *model_dir*, fetching a published one where that is allowed.

    A registered model must be there already.

    Raises:
        ModelError: there is no such file, or it is not a PyTorch checkpoint.
        FetchError: the file is a published one, and could not be downloaded.

    """
    if (reference := references.parse(name)) is not None:
        return registered.resolve(reference, model_dir)
    if Path(name).name != name or not name.endswith(".pt"):
        raise ModelError(f"{name!r} is not the bare name of a .pt file")
    path = model_dir / name
    if not path.is_file():
        if name not in OFFICIAL_WEIGHTS:
            raise ModelError(f"no weights {name} in {model_dir}", hint=_known(model_dir))
        if not fetch:
            raise ModelError(
                f"no weights {name} in {model_dir}, and fetching is switched off",
                hint=f"put {source}/{name} there by hand; {_known(model_dir)}",
            )
        _fetch(f"{source}/{name}", path)
    if not zipfile.is_zipfile(path):
        raise ModelError(f"{name} is not a PyTorch checkpoint, or it is cut off", hint=f"replace {path}")
    return path.resolve()


def _known(model_dir: Path) -> str:
    found = sorted(path.name for path in model_dir.glob("*.pt"))[:20] if model_dir.is_dir() else []
    return f"in the folder: {', '.join(found)}" if found else "the folder holds no .pt file"


def _fetch(url: str, path: Path) -> None:
    """Download *url* to ``path.part``, verify, and move it into place; several processes may try at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    with part.open("ab+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        if path.exists():  # another process was faster
            return
        try:
            _download(url, file)
            _verify(part, url)
            part.replace(path)
        except (httpx.HTTPError, OSError) as error:
            reason = str(error) or type(error).__name__
            raise FetchError(f"could not fetch {url}: {reason}", hint=f"put the file at {path} by hand") from error


def _download(url: str, file: BinaryIO) -> None:
    file.truncate(0)
    with httpx.stream("GET", url, follow_redirects=True, timeout=httpx.Timeout(30.0)) as response:
        response.raise_for_status()
        promised = response.headers.get("Content-Length")
        size = 0
        for chunk in response.iter_bytes(_CHUNK_BYTES):
            size += len(chunk)
            if size > _LARGEST_BYTES:
                raise OSError(f"the file is larger than {_LARGEST_BYTES} bytes")
            file.write(chunk)
    if promised is not None and "Content-Encoding" not in response.headers and int(promised) != size:
        raise OSError(f"{size} of {promised} bytes arrived")
    file.flush()
    os.fsync(file.fileno())


def _verify(part: Path, url: str) -> None:
    if not zipfile.is_zipfile(part):
        raise OSError(f"what {url} answered is not a PyTorch checkpoint")
