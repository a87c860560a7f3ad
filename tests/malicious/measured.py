"""Try bombs one by one, each in a process that is forked for it, and print what each took."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path

from malicious import archives, documents, doors, files  # noqa: F401 - they add their cases
from malicious.cases import CASES, DOORS
from retort.errors import RetortError


def warm_up() -> None:
    """Load what every door loads, so that a bomb is measured and not the libraries."""
    from malicious.sets import write_set

    with tempfile.TemporaryDirectory() as folder:
        DOORS["data set"](write_set(Path(folder) / "set"), Path(folder) / "target")


def tried(name: str) -> dict[str, object]:
    """Make the bomb here, and let a process of its own open the door."""
    case = CASES[name]
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder).resolve()
        (place / "given").mkdir()
        (place / "target").mkdir()
        reader, writer = os.pipe()
        maker = os.fork()
        if not maker:
            case.make(place / "given")
            os._exit(0)
        os.waitpid(maker, 0)
        given = next(iter((place / "given").iterdir()))
        began = time.monotonic()
        child = os.fork()
        if not child:
            os.write(writer, json.dumps(_outcome(case.door, given, place / "target")).encode())
            os._exit(0)
        _, status, usage = os.wait4(child, 0)
        os.close(writer)
        outcome = json.loads(os.read(reader, 1 << 16) or b"{}")
        os.close(reader)
        left = sorted(str(path.relative_to(place)) for path in (place / "target").rglob("*"))
    cpu = usage.ru_utime + usage.ru_stime
    return {
        "name": name, "seconds": time.monotonic() - began, "cpu_s": cpu, "peak_mib": usage.ru_maxrss / 1024,
        "status": status, "left": left, **outcome,
    }  # fmt: skip


def _outcome(door: str, given: Path, target: Path) -> dict[str, object]:
    try:
        DOORS[door](given, target)
    except RetortError as error:
        return {"refused": True, "code": error.code, "message": error.message, "hint": error.hint}
    except BaseException as error:  # noqa: BLE001 - it is told
        return {"refused": False, "message": repr(error)}
    return {"refused": False, "message": "it was taken"}


if __name__ == "__main__":
    warm_up()
    for bomb in sys.argv[1:] or [case.name for case in CASES.values() if case.bomb]:
        print(json.dumps(tried(bomb)), flush=True)  # noqa: T201 - the answer
