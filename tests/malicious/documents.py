"""Write specs, descriptions, annotations and addresses that mislead or blow up their readers."""

from __future__ import annotations

import io
import itertools
import json
import zipfile
from pathlib import Path

import yaml
from malicious.cases import Make, add, add_all
from malicious.sets import write_set

SPEC = {
    "name": "a",
    "data": {"path": "/data/set"},
    "teacher": {"weights": "yolov8s.pt"},
    "student": {"model": "yolov8n"},
}


def spec(**changes: object) -> str:
    return json.dumps({**SPEC, **changes})


MERGES = "m0: &m0 {x: 1}\n" + "".join(f"m{n}: &m{n} {{<<: [{', '.join([f'*m{n - 1}'] * 10)}]}}\n" for n in range(1, 9))
LAUGHS = "a: &a [lol]\n" + "".join(
    f"{after}: &{after} [{', '.join([f'*{before}'] * 9)}]\n" for before, after in itertools.pairwise("abcdefghij")
)
YAML = {
    "merges of merges": MERGES,
    "laughs": LAUGHS,
    "an alias of itself": "a: &a [*a]",
    "an object": "name: !!python/object/apply:os.system ['touch escape']",
    "a new object": "name: !!python/object/new:type [a, [], {}]",
    "a module": "name: !!python/module:os",
    "a name of Python's": "name: !!python/name:os.system",
    "a tuple": "name: !!python/tuple [1]",
    "a set": "name: !!set {a}",
    "binary": "name: !!binary aGVsbG8=",
    "a tag of one's own": "name: !evil x",
    "a tag by its address": "name: !<tag:yaml.org,2002:python/object/apply:os.system> [id]",
    "a directive with a prefix": "%TAG !e! tag:yaml.org,2002:python/\n---\nname: !e!name:os.system x",
    "two documents": "name: a\n---\nname: b",
    "a key twice": "name: a\nname: b",
    "a key twice by its quotes": "name: a\n'name': b",
    "a key that is a list": "? [a]\n: b",
    "deep lists": "name: " + "[" * 100_000,
    "deep mappings": "".join(" " * depth + "a:\n" for depth in range(500)),
    "keys of one hash": "{" + ", ".join(str(n * ((1 << 61) - 1)) for n in range(20_000)) + "}",
    "many values": "name: [" + "a," * 300_000 + "]",
    "a number of many digits": "name: a\nseed: " + "9" * 10_000,
    "NUL": "name: a\0b",
    "bytes that are no text": b"name: \xff\xfe",
    "no end of a text": "name: '" + "x" * 100_000,
}
JSON = {
    "deep JSON": '{"a":' * 100_000,
    "deep lists of JSON": '{"a":' + "[" * 900 + "]" * 900 + "}",
    "a key of JSON twice": '{"name": "a", "name": "b"}',
    "a number of JSON of many digits": '{"name": ' + "9" * 100_000 + "}",
    "many empty mappings": '{"a":[' + "{}," * 300_000 + "1]}",
    "a list and no spec": "[]",
    "a text and no spec": '"name"',
    "nothing": "",
}
SPECS = {
    "weights by a path": spec(teacher={"weights": "/etc/passwd"}),
    "weights by a parent path": spec(teacher={"weights": "../../secret.pt"}),
    "weights by a URL": spec(teacher={"weights": "https://evil.example/a.pt"}),
    "weights of Ultralytics' hub": spec(teacher={"weights": "ul://user/project/model.pt"}),
    "weights in a bucket": spec(teacher={"weights": "gs://bucket/a.pt"}),
    "weights of Triton": spec(teacher={"weights": "grpc://evil.example/model"}),
    "weights with a NUL": spec(teacher={"weights": "a\0.pt"}),
    "a pickled teacher": spec(teacher={"weights": "teacher.pkl"}),
    "an engine as a teacher": spec(teacher={"weights": "teacher.engine"}),
    "a model by its own file": spec(student={"model": "../../evil.yaml"}),
    "a model by a URL": spec(student={"model": "https://evil.example/model.yaml"}),
    "a path of Python": spec(distillation={"losses": [{"kind": "os.system"}]}),
    "a loss of no kind": spec(distillation={"losses": [{"kind": "../evil"}]}),
    "a field that is not known": spec(trainer="evil.Trainer"),
    "a field of Python's": spec(__class__="evil"),
    "epochs without an end": spec(training={"epochs": 10**12}),
    "a negative batch": spec(training={"batch": -1}),
    "an image size without an end": spec(training={"imgsz": 10**9}),
    "a rate that is no number": '{"name": "a", "data": {"path": "/a"}, "training": {"lr": NaN}}',
    "an endless number": spec(training={"lr": 1e308}).replace("1e+308", "1e999"),
    "a name with an escape of a terminal": spec(name="a\x1b]0;evil\x07"),
    "a name of a megabyte": spec(name="a" * (1 << 20)),
    "a data set by a URL and a path": spec(data={"dataset": "https://evil.example/a.zip", "path": "/a"}),
    "a known data set by a parent path": spec(data={"dataset": "../../etc"}),
}


