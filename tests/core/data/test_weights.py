"""Weights are found by name, and published ones fetched whole or not at all."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from core.data import archives
from retort.data import weights
from retort.data.published_weights import PINS, check_published, pinned
from retort.errors import FetchError, ModelError
from support.checkpoints import checkpoint as small_checkpoint


@cache
def checkpoint() -> bytes:
    return small_checkpoint(note="long " * 60_000)


class Assets(ThreadingHTTPServer):
    """A server of published weights: answers by path, and counts."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = {"/yolov8m.pt": checkpoint(), "/yolov8s.pt": b"<html>rate limit</html>"}
        self.asked: list[str] = []
        self.cut = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Assets

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        if self.path == "/moved/yolov8m.pt":
            self.send_response(302)
            self.send_header("Location", f"{self.server.url}/yolov8m.pt")
            self.end_headers()
            return
        body = self.server.files.get(self.path)
        self.send_response(404 if body is None else 200)
        self.send_header("Content-Length", str(len(body or b"")))
        self.end_headers()
        self.wfile.write((body or b"")[: 1000 if self.server.cut else None])

    def log_message(self, *_: object) -> None:
        """Stay quiet."""


@pytest.fixture
def assets() -> Iterator[Assets]:
    with Assets() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_file_in_the_folder_is_taken_without_any_network(tmp_path: Path):
    (tmp_path / "mine.pt").write_bytes(checkpoint())
    assert weights.resolve_weights("mine.pt", tmp_path, fetch=True, source="http://127.0.0.1:1") == tmp_path / "mine.pt"


def test_a_published_file_is_fetched_once(tmp_path: Path, assets: Assets):
    folder = tmp_path / "models"
    for _ in range(2):
        path = weights.resolve_weights("yolov8m.pt", folder, fetch=True, source=assets.url)
    assert path.read_bytes() == checkpoint()
    assert assets.asked == ["/yolov8m.pt"]
    assert [found.name for found in folder.iterdir()] == ["yolov8m.pt"]


def test_a_redirection_is_followed_as_the_release_page_needs(tmp_path: Path, assets: Assets):
    assert weights.resolve_weights("yolov8m.pt", tmp_path, fetch=True, source=f"{assets.url}/moved").is_file()


def test_workers_that_need_the_same_file_fetch_it_once(tmp_path: Path, assets: Assets):
    with ThreadPoolExecutor(8) as pool:
        found = list(
            pool.map(lambda _: weights.resolve_weights("yolov8m.pt", tmp_path, fetch=True, source=assets.url), range(8))
        )
    assert set(found) == {tmp_path / "yolov8m.pt"}
    assert assets.asked == ["/yolov8m.pt"]


def test_a_download_that_is_cut_off_leaves_nothing_that_looks_whole(tmp_path: Path, assets: Assets):
    assets.cut = True
    with pytest.raises(FetchError) as caught:
        weights.resolve_weights("yolov8m.pt", tmp_path, fetch=True, source=assets.url)
    assert not (tmp_path / "yolov8m.pt").exists()
    assert caught.value.retryable
    assets.cut = False
    assert weights.resolve_weights("yolov8m.pt", tmp_path, fetch=True, source=assets.url).read_bytes() == checkpoint()


@pytest.mark.parametrize("name", ["yolov8s.pt", "yolo11x.pt"])
def test_an_answer_that_is_no_checkpoint_is_not_kept(tmp_path: Path, assets: Assets, name: str):
    with pytest.raises(FetchError):
        weights.resolve_weights(name, tmp_path, fetch=True, source=assets.url)
    assert not (tmp_path / name).exists()


def test_weights_that_broke_off_are_gone_on_with(tmp_path: Path):
    with archives.publishing() as publisher:
        publisher.files = {"yolov8m.pt": checkpoint()}
        publisher.break_after, publisher.breaks = len(checkpoint()) // 2, 1
        path = weights.resolve_weights("yolov8m.pt", tmp_path, fetch=True, source=publisher.url)
        ranges = [asked for _, asked in publisher.asked]

    assert path.read_bytes() == checkpoint()
    assert ranges == [None, f"bytes={publisher.break_after}-"]
    assert [file.name for file in tmp_path.iterdir()] == ["yolov8m.pt"]


