"""Mutate checkpoints for a time, and look for whatever is no error of Retort's: ``--seconds 180 [--load] [FILE…]``."""

from __future__ import annotations

import argparse
import io
import json
import random
import struct
import sys
import tempfile
import time
import traceback
import zipfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from retort.checkpoints import converted, opening
from retort.errors import RetortError
from support.checkpoints import archive, checkpoint
from support.malicious_checkpoints import corpus, described, rows

SLOW_S = 5.0
_WORDS = (
    b"R",
    b"b",
    b"\x81",
    b"Q",
    b"c",
    b"(",
    b"t",
    b"u",
    b"s",
    b"e",
    b"a",
    b"0",
    b"1",
    b"2",
    b".",
    b"q",
    b"h",
    b"}",
    b"]",
    b"N",
)
"""Opcodes that change what a pickle means."""


def mutated(content: bytes, rng: random.Random) -> bytes:
    """Return *content* with a few bytes, opcodes or pieces changed."""
    found = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        at, size = rng.randrange(len(found) + 1), rng.choice((1, 1, 2, 4, 9, 40, 400))
        match rng.randrange(6):
            case 0 if found:
                found[at % len(found)] = rng.randrange(256)
            case 1:
                found[at:at] = rng.choice(_WORDS)
            case 2:
                del found[at : at + size]
            case 3:
                found[at:at] = found[(start := rng.randrange(len(found) + 1)) : start + size]
            case 4:
                found[at : at + 4] = struct.pack("<i", rng.choice((-1, 0, 1, 255, 1 << 16, 1 << 30, -(1 << 31))))
            case _:
                found[at : at + 1] = rng.choice(_WORDS)
    return bytes(found)


def parts(content: bytes) -> tuple[bytes, dict[str, bytes]]:
    """Return the pickle and the storages of an archive."""
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        inside = {name.partition("/")[2]: file.read(name) for name in file.namelist()}
    storages = {name.removeprefix("data/"): one for name, one in inside.items() if name.startswith("data/")}
    return inside["data.pkl"], storages


def headers(content: bytes) -> Callable[[random.Random], bytes]:
    """Return what mutates the header of a converted file, and the description in it."""
    (length,) = struct.unpack_from("<Q", content)
    header, tensors = json.loads(content[8 : 8 + length]), content[8 + length :]

    def case(rng: random.Random) -> bytes:
        changed = json.loads(json.dumps(header))
        if rng.random() < 0.6:
            network = json.loads(changed["__metadata__"]["network"])
            _change(network, rng)
            changed["__metadata__"]["network"] = json.dumps(network)
        else:
            _change(changed, rng)
        return rows(changed, tensors) if rng.random() < 0.9 else mutated(rows(changed, tensors), rng)

    return case


def _change(value: Any, rng: random.Random) -> None:
    """Change something deep in a JSON value."""
    while isinstance(value, dict | list) and value:
        key = rng.choice(list(value)) if isinstance(value, dict) else rng.randrange(len(value))
        if not isinstance(value[key], dict | list) or not value[key] or rng.random() < 0.15:
            value[key] = rng.choice(
                (None, -1, 0, 1 << 40, 1e308, "x", "", [], {}, [[]], {"tensor": "0"}, {"size": [-1]})
            )
            return
        value = value[key]


def cases(files: Sequence[Path]) -> list[Callable[[random.Random], bytes]]:
    """Return what makes mutants, one for each kind of seed."""
    whole = [checkpoint(), *(path.read_bytes() for path in files), *corpus().values()]
    archives = [one for one in whole if zipfile.is_zipfile(io.BytesIO(one)) and len(one) < 64 << 20]
    pickles = [parts(one) for one in archives[: 1 + len(files)]]
    found: list[Callable[[random.Random], bytes]] = [
        lambda rng: mutated(rng.choice(whole), rng),
        *(lambda rng, one=one: archive(mutated(one[0], rng), one[1]) for one in pickles for _ in range(2)),
        headers(rows(described())),
    ]
    for path in files:
        to = io.BytesIO()
        read, told, tensors = opening.open_checkpoint(path, path.name)
        converted.write(read, told, tensors, to)
        found.append(headers(to.getvalue()))
    return found


def main() -> int:
    """Fuzz, and print what was seen; 1 where something was no error of ours, or slow."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--load", action="store_true", help="build the network too, and run it on a small image")
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE", help="real checkpoints to mutate as well")
    given = parser.parse_args()
    load = _loader() if given.load else lambda path: opening.check(path, path.name)
    rng = random.Random(given.seed)  # noqa: S311 - no secret
    makers, seen, bad = cases(given.files), Counter[str](), 0
    until = time.monotonic() + given.seconds
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mutant.pt"
        while time.monotonic() < until:
            path.write_bytes(rng.choice(makers)(rng))
            began = time.monotonic()
            try:
                load(path)
                seen["accepted"] += 1
            except RetortError:
                seen["refused"] += 1
            except Exception:  # noqa: BLE001 - what is looked for
                seen["crashed"], bad = seen["crashed"] + 1, bad + 1
                traceback.print_exc(limit=-4)
            if time.monotonic() - began > SLOW_S:
                seen["slow"], bad = seen["slow"] + 1, bad + 1
    print(json.dumps({"cases": seen.total() - seen["slow"], **seen}))
    return 1 if bad else 0


def _loader() -> Callable[[Path], Any]:
    from retort.training import environment

    environment.prepare(Path(tempfile.mkdtemp(prefix="retort-ultralytics-")))
    from retort.training import models

    return models.load


if __name__ == "__main__":
    sys.exit(main())
