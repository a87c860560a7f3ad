"""Files of every kind, depth, orientation and damage: the same pixels on every path, or one refusal at intake."""

from __future__ import annotations

import base64
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from core.data import corpus
from core.data.corpus import ImageCase
from PIL import Image
from retort.data import audit, datasets, listing, unlabelled
from retort.data.audit import AuditReport
from retort.data.datasets import Dataset
from retort.data.description import DatasetDescription
from retort.errors import DataError
from retort.images import ImageFacts, picture, plain_name, preview, read, shown, size_of
from retort.labelling.duplicates import hash_images
from retort.report import samples
from retort.spec import PseudoLabelsSpec
from retort.training.data.loader import training_set
from retort.training.inference import prepare
from retort.training.ultralytics_api import YOLODataset, check_det_dataset
from ultralytics.cfg import get_cfg
from ultralytics.utils.patches import imread

pytestmark = pytest.mark.filterwarnings("ignore:.*:UserWarning")  # Pillow's, of damaged directories
LONG = corpus.WIDTH
Pixels = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Group:
    """A data set of one group of the corpus, found and laid out as for a job."""

    folder: Path
    cases: dict[Path, ImageCase]
    dataset: Dataset
    laid: dict[Path, Path]
    """The job's file, by the user's."""
    data_yaml: Path

    def pixels(self, image: Path) -> Pixels:
        return read(image, self.dataset.bits or 16)


