"""A run's pulse changes when it gets on, costs next to nothing, and never fails."""

from __future__ import annotations

from pathlib import Path

from retort import pulse
from retort.pulse import Pulse


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_each_beat_counts_on_but_not_more_often_than_twice_a_second(tmp_path: Path):
    clock = Clock()
    heart = Pulse(tmp_path, monotonic=clock)
    assert pulse.read(tmp_path) is None
    seen = []
    for _ in range(4):
        heart.beat("step")
        seen.append(pulse.read(tmp_path))
        clock.now += 0.3
    assert seen == [("step", 1), ("step", 1), ("step", 2), ("step", 2)]


def test_another_section_is_told_at_once_and_a_shorter_word_leaves_no_rest_of_a_longer_one(tmp_path: Path):
    heart = Pulse(tmp_path, monotonic=Clock())
    for count, section in enumerate(("checkpoint", "step", "setup"), 1):
        heart.beat(section)
        assert pulse.read(tmp_path) == (section, count)


def test_a_pulse_that_cannot_be_written_stops_nothing(tmp_path: Path):
    Pulse(tmp_path / "nowhere").beat("step")
    (tmp_path / "pulse").mkdir()
    Pulse(tmp_path).beat("step")
    assert pulse.read(tmp_path) is None


def test_what_makes_no_sense_is_no_pulse(tmp_path: Path):
    for text in ("", "step", "step x", "sleep 3", "step 3 4"):
        (tmp_path / "pulse").write_text(text)
        assert pulse.read(tmp_path) is None
