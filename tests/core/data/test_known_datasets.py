"""Known data sets: fetched whole or not at all, checked, converted, and never fetched twice."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from core.data import archives
from core.data.archives import Publisher, publishing, tag_of
from retort.data import audit, catalog, datasets, known_datasets
from retort.data.catalog import CATALOGUE
from retort.errors import DataError, FetchError


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    with publishing() as server:
        yield server


@pytest.fixture
def publish(publisher: Publisher, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, dict[str, bytes]], Publisher]:
    """Publish archives of a known data set here, with the checksums that such archives have."""

    def put(name: str, files: dict[str, bytes]) -> Publisher:
        publisher.files |= files
        found = CATALOGUE[name]
        moved = tuple(
            replace(
                archive,
                url=f"{publisher.url}/{archive.file}",
                checksum=archive.checksum
                and (archive.checksum[0], hashlib.new(archive.checksum[0], files[archive.file]).hexdigest()),
            )
            for archive in found.archives
        )
        monkeypatch.setitem(CATALOGUE, name, replace(found, archives=moved))
        return publisher

    return put


Publish = Callable[[str, dict[str, bytes]], Publisher]


def labels(folder: Path, split: str) -> dict[str, str]:
    return {path.stem: path.read_text() for path in sorted((folder / "labels" / split).iterdir())}


def test_a_set_in_yolo_layout_is_fetched_once_and_fit_to_learn_from(tmp_path: Path, publish: Publish):
    server = publish("coco8", archives.coco8())

    first = known_datasets.resolve("coco8", tmp_path, fetch_missing=True)
    again = known_datasets.resolve("COCO8", tmp_path, fetch_missing=True)

    assert first == again
    assert server.asked == [("coco8.zip", None)]
    found = datasets.locate(str(first.folder), [tmp_path])
    assert (found.num_train, found.num_val, len(found.names), found.names[45]) == (2, 2, 80, "bowl")
    assert first.archives == {"coco8.zip": hashlib.sha256(server.files["coco8.zip"]).hexdigest()}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["archives", "coco8", "coco8.json", "coco8.lock"]
    assert list((tmp_path / "archives").iterdir()) == []


@pytest.mark.parametrize("folders", [("images/train", "images/val"), ("train/images", "valid/images")])
@pytest.mark.parametrize("around", ["", "african-wildlife/"])
def test_editions_that_differ_in_their_folders_are_read_alike(
    tmp_path: Path, publish: Publish, folders: tuple[str, str], around: str
):
    files: dict[str, bytes | str] = {}
    for shade, folder in enumerate(folders):
        files[f"{around}{folder}/x.jpg"] = archives.picture(shade * 50)
        files[f"{around}{folder.replace('images', 'labels')}/x.txt"] = f"{shade} 0.5 0.5 0.2 0.2\n"
    publish("african-wildlife", {"african-wildlife.zip": archives.zipped(files)})

    origin = known_datasets.resolve("african-wildlife", tmp_path, fetch_missing=True)

    found = datasets.locate(str(origin.folder), [tmp_path])
    assert (found.num_train, found.num_val, found.names[1]) == (1, 1, "elephant")


def test_images_that_are_learnt_from_and_measured_on_are_noticed(tmp_path: Path, publish: Publish):
    publish("coco128", archives.coco128())
    origin = known_datasets.resolve("coco128", tmp_path, fetch_missing=True)

    assert datasets.locate(str(origin.folder), [tmp_path]).num_shared == 3
    codes = {finding.code for finding in audit.check(str(origin.folder), [tmp_path]).findings}
    assert "shared_image" in codes


def test_coco_is_converted_by_the_order_of_its_numbers_without_crowds(tmp_path: Path, publish: Publish):
    publish("coco", archives.coco())
    origin = known_datasets.resolve("coco", tmp_path, fetch_missing=True)

    # 10 5 20 10 in 100 x 50; the other box is cut at the edge: 90..100, 40..50.
    person, brush = "0 0.200000 0.200000 0.200000 0.200000\n", "79 0.950000 0.900000 0.100000 0.200000\n"
    assert labels(origin.folder, "train") == {"000000000007": person + brush, "000000000008": ""}
    assert labels(origin.folder, "val") == {"000000000007": person}
    found = datasets.locate(str(origin.folder), [tmp_path])
    assert (found.num_train, found.num_val, found.num_shared) == (2, 1, 0)


def test_voc_counts_pixels_from_one_and_leaves_difficult_objects_out(tmp_path: Path, publish: Publish):
    publish("voc", archives.voc())
    origin = known_datasets.resolve("voc", tmp_path, fetch_missing=True)

    # 11..30 and 6..15, both included: 20 x 10 pixels from 10, 5.
    dog = "11 0.200000 0.200000 0.200000 0.200000\n"
    assert labels(origin.folder, "train") == {"000005": dog, "2008_000002": dog}
    assert labels(origin.folder, "val") == {"000001": dog}
    assert datasets.locate(str(origin.folder), [tmp_path]).num_train == 2


def test_visdrone_leaves_out_regions_others_and_what_does_not_count(tmp_path: Path, publish: Publish):
    publish("visdrone", archives.visdrone())
    origin = known_datasets.resolve("VisDrone", tmp_path, fetch_missing=True)

    lines = "3 0.200000 0.200000 0.200000 0.200000\n9 0.950000 0.900000 0.100000 0.200000\n"
    assert labels(origin.folder, "train") == labels(origin.folder, "val") == {"a": lines}
    assert datasets.locate(str(origin.folder), [tmp_path]).num_val == 1


def test_a_download_that_breaks_off_goes_on_where_it_was(tmp_path: Path, publish: Publish):
    server = publish("coco8", archives.coco8())
    server.break_after, server.breaks = 1000, 2

    known_datasets.resolve("coco8", tmp_path, fetch_missing=True)

    assert server.asked == [("coco8.zip", None), ("coco8.zip", "bytes=1000-"), ("coco8.zip", "bytes=2000-")]


def test_a_file_that_has_changed_meanwhile_is_fetched_from_its_beginning(tmp_path: Path, publish: Publish):
    server = publish("coco8", archives.coco8())
    (tmp_path / "archives").mkdir()
    (tmp_path / "archives" / "coco8.zip.part").write_bytes(b"of another edition")
    (tmp_path / "archives" / "coco8.zip.part.json").write_text('{"etag": "\\"other\\""}')

    origin = known_datasets.resolve("coco8", tmp_path, fetch_missing=True)

    assert server.asked == [("coco8.zip", "bytes=18-")]
    assert datasets.locate(str(origin.folder), [tmp_path]).num_train == 2


def test_a_part_that_is_the_whole_already_is_fetched_anew(tmp_path: Path, publish: Publish):
    server = publish("coco8", archives.coco8())
    (tmp_path / "archives").mkdir()
    data = server.files["coco8.zip"]
    (tmp_path / "archives" / "coco8.zip.part").write_bytes(data)
    (tmp_path / "archives" / "coco8.zip.part.json").write_text(json.dumps({"etag": tag_of(data)}))

    known_datasets.resolve("coco8", tmp_path, fetch_missing=True)

    assert server.asked == [("coco8.zip", f"bytes={len(data)}-"), ("coco8.zip", None)]


def test_what_has_another_checksum_than_the_published_one_is_refused_and_kept_aside(tmp_path: Path, publish: Publish):
    server = publish("voc", archives.voc())
    right = server.files["VOCtest_06-Nov-2007.tar"]
    server.files["VOCtest_06-Nov-2007.tar"] = right + b"\0" * 512

    with pytest.raises(DataError, match="torchvision"):
        known_datasets.resolve("voc", tmp_path, fetch_missing=True)

    assert not (tmp_path / "voc").exists()
    assert (tmp_path / "archives" / "VOCtest_06-Nov-2007.tar.refused").is_file()
    server.files["VOCtest_06-Nov-2007.tar"] = right
    assert known_datasets.resolve("voc", tmp_path, fetch_missing=True).folder.is_dir()


def test_where_no_checksum_is_published_the_first_bytes_are_remembered(tmp_path: Path, publish: Publish):
    server = publish("coco8", archives.coco8())
    origin = known_datasets.resolve("coco8", tmp_path, fetch_missing=True)
    assert "nobody has published a checksum" in origin.notes[0]

    for path in sorted(origin.folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    origin.folder.rmdir()
    server.files["coco8.zip"] = archives.zipped({"coco8/images/train/x.jpg": archives.picture(9)})

    with pytest.raises(DataError, match="what was fetched first"):
        known_datasets.resolve("coco8", tmp_path, fetch_missing=True)


def test_an_answer_that_is_no_data_set_is_never_remembered(tmp_path: Path, publish: Publish):
    files = archives.coco8()
    server = publish("coco8", {"coco8.zip": b"<html>sign in to this network</html>"})
    with pytest.raises(DataError, match="neither a ZIP file nor a tar file"):
        known_datasets.resolve("coco8", tmp_path, fetch_missing=True)

    server.files |= files
    assert known_datasets.resolve("coco8", tmp_path, fetch_missing=True).archives.keys() == {"coco8.zip"}


def test_workers_that_need_the_same_set_fetch_it_once(tmp_path: Path, publish: Publish):
    server = publish("coco8", archives.coco8())

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: known_datasets.resolve("coco8", tmp_path, fetch_missing=True), range(8)))

    assert {origin.folder for origin in found} == {tmp_path / "coco8"}
    assert server.asked == [("coco8.zip", None)]


def test_archives_put_there_by_hand_are_used_without_any_network_and_left(tmp_path: Path):
    (tmp_path / "archives").mkdir()
    (tmp_path / "archives" / "coco8.zip").write_bytes(archives.coco8()["coco8.zip"])

    origin = known_datasets.resolve("coco8", tmp_path, fetch_missing=False)

    assert datasets.locate(str(origin.folder), [tmp_path]).num_train == 2
    assert (tmp_path / "archives" / "coco8.zip").is_file()


def test_a_set_laid_out_by_hand_is_taken_as_it_is(tmp_path: Path):
    (tmp_path / "coco8").mkdir()
    (tmp_path / "coco8" / "data.yaml").write_text("names: [thing]")

    assert known_datasets.resolve("coco8", tmp_path, fetch_missing=False).notes == (
        "data set coco8: put there by hand",
    )


def test_without_network_the_error_says_what_to_put_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    found = CATALOGUE["coco8"]
    unreachable = replace(found.archives[0], url="http://127.0.0.1:1/coco8.zip")
    monkeypatch.setitem(CATALOGUE, "coco8", replace(found, archives=(unreachable,)))

    with pytest.raises(FetchError) as caught:
        known_datasets.resolve("coco8", tmp_path, fetch_missing=True)

    place = tmp_path / "archives" / "coco8.zip"
    assert caught.value.hint == f"put http://127.0.0.1:1/coco8.zip at {place} by hand"
    assert caught.value.retryable


def test_where_fetching_is_switched_off_the_error_says_the_same(tmp_path: Path):
    with pytest.raises(DataError, match="switched off") as caught:
        known_datasets.resolve("coco8", tmp_path, fetch_missing=False)
    assert f"at {tmp_path / 'archives' / 'coco8.zip'} by hand" in str(caught.value.hint)


def test_a_file_that_is_not_published_any_more_is_told(tmp_path: Path, publish: Publish):
    publish("coco8", archives.coco8()).files.clear()
    with pytest.raises(FetchError, match="404"):
        known_datasets.resolve("coco8", tmp_path, fetch_missing=True)


def test_a_file_that_is_far_too_large_is_not_downloaded(
    tmp_path: Path, publish: Publish, monkeypatch: pytest.MonkeyPatch
):
    publish("coco8", archives.coco8())
    found = CATALOGUE["coco8"]
    small = replace(found.archives[0], limit_bytes=100)
    monkeypatch.setitem(CATALOGUE, "coco8", replace(found, archives=(small,)))

    with pytest.raises(FetchError, match="more than 100"):
        known_datasets.resolve("coco8", tmp_path, fetch_missing=True)
    assert not (tmp_path / "archives" / "coco8.zip.part").exists()


def _damaged(data: bytes) -> bytes:
    """Compress anew, and change bytes in the midst of the compressed ones."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name) * 3)
    spoilt = bytearray(buffer.getvalue())
    spoilt[400:700] = bytes(300)
    return bytes(spoilt)


