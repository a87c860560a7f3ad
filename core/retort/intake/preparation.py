"""Prepare a run: everything that its spec names, found, checked, and written down for the process to read."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from retort.intake import datasets, to_label, unlabelled, weights
from retort.intake.datasets import Dataset
from retort.intake.inputs import AS_GIVEN, FILE, Adjustments, DatasetFacts, Inputs, UnlabelledFacts
from retort.intake.unlabelled import Unlabelled
from retort.settings import Settings
from retort.spec import JobSpec
from retort.workdir import DECISIONS


def prepare(
    spec: JobSpec,
    settings: Settings,
    workdir: Path,
    *,
    attempt: int,
    device: str,
    adjustments: Adjustments = AS_GIVEN,
) -> Inputs:
    """Find and check all that *spec* names; write ``spec.json``, the dataset's overlay and ``inputs.json``.

    Raises:
        DataError: the dataset is missing or malformed.
        SpecError: the spec does not fit the dataset.
        ModelError: weights are missing.
        FetchError: published weights could not be downloaded.

    """
    assert settings.model_dir is not None
    workdir = workdir.absolute()
    workdir.mkdir(parents=True, exist_ok=True)
    # The dataset first: its mistakes cost nothing to find, published weights a download.
    dataset = datasets.locate(spec.data.path, settings.data_dirs)
    more = _more_images(spec, settings, dataset)
    wanted = spec.pseudo_labels
    to_be_labelled = None if wanted is None else to_label.locate(wanted, settings.data_dirs, dataset)
    found = {
        name: weights.resolve(name, settings.model_dir, fetch=settings.fetch_weights)
        for name in dict.fromkeys(named_weights(spec))
    }
    folder = workdir / "data"
    shutil.rmtree(folder, ignore_errors=True)  # an earlier attempt's
    inputs = Inputs(
        attempt=attempt,
        device=device,
        data_yaml=datasets.overlay(dataset, folder),
        weights=found,
        dataset=DatasetFacts(
            root=str(dataset.root),
            names=dataset.names,
            num_train=dataset.num_train,
            num_val=dataset.num_val,
            num_shared=dataset.num_shared,
            digest=dataset.digest,
            notes=dataset.notes,
        ),
        unlabelled=None if more is None else _laid_out(more, folder),
        to_label=None if to_be_labelled is None else to_label.overlay(to_be_labelled, folder),
        decisions=_digest_of(workdir / DECISIONS),
        adjustments=adjustments,
    )
    _write(workdir / "spec.json", spec.model_dump_json(indent=2))
    _write(workdir / FILE, inputs.model_dump_json(indent=2))
    return inputs


def _more_images(spec: JobSpec, settings: Settings, dataset: Dataset) -> Unlabelled | None:
    wanted = spec.data.unlabelled
    if wanted is None:
        return None
    return unlabelled.locate(wanted.path, settings.data_dirs, validation=dataset.val)


def _laid_out(found: Unlabelled, folder: Path) -> UnlabelledFacts:
    """Link the images below *folder*; say what they are."""
    return UnlabelledFacts(
        root=str(found.root),
        folder=unlabelled.overlay(found, folder),
        num_images=len(found.images),
        num_shared=found.num_shared,
        digest=found.digest,
        notes=found.notes,
    )


def named_weights(spec: JobSpec) -> list[str]:
    """Return the weight files that *spec* names."""
    train = spec.teacher.train
    further = [teacher.weights for teacher in spec.teacher.ensemble]
    named = (spec.teacher.weights, train.weights if train else None, spec.student.weights, *further)
    return [name for name in named if name is not None]


def _digest_of(path: Path) -> str | None:
    """Return the SHA-256 of a file that need not be there."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def _write(path: Path, text: str) -> None:
    part = path.with_name(f"{path.name}.part")
    part.write_text(text)
    part.replace(path)
