"""Files as CVAT, Label Studio and Roboflow write them give the right boxes, and claim only what people did."""

from __future__ import annotations

import base64
import io
import json
import zipfile
from collections.abc import Mapping
from typing import Any

import pytest
from retort.review import formats
from retort.review.formats import ImportedReview, names
from retort.review.models import Box, Picture, ReviewError, ReviewSet, Scored

CLASSES = ("RBC", "WBC", "Platelets")
TEACHERS = Scored(name="RBC", x1=0.1, y1=0.2, x2=0.3, y2=0.6, score=0.9)
DRAWN = Box(name="WBC", x1=0.25, y1=0.25, x2=0.75, y2=0.5)
"""What people have drawn instead of the teacher's box, on images of 400 x 200 pixels."""


def picture(image: str) -> Picture:
    return Picture(image=image, file=f"{image}.png", width=400, height=200, kept=(TEACHERS,))


REVIEW = ReviewSet(mode="all", classes=CLASSES, pictures=tuple(picture(name) for name in ("cell-0001", "b.c", "third")))


def zipped(files: Mapping[str, str | bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as target:
        for name, content in files.items():
            target.writestr(name, content)
    return buffer.getvalue()


def taken(form: str, data: bytes | Any, **options: Any) -> ImportedReview:
    content = data if isinstance(data, bytes) else json.dumps(data).encode()
    return formats.import_decisions(REVIEW, form, content, reviewer="ann", at=1.0, **options)


def drawn(form: str, data: bytes | Any) -> dict[str, tuple[Box, ...] | None]:
    return {one.image: one.boxes for one in taken(form, data).decisions}


def rectangle(**changes: Any) -> dict[str, Any]:
    """Return a result as Label Studio 1.20 writes it."""
    value = {"x": 25.0, "y": 25, "width": 50, "height": 25, "rotation": 0, "rectanglelabels": ["WBC"]}
    return {
        "original_width": 400, "original_height": 200, "image_rotation": 0, "value": {**value, **changes},
        "id": "qJ1", "from_name": "label", "to_name": "image", "type": "rectanglelabels", "origin": "manual",
    }  # fmt: skip


def annotation(*results: dict[str, Any], cancelled: bool = False) -> dict[str, Any]:
    return {
        "id": 7, "completed_by": 1, "result": list(results), "was_cancelled": cancelled, "ground_truth": False,
        "created_at": "2026-11-02T09:14:25Z", "draft_created_at": None, "lead_time": 4.2, "prediction": {},
        "result_count": 1, "unique_id": "c0a1", "last_action": None, "task": 1, "parent_prediction": 3,
    }  # fmt: skip


def task(*annotations: dict[str, Any], image: str = "/data/upload/3/1c1b3ac9-cell-0001.jpg") -> dict[str, Any]:
    return {
        "id": 1, "annotations": list(annotations), "file_upload": image.rpartition("/")[2], "drafts": [],
        "predictions": [{"id": 3, "model_version": "teacher", "result": [rectangle()]}], "data": {"image": image},
        "meta": {}, "inner_id": 1, "total_annotations": len(annotations), "cancelled_annotations": 0,
        "comment_authors": [], "project": 3,
    }  # fmt: skip


AROUND = (
    {"id": "a1", "value": {"choices": ["sharp"]}, "from_name": "quality", "to_name": "image", "type": "choices"},
    {"id": "a2", "value": {"text": ["two overlap"]}, "from_name": "note", "to_name": "image", "type": "textarea"},
    {"id": "a3", "value": {"rating": 4}, "from_name": "stars", "to_name": "image", "type": "rating"},
    {"from_id": "qJ1", "to_id": "zz9", "type": "relation", "direction": "right", "labels": ["touches"]},
    {"id": "qJ1", "value": {**rectangle()["value"], "choices": ["old"]}, "from_name": "age", "type": "choices"},
)


def test_what_label_studio_has_beside_rectangles_is_counted_and_not_refused():
    found = taken("label_studio", [task(annotation(*AROUND[:3], rectangle(), *AROUND[3:]))])

    assert [one.boxes for one in found.decisions] == [(DRAWN,)]
    assert found.notes[1:] == (
        "not read: 2 results of the type choices",
        "not read: 1 results of the type textarea",
        "not read: 1 results of the type rating",
        "not read: 1 results of the type relation",
    )


def test_rectangles_and_labels_of_two_tags_belong_to_each_other_by_their_id():
    plain = {**rectangle(), "type": "rectangle"}
    del plain["value"]["rectanglelabels"]
    label = {**rectangle(), "type": "labels", "value": {"labels": ["WBC"]}}

    assert drawn("label_studio", [task(annotation(plain, label))]) == {"cell-0001": (DRAWN,)}


def test_tasks_that_were_skipped_or_never_touched_are_not_accepted():
    """Nobody has looked at them: neither our predictions nor a cancelled annotation say that a person agreed."""
    tasks = [
        task(annotation(cancelled=True), image="a/cell-0001.jpg"),
        task(image="a/b.c.jpg"),
        task(annotation(rectangle(x=10, y=20, width=20, height=40, rectanglelabels=["RBC"])), image="third.jpg"),
    ]
    found = taken("label_studio", tasks, looked_at="all")

    assert [(one.image, one.decision) for one in found.decisions] == [("third", "accept")]
    assert found.notes[0] == "the file has 3 of 3 images: 1 accepted, 0 corrected, 2 not looked at"
    tasks[1]["predictions"] = [3, 4]  # some exports have their ids alone
    assert taken("label_studio", tasks).decisions == found.decisions


PACKED = base64.b64encode(b"s3://bucket/review/cell-0001.jpg").decode()


@pytest.mark.parametrize(
    "name",
    [
        "cell-0001", "cell-0001.jpg", "cell-0001.PNG", "review/cell-0001.jpeg", "C:\\review\\cell-0001.jpg",
        "1c1b3ac9-cell-0001.jpg", "/data/upload/3/1c1b3ac9-cell-0001.jpg", "/data/local-files/?d=review/cell-0001.jpg",
        "/data/local-files/?d=review%2Fcell-0001.jpg", "s3://bucket/review/cell-0001.jpg",
        "https://bucket.s3.amazonaws.com/review/cell-0001.jpg?X-Amz-Date=2026&X-Amz-Signature=ab%2Fcd.jpg",
        "https://storage.googleapis.com/b/cell-0001.jpg?X-Goog-Signature=0f", f"/tasks/3/presign/?fileuri={PACKED}",
        f"/tasks/3/resolve/?fileuri={PACKED.rstrip('=')}", "http://host:8080/data/upload/3/1c1b3ac9-cell-0001.jpg?v=2",
        "cell-0001_jpg.rf.0123456789abcdef0123456789abcdef.jpg", "cell-0001_png.rf.aB3dE6gH.jpg", "cell%2D0001.jpg",
    ],
)  # fmt: skip
def test_an_image_is_known_by_whatever_name_its_tool_gives_it(name: str):
    assert drawn("label_studio", [task(annotation(rectangle()), image=name)]) == {"cell-0001": (DRAWN,)}
    assert names.resolve([name], {"cell-0001", "other"}) == "cell-0001"


def test_a_prefix_is_no_prefix_where_an_image_is_named_so():
    assert names.resolve(["1c1b3ac9-x.jpg"], {"x", "1c1b3ac9-x"}) == "1c1b3ac9-x"
    assert names.resolve(["1c1b3ac9-x.jpg"], {"y"}) is None
    with pytest.raises(ReviewError, match="cell-0001 is there twice"):
        taken("label_studio", [task(image="1c1b3ac9-cell-0001.jpg"), task(image="cell-0001.jpg")])


def cvat_coco(**changes: Any) -> dict[str, Any]:
    """Return a document as CVAT 2 writes it."""
    one = {
        "id": 1, "image_id": 1, "category_id": 2, "segmentation": [], "area": 10000.0,
        "bbox": [100.0, 50.0, 200.0, 50.0], "iscrowd": 0, "attributes": {"occluded": False, "rotation": 0.0},
    }  # fmt: skip
    return {
        "licenses": [{"name": "", "id": 0, "url": ""}],
        "info": {"contributor": "", "date_created": "", "description": "", "url": "", "version": "", "year": ""},
        "categories": [{"id": n, "name": name, "supercategory": ""} for n, name in enumerate(CLASSES, start=1)],
        "images": [{
            "id": 1, "width": 400, "height": 200, "file_name": "cell-0001.jpg", "license": 0, "flickr_url": "",
            "coco_url": "", "date_captured": 0,
        }],
        "annotations": [{**one, **changes}],
    }  # fmt: skip


DUST = {"__MACOSX/._cell-0001.txt": b"\0\5", "__MACOSX/annotations/._instances_default.json": b"\0\5",
        ".DS_Store": b"\0", "Thumbs.db": b"\xd0", "images/cell-0001.jpg": b"\xff\xd8"}  # fmt: skip


def test_cvats_coco_is_read_from_its_zip():
    document = json.dumps(cvat_coco())

    assert drawn("coco", zipped({**DUST, "annotations/instances_default.json": document})) == {"cell-0001": (DRAWN,)}
    assert drawn("coco", cvat_coco()) == {"cell-0001": (DRAWN,)}
    turned = json.dumps(cvat_coco(attributes={"occluded": False, "rotation": 12.5}))
    with pytest.raises(ReviewError, match=r"instances_default\.json: annotations\.0: the box is turned") as caught:
        taken("coco", zipped({"annotations/instances_default.json": turned}))
    assert caught.value.hint == "draw it upright"
    with pytest.raises(ReviewError, match="no COCO document in the archive"):
        taken("coco", zipped(DUST))


def test_roboflows_coco_is_read_by_split_and_by_the_first_name_of_each_file():
    def split(image: str, **more: Any) -> str:
        document = cvat_coco()
        document["images"][0].update({"file_name": image, **more})
        return json.dumps(document)

    data = zipped({
        "README.dataset.txt": "# cells", "README.roboflow.txt": "exported",
        "train/_annotations.coco.json": split("cell-0001_jpg.rf.00ff00ff.jpg"),
        "valid/_annotations.coco.json": split("b-c_jpg.rf.11ff00ff.jpg", extra={"name": "b.c.jpg"}),
    })  # fmt: skip

    assert drawn("coco", data) == {"cell-0001": (DRAWN,), "b.c": (DRAWN,)}


LABEL = "1 0.500000 0.375000 0.500000 0.250000\n"
YOLO = {
    "cvat 1.1": {
        "obj.data": "classes = 3\ntrain = data/train.txt\nnames = data/obj.names\nbackup = backup/\n",
        "obj.names": "RBC\nWBC\nPlatelets\n", "train.txt": "data/obj_train_data/cell-0001.jpg\n",
        "obj_train_data/cell-0001.txt": LABEL,
    },
    "cvat ultralytics": {
        "data.yaml": "names:\n  0: RBC\n  1: WBC\n  2: Platelets\npath: .\ntrain: train.txt\n",
        "train.txt": "data/images/train/cell-0001.jpg\n", "labels/train/cell-0001.txt": LABEL,
    },
    "cvat, another subset": {
        "data.yaml": "names: {0: RBC, 1: WBC}\npath: .\nmine: mine.txt\n", "mine.txt": "images/mine/cell-0001.jpg\n",
        "labels/mine/cell-0001.txt": LABEL,
    },
    "label studio": {
        "classes.txt": "RBC\nWBC\n", "notes.json": "{}", "labels/1c1b3ac9-cell-0001.txt": LABEL,
        "images/1c1b3ac9-cell-0001.jpg": b"\xff\xd8",
    },
    "roboflow": {
        "README.dataset.txt": "# cells > 2026-11-02\nhttps://universe.roboflow.com/x\n", "README.roboflow.txt": "\n",
        "data.yaml": "train: ../train/images\nval: ../valid/images\n\nnc: 2\nnames: ['RBC', 'WBC']\n\n"
        "roboflow:\n  workspace: x\n  version: 1\n",
        "train/labels/cell-0001_jpg.rf.0123456789abcdef0123456789abcdef.txt": LABEL.strip(),
    },
    "roboflow, polygons": {
        "data.yaml": "names: ['RBC', 'WBC']\n",
        "train/labels/cell-0001_jpg.rf.0123456789abcdef.txt": "1 0.25 0.25 0.75 0.25 0.75 0.5 0.25 0.5",
    },
    "windows": {"data.yaml": "names: [RBC, WBC]\r\n", "labels/cell-0001.TXT": LABEL.replace("\n", "\r\n")},
}  # fmt: skip


@pytest.mark.parametrize("tool", sorted(YOLO))
def test_yolo_zips_of_tools_are_read(tool: str):
    assert drawn("yolo", zipped({**YOLO[tool], **DUST})) == {"cell-0001": (DRAWN,)}


def test_a_label_of_an_image_that_is_named_like_a_readme_counts():
    with pytest.raises(ReviewError, match="'readme' is no image"):
        taken("yolo", zipped({"labels/readme.txt": LABEL, "data.yaml": "names: [RBC, WBC]"}))
    with pytest.raises(ReviewError, match=r"labels/third\.txt:1: 7 columns|labels/third\.txt:1: 6 columns"):
        taken("yolo", zipped({"labels/third.txt": "1 0.1 0.1 0.2 0.2 0.9"}))


CVAT = """<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <meta><job><id>4</id><size>1</size><mode>annotation</mode><labels><label><name>WBC</name><color>#fa3253</color>
  <type>any</type><attributes></attributes></label></labels></job><dumped>2026-11-02 10:14:25+00:00</dumped></meta>
  <image id="0" name="review/cell-0001.jpg" subset="default" task_id="2" width="400" height="200">
    <tag label="WBC" source="manual"></tag>
    <box label="WBC" source="manual" occluded="0" xtl="100.00" ytl="50.00" xbr="300.00" ybr="100.00" z_order="0"></box>
  </image>
  <image id="1" name="third.jpg" width="400" height="200">
    <box label="RBC" source="file" occluded="0" xtl="40" ytl="40" xbr="120" ybr="120" z_order="0"></box>
  </image>
</annotations>
"""


@pytest.mark.parametrize("packed", [False, True])
def test_cvats_xml_is_read_and_unchanged_images_wait_for_somebody_to_look(packed: bool):
    data = zipped({**DUST, "annotations.xml": CVAT}) if packed else CVAT.encode()

    found = taken("cvat", data)

    assert {one.image: one.boxes for one in found.decisions} == {"cell-0001": (DRAWN,)}
    assert found.notes[0] == "the file has 2 of 3 images: 0 accepted, 1 corrected, 1 not looked at"
    assert "say nothing of whether somebody has looked" in found.notes[1]
    assert found.notes[2] == "not read: 1 tags of images"
    everything = taken("cvat", data, looked_at="all")
    assert [(one.image, one.decision) for one in everything.decisions] == [("cell-0001", "edit"), ("third", "accept")]


@pytest.mark.parametrize(
    ("form", "data", "told"),
    [
        ("label_studio", [task(annotation({**rectangle(), "image_rotation": 90}))], "0.result.0: the box is turned"),
        ("label_studio", [task(annotation(rectangle(rectanglelabels=["RBC", "WBC"])))], "has 2 rectanglelabels"),
        ("label_studio", [task(annotation({**rectangle(), "type": "polygonlabels"}))], "polygonlabels is no rectangle"),
        ("label_studio", [{"id": 1, "image": "a.jpg", "label": []}], "0.data: Field required"),
        ("yolo", b"<annotations/>", "not a zip archive"),
        ("yolo", zipped({"README.dataset.txt": "1 is the class of cells"}), "no label files"),
    ],
)
def test_what_cannot_be_taken_is_told_with_place_and_remedy(form: str, data: Any, told: str):
    with pytest.raises(ReviewError) as caught:
        taken(form, data)
    assert told in caught.value.message
    assert caught.value.hint
