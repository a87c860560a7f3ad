"""The documentation is a site that builds without a warning, asks no foreign host, and has no dead link."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from house.source import ROOT

LONGEST_PAGE = 900  # words; who reads more of it at once reads none of it
GENERATED = {"spec.md", "result.md"}

LOADS = {"script": "src", "link": "href", "img": "src", "iframe": "src", "source": "src"}


class References(HTMLParser):
    """What a page loads by itself, and where its links lead."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.linked: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        target = dict(attrs).get(LOADS.get(tag, "href"))
        if target and tag in LOADS:
            self.loaded.append(target)
        elif target and tag == "a":
            self.linked.append(target)


def read(page: Path) -> References:
    references = References()
    references.feed(page.read_text())
    return references


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site as make docs does, elsewhere."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(folder)]
    quiet = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, cwd=ROOT, env=quiet, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return folder


def test_the_site_has_a_page_for_each_document(site: Path):
    documents = {path.relative_to(ROOT / "docs").with_suffix("").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    pages = {path.relative_to(site).with_suffix("").as_posix() for path in site.rglob("*.html")}

    assert {name.replace("README", "index") for name in documents} - pages == set()


def test_no_page_loads_anything_from_another_host(site: Path):
    loaded = {page.relative_to(site).as_posix(): read(page).loaded for page in site.rglob("*.html")}

    assert any(target.endswith(".js") for target in loaded["quickstart.html"])
    assert [(page, target) for page, targets in loaded.items() for target in targets if urlsplit(target).netloc] == []


def test_every_link_within_the_site_leads_to_a_file(site: Path):
    broken = [
        f"{page.relative_to(site)}: {target}"
        for page in site.rglob("*.html")
        if page.name != "404.html"
        for target in read(page).linked
        if not urlsplit(target).scheme and (path := unquote(urlsplit(target).path))
        if not (page.parent / path).resolve().exists() or not (page.parent / path).resolve().is_relative_to(site)
    ]

    assert broken == []


def test_a_page_written_by_hand_is_short_enough_to_be_read():
    docs = ROOT / "docs"
    pages = {path.relative_to(docs).as_posix(): path.read_text().split() for path in docs.rglob("*.md")}
    words = {name: sum(bool(re.search(r"\w", word)) for word in text) for name, text in pages.items()}

    assert {name for name, count in words.items() if count > LONGEST_PAGE} == GENERATED


def test_the_tour_tells_each_picture_in_words_and_its_pictures_weigh_little():
    """``make screenshots`` takes them; they travel with every clone."""
    shown = re.findall(r"!\[([^\]]+)\]\(screenshots/([\w-]+\.png)\)", (ROOT / "docs" / "tour.md").read_text())

    assert len(shown) >= 8
    assert [name for words, name in shown if len(words.split()) < 5] == []
    assert sum((ROOT / "docs" / "screenshots" / name).stat().st_size for _, name in shown) <= 1_500_000
