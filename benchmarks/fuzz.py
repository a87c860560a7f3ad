"""Change what strangers may send at random, and look for what its readers do not foresee.

    python benchmarks/fuzz.py --parser all --minutes 10 --seed 1

Each case is a file, document or address of the corpus in ``tests/malicious``, or a sound one, with a few changes. A
finding is where anything is raised but Retort's own errors, where it takes more than five seconds, or where a refusal
leaves a file. It is printed with its bytes, and kept in ``--keep``. The exit code is 1 where there was one.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from core.test_addresses import MALFORMED
from malicious import archives, documents, doors, files
from malicious.cases import CASES
from retort.data.conversion.coco import read_coco
from retort.data.conversion.voc import read_voc
from retort.data.labels import parse_labels
from retort.data.text_files import decoded
from retort.data.weights import check_checkpoint
from retort.documents import parse_document
from retort.errors import RetortError
from retort.images import examine
from support.malicious_checkpoints import corpus

SLOW_S = 5.0
LARGEST_SEED = 200_000
NUMBERS = (b"0", b"-1", b"1", b"1e309", b"nan", b"-inf", b"9" * 30, b"4294967295", b"0x10", b"1_0", b"\xd9\xa1")
TOKENS = (
    b"\0", b"\xff", b"\xff\xd8", b"\n", b"\r\n", b"\t", b"../", b"\\", b"&a ", b"*a ", b"<<: ", b"!!x ", b"? ", b": ",
    b"- ", b"[", b"]", b"{", b"}", b'"', b"'", b"|\n", b"%", b"---\n", b"<", b">", b"<!DOCTYPE a>", b"&lt;", b"@", b"#",
    b"://", b"PK\1\2", b"PK\3\4", b"PK\5\6", b"ustar\0", b"\x80", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\xe2\x80\xae",
)  # fmt: skip
Parser = Callable[[bytes, Path], Any]
XML = (
    b"<annotation><filename>a.jpg</filename><size><width>9</width><height>9</height></size><object><name>a</name>"
    b"<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>3</xmax><ymax>3</ymax></bndbox></object></annotation>"
)
DOCUMENT = (
    b'{"images": [{"id": 1, "file_name": "a.jpg", "width": 9, "height": 9}], "categories": [{"id": 1, "name": "a"}], '
    b'"annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 2, 2], "segmentation": [[1, 1, 2]]}]}'
)


def _at_door(name: str) -> Parser:
    return doors.DOORS[name]


def _archive(data: bytes, folder: Path) -> None:
    path, target = folder / "archive", folder / "target"
    path.write_bytes(data)
    target.mkdir(exist_ok=True)
    try:
        doors.DOORS["archive"](path, target)
    except RetortError:
        assert not any(target.iterdir()), "a refused archive has left a file"
        raise
    for found in sorted(target.rglob("*"), reverse=True):
        assert not found.is_symlink(), found
        found.rmdir() if found.is_dir() else found.unlink()


def _file(name: str, read: Callable[[Path], Any]) -> Parser:
    def parse(data: bytes, folder: Path) -> None:
        path = folder / name
        path.write_bytes(data)
        read(path)

    return parse


PARSERS: dict[str, Parser] = {
    "yaml": lambda data, _: parse_document(data),
    "spec": _at_door("document"),
    "label": lambda data, _: parse_labels(decoded(data, "a.txt"), 2, "a.txt"),
    "archive": _archive,
    "voc": _file("a.xml", lambda path: read_voc(path.parent, [("a", path)])),
    "coco": _file("a.json", read_coco),
    "image": _file("a.png", examine),
    "checkpoint": _file("a.pt", lambda path: check_checkpoint(path, "a.pt")),
    "address": lambda data, folder: doors.DOORS["address"](data.decode("latin-1"), folder),
    "review-yolo": _at_door("review yolo"),
    "review-coco": _at_door("review coco"),
    "review-cvat": _at_door("review cvat"),
    "review-studio": _at_door("review label_studio"),
}


def _cases(door: str) -> list[bytes]:
    made = [case.make(Path()) for case in CASES.values() if case.door == door and not case.bomb]
    return [one.encode() if isinstance(one, str) else one for one in made]


def seeds(parser: str) -> list[bytes]:
    """Return what is changed: small cases of the corpus, and sound ones."""
    plain = [archives.LABEL, XML, DOCUMENT, documents.spec().encode(), b"names: [a, b]\ntrain: a\nval: b\n"]
    sound = [archives.tar_of(["a/b.txt", "c.txt"]), archives.zip_of(["a/b.txt", "c.txt"])]
    pictures = [make()[1] for make in files.IMAGES.values()]
    pictures += [files.saved(form, (32, 32)) for form in ("PNG", "JPEG", "BMP", "WEBP", "TIFF", "AVIF", "JPEG2000")]
    found = {
        "yaml": [*_cases("document"), *plain],
        "spec": [*_cases("document"), *plain],
        "label": [content for content in files.LABELS.values() if isinstance(content, bytes)],
        "archive": [*sound, *archives.TARS.values(), *archives.ZIPS.values(), *archives.STREAMS.values()],
        "voc": [XML, *(text.encode() for text in documents.XML.values())],
        "coco": [DOCUMENT, *(text.encode() for text in documents.COCO.values())],
        "image": pictures,
        "checkpoint": list(corpus().values()),
        "address": [url.encode("latin-1", "replace") for url in (*MALFORMED.values(), "https://a.example/b?c")],
    }
    door = parser.replace("studio", "label_studio").replace("-", " ")
    chosen = found.get(parser) or [*_cases(door), *plain]
    return [seed for seed in chosen if len(seed) <= LARGEST_SEED]


def changed(data: bytes, others: list[bytes], chance: random.Random) -> bytes:
    """Return *data* with a few changes."""
    made = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 3, 8))):
        place = chance.randrange(len(made) + 1)
        length = chance.choice((1, 1, 2, 4, 16, 100))
        what = chance.randrange(8)
        if what == 0 and made:
            made[min(place, len(made) - 1)] ^= 1 << chance.randrange(8)
        elif what == 1:
            made[place:place] = chance.choice(TOKENS)
        elif what == 2:
            made[place : place + length] = chance.choice(NUMBERS)
        elif what == 3:
            del made[place : place + length]
        elif what == 4:
            made[place:place] = made[place : place + length] * chance.choice((1, 2, 50))
        elif what == 5:
            other = chance.choice(others)
            begin = chance.randrange(len(other) + 1)
            made[place : place + length] = other[begin : begin + chance.choice((4, 40, 400))]
        elif what == 6:
            made[place : place + length] = chance.randbytes(length)
        else:
            del made[place:]
    return bytes(made)


def tried(parser: str, data: bytes, folder: Path) -> str | None:
    """Return what went wrong, or None."""
    began = time.process_time()
    try:
        PARSERS[parser](data, folder)
    except RetortError as error:
        if not str(error) or error.code == "internal":
            return f"no words: {error!r}"
    except Exception:  # noqa: BLE001 - that is what is looked for
        return traceback.format_exc(limit=-4)
    took = time.process_time() - began
    return f"it took {took:.1f} s" if took > SLOW_S else None


def fuzz(parser: str, seconds: float, seed: int, keep: Path | None) -> Iterator[tuple[int, str | None]]:
    """Yield the number of the case, and what went wrong with it."""
    chance, known = random.Random(seed), seeds(parser)  # noqa: S311 - to be repeated
    ends, number = time.monotonic() + seconds, 0
    with tempfile.TemporaryDirectory() as folder:
        while time.monotonic() < ends:
            data = changed(chance.choice(known), known, chance)
            wrong = tried(parser, data, Path(folder))
            number += 1
            if wrong is not None and keep is not None:
                keep.mkdir(parents=True, exist_ok=True)
                (keep / f"{parser}-{hashlib.sha256(data).hexdigest()[:12]}").write_bytes(data)
            yield number, wrong if wrong is None else f"{wrong}\n{data[:300]!r}"


def main() -> int:
    """Fuzz the parsers that are asked for; return the exit code."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--parser", choices=[*PARSERS, "all"], default="all")
    options.add_argument("--minutes", type=float, default=10.0, help="for each parser")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--keep", type=Path, help="folder for the bytes of findings")
    options.add_argument("--json", type=Path)
    given = options.parse_args()
    warnings.simplefilter("ignore")
    result: dict[str, dict[str, Any]] = {}
    for parser in PARSERS if given.parser == "all" else [given.parser]:
        number, findings = 0, dict[str, str]()
        for number, wrong in fuzz(parser, given.minutes * 60, given.seed, given.keep):
            if wrong is not None and (place := wrong.rsplit("\n", 1)[0]) not in findings:
                findings[place] = wrong
                print(f"{parser}, case {number}: {wrong}", flush=True)
        result[parser] = {"cases": number, "findings": list(findings.values())}
        print(f"{parser}: {number:,} cases, {len(findings)} findings", flush=True)
    if given.json is not None:
        given.json.write_text(json.dumps({"minutes": given.minutes, "seed": given.seed, "parsers": result}, indent=2))
    return int(any(found["findings"] for found in result.values()))


if __name__ == "__main__":
    sys.exit(main())