def hostile() -> dict[str, bytes]:
    link, device = zipfile.ZipInfo("coco8/images/train/link.jpg"), io.BytesIO()
    link.external_attr = 0o120777 << 16
    linked = io.BytesIO()
    with zipfile.ZipFile(linked, "w") as file:
        file.writestr(link, "/etc/passwd")
    with tarfile.open(fileobj=device, mode="w") as tar:
        info = tarfile.TarInfo("coco8/images/train/x.jpg")
        info.type, info.linkname = tarfile.LNKTYPE, "/etc/passwd"
        tar.addfile(info)
    return {
        "climbs": archives.zipped({"coco8/../../../x.txt": "x"}),
        "absolute": archives.zipped({"/retort-x.txt": "x"}),
        "climbs backwards": archives.zipped({"coco8\\..\\..\\x.txt": "x"}),
        "link in a zip": linked.getvalue(),
        "link in a tar": device.getvalue(),
        "cut off": archives.coco8()["coco8.zip"][:-100],
        "damaged": _damaged(archives.coco8()["coco8.zip"]),
        "empty": archives.zipped({"coco8/README.md": "nothing"}),
    }


@pytest.mark.parametrize("case", sorted(hostile()))
def test_a_hostile_or_damaged_archive_leaves_nothing(tmp_path: Path, publish: Publish, case: str):
    folder = tmp_path / "deep" / "datasets"
    publish("coco8", {"coco8.zip": hostile()[case]})

    with pytest.raises(DataError):
        known_datasets.resolve("coco8", folder, fetch_missing=True)

    assert sorted(path.name for path in folder.iterdir()) == ["archives", "coco8.lock"]
    assert list(tmp_path.glob("*.txt")) == list(folder.parent.glob("*.txt")) == []
    assert not Path("/retort-x.txt").exists()


