"""Who has nothing but SKILL.md gets from a folder of images to an INT8 student, by its commands in its order."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli.commands import Ended, Retort
from PIL import Image
from retort import agents

MOST_CALLS = 12
STEP = re.compile(r"^(\d)\. ", re.MULTILINE)


def steps() -> Iterator[tuple[int, str]]:
    """Yield the numbered steps of the way, with their texts."""
    way = agents.guide().split("## The whole way")[1].split("\nTry it:")[0]
    found = STEP.split(way)[1:]
    yield from ((int(number), text) for number, text in zip(found[::2], found[1::2], strict=True))


def command(text: str) -> str:
    """Return the first command of a step."""
    return next(found for found in re.findall(r"`(retort [^`]+)`", text) if " " in found)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "cells"
    for part in ("train", "val"):
        for kind in ("images", "labels"):
            (folder / kind / part).mkdir(parents=True)
        for number in range(50 if part == "train" else 1):
            colour = (number * 5, 90, 200 if part == "val" else 10)
            Image.new("RGB", (64, 64), colour).save(folder / "images" / part / f"{number}.png")
            (folder / "labels" / part / f"{number}.txt").write_text("0 0.5 0.5 0.4 0.4\n")
    (folder / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [person]\n")
    return folder


class Reader:
    """Follows the text: what it writes in capitals is filled in with what the commands before have said."""

    def __init__(self, served: Retort, tmp_path: Path, images: Path) -> None:
        self._served = served
        self._folder = tmp_path
        self.known = {"FOLDER": str(images), "NAME": "cells", "OUT": str(tmp_path / "out")}
        self.calls: list[str] = []

    def do(self, number: int, text: str) -> Ended | None:
        """Do what a step says."""
        if block := re.search(r"```yaml\n(.*?)```", text, re.DOTALL):
            self._write(block[1])
            return None
        words = shlex.split(command(text))[1:]
        filled = [self.known.get(word, word) for word in words]
        filled = [str(self._folder / word) if word == "spec.yaml" else word for word in filled]
        self.calls.append(" ".join(words))
        ended = self._served(*filled)
        assert ended.code == 0, (number, words, ended.out[:2000], ended.err)
        return ended

    def _write(self, block: str) -> None:
        lines = [line.removeprefix("   ") for line in block.splitlines()]
        filled = {
            "data": "{dataset: " + self.known["REFERENCE"] + "}",
            # Published weights would be fetched, and tests have no network.
            "teacher": "{train: {model: yolo11m, weights: null}}",
            "student": "{model: yolo11n, weights: null}",
        }
        keys = [line.partition(":")[0] for line in lines]
        spec = "\n".join(
            f"{key}: {filled[key]}" if key in filled else line for key, line in zip(keys, lines, strict=True)
        )
        (self._folder / "spec.yaml").write_text(spec + "\n")


def test_the_commands_of_the_skill_lead_from_a_folder_to_an_int8_student_in_few_calls(
    served: Retort, tmp_path: Path, images: Path
):
    reader = Reader(served, tmp_path, images)
    outcome = None
    for number, text in steps():
        ended = reader.do(number, text)
        if ended is None:
            continue
        if "push" in reader.calls[-1]:
            reader.known["REFERENCE"] = ended.out.split()[-1]
        if "submit" in reader.calls[-1]:
            reader.known["JOB"] = ended.out.strip()
        if "get" in reader.calls[-1]:
            outcome = ended.json["result"]
    assert outcome is not None
    (export,) = outcome["exports"]
    assert (export["precision"], export["status"]) == ("int8", "passed")
    assert (tmp_path / "out" / export["path"]).read_bytes() == b"student-int8.onnx"
    assert len(reader.calls) <= MOST_CALLS, reader.calls


def test_each_command_of_the_skill_takes_the_options_that_it_is_shown_with(served: Retort):
    named = set(re.findall(r"`(retort [^`]+)`", agents.guide()))
    assert len(named) > 10
    for line in sorted(named):
        words = [word for word in shlex.split(line)[1:] if re.fullmatch(r"[a-z-]+", word)]
        if words[:1] in (["up"], ["mcp"]):
            continue
        commands, options = [word for word in words if not word.startswith("-")], re.findall(r"--[a-z-]+", line)
        shown = served(*commands[: 2 if commands[0] in {"data", "datasets"} else 1], "--help")
        assert shown.code == 0, line
        assert [one for one in options if one not in shown.out] == [], line
