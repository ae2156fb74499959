"""States and exit codes: each stands once, and what hangs on them covers all of them."""

from __future__ import annotations

import re

import pytest

from engine.queue.scheduler import Capacity, decide
from engine.runs.journal import RunRecord
from store.states import ACTIVE, ENDED, WAITING, RunState, WorkerExit, sql_list, status_of
from tui.lines import theme


def test_every_state_is_of_one_sort() -> None:
    sorts = [WAITING, ACTIVE, ENDED, {RunState.PAUSED}]
    assert sorted(state for sort in sorts for state in sort) == sorted(RunState)


def test_a_state_is_its_word() -> None:
    assert f"{RunState.QUEUED}" == "queued" == RunState.QUEUED
    assert "interrupted" in WAITING  # as it comes from a log or a table
    assert sql_list(WAITING) == "('interrupted', 'queued')"


def test_the_screen_has_a_look_for_every_state() -> None:
    assert set(theme.STATES) == set(RunState)
    assert len({look.glyph for look in theme.STATES.values()}) == len(RunState)


@pytest.mark.parametrize("state", RunState)
def test_a_record_waits_or_is_active_by_its_state(state: RunState) -> None:
    record = RunRecord(1, state=state)
    assert (record.waiting, record.active) == (state in WAITING, state in ACTIVE)
    assert not (record.waiting and record.active)


def test_interrupted_runs_go_first() -> None:
    line = [RunRecord(1, priority=9), RunRecord(2, state=RunState.INTERRUPTED)]
    assert decide(line, [], Capacity(1), {}, 0.0).starts[0].run == 2


# ---- exit codes ----------------------------------------------------------------------------------------


def test_the_codes_are_those_that_were_promised() -> None:
    """A worker of one version may end under the daemon of the next."""
    assert {code.name: int(code) for code in WorkerExit} == {
        "FINISHED": 0, "UNFORESEEN": 1, "CANCELLED": 3, "FAILED": 4, "DISK_FULL": 5,
    }  # fmt: skip


def test_codes_and_words_of_the_last_line_agree() -> None:
    for status in ("finished", "cancelled", "failed", "paused"):
        assert WorkerExit.of(status).status == status
        assert status_of(WorkerExit.of(status)) == status
    assert WorkerExit.of("failed") is WorkerExit.FAILED  # it was foreseen
    assert {status_of(code) for code in (1, 2, 127, 255)} == {RunState.FAILED}
    with pytest.raises(
        ValueError, match=re.escape("'lost' is no status of an `end` line; they are finished, ")
    ):
        WorkerExit.of("lost")


def test_every_code_and_state_says_what_it_means() -> None:
    assert all(code.meaning for code in WorkerExit)
    assert all(state.meaning for state in RunState)