def _yolo(**files: str | bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in files.items():
            file.writestr(name.replace("__", "/").replace("_txt", ".txt").replace("_yaml", ".yaml"), content)
    return buffer.getvalue()


YOLO = {
    "merges of merges": _yolo(data_yaml=MERGES, labels__a_txt=""),
    "names in an object": _yolo(data_yaml="names: !!python/name:os.system x", labels__a_txt=""),
    "names of any number": _yolo(data_yaml="names: {99999999999: a}", labels__a_txt=""),
    "a label of any number of lines": _yolo(labels__a_txt="0 0.5 0.5 0.2 0.2\n" * 100_001),
    "a label of one line": _yolo(labels__a_txt="0 " + "0.5 " * 500_000),
    "a class of any number": _yolo(labels__a_txt="1e300 0.5 0.5 0.2 0.2"),
    "numbers that are none": _yolo(labels__a_txt="0 nan 0.5 0.2 0.2"),
    "a box beside its image": _yolo(labels__a_txt="0 9e99 0.5 0.2 0.2"),
    "no label": _yolo(readme_txt="hello"),
}
ENTITIES = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 10))
XML = {
    "entities of entities": f'<!DOCTYPE a [<!ENTITY e0 "x">{ENTITIES}]><annotations>&e9;</annotations>',
    "one long entity again and again": f'<!DOCTYPE a [<!ENTITY e "{"x" * 50_000}">]>'
    f"<annotations>{'&e;' * 5000}</annotations>",
    "an entity that is a file": '<!DOCTYPE a [<!ENTITY e SYSTEM "file:///etc/passwd">]><annotations>&e;</annotations>',
    "an entity that is an address": '<!DOCTYPE a [<!ENTITY e SYSTEM "http://127.0.0.1/">]><annotations>&e;</annotations>',
    "entities of parameters": '<!DOCTYPE a [<!ENTITY % e SYSTEM "file:///etc/passwd"> %e;]><annotations/>',
    "a type from elsewhere": '<!DOCTYPE annotations SYSTEM "http://127.0.0.1/a.dtd"><annotations/>',
    "an entity that is not declared": "<annotations>&e;</annotations>",
    "another document": '<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>',
    "elements without an end": "<annotations>" + "<a>" * 100_000,
    "no end": "<annotations><image",
    "an element of any number of attributes": "<annotations " + "".join(f'a{n}="" ' for n in range(200_000)) + "/>",
    "a text without an end": "<annotations>" + "\n" * (2 << 20) + "</annotations>",
    "another encoding": '<?xml version="1.0" encoding="evil"?><annotations/>',
    "many boxes": "<annotations>" + "<box/>" * 500_001 + "</annotations>",
}
COCO = {
    "deep": "[" * 100_000,
    "deep in a field": '{"images":' + "[" * 100_000,
    "many values": '{"images":[' + "1," * 2_000_001 + "1]}",
    "numbers that are none": '{"images":[{"id":1,"file_name":"a","width":NaN,"height":1}]}',
    "a size without an end": '{"images":[{"id":1,"file_name":"a","width":1e999,"height":1}]}',
    "one value of many others": '{"info": [' + "[]," * 2_000_001 + "1]}",
    "an id of many digits": '{"images":[{"id":' + "9" * 10_000 + ',"file_name":"a","width":1,"height":1}]}',
    "a list in the place of a document": "[]",
    "an image twice": '{"images":[{"id":1,"file_name":"a.jpg","width":9,"height":9},'
    '{"id":2,"file_name":"../a.jpg","width":9,"height":9}],"annotations":[],"categories":[]}',
}
STUDIO = {
    "deep": "[" * 100_000,
    "a task that is a text": '["a"]',
    "a result of another shape": '[{"data": {"image": "a.jpg"}, "annotations": [{"result": 7}]}]',
    "many values": "[" + "1," * 2_000_001 + "1]",
}

