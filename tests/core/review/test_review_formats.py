"""What goes out in another tool's form comes back as it was, and what strangers send is read strictly."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from retort.review.formats import FORMS, AnnotatedImage, ImageSet, base
from retort.review.models import Box, ReviewError

CLASSES = ("RBC", "WBC", "Platelets")
ONE = ImageSet(
    classes=CLASSES,
    pictures=(
        AnnotatedImage(
            image="a", width=640, height=480,
            boxes=(Box(name="WBC", x1=0.1, y1=0.2, x2=0.30001, y2=0.45), Box(name="RBC", x1=0, y1=0, x2=1, y2=1)),
        ),
        AnnotatedImage(image="b.c", width=31, height=7, boxes=()),
    ),
)  # fmt: skip


def read(form: str, data: bytes | str | list[Any] | dict[str, Any], classes: tuple[str, ...] = CLASSES) -> Any:
    if isinstance(data, list | dict):
        data = json.dumps(data)
    found = FORMS[form].read(data.encode() if isinstance(data, str) else data, classes)
    return {image: one.boxes for image, one in found.images.items()}


def refusal(form: str, data: Any) -> str:
    with pytest.raises(ReviewError) as caught:
        read(form, data)
    assert caught.value.hint
    return caught.value.message


def zipped(**files: str | bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as target:
        for name, content in files.items():
            target.writestr(name.replace("__", "/").replace("_txt", ".txt"), content)
    return buffer.getvalue()


def answered(form: str, data: bytes) -> bytes:
    """Return what comes back where somebody has submitted every picture as it was."""
    if form != "label_studio":
        return data
    tasks = json.loads(data)
    for task in tasks:
        task["annotations"] = [{**one, "was_cancelled": False} for one in task.pop("predictions")]
    return json.dumps(tasks).encode()


names = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=20)
millionths = st.integers(0, 1_000_000)


@st.composite
def boxes(draw: st.DrawFn, classes: list[str]) -> Box:
    x1, x2 = sorted(draw(st.lists(millionths, min_size=2, max_size=2, unique=True)))
    y1, y2 = sorted(draw(st.lists(millionths, min_size=2, max_size=2, unique=True)))
    shares = {"x1": x1 / 1e6, "y1": y1 / 1e6, "x2": x2 / 1e6, "y2": y2 / 1e6}
    return Box(name=draw(st.sampled_from(classes)), **shares)


@st.composite
def albums(draw: st.DrawFn) -> ImageSet:
    classes = draw(st.lists(names, min_size=1, max_size=4, unique=True))
    images = draw(st.lists(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True), max_size=4, unique=True))
    sides = st.integers(1, 100_000)
    pictures = [
        AnnotatedImage(
            image=image, width=draw(sides), height=draw(sides),
            boxes=tuple(draw(st.lists(boxes(classes), max_size=5))),
        )
        for image in images
    ]  # fmt: skip
    return ImageSet(classes=tuple(classes), pictures=tuple(pictures))


@pytest.mark.parametrize("form", sorted(FORMS))
def test_classes_that_differ_by_a_capital_letter_come_back_as_they_went_out(form: str):
    twins = tuple(Box(name=name, x1=0.1, y1=0.2, x2=0.3, y2=0.4) for name in ("Car", "car"))
    pictures = (AnnotatedImage(image="a", width=64, height=48, boxes=twins),)
    content = FORMS[form].write(ImageSet(classes=("Car", "car"), pictures=pictures))
    assert {box.name for box in read(form, answered(form, content), ("Car", "car"))["a"]} == {"Car", "car"}


def test_a_class_that_is_nearly_one_of_the_jobs_is_refused_with_the_right_name():
    with pytest.raises(ReviewError) as caught:
        base.box("red blood cell", (0, 0, 1, 1), ("RBC", "Red_Blood_Cell"), "a:1")
    assert "'Red_Blood_Cell'" in str(caught.value.hint)


@pytest.mark.parametrize("form", sorted(FORMS))
@given(album=albums())
def test_what_is_written_is_read_again_to_the_last_digit(form: str, album: ImageSet):
    if form == "yolo" and not album.pictures:
        return  # an archive without labels says nothing
    written = FORMS[form].write(album)
    found = read(form, answered(form, written), album.classes)
    assert found == {picture.image: picture.boxes for picture in album.pictures}
    assert FORMS[form].write(album) == written


@pytest.mark.parametrize("form", sorted(FORMS))
@pytest.mark.parametrize("data", [b"", b"\0\xff", b"[]{", b"PK\x03\x04 no archive", b"<a>", b"\xef\xbb\xbf"])
def test_what_is_not_of_the_form_is_refused_in_words(form: str, data: bytes):
    if (form, data) != ("label_studio", b"[]"):
        refusal(form, data)


@pytest.mark.parametrize("form", sorted(FORMS))
def test_a_class_that_the_job_does_not_have_is_refused_with_those_that_it_has(form: str):
    with pytest.raises(ReviewError, match="'WBC' is no class") as caught:
        FORMS[form].read(answered(form, FORMS[form].write(ONE)), ("RBC", "Platelets"))
    assert caught.value.hint == "its classes: RBC, Platelets"


def test_coco_is_what_others_read_as_coco():
    document = json.loads(FORMS["coco"].write(ONE))
    assert document["categories"][1] == {"id": 2, "name": "WBC"}
    assert [image["file_name"] for image in document["images"]] == ["a.jpg", "b.c.jpg"]
    first = document["annotations"][0]
    assert first["bbox"] == pytest.approx([64, 96, 128.0064, 120])
    assert first["area"] == pytest.approx(128.0064 * 120)


def coco(**changes: Any) -> dict[str, Any]:
    document = {
        "info": {"description": "from elsewhere"},
        "images": [{"id": 7, "file_name": "folder\\a.PNG", "width": 100, "height": 50}],
        "annotations": [{"id": 1, "image_id": 7, "category_id": 3, "bbox": [10, 10, 20, 20.0]}],
        "categories": [{"id": 3, "name": "RBC", "supercategory": "cell"}],
    }
    return {**document, **changes}


def test_coco_of_other_tools_is_read():
    assert read("coco", coco()) == {"a": (Box(name="RBC", x1=0.1, y1=0.2, x2=0.3, y2=0.6),)}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"images": [{"id": 7, "file_name": "a.jpg", "width": 0, "height": 5}]}, "0.0 x 5.0 pixels"),
        ({"images": [{"id": i, "file_name": "a.jpg", "width": 9, "height": 9} for i in (7, 8)]}, "a is there twice"),
        (
            {"categories": [{"id": 3, "name": "RBC"}, {"id": 3, "name": "WBC"}]},
            "categories.1: the id 3 is there twice",
        ),
        ({"images": [{"id": 7, "file_name": f"{i}.jpg", "width": 9, "height": 9} for i in (1, 2)]}, "id 7 is there"),
        ({"images": []}, "annotations.0: there is no image 7"),
        ({"categories": []}, "annotations.0: there is no category 3"),
        ({"annotations": [{"image_id": 7, "category_id": 3, "bbox": [90, 10, 20, 20]}]}, "reaches out of its image"),
        ({"annotations": [{"image_id": 7, "category_id": 3, "bbox": [10, 10, 0, 20]}]}, "has no area"),
        ({"annotations": [{"image_id": 7, "category_id": 3, "bbox": [10, 10, 20]}]}, "annotations.0.bbox"),
        ({"annotations": [{"image_id": 7, "category_id": 3, "bbox": [1, 1, 2, "2"]}]}, "annotations.0.bbox.3"),
        ({"annotations": [{"image_id": 7, "category_id": 3, "bbox": [1, 1, 2, 2], "iscrowd": 1}]}, "crowd is no box"),
    ],
)
def test_coco_with_a_mistake_is_told_where_it_is(changes: dict[str, Any], told: str):
    assert told in refusal("coco", coco(**changes))


def test_numbers_that_are_none_are_refused():
    for number in ("NaN", "Infinity", "1e999"):
        refusal("coco", json.dumps(coco()).replace("20.0", number))
    refusal("coco", "[" * 100_000)


def test_yolo_of_other_tools_is_read_by_its_own_names():
    files = zipped(
        **{"classes.txt": "Platelets\nRBC\n", "x__labels__a_txt": "1 0.5 0.5 0.2 0.4\n", "a.jpg": b"\xff\xd8"}
    )
    assert read("yolo", files) == {"a": (Box(name="RBC", x1=0.4, y1=0.3, x2=0.6, y2=0.7),)}
    numbered = zipped(
        **{"data.yaml": "names: {0: WBC}\n", "labels__a_txt": "0 0.5 0.5 0.2 0.4\n", "train.txt": "a.jpg"}
    )
    assert read("yolo", numbered)["a"][0].name == "WBC"
    assert read("yolo", zipped(labels__a_txt="\n"))["a"] == ()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("3 0.5 0.5 0.2 0.2", "labels/a.txt:1: no box of a known class"),
        ("-1 0.5 0.5 0.2 0.2", "-1 is no number of a class"),
        ("0.5 0.5 0.5 0.2 0.2", "0.5 is no number of a class"),
        ("0 0.5 0.5 0.2", "labels/a.txt:1"),
        ("0 0.5 0.5 0.2 x", "labels/a.txt:1"),
        ("inf 0.5 0.5 0.2 0.2", "labels/a.txt:1"),
        ("0 0.5 0.5 0.2 nan", "reaches out of its image"),
        ("\n0 0.95 0.5 0.2 0.2", "labels/a.txt:2: the box reaches out"),
        (b"\xff\xfe", "is not a text file"),
    ],
)
def test_yolo_with_a_mistake_is_told_where_it_is(content: str | bytes, told: str):
    assert told in refusal("yolo", zipped(labels__a_txt=content))


@pytest.mark.parametrize("name", ["/etc/passwd.txt", "../a.txt", "labels/../../a.txt", "C:\\a.txt", "..\\b.txt"])
def test_an_archive_that_leads_out_of_itself_is_refused(name: str):
    assert "leads out of the archive" in refusal("yolo", zipped(**{name: "0 0.5 0.5 0.2 0.2"}))


def test_an_archive_with_a_link_is_refused():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as target:
        link = zipfile.ZipInfo("labels/a.txt")
        link.external_attr = 0o120777 << 16
        target.writestr(link, "/etc/passwd")
    assert "is a link" in refusal("yolo", buffer.getvalue())


def test_an_archive_that_would_fill_the_memory_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(base, "MOST_BYTES", 1 << 20)
    assert "MiB in the archive" in refusal("yolo", zipped(labels__a_txt="\n" * (2 << 20)))
    monkeypatch.setattr(base, "MOST_FILES", 3)
    assert "more than 3 files" in refusal("yolo", zipped(**{f"labels__{number}_txt": "" for number in range(5)}))


def test_an_archive_that_lies_about_its_sizes_gets_no_further_than_it_says():
    data = bytearray(zipped(labels__a_txt="\n" * 100_000))
    for signature, place in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        at = data.index(signature) + place
        data[at : at + 4] = struct.pack("<I", 10)
    assert "not a zip archive" in refusal("yolo", bytes(data))


def test_a_description_of_any_length_is_not_read():
    names = "names: [" + "RBC, " * 100_000 + "]"
    assert "larger than 256 KiB" in refusal("yolo", zipped(**{"data.yaml": names, "labels__a_txt": ""}))


def test_what_is_told_about_a_file_is_short_whatever_is_in_it():
    long = "x" * 100_000
    for form, data in (
        ("coco", coco(categories=[{"id": 3, "name": long}])),
        ("coco", coco(images=[{"id": i, "file_name": long, "width": 9, "height": 9} for i in (7, 8)])),
        ("yolo", zipped(**{f"../{long[:60_000]}.txt": ""})),
        ("cvat", f"<{long}/>"),
        ("label_studio", task(rectanglelabels=[long])),
    ):
        assert len(refusal(form, data)) < 300


def test_an_archive_without_labels_and_one_with_a_name_twice_are_refused():
    assert "no label files" in refusal("yolo", zipped(**{"data.yaml": "names: [RBC]"}))
    assert "a is there twice" in refusal("yolo", zipped(labels__a_txt="", more__a_txt=""))
    assert "names must list" in refusal("yolo", zipped(**{"data.yaml": "names: {1: x}", "labels__a_txt": ""}))


XML = '<annotations><image id="0" name="dir/a.jpg" width="100" height="50">{}</image></annotations>'
BOX = (
    '<box label="RBC" xtl="10" ytl="10.0" xbr="30" ybr="30" occluded="1" z_order="3"{}>'
    '<attribute name="q">1</attribute></box>'
)


def test_cvat_of_the_tool_is_read_alone_and_in_its_archive():
    document = '<?xml version="1.0" encoding="utf-8"?>\n' + XML.format(BOX.format("") + '<tag label="seen"/>')
    expected = {"a": (Box(name="RBC", x1=0.1, y1=0.2, x2=0.3, y2=0.6),)}
    assert read("cvat", document) == expected
    assert read("cvat", zipped(**{"annotations.xml": document})) == expected


@pytest.mark.parametrize(
    ("document", "told"),
    [
        (XML.format('<polygon label="RBC" points="1,2;3,4;5,6"/>'), "a polygon is no box"),
        (XML.format(BOX.format(' rotation="12.5"')), "the box is turned"),
        (XML.format('<box label="RBC" xtl="10"/>'), "a number of the box"),
        (XML.format(BOX.format("").replace("RBC", "cat")), "'cat' is no class"),
        ("<svg/>", "the document is 'svg'"),
        ('<!DOCTYPE a [<!ENTITY b "c">]>' + XML.format(""), "a document type is declared"),
        ('<!DOCTYPE a SYSTEM "file:///etc/passwd"><annotations/>', "a document type is declared"),
        ("<annotations><track/></annotations>", "a track is no box"),
        ("<annotations>", "no XML that can be read"),
        ('<?xml version="1.0" encoding="nonsense"?><annotations/>', "no XML that can be read"),
    ],
)
def test_cvat_with_a_mistake_is_told_what_it_is(document: str, told: str):
    assert told in refusal("cvat", document)


def test_entities_that_would_blow_up_are_never_read():
    lol = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 9))
    bomb = f'<!DOCTYPE a [<!ENTITY l0 "ha">{lol}]><annotations>&l8;</annotations>'
    assert refusal("cvat", bomb) == "line 1: a document type is declared"


def task(**changes: Any) -> list[dict[str, Any]]:
    value = {"x": 10.0, "y": 20, "width": 20, "height": 40, "rotation": 0, "rectanglelabels": ["RBC"], **changes}
    answer = {"id": 1, "result": [{"id": "x", "type": "rectanglelabels", "value": value}], "was_cancelled": False}
    return [{"id": 1, "data": {"image": "/data/upload/1/a.jpg"}, "annotations": [answer]}]


def test_label_studio_of_the_tool_is_read_by_its_last_annotation():
    assert read("label_studio", task()) == {"a": (Box(name="RBC", x1=0.1, y1=0.2, x2=0.3, y2=0.6),)}
    (first,) = task()
    skipped = {**first["annotations"][0], "was_cancelled": True}
    emptied = {**first, "annotations": [first["annotations"][0], {"result": []}, skipped]}
    assert read("label_studio", [emptied]) == {"a": ()}


@pytest.mark.parametrize(
    ("tasks", "told"),
    [
        (task(rotation=3.5), "the box is turned"),
        (task(rectanglelabels=[]), "rectanglelabels"),
        (task(x=95), "reaches out of its image"),
        ([{"data": {}}], "names no image"),
        (
            [{"data": {"image": "a.jpg"}, "annotations": [{"result": [{"type": "polygon", "value": {}}]}]}],
            "no rectangle",
        ),
    ],
)
def test_label_studio_with_a_mistake_is_told_what_it_is(tasks: list[Any], told: str):
    assert told in refusal("label_studio", tasks)
