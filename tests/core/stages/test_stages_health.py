"""The verdicts that the report shows, of a training that took several attempts."""

from __future__ import annotations

from pathlib import Path

from retort.constants import Role
from retort.protocol.journal import Journal
from retort.report.health import findings


def attempt(workdir: Path, number: int, epochs: range, said: dict[int, tuple[str, str]]) -> None:
    """Write the journal of an attempt: the epochs that it did, and the rule and verdict said after some of them."""
    with Journal(workdir / f"journal-{number}.jsonl") as journal:
        for epoch in epochs:
            if epoch in said:
                rule, verdict = said[epoch]
                journal.health(
                    rule=rule, verdict=verdict, epoch=epoch, message="m", cause="c", advice="a", values={}
                )  # fmt: skip
            journal.metric(Role.STUDENT, epoch, {"val/mAP50": 0.1})


def shown(workdir: Path) -> list[tuple[str, str, int]]:
    return [(event.rule, event.verdict, event.epoch) for event in findings(workdir)]


def test_what_was_said_before_a_resume_still_stands(tmp_path: Path):
    attempt(tmp_path, 1, range(1, 4), {2: ("cosine_flat", "warning"), 3: ("gradient_conflict", "warning")})
    attempt(tmp_path, 2, range(3, 6), {3: ("gradient_conflict", "warning"), 5: ("cosine_flat", "healthy")})

    assert shown(tmp_path) == [
        ("cosine_flat", "warning", 2), ("gradient_conflict", "warning", 3), ("cosine_flat", "healthy", 5),
    ]  # fmt: skip


def test_an_attempt_that_trains_anew_judges_anew(tmp_path: Path):
    attempt(tmp_path, 1, range(1, 4), {2: ("cosine_flat", "critical")})
    attempt(tmp_path, 2, range(1, 4), {3: ("gradient_conflict", "warning")})

    assert shown(tmp_path) == [("gradient_conflict", "warning", 3)]