add_all("document", {**{f"YAML, {name}": text for name, text in YAML.items()}, **JSON, **SPECS})
add_all("review yolo", YOLO)
add_all("review cvat", {name: text.encode() for name, text in XML.items()})
add_all("review coco", {name: text.encode() for name, text in COCO.items()})
add_all("review label_studio", {name: text.encode() for name, text in STUDIO.items()})

DESCRIPTIONS: dict[str, dict[str, object] | str] = {
    "a path to the root": {"path": "/"},
    "a parent path": {"path": "../outside"},
    "images at an absolute path": {"train": "/etc"},
    "images at a parent path (CVE-2026-2033)": {"train": "images/../../outside"},
    "images by a URL": {"train": "https://evil.example/a.zip"},
    "a list of images that is elsewhere": {"train": "../outside/secret.txt"},
    "a device as a list": {"train": "/dev/zero"},
    "classes in an object": "train: images/train\nval: images/val\nnames: !!python/name:os.system x\n",
    "merges of merges": MERGES,
    "classes without a name": {"names": [""]},
    "classes of any number": {"nc": 10**9, "names": None},
    "a class with an escape of a terminal": {"names": ["a\x1b[2J"]},
    "a class of a megabyte": {"names": ["a" * (1 << 20)]},
    "classes by other keys": {"names": {"a": "b"}},
    "a list and no description": "[]",
    "nothing": "",
}


def _described(changes: dict[str, object] | str) -> Make:
    def make(folder: Path) -> Path:
        root = write_set(folder / "set")
        known = {"train": "images/train", "val": "images/val", "names": ["a"]}
        text = changes if isinstance(changes, str) else yaml.safe_dump({**known, **changes})
        (root / "data.yaml").write_text(text)
        return root

    return make


for _name, _changes in DESCRIPTIONS.items():
    add("data set", f"data.yaml, {_name}", _described(_changes))
add("data set", "a program to download it (Ultralytics runs `download`)", _described(
    {"download": "import os; os.system('touch escape')"}), harmless=True,
)  # fmt: skip


def _annotated(name: str, content: str) -> Make:
    def make(folder: Path) -> Path:
        source = folder / "source"
        (source / Path(name).parent).mkdir(parents=True)
        (source / name).write_text(content)
        return source

    return make


VOC = {name: text.replace("annotations", "annotation") for name, text in XML.items() if name != "many boxes"}
for _name, _text in VOC.items():
    add("annotations", f"VOC, {_name}", _annotated("Annotations/a.xml", _text))
DOCUMENT = (
    '{"images":[{"id":1,"file_name":%s,"width":9,"height":9}],"categories":[{"id":1,"name":"a"}],'
    '"annotations":[{"id":1,"image_id":1,"category_id":1,"bbox":[1,1,2,2]}]}'
)
for _name, _file in {
    "an image at an absolute path": '"/etc/passwd"', "an image at a parent path": '"../../outside/secret.jpg"',
    "an image by a URL": '"https://evil.example/a.jpg"', "an image of a long name": f'"{"a" * 5000}.jpg"',
}.items():  # fmt: skip
    add("annotations", f"COCO, {_name}", _annotated("a.json", DOCUMENT % _file))
for _name in ("deep in a field", "a list in the place of a document", "an id of many digits"):
    add("annotations", f"COCO, {_name}", _annotated("a.json", COCO[_name]))