def test_without_network_the_error_says_where_to_put_the_file_by_hand(tmp_path: Path):
    with pytest.raises(FetchError) as caught:
        weights.resolve_weights("yolo11l.pt", tmp_path, fetch=True, source="http://127.0.0.1:1")
    assert caught.value.hint == f"put the file at {tmp_path / 'yolo11l.pt'} by hand"


def test_where_fetching_is_switched_off_the_error_says_what_to_do(tmp_path: Path):
    with pytest.raises(ModelError, match="switched off") as caught:
        weights.resolve_weights("yolo11l.pt", tmp_path, fetch=False)
    assert weights.ASSETS_URL in str(caught.value.hint)


def test_an_unknown_name_is_not_asked_for_and_the_known_ones_are_listed(tmp_path: Path, assets: Assets):
    (tmp_path / "mine.pt").write_bytes(checkpoint())
    with pytest.raises(ModelError, match=r"no weights other\.pt") as caught:
        weights.resolve_weights("other.pt", tmp_path, fetch=True, source=assets.url)
    assert caught.value.hint == "in the folder: mine.pt"
    assert assets.asked == []


@pytest.mark.parametrize("name", ["../secret.pt", "/etc/x.pt", "a/b.pt", "x.pth"])
def test_only_bare_names_are_names(tmp_path: Path, name: str):
    with pytest.raises(ModelError, match="bare name"):
        weights.resolve_weights(name, tmp_path, fetch=True)


def test_a_file_that_is_cut_off_is_refused_before_any_training(tmp_path: Path):
    (tmp_path / "mine.pt").write_bytes(checkpoint()[:1000])
    with pytest.raises(ModelError, match="not a PyTorch checkpoint"):
        weights.resolve_weights("mine.pt", tmp_path, fetch=True)


def test_a_file_with_a_hole_is_refused_before_it_is_sent(tmp_path: Path):
    content = bytearray(checkpoint())
    content[content.index(b"thing")] = ord("T")
    (tmp_path / "mine.pt").write_bytes(content)

    with pytest.raises(ModelError, match=r"it is damaged: .*data\.pkl"):
        weights.check_checkpoint(tmp_path / "mine.pt", "mine.pt")


def test_a_published_file_that_has_other_bytes_than_it_must_have_is_not_taken(tmp_path: Path, assets: Assets):
    (tmp_path / PINS).write_text(json.dumps({"yolov8m.pt": "0" * 64}))

    with pytest.raises(FetchError, match="not the published file"):
        weights.resolve_weights("yolov8m.pt", tmp_path, fetch=True, source=assets.url)

    assert not (tmp_path / "yolov8m.pt").exists()


@pytest.mark.parametrize("name", ["yolo11n.pt", "yolo26l.pt"])
def test_a_file_of_a_published_name_is_told_or_refused_where_its_digest_is_not_known(tmp_path: Path, name: str):
    path = tmp_path / name
    path.write_bytes(checkpoint())

    told = check_published(name, path, tmp_path, pinned_only=False)

    assert (told is not None) is (name == "yolo11n.pt"), "other bytes are told; an unknown digest alone is not"
    with pytest.raises(ModelError, match=name) as refused:
        check_published(name, path, tmp_path, pinned_only=True)
    assert PINS in str(refused.value.hint)

    (tmp_path / PINS).write_text(json.dumps({name: hashlib.sha256(checkpoint()).hexdigest()}))
    assert check_published(name, path, tmp_path, pinned_only=True) is None


@pytest.mark.parametrize("content", ["{", "[]", '{"a.pt": 1}', '{"a.pt": "short"}'])
def test_digests_that_cannot_be_read_are_told(tmp_path: Path, content: str):
    (tmp_path / PINS).write_text(content)
    with pytest.raises(ModelError, match=PINS):
        pinned("a.pt", tmp_path)