@pytest.fixture(scope="module", params=corpus.GROUPS)
def group(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Group:
    folder = tmp_path_factory.mktemp("corpus")
    cases = corpus.write(list(corpus.GROUPS[request.param]()), folder / "images/train")
    (folder / "images/val").mkdir()
    (folder / "labels/train").mkdir(parents=True)
    for number in range(2):
        corpus.scene(90 + number).save(folder / f"images/val/{number}.png")
    for image in [*cases, *(folder / "images/val").iterdir()]:
        label = datasets.label_of(folder, image)
        label.parent.mkdir(exist_ok=True)
        label.write_text("0 0.5 0.5 0.4 0.4\n")
    (folder / "data.yaml").write_text(
        yaml.safe_dump({"train": "images/train", "val": "images/val", "names": ["thing"]})
    )
    dataset = datasets.locate(str(folder), [folder], unusable_share=1.0)
    data_yaml = datasets.overlay(dataset, folder / "job")
    laid = {
        image: folder / "job/images/train" / plain_name(stem, image, dataset.facts[image])
        for stem, image in datasets._stems(dataset.train)
    }
    return Group(folder.resolve(), cases, dataset, laid, data_yaml)


def same(first: Pixels, second: Pixels) -> bool:
    return first.shape == second.shape and bool((first == second).all())


def test_a_file_is_read_as_people_see_it_or_refused_with_the_reason(group: Group):
    for image, case in group.cases.items():
        facts = group.dataset.facts[image]
        assert case.expected == "either" or (case.expected == "read") == (not facts.problem), (case.name, facts.problem)
        if not facts.problem and case.scene is not None:
            rgb = group.pixels(image)[..., ::-1]
            assert rgb.shape == case.scene.shape, case.name
            assert np.abs(rgb.astype(int) - case.scene).mean() < 8, case.name


def test_intake_the_check_and_the_job_count_alike(group: Group):
    use = group.dataset.uses["train"]
    assert (use.num_found, use.num_used) == (len(group.cases), len(group.laid))
    found = audit.check(str(group.folder), [group.folder])
    assert found.images["train"] == use
    assert _left_out(found) == use.num_unused
    assert len(list((group.folder / "job/images/train").iterdir())) == use.num_used
    json.dumps(found.images["train"].model_dump(mode="json"), ensure_ascii=False).encode()  # names are UTF-8 by now


def _left_out(found: AuditReport) -> int:
    codes = {"not_an_image", "broken_image", "small_image"}
    return sum(finding.number for finding in found.findings if finding.code in codes)


def test_training_and_validation_see_the_readers_pixels_and_drop_nothing(group: Group):
    data = check_det_dataset(str(group.data_yaml))
    args = get_cfg(overrides={"imgsz": LONG})
    ours = training_set(args, data["train"], 4, data, stride=32, seed=0, max_cache_bytes=1 << 30)
    judged = YOLODataset(img_path=data["train"], imgsz=LONG, augment=False, data=data, task="detect", rect=True)
    expected = {str(file): group.pixels(image) for image, file in group.laid.items()}
    assert sorted(ours.im_files) == sorted(judged.im_files) == sorted(expected)
    for index, file in enumerate(ours.im_files):
        assert ours.labels[index]["shape"] == expected[file].shape[:2]
        assert same(imread(file), expected[file]), file
        if max(expected[file].shape) == LONG:
            assert same(ours.pictures[index], expected[file]), file
    for index, file in enumerate(judged.im_files):
        if max(expected[file].shape) == LONG:
            assert same(judged.load_image(index)[0], expected[file]), file


def test_converting_and_finding_copies_know_the_turned_size_too(group: Group):
    for image in group.laid:
        expected = group.pixels(image).shape[1::-1]
        assert size_of(image) == expected, image
        assert preview(image, LONG)[0] == expected, image
        assert preview(image, LONG)[1].size == expected, image


def test_the_judge_of_single_images_sees_them_too(group: Group):
    for image, file in group.laid.items():
        expected = group.pixels(image)
        if max(expected.shape) == LONG:
            square, (height, width) = prepare(file, LONG)
            assert (height, width) == expected.shape[:2]
            top, left = (LONG - height) // 2, (LONG - width) // 2
            inside = (square[0, :, top : top + height, left : left + width] * 255).round().byte().numpy()
            assert same(inside.transpose(1, 2, 0)[..., ::-1], expected), file


def test_pseudo_labels_copies_reviewers_and_report_see_them_too(group: Group, tmp_path: Path):
    wanted = PseudoLabelsSpec(path=str(group.folder / "images/train"))
    found = unlabelled.locate_pseudo_label_images(wanted, [group.folder], group.dataset)
    told = unlabelled.overlay_pseudo_label_images(found, tmp_path)
    assert told.images is not None
    assert (len(told.files), told.images.num_unused) == (len(group.laid), group.dataset.uses["train"].num_unused)
    files = {path.stem: path for path in (told.folder / "images").iterdir()}
    looks = hash_images([files[name] for name in found.images], lambda: None)
    assert looks.unreadable == ()
    for (name, image), size in zip(found.images.items(), looks.sizes, strict=True):
        expected = group.pixels(image)
        assert size == expected.shape[1::-1]
        assert same(np.asarray(picture(files[name])), expected[..., ::-1])
        assert told.files[name] == shown(image.relative_to(found.root))
    for image in list(group.laid)[:6]:
        drawn = _drawn(samples.draw(group.laid[image], [], ["thing"]))
        scaled = Image.fromarray(group.pixels(image)[..., ::-1].copy()).resize(drawn.size, Image.Resampling.BICUBIC)
        assert np.abs(np.asarray(drawn).astype(int) - np.asarray(scaled)).mean() < 8, image


def _drawn(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))).convert("RGB")


def test_the_corpus_is_as_large_as_it_is_told_to_be():
    numbers = {name: len(list(make())) for name, make in corpus.GROUPS.items()}
    assert sum(numbers.values()) >= 300, numbers


