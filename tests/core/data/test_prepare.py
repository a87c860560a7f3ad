"""Preparing a run: what its spec names is found, and written down so that the run looks for nothing."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest
from core.data import archives
from core.training.pictures import NAMES, draw
from retort.data import audit, intake
from retort.data.inputs import Inputs
from retort.data.prepare import prepare
from retort.errors import DataError, ModelError, SpecError, TransientError
from retort.files import sha256_of
from retort.settings import Settings
from retort.spec import JobSpec, parse_spec
from support.checkpoints import archive, checkpoint
from support.pickles import network, pickled


def spec_of(data: Path, *, teacher: str = "teacher.pt") -> JobSpec:
    return parse_spec(
        {
            "name": "x",
            "data": {"path": str(data)},
            "teacher": {"weights": teacher},
            "student": {"model": "yolov8n", "weights": "start.pt"},
        }
    )


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "models").mkdir()
    for name in ("teacher.pt", "start.pt"):
        (tmp_path / "models" / name).write_bytes(checkpoint((), note=name))
    return Settings(home=tmp_path, fetch_weights=False)


def test_the_run_reads_back_what_was_prepared(tmp_path: Path, settings: Settings):
    data = draw(tmp_path / "data", num_train=3, num_val=2)
    spec = spec_of(data)
    inputs = prepare(spec, settings, tmp_path / "work", attempt=2, device="0")
    assert Inputs.load(tmp_path / "work") == inputs
    assert JobSpec.model_validate_json((tmp_path / "work/spec.json").read_text()) == spec
    assert (inputs.attempt, inputs.device) == (2, "0")
    files = {name: tmp_path / "models" / name for name in ("teacher.pt", "start.pt")}
    assert inputs.sources == {name: sha256_of(path) for name, path in files.items()}
    assert inputs.weights == {name: tmp_path / "models/converted" / inputs.sources[name] / name for name in files}
    assert (inputs.dataset.num_train, inputs.dataset.num_val) == (3, 2)
    assert inputs.data_yaml == tmp_path / "work/data/data.yaml"
    assert inputs.data_yaml.is_file()


def test_all_classes_are_one_in_the_copies_of_the_job_and_in_no_file_of_its_user(tmp_path: Path, settings: Settings):
    data = draw(tmp_path / "data", num_train=3, num_val=2)
    doubled = data.parent / "labels/train/0.txt"
    doubled.write_text("2 0.5 0.5 0.2 0.2\n0 0.5 0.5 0.2 0.2\n1 0.1 0.1 0.1 0.1\n")
    before = {path: path.read_bytes() for path in (data.parent / "labels").rglob("*.txt")}
    spec = parse_spec({**spec_of(data).model_dump(exclude_unset=True), "training": {"single_cls": True}})

    inputs = prepare(spec, settings, tmp_path / "work", attempt=1, device="cpu")

    assert (inputs.dataset.names, inputs.dataset.merged) == (("item",), tuple(NAMES.values()))
    assert any("3 classes count as one, item" in note for note in inputs.dataset.notes)
    copies = tmp_path / "work/data/labels"
    assert (copies / "train/0.txt").read_text() == "0 0.5 0.5 0.2 0.2\n0 0.1 0.1 0.1 0.1\n"
    classes = {line.split()[0] for path in copies.rglob("*.txt") for line in path.read_text().splitlines()}
    assert classes == {"0"}
    assert "item" in inputs.data_yaml.read_text()
    assert {path: path.read_bytes() for path in before} == before


INT8 = [{"format": "onnx", "precision": "int8", "calibration_path": "scenes"}]


def test_int8_takes_a_folder_of_ones_own_scenes_in_place_of_labelled_training_images(
    tmp_path: Path, settings: Settings
):
    settings = settings.model_copy(update={"data_dirs": (tmp_path / "data",)})
    data = draw(tmp_path / "data/set", num_train=3, num_val=2)
    spec = parse_spec({**spec_of(data).model_dump(exclude_unset=True), "exports": INT8 * 2})
    with pytest.raises(DataError, match="no folder of calibration images at scenes"):
        prepare(spec, settings, tmp_path / "work", attempt=1, device="cpu")
    scenes = draw(tmp_path / "data/scenes", num_train=49, num_val=1, seed=1).parent
    shutil.copy(data.parent / "images/val/0.png", scenes / "known.png")
    inputs = prepare(spec, settings, tmp_path / "work", attempt=1, device="cpu")
    found = inputs.calibration["scenes"]
    assert (found.num_images, found.num_shared, len(inputs.calibration)) == (50, 1, 1)
    laid = {image.resolve() for image in found.folder.iterdir()}
    assert laid == set(scenes.rglob("*.png")) - {scenes / "known.png"}


def test_a_folder_of_too_few_scenes_is_refused_before_the_training(tmp_path: Path, settings: Settings):
    settings = settings.model_copy(update={"data_dirs": (tmp_path / "data",)})
    data = draw(tmp_path / "data/set", num_train=60, num_val=2)
    draw(tmp_path / "data/scenes", num_train=48, num_val=1, seed=1)
    shutil.copy(data.parent / "images/val/0.png", tmp_path / "data/scenes/known.png")
    spec = parse_spec({**spec_of(data).model_dump(exclude_unset=True), "exports": INT8})
    with pytest.raises(DataError, match=r"at least 50 images .* scenes has 49 without 1 validation or test images"):
        prepare(spec, settings, tmp_path / "work", attempt=1, device="cpu")
    labelled = [{"format": "onnx", "precision": "int8"}]
    few = spec_of(draw(tmp_path / "data/few", num_train=3, num_val=1))
    told = parse_spec({**few.model_dump(exclude_unset=True), "exports": labelled})
    with pytest.raises(DataError, match="at least 50 training images") as caught:
        prepare(told, settings, tmp_path / "work", attempt=1, device="cpu")
    assert "calibration_path" in str(caught.value.hint)


@pytest.mark.parametrize("other", [{"precision": "fp32"}, {"precision": "int8", "aware_epochs": 2}])
def test_a_folder_of_scenes_that_would_not_be_used_is_refused(tmp_path: Path, other: dict[str, object]):
    with pytest.raises(SpecError) as caught:
        parse_spec({**spec_of(tmp_path).model_dump(exclude_unset=True), "exports": [{**INT8[0], **other}]})
    assert [problem.path for problem in caught.value.problems] == ["exports.0.calibration_path"]


def test_test_images_that_another_split_holds_too_are_told(tmp_path: Path, settings: Settings):
    data = draw(tmp_path / "data", num_train=3, num_val=2)
    root = data.parent
    for kind, ending in (("images", "png"), ("labels", "txt")):
        (root / kind / "test").mkdir()
        for number, source in enumerate(("train/0", "train/1", "val/1")):
            shutil.copy(root / kind / f"{source}.{ending}", root / kind / "test" / f"{number}.{ending}")
    data.write_text(data.read_text() + "test: images/test\n")
    inputs = prepare(spec_of(data), settings, tmp_path / "work", attempt=1, device="cpu")
    assert inputs.dataset.num_test == 3
    assert inputs.dataset.warnings == (
        "2 of the 3 test images are training images too: they measure too well",
        "1 of the 3 test images are validation images too: they measure too well",
    )


def test_a_job_without_half_of_its_label_files_is_refused_unless_its_spec_takes_them_for_background(
    tmp_path: Path, settings: Settings
):
    data = draw(tmp_path / "data", num_train=4, num_val=2)
    for number in range(3):
        (data.parent / f"labels/train/{number}.txt").unlink()
    with pytest.raises(DataError, match="3 of 4 images of train have no label file: they count as background"):
        prepare(spec_of(data), settings, tmp_path / "work", attempt=1, device="cpu")
    spec = spec_of(data).model_dump(mode="json")
    taken = parse_spec({**spec, "data": {"path": str(data), "max_missing_labels": 0.8}})
    inputs = prepare(taken, settings, tmp_path / "work", attempt=1, device="cpu")
    assert inputs.dataset.warnings == ("3 of 4 images of train have no label file: they count as background",)


def _long_name(data: Path) -> None:
    data.write_text(data.read_text().replace("images/train", f"images/{'x' * 300}"))


def _circle(data: Path) -> None:
    shutil.rmtree(data.parent / "images/train")
    (data.parent / "images/train").symlink_to(data.parent / "images/train")


def _huge(data: Path) -> None:
    with data.open("wb") as file:
        file.truncate(1 << 30)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [(_long_name, "File name too long"), (_circle, "Symlink loop|symbolic links"), (_huge, "larger than 8 MiB")],
)
def test_what_only_the_user_can_mend_is_no_failure_of_the_machine_and_is_not_tried_again(
    tmp_path: Path, settings: Settings, spoil: Callable[[Path], None], told: str
):
    data = draw(tmp_path / "data", num_train=2, num_val=2)
    spoil(data)
    with pytest.raises(DataError, match=told) as caught:
        prepare(spec_of(data), settings, tmp_path / "work", attempt=1, device="cpu")
    assert caught.value.code == "bad_data"
    assert not caught.value.retryable
    assert caught.value.hint


def test_a_later_attempt_prepares_anew_and_drops_what_ultralytics_cached(tmp_path: Path, settings: Settings):
    spec = spec_of(draw(tmp_path / "data", num_train=3, num_val=2))
    first = prepare(spec, settings, tmp_path / "work", attempt=1, device="cpu")
    cached = first.data_yaml.parent / "labels/train.cache"
    cached.write_bytes(b"a pickle")
    second = prepare(spec, settings, tmp_path / "work", attempt=2, device="cpu")
    assert second == first.model_copy(update={"attempt": 2})
    assert not cached.exists()


def test_a_known_data_set_is_prepared_by_its_name_and_says_where_it_came_from(tmp_path: Path):
    settings = Settings(home=tmp_path, fetch_datasets=False)
    place = tmp_path / "datasets" / "archives"
    place.mkdir(parents=True)
    (place / "coco128.zip").write_bytes(data := archives.coco128()["coco128.zip"])
    (tmp_path / "models").mkdir()
    document = {
        "name": "x",
        "data": {"dataset": "coco128"},
        "teacher": {"train": {"model": "yolov8n", "weights": None}},
    }
    spec = parse_spec({**document, "student": {"model": "yolov8n", "weights": None}})
    inputs = prepare(spec, settings, tmp_path / "work", attempt=1, device="cpu")
    assert inputs.dataset.known_as == "coco128"
    assert inputs.dataset.archives == {"coco128.zip": hashlib.sha256(data).hexdigest()}
    assert (inputs.dataset.num_train, inputs.dataset.num_shared) == (3, 3)
    assert any("nobody has published a checksum" in note for note in inputs.dataset.notes)
    assert inputs.data_yaml == tmp_path / "work/data/data.yaml"


def test_missing_data_and_weights_are_told_before_any_process_starts(tmp_path: Path, settings: Settings):
    with pytest.raises(DataError):
        prepare(spec_of(tmp_path / "nowhere"), settings, tmp_path / "work", attempt=1, device="cpu")
    data = draw(tmp_path / "data", num_train=1, num_val=1)
    with pytest.raises(ModelError, match=r"no weights other\.pt"):
        prepare(spec_of(data, teacher="other.pt"), settings, tmp_path / "work", attempt=1, device="cpu")
    assert not (tmp_path / "work/inputs.json").exists()


def test_inputs_that_are_missing_or_torn_are_an_error_of_the_world(tmp_path: Path):
    with pytest.raises(TransientError):
        Inputs.load(tmp_path)
    (tmp_path / "inputs.json").write_text('{"attempt": 1')
    with pytest.raises(TransientError):
        Inputs.load(tmp_path)


def test_names_of_files_that_are_no_utf8_are_told_in_letters_and_go_through_every_document(
    tmp_path: Path, settings: Settings
):
    data = draw(tmp_path / "data", num_train=4, num_val=2)
    images = data.parent / "images/train"
    (images / "0.png").rename(Path(os.fsdecode(os.fsencode(images) + b"/caf\xe9.png")))
    broken = Path(os.fsdecode(os.fsencode(images) + b"/cut\xff.jpg"))
    broken.write_bytes(b"\xff\xd8\xff")
    lenient = settings.model_copy(update={"unusable_share": 0.3})
    inputs = prepare(spec_of(data), lenient, tmp_path / "work", attempt=1, device="cpu")
    assert Inputs.load(tmp_path / "work") == inputs
    assert "images/train/cut\\xff.jpg is damaged" in inputs.dataset.images["train"].sentence("train")
    assert any("caf" in path.name for path in (tmp_path / "work/data/images/train").iterdir())
    found = audit.check(str(data.parent), [tmp_path])
    json.dumps([asdict(finding) for finding in found.findings], ensure_ascii=False).encode()
    with pytest.raises(DataError) as caught:
        prepare(spec_of(data), settings, tmp_path / "work", attempt=1, device="cpu")
    caught.value.message.encode()


def test_what_intake_knows_of_images_lies_in_the_jobs_folder_and_is_not_found_out_again(
    tmp_path: Path, settings: Settings
):
    """The report decoded the whole data set again at the end of a job."""
    data = draw(tmp_path / "data", num_train=3, num_val=2)
    prepare(spec_of(data), settings, tmp_path / "work", attempt=1, device="cpu")
    kept = tmp_path / "work" / intake.KEPT
    known = json.loads(kept.read_text())
    digest = next(iter(known["images"]))
    known["images"][digest]["width"] = 4
    kept.write_text(json.dumps(known))
    beats: list[None] = []

    found = audit.check(
        str(data.parent), [tmp_path], audit.AuditOptions(kept=kept, alive=lambda: beats.append(None), most_pairs=10**6)
    )
    briefly = audit.check(str(data.parent), [tmp_path], audit.AuditOptions(kept=kept, most_pairs=1))

    assert "tiny_box" in {one.code for one in found.findings}, "it took the word of intake"
    assert len(beats) > 3, "a search for copies may take minutes"
    assert "copies_not_looked_for" not in str(found.findings)
    assert [one.hint for one in briefly.findings if one.code == "copies_not_looked_for"] == ["run retort data check"]


def test_no_training_begins_from_a_network_that_an_export_has_folded(tmp_path: Path, settings: Settings):
    data = draw(tmp_path / "data", num_train=3, num_val=2)
    held = {"model": network(names={}), "train_args": {"task": "detect", "folded": True}}
    for name in ("teacher.pt", "start.pt"):
        (tmp_path / "models" / name).write_bytes(archive(pickled({**held, "note": name})))

    with pytest.raises(ModelError, match=r"student\.weights: start\.pt comes from an export") as told:
        prepare(spec_of(data), settings, tmp_path / "work", attempt=1, device="0")
    assert told.value.hint

    (tmp_path / "models" / "start.pt").write_bytes(checkpoint((), note="start"))
    assert prepare(spec_of(data), settings, tmp_path / "work", attempt=1, device="0").weights
