"""Find weight files: local, published upstream, or registered by an earlier job; check them."""

from __future__ import annotations

import fcntl
import shutil
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx2 as httpx

from retort import model_ref
from retort.checkpoints import opening, states
from retort.constants import OFFICIAL_WEIGHTS, WEIGHTS_SUFFIXES
from retort.data.checkpoint_names import names_in
from retort.data.download import download
from retort.data.published_weights import pinned
from retort.errors import FetchError, ModelError
from retort.files import sha256_of
from retort.model_ref import ModelRef

FOLDER = "registered"
"""Inside the model folder."""


def registered_path(reference: ModelRef, model_dir: Path) -> Path:
    """Return where the model belongs."""
    return model_dir / FOLDER / reference.file_name


def registered_files(model_dir: Path) -> Iterator[tuple[ModelRef, Path]]:
    """Yield the registered models that lie in *model_dir*, with their files."""
    for path in (model_dir / FOLDER).glob("*.pt"):
        name, _, sha256 = path.stem.rpartition("@sha256-")
        reference = model_ref.parse(f"{model_ref.PREFIX}{name}@sha256:{sha256}")
        if reference is not None:
            yield reference, path


def registered_intact(reference: ModelRef, model_dir: Path) -> bool:
    """Return True if the registered file exists with its digest's bytes."""
    file = registered_path(reference, model_dir)
    return file.is_file() and sha256_of(file) == reference.sha256


def resolve_registered(reference: ModelRef, model_dir: Path) -> Path:
    """Return the path of the model in *model_dir*.

    Raises:
        ModelError: it is not there, or it is damaged.

    """
    file = registered_path(reference, model_dir)
    if not file.is_file():
        message = f"no model {reference} in {file.parent}"
        raise ModelError(message, hint=_registered_names(reference.name, model_dir))
    if sha256_of(file) != reference.sha256:
        raise ModelError(f"{file} is damaged: its SHA-256 is not the one in its name", hint="remove it; fetch it again")
    return file.resolve()


def register(name: str, file: Path, model_dir: Path) -> ModelRef:
    """Copy the weights *file* into *model_dir*, named *name*.

    They can be named from now on; doing so twice changes nothing.
    """
    reference = ModelRef(name, sha256_of(file))
    target = registered_path(reference, model_dir)
    if not registered_intact(reference, model_dir):
        target.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".", dir=target.parent) as folder:
            Path(shutil.copyfile(file, Path(folder) / target.name)).replace(target)
    return reference


def registered_digests(name: str, model_dir: Path) -> list[str]:
    """Return the digests of the models in *model_dir* that are registered as *name*."""
    files = (model_dir / FOLDER).glob(f"{name}@sha256-*.pt")
    return sorted(file.stem.partition("@sha256-")[2] for file in files)


def _registered_names(name: str, model_dir: Path) -> str:
    found = registered_digests(name, model_dir)
    if not found:
        return f"nothing is registered there by the name {name!r}"
    return f"known there by that name: {', '.join(f'sha256:{sha256}' for sha256 in found)}"


ASSETS_URL = "https://github.com/ultralytics/assets/releases/download/v8.4.0"
"""The release that Ultralytics 8.4.190 takes its published weights from."""


def resolve_weights(name: str, model_dir: Path, *, fetch: bool, source: str = ASSETS_URL) -> Path:
    """Return the path of the weight file *name* in *model_dir*.

    A published one is fetched where that is allowed. A registered model must be there already.

    Raises:
        ModelError: there is no such file, or it is not a PyTorch checkpoint.
        FetchError: the file is a published one, and could not be downloaded.

    """
    if (reference := model_ref.parse(name)) is not None:
        return resolve_registered(reference, model_dir)
    if Path(name).name != name or not name.endswith(WEIGHTS_SUFFIXES):
        raise ModelError(f"{name!r} is not the bare name of a file of weights: {', '.join(WEIGHTS_SUFFIXES)}")
    path = model_dir / name
    if not path.is_file():
        if name not in OFFICIAL_WEIGHTS:
            raise ModelError(f"no weights {name} in {model_dir}", hint=_available(model_dir))
        if not fetch:
            raise ModelError(
                f"no weights {name} in {model_dir}, and fetching is switched off",
                hint=f"put {source}/{name} there by hand; {_available(model_dir)}",
            )
        _fetch(f"{source}/{name}", path, pinned(name, model_dir))
    if not zipfile.is_zipfile(path) and not opening.is_converted(path) and not states.is_state(path):
        raise ModelError(f"{name} is not a PyTorch checkpoint, or it is cut off", hint=f"replace {path}")
    return path.resolve()


def resolve_definition(name: str, model_dir: Path) -> Path:
    """Return the path of a network's description, the file *name* in *model_dir*.

    Raises:
        ModelError: there is no such file.

    """
    path = model_dir / name
    if not path.is_file():
        found = sorted(one.name for one in model_dir.glob("*.y*ml"))[:20] if model_dir.is_dir() else []
        hint = f"in the folder: {', '.join(found)}" if found else "put it there; it describes no network yet"
        raise ModelError(f"no network {name} in {model_dir}", hint=hint)
    return path.resolve()


def _available(model_dir: Path) -> str:
    found = sorted(path.name for path in model_dir.glob("*.pt"))[:20] if model_dir.is_dir() else []
    return f"in the folder: {', '.join(found)}" if found else "the folder holds no .pt file"


def _fetch(url: str, path: Path, sha256: str | None) -> None:
    """Download *url* to ``path.part``, verify, and move it into place; several processes may try at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    with part.open("ab") as file:  # which is locked, whoever writes to it
        fcntl.flock(file, fcntl.LOCK_EX)
        if path.exists():  # another process was faster
            return
        try:
            download(url, path, limit_bytes=LARGEST_BYTES, verify=partial(_verify, sha256=sha256))
        except (httpx.HTTPError, OSError) as error:
            reason = str(error) or type(error).__name__
            raise FetchError(f"could not fetch {url}: {reason}", hint=f"put the file at {path} by hand") from error


def _verify(part: Path, *, sha256: str | None) -> None:
    if not zipfile.is_zipfile(part):
        raise OSError("what came is not a PyTorch checkpoint")
    if sha256 is not None and (found := sha256_of(part)) != sha256:
        raise OSError(f"what came is not the published file: sha256:{found}, not sha256:{sha256}")


LARGEST_BYTES = 1 << 30
"""Of a weights file; the largest published ones have an eighth of that."""


def check_checkpoint(path: Path, name: str) -> tuple[str, ...] | None:
    """Insist that *path* holds a loadable detector and return its class names, if any.

    People call it *name*. Its pickle is read by opcodes against a list of names; nothing in it is made or called.
    Tensors from outside are compared with the architecture that they name when they are converted.

    Raises:
        ModelError: it does not.

    """
    names = names_in(path, name)
    if (damage := opening.damage_in(path)) is not None:
        raise ModelError(f"{name} is damaged: {damage}", hint="copy or fetch it again")
    return names
