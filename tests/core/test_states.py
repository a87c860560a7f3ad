"""The table of transitions: every job can end, nothing leaves an end, and what derives from it agrees."""

from __future__ import annotations

import pytest
from retort.states import ACTIVE, SOURCES, TERMINAL, TRANSITIONS, JobState, diagram


def reachable(start: JobState) -> set[JobState]:
    """States that a job in *start* may come to, by walking the table."""
    found: set[JobState] = set()
    waiting = [start]
    while waiting:
        following = TRANSITIONS[waiting.pop()] - found
        found |= following
        waiting.extend(following)
    return found


def test_every_state_has_its_row():
    assert set(TRANSITIONS) == set(JobState)


def test_every_state_can_be_reached_from_the_queue():
    assert reachable(JobState.QUEUED) == set(JobState)


@pytest.mark.parametrize("state", sorted(set(JobState) - TERMINAL))
def test_every_job_can_still_end(state: JobState):
    assert reachable(state) & TERMINAL


def test_nothing_leaves_an_end():
    assert {JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED, JobState.EXPIRED} == TERMINAL
    assert all(not reachable(state) for state in TERMINAL)


def test_a_cancelled_job_never_comes_back():
    assert JobState.QUEUED not in reachable(JobState.CANCELLING)
    assert JobState.RUNNING not in reachable(JobState.CANCELLING)


def test_a_worker_holds_a_job_only_between_queue_and_end():
    assert {JobState.RUNNING, JobState.PAUSING, JobState.CANCELLING} == ACTIVE
    assert not ACTIVE & TERMINAL


@pytest.mark.parametrize("target", sorted(JobState))
def test_sources_are_the_table_read_backwards(target: JobState):
    assert SOURCES[target] == {state for state in JobState if target in TRANSITIONS[state]}


def test_the_diagram_draws_every_transition_once():
    arrows = [line.strip() for line in diagram().splitlines()[1:]]
    drawn = [f"{state} --> {target}" for state, following in TRANSITIONS.items() for target in following]

    assert sorted(arrows) == sorted(["[*] --> queued", *drawn, *(f"{state} --> [*]" for state in TERMINAL)])
