"""COCO JSON and Pascal VOC XML become the right boxes, or a refusal with file, line and remedy."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
from core.data.annotation_corpus import packed
from PIL import Image
from retort.data import audit, datasets
from retort.data.conversion import json_stream
from retort.data.conversion.convert import Conversion, ConversionOptions, convert, locate_converted
from retort.data.labels import LabelBox, read_labels
from retort.errors import DataError

SIZE = (100, 50)


def picture(path: Path, color: int = 0, size: tuple[int, int] = SIZE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (color, 2 * color, 90)).save(path)
    return path


def coco(*annotations: dict[str, Any], names: tuple[str, ...] = ("a.jpg", "b.jpg"), **changes: Any) -> dict[str, Any]:
    """Return a document as tools write it: ids with gaps, and fields that nobody here needs."""
    numbered = [{"id": n, "area": 1.0, "segmentation": [], "iscrowd": 0, **one} for n, one in enumerate(annotations)]
    document = {
        "info": {"description": "", "url": ""},
        "licenses": [{"id": 1, "name": "CC BY 4.0"}],
        "categories": [{"id": 3, "name": "cat", "supercategory": "animal"}, {"id": 9, "name": "dog"}],
        "images": [
            {"id": 10 + n, "file_name": name, "width": SIZE[0], "height": SIZE[1], "date_captured": 0}
            for n, name in enumerate(names)
        ],
        "annotations": numbered,
    }
    return {**document, **changes}


BOX = {"image_id": 10, "category_id": 9, "bbox": [10, 10, 20, 20.5]}


def roboflow(root: Path, document: dict[str, Any] | str, *, indent: int | None = None) -> Path:
    """Write the splits train and valid as Roboflow does."""
    for color, split in enumerate(("train", "valid")):
        for number, name in enumerate(("a.jpg", "b.jpg")):
            picture(root / split / name, 20 * color + number + 1)
        text = document if isinstance(document, str) else json.dumps(document, indent=indent)
        (root / split / "_annotations.coco.json").write_text(text)
    return root


def made(source: Path, **options: Any) -> Conversion:
    return convert(source, source.parent / "converted", [source.parent], ConversionOptions(**options))


def labels(of: Conversion, split: str = "train") -> dict[str, list[LabelBox]]:
    root = of.data_yaml.parent
    found = {}
    for image in sorted((root / "images" / split).rglob("*.*")):
        relative = image.relative_to(root / "images" / split).with_suffix("")
        label = root / "labels" / split / f"{relative}.txt"
        assert label.is_file()
        content = read_labels(label, len(of.names), root)
        assert not content.problems
        found[relative.as_posix()] = list(content.boxes)
    return found


def near(expected: tuple[float, ...]) -> Any:
    return pytest.approx(expected, abs=1e-6)


def refusal(source: Path, **options: Any) -> DataError:
    with pytest.raises(DataError) as caught:
        made(source, **options)
    assert caught.value.hint
    assert not (source.parent / "converted").exists()
    return caught.value


def test_coco_in_roboflows_layout_becomes_a_dataset_with_the_right_boxes(tmp_path: Path):
    found = made(roboflow(tmp_path / "set", coco(BOX)))

    assert found.names == ("cat", "dog")
    assert found.num_images == {"train": 2, "val": 2}
    assert labels(found) == {"a": [near((1, 0.2, 0.405, 0.2, 0.41))], "b": []}
    assert datasets.locate(str(found.data_yaml), [tmp_path]).num_val == 2


def test_a_job_reads_coco_where_it_lies_and_copies_nothing(tmp_path: Path):
    source = roboflow(tmp_path / "data" / "set", coco(BOX))

    found = locate_converted("set", [tmp_path / "data"], tmp_path / "job" / "converted")

    assert found is not None
    assert all(image.is_symlink() and image.resolve().is_relative_to(source) for image in (*found.train, *found.val))
    assert any("COCO form" in note for note in found.notes)
    assert audit.check(str(source), [tmp_path]).ok


def test_what_coco_has_beside_boxes_is_counted(tmp_path: Path):
    document = coco(
        BOX,
        {**BOX, "iscrowd": 1},
        {**BOX, "bbox": [1, 1, 0, 5]},
        {**BOX, "bbox": [90, 10, 20, 20]},
        {**BOX, "bbox": [200, 10, 20, 20]},
        {**BOX, "bbox": [], "segmentation": [[10, 5, 30, 5, 30, 15]]},
        {**BOX, "attributes": {"occluded": False, "rotation": 90.0}},
    )
    source = roboflow(tmp_path / "set", document)
    (source / "valid" / "_annotations.coco.json").write_text(json.dumps(coco(BOX)))
    picture(source / "train" / "unlisted.jpg")

    found = made(source)

    boxes = labels(found)["a"]
    assert boxes[1:] == [
        near((1, 0.95, 0.4, 0.1, 0.4)), near((1, 0.2, 0.2, 0.2, 0.2)), near((1, 0.2, 0.405, 0.205, 0.4)),
    ]  # fmt: skip
    told = [note.partition(" ")[2].split(":")[0] for note in found.notes]
    assert {note.split()[0] for note in found.notes} == {"1"}
    assert told == [
        "crowd regions are left out",
        "polygons or masks without a box became the boxes around them",
        "turned boxes became the upright boxes around them",
        "boxes without area are left out",
        "boxes outside of their images are left out",
        "boxes that reach out of their images are cut at the edge",
        "images lie there without being listed, and are left out",
    ]


def test_what_is_not_there_or_need_not_be_converted_is_told_as_that(tmp_path: Path):
    (tmp_path / "data.yaml").write_text("names: [cat]\n")
    for source, told in ((tmp_path / "nowhere", "no annotations at"), (tmp_path, "in YOLO layout already")):
        with pytest.raises(DataError, match=told):
            convert(source, tmp_path / "out", [tmp_path])
    assert not (tmp_path / "out").exists()


def test_corners_in_place_of_widths_are_doubted(tmp_path: Path):
    corners = [{"image_id": 10, "category_id": 9, "bbox": [40 + n, 20, 60 + n, 40]} for n in range(12)]
    (tmp_path / "all.json").write_text(json.dumps(coco(*corners)))
    picture(tmp_path / "a.jpg")
    picture(tmp_path / "b.jpg", color=9)

    made = convert(tmp_path, tmp_path / "out", [tmp_path])

    assert any(note.startswith("12 of 12 boxes reach out of their images") for note in made.notes)


def test_masks_of_both_kinds_become_the_boxes_around_them(tmp_path: Path):
    """A mask of 100 x 50 pixels is set in columns 20 to 39, rows 10 to 29; counts run down the columns."""
    counts = [20 * 50 + 10, *[20, 30] * 19, 20]
    plain = {"size": [50, 100], "counts": counts}
    dense = {"size": [50, 100], "counts": packed(counts)}
    for name, mask in (("plain", plain), ("packed", dense)):
        source = roboflow(tmp_path / name / "set", coco({**BOX, "bbox": [], "segmentation": mask}))
        assert labels(made(source))["a"] == [near((1, 0.3, 0.4, 0.2, 0.4))]


def test_one_document_alone_is_divided_by_names_and_keeps_copies_of_one_original_on_one_side(tmp_path: Path):
    names = tuple(f"scene{scene}_jpg.rf.{copy}0f{copy}.jpg" for scene in range(10) for copy in range(3))
    for number, name in enumerate(names):
        picture(tmp_path / "set" / "images" / name, number + 1)
    boxes = [{**BOX, "image_id": 10 + number} for number in range(30)]
    source = tmp_path / "set" / "result.json"
    source.write_text(json.dumps(coco(*boxes, names=tuple(f"images/{name}" for name in names))))

    found = made(source)

    assert found.num_images == {"train": 24, "val": 6}
    originals = [{name.partition(".rf.")[0] for name in labels(found, split)} for split in ("train", "val")]
    assert not originals[0] & originals[1]
    assert any("6 of 30 images, chosen by their names" in note for note in found.notes)


def test_coco_as_it_is_published_and_as_cvat_packs_it_is_read(tmp_path: Path):
    """COCO 2017 has a folder of annotations beside those of images; CVAT writes a zip with a subset in each name."""
    for split in ("train2017", "val2017"):
        for number, name in enumerate(("a.jpg", "b.jpg")):
            picture(tmp_path / "coco" / split / name, number + len(split))
        folder = tmp_path / "coco" / "annotations"
        folder.mkdir(exist_ok=True)
        (folder / f"instances_{split}.json").write_text(json.dumps(coco(BOX)))
        (folder / f"captions_{split}.json").write_text(json.dumps({"images": [], "annotations": []}))
    with zipfile.ZipFile(tmp_path / "task.zip", "w") as packed:
        packed.writestr("annotations/instances_default.json", json.dumps(coco(BOX)))
        for name in ("a.jpg", "b.jpg"):
            packed.write(tmp_path / "coco" / "train2017" / name, f"images/default/{name}")

    by_folder = made(tmp_path / "coco")
    by_file = convert(tmp_path / "coco" / "annotations" / "instances_train2017.json", tmp_path / "by-file", [tmp_path])
    by_archive = convert(tmp_path / "task.zip", tmp_path / "by-archive", [tmp_path], ConversionOptions(val_share=0.5))

    assert by_folder.num_images == by_file.num_images == {"train": 2, "val": 2}
    assert labels(by_folder) == labels(by_file)
    assert by_archive.num_images == {"train": 1, "val": 1}


def test_images_of_one_name_are_told_apart_by_folder(tmp_path: Path):
    names = ("left/a.jpg", "right\\a.jpg")
    for split in ("train", "val"):
        for number, name in enumerate(names):
            picture(tmp_path / "set" / "images" / split / name.replace("\\", "/"), number + len(split))
        (tmp_path / "set" / f"{split}.json").write_text(json.dumps(coco(BOX, names=names)))

    assert labels(made(tmp_path / "set")) == {"left/a": [near((1, 0.2, 0.405, 0.2, 0.41))], "right/a": []}

    (tmp_path / "set" / "train.json").write_text(json.dumps(coco(BOX, names=("a.jpg", "right/a.jpg"))))
    assert "may be" in convert_refusal(tmp_path / "set", tmp_path / "again")


def convert_refusal(source: Path, target: Path) -> str:
    with pytest.raises(DataError) as caught:
        convert(source, target, [source])
    assert caught.value.hint
    return caught.value.message


@pytest.mark.parametrize(
    ("document", "told"),
    [
        (coco({**BOX, "image_id": 7}), "annotations[0]: there is no image 7"),
        (coco({**BOX, "category_id": 7}), "annotations[0]: there is no category 7"),
        (coco({**BOX, "category_id": None}), "annotations[0]: category_id is None"),
        (coco({**BOX, "bbox": [1, 2, 3]}), "annotations[0]: bbox is [1, 2, 3]"),
        (coco({**BOX, "bbox": [1, 2, 3, "4"]}), "annotations[0]: bbox"),
        (coco({**BOX, "bbox": [], "segmentation": "x"}), "annotations[0]: segmentation"),
        (coco({**BOX, "bbox": [], "segmentation": {"size": [50, 100], "counts": [9999999]}}), "segmentation"),
        (coco(BOX, images=[{"id": 10}]), "images[0]: has no file_name"),
        (coco(BOX, images=[{"id": 10, "file_name": "a.jpg"}] * 2), "images[1]: the id 10 is there twice"),
        (coco(BOX, images=[{"id": 10, "file_name": "a.jpg", "width": "x"}]), "images[0]: width and height"),
        (coco(BOX, images=["a.jpg"]), "images[0]: is no object"),
        (coco(BOX, images={}), "images[None]: is no object"),
        (coco(BOX, names=("c.jpg", "b.jpg")), "there is no image 'c.jpg'"),
        (coco(BOX, images=[{"id": 10, "file_name": "a.jpg", "width": 50, "height": 100}]), "is shown with 100 x 50"),
        (coco(BOX, categories=[{"id": 9, "name": "a"}, {"id": 9, "name": "b"}]), "categories[1]: the id 9"),
        (coco(BOX, categories=[{"id": 9, "name": "a"}, {"id": 8, "name": "a"}]), "a second category is named 'a'"),
        ('{"images": [], "annotations": []', "the file ends"),
        ('{"images": [], "annotations": [],', "Expecting value"),
        ('{"images": [], "annotations": [NaN]', "NaN is no number"),
        ('{"images": [{"id": 1 "file_name": 2}], "annotations": []}', "delimiter"),
        ('[{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}]', "the document is a list"),
        ('{"images": [], "annotations": [' + "[" * 100_000, ""),
    ],
)
def test_a_mistake_in_coco_is_told_with_file_line_and_remedy(tmp_path: Path, document: dict[str, Any] | str, told: str):
    error = refusal(roboflow(tmp_path / "set", document, indent=1))

    assert told in error.message
    assert "_annotations.coco.json:" in error.message
    assert len(error.message) < 600


def test_a_mistake_is_told_with_its_own_line(tmp_path: Path):
    text = json.dumps(coco(BOX, {**BOX, "bbox": [1]}), indent=1)
    line = text[: text.rindex('"id": 1,')].count("\n")

    assert f"_annotations.coco.json:{line}: annotations[1]: bbox" in refusal(
        roboflow(tmp_path / "set", text)
    ).message  # fmt: skip


def test_a_document_is_read_piece_by_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    source = roboflow(tmp_path / "set", coco(*[BOX] * 50, info={"deep": [[["x" * 40]]]}))
    whole = labels(made(source))
    monkeypatch.setattr(json_stream, "_CHUNK", 7)
    monkeypatch.setattr(json_stream, "LARGEST_VALUE", 300)

    assert labels(convert(source, tmp_path / "again", [source])) == whole

    roboflow(source, coco({**BOX, "segmentation": [[1.5] * 200]}))
    assert "longer than" in convert_refusal(source, tmp_path / "third")


VOC = """<annotation>
  <folder>{folder}</folder><filename>{name}.jpg</filename>
  <source><database>{database}</database></source>
  <size><width>100</width><height>50</height><depth>3</depth></size>
  <object>
    <name>dog</name><pose>Unspecified</pose><truncated>0</truncated><difficult>{difficult}</difficult>
    <bndbox><xmin>{xmin}</xmin><ymin>11</ymin><xmax>30</xmax><ymax>30</ymax></bndbox>{more}
  </object>