@pytest.mark.parametrize("limits", [{"largest_bytes": 1000}, {"most_files": 3}], ids=["bytes", "files"])
def test_an_archive_that_holds_more_than_it_should_is_refused(
    tmp_path: Path, publish: Publish, monkeypatch: pytest.MonkeyPatch, limits: dict[str, int]
):
    publish("coco8", archives.coco8())
    monkeypatch.setitem(CATALOGUE, "coco8", replace(CATALOGUE["coco8"], **limits))

    with pytest.raises(DataError, match=r"unpacks to too much|holds more than"):
        known_datasets.resolve("coco8", tmp_path, fetch_missing=True)


@pytest.mark.parametrize(
    ("xml", "reason"),
    [
        ("<!DOCTYPE x [<!ENTITY a 'b'>]><annotation/>", "entities"),
        ("<annotation>", "ParseError"),
        (archives.VOC_XML.replace("dog", "dragon"), "ValueError"),
        (archives.VOC_XML.replace("<xmin>11</xmin>", ""), "ValueError"),
    ],
)
def test_annotations_that_are_not_what_they_were_are_told(tmp_path: Path, publish: Publish, xml: str, reason: str):
    publish("voc", archives.voc(xml))
    with pytest.raises(DataError, match=reason):
        known_datasets.resolve("voc", tmp_path, fetch_missing=True)


