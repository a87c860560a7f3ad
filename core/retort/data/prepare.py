"""Prepare a run: find and check its inputs, write them down."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from retort import dataset_ref
from retort.checkpoints import opening
from retort.data import (
    ceilings,
    datasets,
    intake,
    known_datasets,
    registered_datasets,
    teacher_names,
    unlabelled,
    verification,
    weights,
)
from retort.data.checkpoint_names import stored_names
from retort.data.conversion.convert import locate_converted
from retort.data.converted_weights import convert
from retort.data.datasets import Dataset
from retort.data.foreign_teachers import prepare as prepare_teacher
from retort.data.inputs import (
    AS_GIVEN,
    CALIBRATION,
    FILE,
    Adjustments,
    DatasetInfo,
    Inputs,
    NamedBy,
    UnlabelledInfo,
)
from retort.data.known_datasets import DatasetSource
from retort.data.published_weights import check_published
from retort.data.text_files import readable
from retort.data.unlabelled import PseudoLabelImages, UnlabelledSet
from retort.data.verification import ImageRecord
from retort.errors import DataError, ModelError, TeacherMismatch
from retort.exports.base import ENOUGH_IMAGES, FEWEST_IMAGES
from retort.files import sha256_of
from retort.images import shown
from retort.protocol.workdir import DECISIONS
from retort.settings import Settings
from retort.spec import AnySpec, JobSpec, definition_names, exports_of, weight_names


def prepare(
    spec: AnySpec,
    settings: Settings,
    workdir: Path,
    *,
    attempt: int,
    device: str,
    device_by: NamedBy = "user",
    cpu_allowed: bool = True,
    adjustments: Adjustments = AS_GIVEN,
    keep_last: bool = False,
    teacher_caches: Path | None = None,
) -> Inputs:
    """Check all inputs of *spec*; write ``spec.json``, dataset overlay and ``inputs.json``.

    *device_by* says who has named the device, *cpu_allowed* whether the operator lets the CPU stand in for a GPU.
    In *teacher_caches* runs find what teachers have said for earlier ones.

    Raises:
        DataError: the dataset is missing or malformed.
        SpecError: the spec does not fit the dataset.
        ModelError: weights are missing.
        TeacherMismatch: a teacher knows none of the classes, and has to know one.
        FetchError: published weights, or a known data set, could not be downloaded.

    """
    workdir = workdir.absolute()
    workdir.mkdir(parents=True, exist_ok=True)
    with readable():  # the dataset first: its mistakes cost nothing to find, published weights a download
        dataset, origin = _dataset(spec, settings, workdir / "converted")
        dataset = dataset.as_one_class() if _merges(spec) else dataset
        scenes = _scenes(spec, settings, dataset)
        _refuse_to_calibrate(spec, dataset, scenes)
        more = _more_images(spec, settings, dataset)
        to_be_labelled = _to_label(spec, settings, dataset)
    found, sources, unpinned = _weights(spec, settings)
    unknown = _classes_unknown(spec, dataset, found) + unpinned
    folder = workdir / "data"
    shutil.rmtree(folder, ignore_errors=True)  # an earlier attempt's
    inputs = Inputs(
        attempt=attempt, device=device, device_by=device_by, cpu_allowed=cpu_allowed, adjustments=adjustments,
        keep_last=keep_last, teacher_caches=_made(teacher_caches) if _asks_ahead(spec) else None,
        data_yaml=datasets.overlay(dataset, folder),
        weights=found,
        sources=sources,
        definitions=_definitions(spec, settings),
        dataset=_facts(dataset, origin, unknown),
        unlabelled=None if more is None else _laid_out(more, folder),
        to_label=None if to_be_labelled is None else unlabelled.overlay_pseudo_label_images(to_be_labelled, folder),
        calibration={path: _laid_out(one, folder, f"calibration-{n}") for n, (path, one) in enumerate(scenes.items())},
        decisions=sha256_of(workdir / DECISIONS) if (workdir / DECISIONS).is_file() else None,
        bounds=ceilings.bounds(settings),
    )  # fmt: skip
    more_records = [found.records for found in (more, to_be_labelled, *scenes.values()) if found is not None]
    verification.record(itertools.chain(dataset.records, *more_records, map(ImageRecord.of, found.values())), workdir)
    verification.record(dataset.label_records(), workdir, verification.COPIED)
    _keep_facts(dataset, settings, workdir)
    for path, document in ((workdir / "spec.json", spec), (workdir / FILE, inputs)):
        _write(path, document.model_dump_json(indent=2))
    return inputs


def _merges(spec: AnySpec) -> bool:
    """Return True where all classes are trained as one."""
    return isinstance(spec, JobSpec) and spec.training.single_cls


def _asks_ahead(spec: AnySpec) -> bool:
    """Return True where the teacher is asked ahead of time."""
    return isinstance(spec, JobSpec) and spec.teacher.cache


def _made(folder: Path | None) -> Path | None:
    """Return the absolute *folder*, which exists then; None where it cannot be made, and runs do without."""
    if folder is None:
        return None
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return folder.absolute()


def _keep_facts(dataset: Dataset, settings: Settings, workdir: Path) -> None:
    """Copy what is known of the images into the job's folder."""
    kept = intake.kept_file(_kept(settings), dataset.root)
    if kept is not None and kept.is_file():
        shutil.copyfile(kept, workdir / intake.KEPT)


