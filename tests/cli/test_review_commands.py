"""The commands of a review, against a real service and in the folder of a run."""

from __future__ import annotations

import base64
import json
import re
import shlex
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from cli.commands import Retort
from PIL import Image
from retort.client.client import Client
from retort.review.formats import FORMS
from retort.review.models import Box, Decisions, ImageVerdict, Picture, ReviewSet, Scored
from retort.review.sheet import Entry, sheet
from support.scripted_run import seen
from support.worker_harness import eventually

Submitted = Callable[[str, int], str]


@pytest.fixture
def waiting(served: Retort, submitted: Submitted) -> Iterator[str]:
    """A job of the service that waits for its review."""
    job_id = submitted("review", 1)
    eventually(lambda: served("get", job_id, "--json").json["state"] == "awaiting_review")
    yield job_id
    if served("get", job_id, "--json").json["state"] == "awaiting_review":
        served("cancel", job_id)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of a run that waits for its review."""
    (tmp_path / "artifacts").mkdir()
    proposals = ReviewSet(mode="all", classes=("red", "blue"), pictures=(seen("a"), seen("b"), seen("c")))
    (tmp_path / "artifacts/review.json").write_text(proposals.model_dump_json())
    (tmp_path / "artifacts/review").mkdir()
    for picture in proposals.pictures:
        Image.new("RGB", (64, 64), "grey").save(tmp_path / f"artifacts/review/{picture.image}.jpg")
    return tmp_path


class Page(HTMLParser):
    """What a sheet shows, by image, and whatever it would fetch from elsewhere."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.states: dict[str, str] = {}
        self.boxes: dict[str, list[str]] = {}
        self.jpegs: dict[str, bytes] = {}
        self.foreign: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "figure":
            self._image = given["id"].removeprefix("image-")
            self.states[self._image], self.boxes[self._image] = given["class"], []
        elif tag == "i":
            self.boxes[self._image].append(f"{given['class']} {given['title']} {given['style'].partition(';--c')[0]}")
        elif tag == "img":
            self.jpegs[self._image] = base64.b64decode(given["src"].removeprefix("data:image/jpeg;base64,"))
        if tag in {"script", "link", "iframe"} or given.get("href", "#")[0] != "#":
            self.foreign.append(tag)


def printed(text: str) -> list[str]:
    """Return the arguments of the command that a message shows."""
    found = re.search(r"retort (review [a-z]+ .*?)( \(|$)", text.strip())
    assert found is not None, text
    return shlex.split(found[1])


def decided(folder: Path) -> dict[str, str]:
    return {image: one.decision for image, one in Decisions.load(folder / "decisions.json").items()}


def test_a_review_is_shown_decided_and_completed_and_the_job_goes_on(served: Retort, waiting: str):
    assert served("review", "show", waiting).out.splitlines() == [
        "2 of 2 images are open; 0 accepted, 0 rejected, 0 edited; 0 were looked at", "a", "b",
    ]  # fmt: skip
    assert served("ls", "--state", "awaiting_review", "--json").json[0]["id"] == waiting
    refused = served("review", "complete", waiting, "--json")
    assert (refused.code, refused.error["code"]) == (4, "review_open")
    assert printed(refused.error["hint"]) == ["review", "complete", waiting, "--rest", "accept"]
    assert served("review", "accept", waiting, "--image", "a", "--reviewer", "ann").code == 0
    rejected = served("review", "reject", waiting)
    assert rejected.out == "0 of 2 images are open; 1 accepted, 1 rejected, 0 edited; 2 were looked at\n"
    assert served(*printed(rejected.err)).out == f"{waiting} is queued\n"
    assert served("wait", waiting, "--timeout", 60).code == 0
    assert "decided: [('a', 'accept'), ('b', 'reject')]" in served("logs", waiting).out
    late = served("review", "accept", waiting, "--image", "a", "--json")
    assert (late.code, late.error["code"]) == (4, "job_already_finished")


@pytest.mark.parametrize("form", sorted(FORMS))
def test_a_review_goes_out_and_comes_back(served: Retort, waiting: str, tmp_path: Path, form: str):
    path = tmp_path / f"out{FORMS[form].suffix}"
    assert served("review", "export", waiting, "--format", form, "--out", path).out == f"{path}\n"
    taken = served("review", "import", waiting, "--format", form, "--from", path, "--looked-at", "all", "--json")
    assert (taken.json["num_accepted"], taken.json["num_open"]) == ((0, 2) if form == "label_studio" else (2, 0))
    served("cancel", waiting)


def test_the_client_does_the_same(service: str, key: str, waiting: str):
    with Client(service, key=key) as client:
        review = client.review(waiting)
        assert [one["image"] for one in review.images()] == ["a", "b"]
        box = {"name": "red", "x1": 0.0, "y1": 0.0, "x2": 0.5, "y2": 1.0}
        shown = review.decide("b", "edit", boxes=[box], reviewer="ann")
        assert shown["decision"]["boxes"] == [box]
        assert [one["image"] for one in review.images(decided=True)] == ["b"]
        assert review.get()["open"] == ["a"]
        assert review.complete(rest="accept")["state"] in {"queued", "running"}, "a worker may take it at once"
        assert client.wait(waiting, timeout_s=60)["state"] == "succeeded"


def test_a_watched_job_says_what_it_waits_for(served: Retort, waiting: str):
    line = next(line for line in served("logs", waiting).out.splitlines() if "wait to be looked at" in line)
    shown = served(*printed(line))
    assert shown.out.splitlines()[1:] == ["a", "b"], "the command works as it is printed"
    assert served("review", "show").out == shown.out, "as does the one for the only job that waits"
    assert "awaiting_review" in served("get", waiting).out