def test_what_somebody_keeps_in_the_place_is_not_overwritten(tmp_path: Path, publish: Publish):
    publish("coco8", archives.coco8())
    (tmp_path / "coco8").mkdir()
    (tmp_path / "coco8" / "mine.txt").write_text("mine")

    with pytest.raises(DataError, match="not a data set that was fetched"):
        known_datasets.resolve("coco8", tmp_path, fetch_missing=True)
    assert (tmp_path / "coco8" / "mine.txt").read_text() == "mine"


def test_a_misspelt_name_is_told_with_the_right_one():
    with pytest.raises(DataError, match="coco129") as caught:
        catalog.find("coco129")
    assert str(caught.value.hint).startswith("did you mean 'coco128'? known: coco8, coco128, coco, voc, visdrone")


@pytest.mark.parametrize("name", sorted(CATALOGUE))
def test_every_known_set_is_fully_described(name: str):
    found = CATALOGUE[name]
    assert name == found.name == name.lower()
    assert all((found.about, found.size, found.licence, found.names, found.archives))
    assert len(set(found.names)) == len(found.names)
    lengths = {"md5": 32, "sha1": 40, "sha256": 64}
    for archive in found.archives:
        assert archive.limit_bytes < found.largest_bytes or found.layout == "yolo"
        if archive.checksum is not None:
            assert len(archive.checksum[1]) == lengths[archive.checksum[0]]
            assert archive.checksum_source