def _weights(spec: AnySpec, settings: Settings) -> tuple[dict[str, Path], dict[str, str], list[str]]:
    """Return the converted weights that *spec* names, the digests of their sources, and warnings."""
    assert settings.model_dir is not None
    found: dict[str, Path] = {}
    sources: dict[str, str] = {}
    told: list[str] = []
    adapters = spec.teacher.adapters() if isinstance(spec, JobSpec) else spec.adapters
    for where, name in weight_names(spec).items():
        if name in found:
            _refuse_to_train_on(where, name, found[name])
            continue
        given = weights.resolve_weights(name, settings.model_dir, fetch=settings.fetch_weights)
        warning = check_published(name, given, settings.model_dir, pinned_only=settings.pinned_weights_only)
        told += [] if warning is None else [warning]
        options: dict[str, Any] = {"mode": settings.confinement, "without": settings.confinement_without}
        try:
            if not where.startswith(_TRAINED):
                found[name], sources[name] = prepare_teacher(given, adapters.get(name), settings.model_dir, **options)
            else:
                found[name], sources[name] = convert(given, settings.model_dir, **options)
        except ModelError as error:
            if where.startswith("candidates."):  # the run reads it as safely, refuses it, and measures the others
                found[name], sources[name] = given, sha256_of(given)
                continue
            raise ModelError(f"{where.removesuffix('.weights')}: {error.message}", hint=error.hint) from error
        _refuse_to_train_on(where, name, found[name])
    return found, sources, told


_TRAINED = ("student", "teacher.train")
"""Where in a spec weights are named from which a training begins; others only answer, and may be of any kind."""


def _refuse_to_train_on(where: str, name: str, file: Path) -> None:
    """Refuse that a training begins from a network that can only answer.

    Raises:
        ModelError: *where* in the spec, it would.

    """
    if where.startswith(_TRAINED) and opening.is_folded(opening.check(file, name)):
        raise ModelError(
            f"{where}: {name} comes from an export, whose normalisation is folded into its weights: it can teach, "
            "and no training can begin from it",
            hint="the .pt file that it was exported from; or name it as a teacher",
        )


def _definitions(spec: AnySpec, settings: Settings) -> dict[str, Path]:
    """Return the descriptions of networks that *spec* names, by their names."""
    assert settings.model_dir is not None
    names = dict.fromkeys(definition_names(spec).values())
    return {name: weights.resolve_definition(name, settings.model_dir) for name in names}


def _scenes(spec: AnySpec, settings: Settings, dataset: Dataset) -> dict[str, UnlabelledSet]:
    """Find and check the images that INT8 ranges are taken from, by their paths in *spec*."""
    paths = dict.fromkeys(path for one in exports_of(spec) if (path := getattr(one, "calibration_path", None)))
    return {
        path: unlabelled.locate_unlabelled(
            path,
            settings.local_dirs,
            held_out=dataset.held_out,
            kept=_kept(settings),
            bits=dataset.bits,
            title=CALIBRATION,
            most_pixels=settings.max_image_pixels,
        )
        for path in paths
    }


def _refuse_to_calibrate(spec: AnySpec, dataset: Dataset, scenes: Mapping[str, UnlabelledSet]) -> None:
    """Refuse INT8 without enough images to take its ranges from: better now than after the training."""
    for path, found in scenes.items():
        if len(found.images) < FEWEST_IMAGES:
            left_out = f" without {found.num_shared} validation or test images" if found.num_shared else ""
            raise DataError(
                f"INT8 needs at least {FEWEST_IMAGES} images to take its ranges from; {path} has "
                f"{len(found.images)}{left_out}",
                hint=f"add images to calibration_path ({ENOUGH_IMAGES} are advised), or leave it out",
            )
    quantized = [
        export.format
        for export in exports_of(spec)
        if getattr(export, "precision", None) == "int8" and export.calibration_path is None
    ]
    usable = dataset.num_train - dataset.num_shared
    if quantized and usable < FEWEST_IMAGES:
        raise DataError(
            f"INT8 ({', '.join(quantized)}) needs at least {FEWEST_IMAGES} training images that are not validation "
            f"images, to take its ranges from; this dataset has {usable}",
            hint=f"add training images ({ENOUGH_IMAGES} are advised), name a folder of images without labels as "
            "calibration_path, or leave the INT8 exports out",
        )