def test_a_review_in_a_folder_needs_no_service(retort: Retort, folder: Path):
    def call(*arguments: Any) -> Any:
        return retort("review", *arguments, "--workdir", folder, "--json", url="http://127.0.0.1:9")

    assert call("show").json["open"] == ["a", "b", "c"]
    assert call("reject", "--image", "b").json["num_open"] == 2
    exported = folder / "labels.json"
    assert call("export", "--out", exported).code == 0
    document = json.loads(exported.read_text())
    assert [image["file_name"] for image in document["images"]] == ["a.jpg", "c.jpg"]
    document["images"] = document["images"][:1]
    document["annotations"] = []
    exported.write_text(json.dumps(document))
    assert call("import", "--from", exported, "--reviewer", "ann").json["num_edited"] == 1
    refused = call("complete")
    assert (refused.code, refused.error["code"]) == (4, "review_open")
    assert call("complete", "--rest", "accept").json["num_open"] == 0
    assert decided(folder) == {"a": "edit", "b": "reject", "c": "accept"}
    assert [one.image for one in Decisions.load(folder / "decisions.json").values() if not one.seen] == ["c"]
    assert Decisions.load(folder / "decisions.json")["a"].reviewer == "ann"


def test_a_review_is_seen_without_another_tool_with_its_boxes_drawn(retort: Retort, folder: Path):
    """Find review pictures that have no boxes: the sheet of a folder draws them, and is named where one looks."""
    hint = retort("review", "show", "--workdir", folder).err
    retort("review", "reject", "--workdir", folder, "--image", "b")
    decided = [Box(name="blue", x1=0.5, y1=0.5, x2=1.0, y2=1.0)]
    edited = {"decision": "edit", "boxes": [one.model_dump() for one in decided], "image": "c", "at": 1.0}
    found = json.loads((folder / "decisions.json").read_text())["decisions"]
    (folder / "decisions.json").write_text(json.dumps({"decisions": [*found, edited]}))
    out = folder / "seen/sheet.html"
    assert retort(*printed(hint), "--out", out).out == f"{out}\n"
    page = Page(out.read_text())
    assert page.states == {"a": "open", "b": "rejected", "c": "edited"}
    drawn = "label red 0.90 left:10.00%;top:10.00%;width:40.00%;height:40.00%"
    put = "label blue left:50.00%;top:50.00%;width:50.00%;height:50.00%"
    assert page.boxes == {"a": [drawn], "b": [drawn], "c": [put]}
    assert page.jpegs["a"] == (folder / "artifacts/review/a.jpg").read_bytes()
    assert page.foreign == []


def test_a_service_gives_the_same_sheet(served: Retort, waiting: str, tmp_path: Path):
    served("review", "accept", waiting, "--image", "b")
    out = tmp_path / "sheet.html"
    told = served(*printed(served("review", "show", waiting).err), "--out", out, "--json").json
    assert told == {"path": str(out), "num_images": 2, "size_bytes": out.stat().st_size}
    page = Page(out.read_text())
    assert page.states == {"a": "open", "b": "accepted"}
    assert page.jpegs == {"a": b"a", "b": b"b"}
    assert page.boxes["b"] == ["label red 0.90 left:10.00%;top:10.00%;width:40.00%;height:40.00%"]
    served("cancel", waiting)


def test_a_sheet_shows_names_as_they_are_and_what_is_doubtful():
    named = "<b>&\"'"
    box = Scored(name=named, x1=0, y1=0, x2=1, y2=1, score=0.5)
    picture = Picture(image="show-open", file="<x>.png", width=8, height=8, kept=(box,), doubtful=(box,))
    text = sheet("<t>", [named], [Entry(picture, ImageVerdict(decision="accept"), b"")])
    assert [line.split(" left")[0] for line in Page(text).boxes["show-open"]] == [
        f"doubtful {named} 0.50",
        f"label {named} 0.50",
    ]
    assert re.search(r"<b>&|<x>|<t>", text) is None
    names = re.findall(r' id="([^"]+)"', text)
    assert sorted(names) == sorted(set(names)), "an image named as the choice of what is shown is another place"


def test_completing_a_review_in_a_folder_says_how_to_go_on(retort: Retort, folder: Path):
    told = retort("review", "complete", "--workdir", folder, "--rest", "reject")
    assert told.out == f"the review is complete; start the run again: retort run SPEC --out {folder}\n"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("show", "job", "--workdir", "x"), "usage"),
        (("show", "--workdir", "nowhere"), "review_not_found"),
        (("accept", "--image", "z"), "image_not_found"),
        (("import", "--from", "nowhere.json"), "bad_request"),
        (("import", "--from", "text.txt"), "bad_review"),
        (("export", "--format", "voc"), "usage"),
        (("sheet", "--out", "artifacts.json/x.html"), "bad_request"),
    ],
)
def test_what_cannot_be_done_is_told(retort: Retort, folder: Path, arguments: tuple[str, ...], code: str):
    (folder / "text.txt").write_text("no labels")
    (folder / "artifacts.json").write_text("a file, no folder")
    given = [str(folder / part) if part.endswith((".json", ".txt", ".html")) else part for part in arguments]
    where = [] if code == "usage" or "--workdir" in given else ["--workdir", folder]
    told = retort("review", *given, *where, "--json")
    assert (told.code, told.error["code"]) == (4, code)
    assert not (folder / "decisions.json").exists()