def test_damage_above_the_share_refuses_the_job_and_names_the_files(tmp_path: Path):
    corpus.write(
        [ImageCase(f"{n}.jpg", corpus.encoded(corpus.scene(n), "JPEG")) for n in range(20)], tmp_path / "images/train"
    )
    corpus.scene(30).save(_below(tmp_path / "images/val/0.png"))
    for label in [f"train/{n}" for n in range(20)] + ["val/0"]:
        _below(tmp_path / f"labels/{label}.txt").write_text("0 0.5 0.5 0.4 0.4\n")
    (tmp_path / "data.yaml").write_text("{train: images/train, val: images/val, names: [thing]}")
    for number in range(2):
        _cut(tmp_path / f"images/train/{number}.jpg")
    found = datasets.locate(str(tmp_path), [tmp_path]).uses["train"]
    assert found.sentence("train").startswith(
        "train: used 18 of 20 images, 2 could not be read: images/train/0.jpg is cut off"
    )
    _cut(tmp_path / "images/train/2.jpg")
    with pytest.raises(DataError, match=r"3 of the 20 images of train cannot be used, .*0\.jpg is cut off .*2\.jpg"):
        datasets.locate(str(tmp_path), [tmp_path])


def _below(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


def test_a_second_job_decodes_nothing_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from retort import images
    from retort.data import intake

    folder = tmp_path / "images"
    cases = corpus.write([*corpus.names()][:12], folder)
    first = intake.examine_images(cases, tmp_path / "kept.json")
    monkeypatch.setattr(images, "_facts", lambda *_: pytest.fail("decoded again"))
    assert intake.examine_images(cases, tmp_path / "kept.json") == first
    (tmp_path / "kept.json").write_text("{}")
    with pytest.raises(pytest.fail.Exception):
        intake.examine_images(cases, tmp_path / "kept.json")


def test_pictures_that_nobody_reads_are_counted_and_files_of_a_mac_are_passed_over(tmp_path: Path):
    for split in ("train", "val"):
        corpus.scene().save(_below(tmp_path / f"images/{split}/0.png"))
        _below(tmp_path / f"labels/{split}/0.txt").write_text("0 0.5 0.5 0.4 0.4\n")
    for ending in ("gif", "ppm", "PFM", "jfif", "psd", "cr2"):
        (tmp_path / f"images/train/other.{ending}").write_bytes(b"x")
    (tmp_path / "images/train/._0.png").write_bytes(b"\0\x05\x16\x07" + bytes(80))
    (tmp_path / "images/train/link.png").symlink_to(tmp_path / "gone.png")
    (tmp_path / "data.yaml").write_text("{train: images/train, val: images/val, names: [thing]}")
    found = datasets.locate(str(tmp_path), [tmp_path], unusable_share=0.5)
    use = found.uses["train"]
    assert (use.num_used, sum(use.unread.values())) == (1, 6)
    assert "link.png cannot be opened: no such file or directory" in use.sentence("train")
    assert "1 files ._* of a Mac are no images" in " ".join(found.notes)
    codes = {finding.code for finding in audit.check(str(tmp_path), [tmp_path]).findings}
    assert {"unread_picture", "mac_attributes", "broken_image"} <= codes


def test_images_in_linked_folders_are_found_and_links_that_lead_in_a_circle_end(tmp_path: Path):
    corpus.scene().save(_below(tmp_path / "elsewhere/0.png"))
    (tmp_path / "images/train").mkdir(parents=True)
    (tmp_path / "images/train/part").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/back").symlink_to(tmp_path / "elsewhere")
    found = listing.images_below((tmp_path / "images/train/part").resolve())
    assert [path.name for path in found.images] == ["0.png"]
    description = DatasetDescription(tmp_path, tmp_path, {"train": (tmp_path / "images/train",)}, ("thing",), ())
    assert [path.name for path in listing.images_of(description, "train").images] == ["0.png"]


def test_the_facts_of_an_image_that_is_gone_say_so(tmp_path: Path):
    from retort.images import examine

    assert examine(tmp_path / "gone.jpg") == ImageFacts(problem="cannot be opened: no such file or directory")
    with pytest.raises(DataError, match="cannot be read: No such file"):
        read(tmp_path / "gone.jpg")