def _dataset(spec: AnySpec, settings: Settings, folder: Path) -> tuple[Dataset, DatasetSource | None]:
    """Return the data set, and where it came from when it is a known one; others' forms are converted in *folder*."""
    if spec.data.path is not None:
        shutil.rmtree(folder, ignore_errors=True)  # an earlier attempt's
        if (converted := _converted(spec.data.path, settings, folder)) is not None:
            return converted, None
        return _located(spec.data.path, settings.local_dirs, settings, spec.data.max_missing_labels), None
    assert spec.data.dataset is not None
    assert settings.dataset_dir is not None
    if (reference := dataset_ref.parse(spec.data.dataset)) is not None:
        origin = registered_datasets.resolve(reference, settings.dataset_dir)
        return _located(str(origin.folder), [settings.dataset_dir], settings, spec.data.max_missing_labels), origin
    origin = known_datasets.resolve(spec.data.dataset, settings.dataset_dir, fetch_missing=settings.fetch_datasets)
    return _located(str(origin.folder), [settings.dataset_dir], settings), origin


def _located(path: str, data_dirs: Sequence[Path], settings: Settings, most_missing: float = 1.0) -> Dataset:
    return datasets.locate(
        path,
        data_dirs,
        most_missing=most_missing,
        kept=_kept(settings),
        unusable_share=settings.unusable_share,
        most_pixels=settings.max_image_pixels,
    )


def _converted(path: str, settings: Settings, folder: Path) -> Dataset | None:
    return locate_converted(
        path,
        settings.local_dirs,
        folder,
        kept=_kept(settings),
        unusable_share=settings.unusable_share,
        most_pixels=settings.max_image_pixels,
    )


def _kept(settings: Settings) -> Path:
    """Return the folder of what is known of images that were opened before."""
    return settings.home / "images"


def _classes_unknown(spec: AnySpec, dataset: Dataset, found: Mapping[str, Path]) -> list[str]:
    """Return which classes teachers do not know; refuse one that must and knows none."""

    def names_of(weights: str) -> tuple[str, ...] | None:
        return stored_names(found[weights])

    for problem in teacher_names.mismatches(spec, dataset.names, names_of):
        raise TeacherMismatch(f"{problem.path} {problem.message}", hint=problem.hint)
    return teacher_names.warnings(spec, dataset.names, names_of)


def _facts(dataset: Dataset, origin: DatasetSource | None, more: Sequence[str]) -> DatasetInfo:
    return DatasetInfo(
        root=str(dataset.root),
        names=dataset.names,
        merged=dataset.merged,
        num_train=dataset.num_train,
        num_val=dataset.num_val,
        num_test=dataset.num_test,
        num_shared=dataset.num_shared,
        digest=dataset.digest,
        warnings=tuple(map(shown, (*dataset.warnings, *_leaks(dataset), *more))),
        notes=tuple(map(shown, (*dataset.notes, *(origin.notes if origin else ())))),
        images=dict(dataset.uses),
        bits=dataset.bits,
        known_as=origin.name if origin else None,
        archives=dict(origin.archives) if origin else {},
    )


def _leaks(dataset: Dataset) -> Iterator[str]:
    """Say which test images are images of another split too, so that they measure less than they seem to."""
    digests = {seen.path: seen.digest for seen in dataset.records}
    tested = {digests[str(image)] for image in dataset.test}
    for images, what in ((dataset.train, "training"), (dataset.val, "validation")):
        shared = tested & {digests[str(image)] for image in images}
        if shared:
            yield f"{len(shared)} of the {dataset.num_test} test images are {what} images too: they measure too well"


def _more_images(spec: AnySpec, settings: Settings, dataset: Dataset) -> UnlabelledSet | None:
    wanted = spec.data.unlabelled if isinstance(spec, JobSpec) else None
    if wanted is None:
        return None
    return unlabelled.locate_unlabelled(
        wanted.path,
        settings.local_dirs,
        held_out=dataset.held_out,
        kept=_kept(settings),
        bits=dataset.bits,
        most_pixels=settings.max_image_pixels,
    )


def _to_label(spec: AnySpec, settings: Settings, dataset: Dataset) -> PseudoLabelImages | None:
    wanted = spec.pseudo_labels if isinstance(spec, JobSpec) else None
    if wanted is None:
        return None
    return unlabelled.locate_pseudo_label_images(
        wanted, settings.local_dirs, dataset, kept=_kept(settings), most_pixels=settings.max_image_pixels
    )


def _laid_out(found: UnlabelledSet, folder: Path, name: str = "unlabelled") -> UnlabelledInfo:
    """Link the images below *folder*; say what they are."""
    return UnlabelledInfo(
        root=str(found.root),
        folder=unlabelled.overlay_unlabelled(found, folder, name),
        num_images=len(found.images),
        num_shared=found.num_shared,
        digest=found.digest,
        notes=found.notes,
        images=found.use,
    )


def _write(path: Path, text: str) -> None:
    part = path.with_name(f"{path.name}.part")
    part.write_text(text)
    part.replace(path)