</annotation>
"""


def page(name: str = "a", text: str = VOC, **changes: str) -> str:
    given = {"folder": "x", "database": "Unknown", "difficult": "0", "xmin": "11", "more": "", **changes}
    return text.format(name=name, **given)


def challenge(root: Path, **changes: str) -> Path:
    """Write a folder as the VOC challenges and CVAT do."""
    (root / "Annotations").mkdir(parents=True)
    (root / "ImageSets" / "Main").mkdir(parents=True)
    for number, (name, split) in enumerate({"a": "train", "b": "val"}.items()):
        picture(root / "JPEGImages" / f"{name}.jpg", number + 1)
        (root / "Annotations" / f"{name}.xml").write_text(page(name, **changes))
        (root / "ImageSets" / "Main" / f"{split}.txt").write_text(f"{name}\n")
        (root / "ImageSets" / "Main" / f"dog_{split}.txt").write_text(f"{name}  1\n")
    return root


@pytest.mark.parametrize(
    ("changes", "options", "expected"),
    [
        ({}, {}, (0, 0.205, 0.41, 0.19, 0.38)),
        ({"database": "The VOC2007 Database", "folder": "VOC2007"}, {}, (0, 0.2, 0.4, 0.2, 0.4)),
        ({"database": "The VOC2007 Database", "xmin": "0"}, {}, (0, 0.15, 0.41, 0.3, 0.38)),
        ({}, {"first_pixel": 1}, (0, 0.2, 0.4, 0.2, 0.4)),
        ({"xmin": "11.25"}, {}, (0, 0.20625, 0.41, 0.1875, 0.38)),
    ],
)
def test_voc_pixels_are_counted_from_one_in_a_challenge_and_from_zero_elsewhere(
    tmp_path: Path, changes: dict[str, str], options: dict[str, Any], expected: tuple[float, ...]
):
    found = made(challenge(tmp_path / "set", **changes), **options)

    assert (labels(found), labels(found, "val")) == ({"a": [near(expected)]}, {"b": [near(expected)]})
    assert any("first pixel is" in note for note in found.notes)


def test_voc_files_beside_their_images_are_read_as_labelimg_and_roboflow_write_them(tmp_path: Path):
    """Names in the files are often those of before a renaming: a file belongs to the image beside it."""
    for number, (split, name) in enumerate([("train", "a"), ("train", "b"), ("valid", "c"), ("test", "d")]):
        picture(tmp_path / "set" / split / f"{name}.jpg", number + 1)
        (tmp_path / "set" / split / f"{name}.xml").write_text(page("a"))

    found = made(tmp_path / "set")

    assert found.num_images == {"train": 2, "val": 1, "test": 1}
    assert set(labels(found)) == {"a", "b"}


def test_what_voc_tools_write_beside_boxes_is_read(tmp_path: Path):
    turned = "<attributes><attribute><name>rotation</name><value>90.0</value></attribute></attributes>"
    parts = "<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part>"
    source = challenge(tmp_path / "set", more=turned + parts, difficult="1")
    outline = VOC.replace("<bndbox>", "<polygon>").replace("</bndbox>", "</polygon>")
    for one, other in (("xmin", "x1"), ("ymin", "y1"), ("xmax", "x2"), ("ymax", "y2")):
        outline = outline.replace(f"<{one}>", f"<{other}>").replace(f"</{one}>", f"</{other}>")
    (source / "Annotations" / "b.xml").write_text(page("b", outline))

    found = made(source)

    assert labels(found)["a"] == [near((0, 0.205, 0.41, 0.19, 0.38))]
    assert labels(found, "val")["b"] == [near((0, 0.205, 0.41, 0.19, 0.38))]
    assert sum(note.startswith("1 ") for note in found.notes) == 3


BOMB = "<!DOCTYPE a [<!ENTITY b 'ha'><!ENTITY c '&b;&b;&b;'>]><annotation>&c;</annotation>"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (page(xmin="x"), "a.xml:7: bndbox/xmin is 'x'"),
        (page(xmin="nan"), "a.xml:7: bndbox/xmin is 'nan'"),
        (page().replace("<xmin>11</xmin>", ""), "a.xml:5: the object 'dog' has no bndbox/xmin"),
        (page().replace("<name>dog</name>", ""), "a.xml:5: an object has no name"),
        (page().replace("</object>", ""), "a.xml:9: no XML"),
        (BOMB, "a document type is declared"),
        ('<!DOCTYPE a SYSTEM "file:///etc/passwd"><annotation/>', "a document type is declared"),
        (page().replace("<width>100", "<width>10"), "is annotated as 10 x 50 pixels"),
    ],
)
def test_a_mistake_in_voc_is_told_with_file_line_and_remedy(tmp_path: Path, text: str, told: str):
    source = challenge(tmp_path / "set")
    (source / "Annotations" / "a.xml").write_text(text)

    error = refusal(source)

    assert told in error.message
    assert "a.xml" in error.message


def test_a_listed_image_without_annotation_and_many_missing_images_are_refused(tmp_path: Path):
    source = challenge(tmp_path / "set")
    (source / "ImageSets" / "Main" / "train.txt").write_text("a\nlost\n")
    assert "train.txt:2: there is no annotation of 'lost'" in refusal(source).message

    (source / "ImageSets" / "Main" / "train.txt").write_text("a\nb\n")
    (source / "JPEGImages" / "a.jpg").unlink()
    assert "1 of 2 are missing" in refusal(source).message
    assert "1 images are listed but not there, and are left out" in made(source, allow_missing=True).notes


def test_an_archive_that_would_fill_the_disk_is_refused(tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("annotations/instances_default.json", b" " * (80 << 20))

    assert "unpacks to too much" in refusal(tmp_path / "bomb.zip").message


def test_images_outside_of_the_data_folders_are_refused(tmp_path: Path):
    source = roboflow(tmp_path / "data" / "set", coco(BOX))
    (source / "train" / "a.jpg").unlink()
    (source / "train" / "a.jpg").symlink_to(picture(tmp_path / "secret.jpg"))

    with pytest.raises(DataError, match="leads out"):
        locate_converted("set", [tmp_path / "data"], tmp_path / "job")
    assert locate_converted(str(tmp_path / "elsewhere.json"), [tmp_path / "data"], tmp_path / "job") is None
