"""Find registered datasets that were fetched to this machine."""

from __future__ import annotations

import os
import shutil
import tarfile
from pathlib import Path

from retort.data.known_datasets import DatasetSource
from retort.dataset_ref import DatasetRef
from retort.errors import DataError

FOLDER = "registered"
"""In the folder of datasets: those that were fetched from a service's store, by digest."""
_DESCRIPTION = "data.yaml"


def folder_of(sha256: str, dataset_dir: Path) -> Path:
    """Return where the dataset with this digest is, once it is fetched."""
    return dataset_dir / FOLDER / sha256


def is_fetched(sha256: str, dataset_dir: Path) -> bool:
    """Return True if the dataset is there: it appears whole or not at all."""
    return (folder_of(sha256, dataset_dir) / _DESCRIPTION).is_file()


def resolve(reference: DatasetRef, dataset_dir: Path) -> DatasetSource:
    """Return the dataset that *reference* names, as it lies on this machine.

    Raises:
        DataError: it was not fetched.

    """
    if not is_fetched(reference.sha256, dataset_dir):
        hint = f"fetch it: retort datasets pull {reference}; a service's workers do so by themselves"
        raise DataError(f"{reference} is not on this machine", hint=hint)
    note = f"dataset {reference.name}: as registered, sha256 {reference.sha256}"
    return DatasetSource(
        name=str(reference),
        folder=folder_of(reference.sha256, dataset_dir),
        archives={f"{reference.name}.tar": reference.sha256},
        notes=(note,),
    )


def _with_own_modes(member: tarfile.TarInfo, folder: str) -> tarfile.TarInfo:
    """Take what is harmless, as readable as all that this process writes."""
    return tarfile.data_filter(member, folder).replace(mode=None, deep=False)  # type: ignore[arg-type]


def lay_out(archive: Path, sha256: str, dataset_dir: Path) -> Path:
    """Unpack the file of a dataset; return its folder.

    The caller has checked the digest. Whatever interrupts it leaves nothing under the folder's name.

    Raises:
        DataError: it is no such file.
        OSError: there is no room, or the folder cannot be written.

    """
    home = folder_of(sha256, dataset_dir)
    part = home.with_name(f".{sha256}.{os.getpid()}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        with tarfile.open(archive, "r:") as packed:
            packed.extractall(part, filter=_with_own_modes)  # noqa: S202 - on top of the filter for data
        if not (part / _DESCRIPTION).is_file():
            raise DataError("the dataset's file holds no data.yaml", hint="push it again")
        shutil.rmtree(home, ignore_errors=True)
        part.rename(home)
    except tarfile.TarError as error:
        raise DataError(f"the dataset's file cannot be unpacked: {error}", hint="push it again") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return home
