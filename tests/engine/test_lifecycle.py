"""What an attempt's remains mean, and which requests are refused with which words."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engine.basics.process import Identity
from engine.runs.journal import RunRecord
from engine.runs.lifecycle import Action, Remains, refusal, refused, verdict
from store.exit_file import Exit
from store.lines import End
from store.states import RunState

RUNNING = RunRecord(7, state="running", attempt=1, shim=Identity(1, 2, "b"))


def exited(code: int | None = None, signal: int | None = None) -> Exit:
    return Exit(code, signal)


@pytest.mark.parametrize(
    ("remains", "request_", "state"),
    [
        (Remains(exit=exited(0), end=End(status="finished")), None, "finished"),
        (Remains(exit=exited(0), end=End(status="finished")), "cancel", "finished"),  # it was faster
        (Remains(exit=exited(signal=11), end=End(status="finished")), None, "finished"),  # died tidying up
        (Remains(end=End(status="finished")), None, "finished"),  # the shim was killed
        (Remains(exit=exited(0)), None, "finished"),
        (Remains(exit=exited(4), end=End(status="failed", error="x")), None, "failed"),
        (Remains(exit=exited(4), end=End(status="failed", error="x")), "cancel", "failed"),
        (Remains(exit=exited(1)), None, "failed"),
        (Remains(exit=exited(5), end=End(status="paused", reason="the disk is full")), None, "paused"),
        (Remains(exit=exited(5)), None, "paused"),  # no room for the last line either
        (Remains(exit=exited(5)), "pause", "paused"),
        (Remains(exit=exited(5)), "cancel", "cancelled"),
        (Remains(exit=exited(3), end=End(status="cancelled")), "cancel", "cancelled"),
        (Remains(exit=exited(3), end=End(status="cancelled")), "pause", "paused"),
        (Remains(exit=exited(3), end=End(status="cancelled")), None, "interrupted"),  # shutdown, by hand
        (Remains(end=End(status="cancelled")), None, "interrupted"),
        (Remains(exit=exited(signal=9)), None, "interrupted"),
        (Remains(exit=exited(signal=15)), "cancel", "cancelled"),  # before it listened
        (Remains(exit=exited(signal=9)), "pause", "paused"),
        (Remains(), None, "interrupted"),  # machine restarted
        (Remains(), "cancel", "cancelled"),
        (Remains(began=False), None, "interrupted"),
        (Remains(began=False), "pause", "paused"),
    ],
)
def test_verdict(remains: Remains, request_: str | None, state: str) -> None:
    record = replace(RUNNING, request=request_)  # type: ignore[arg-type]
    assert verdict(record, remains).state == state


def test_a_run_that_a_flag_stopped_says_so() -> None:
    reason = "stopped by the flag overfitting at step 4; the weights of step 2 are kept"
    assert verdict(RUNNING, Remains(end=End(status="finished", reason=reason))).reason == reason
    assert verdict(RUNNING, Remains(end=End(status="finished", reason=None))).reason is None


def test_the_reason_of_a_failure_is_the_workers_own_else_its_last_words() -> None:
    said = Remains(exit=exited(4), end=End(status="failed", error="NaN at step 3"), last_words="bye")
    assert verdict(RUNNING, said).reason == "NaN at step 3"
    assert verdict(RUNNING, Remains(exit=exited(1), last_words="KeyError: 'x'")).reason == "KeyError: 'x'"
    assert verdict(RUNNING, Remains(exit=exited(1))).reason == "the worker ended with code 1"


def test_a_full_disk_pauses_and_says_what_to_do() -> None:
    assert verdict(RUNNING, Remains(exit=exited(5), end=End(status="paused", reason="x"))).reason == "x"
    silent = verdict(RUNNING, Remains(exit=exited(5))).reason
    assert silent == "the disk is full: make room, then finetui resume 7"


def test_three_interruptions_without_a_new_checkpoint_are_a_failure() -> None:
    killed = Remains(exit=exited(signal=9), checkpoint=20)
    record, states = RUNNING, []
    for _ in range(4):
        line = verdict(record, killed)
        states.append((line.state, line.interruptions))
        record = replace(record, interruptions=line.interruptions, checkpoint=line.checkpoint)
    # The first one had brought a checkpoint, so three more count; the last of them is the failure.
    assert states[:3] == [("interrupted", 1), ("interrupted", 2), ("failed", 3)]
    assert "SIGKILL" in verdict(replace(record, interruptions=2), killed).reason


def test_a_transient_error_is_tried_again_later_and_later() -> None:
    killed = Remains(exit=exited(signal=9))
    short = Remains(exit=exited(4), end=End(status="failed", error="out of GPU memory", transient=True))
    for remains, waits in ((killed, [None, 60.0]), (short, [60.0, 300.0])):
        record, seen = RUNNING, []
        for _ in range(2):
            line = verdict(record, remains, retry_s=60.0)
            seen.append(line.retry_s)
            record = replace(record, interruptions=line.interruptions)
        assert seen == waits
        assert verdict(record, remains, retry_s=60.0).state == "failed"
    assert verdict(RUNNING, short, retry_s=60.0).reason == "out of GPU memory"
    assert verdict(replace(RUNNING, request="cancel"), short, retry_s=60.0).state == "failed"
    assert (
        verdict(RUNNING, replace(short, end=replace(short.end, transient=None)), retry_s=60.0).state
        == "failed"
    )


def test_progress_starts_the_count_anew() -> None:
    record = replace(RUNNING, interruptions=2, checkpoint=20)
    line = verdict(record, Remains(exit=exited(signal=9), checkpoint=40))
    assert (line.state, line.interruptions, line.checkpoint) == ("interrupted", 1, 40)


def test_a_daemon_lost_before_the_start_is_not_held_against_the_run() -> None:
    record = replace(RUNNING, shim=None, interruptions=2)
    line = verdict(record, Remains(began=False))
    assert (line.state, line.interruptions) == ("interrupted", 2)


def test_a_disk_too_full_to_begin_is_not_held_against_the_run() -> None:
    record = replace(RUNNING, interruptions=2)
    line = verdict(record, Remains(began=False, last_words="the disk is full"))
    assert (line.state, line.interruptions) == ("interrupted", 2)


def test_a_worker_that_cannot_be_started_is_given_up_with_its_reason() -> None:
    record = replace(RUNNING, interruptions=2)
    line = verdict(record, Remains(began=False, last_words="python: no such file"))
    assert line.state == "failed"
    assert "python: no such file" in line.reason


STATES = [
    "queued",
    "interrupted",
    "starting",
    "running",
    "stopping",
    "paused",
    "cancelled",
    "failed",
    "finished",
]
ALLOWED = {
    "cancel": {"queued", "interrupted", "starting", "running", "paused"},
    "pause": {"queued", "interrupted", "starting", "running"},
    "resume": {"paused", "cancelled", "failed"},
    "priority": {"queued", "interrupted"},
}


@pytest.mark.parametrize("action", ALLOWED)
@pytest.mark.parametrize("state", STATES)
def test_what_may_be_asked_when(action: Action, state: str) -> None:
    record = RunRecord(3, state=state, attempt=1)
    if state == "stopping":
        record = RunRecord(3, state="running", attempt=1, request="cancel")
    said = refusal(action, record)
    assert said == refused(action, 3, record.state, record.request)
    assert (said is None) == (state in ALLOWED[action])
    assert said is None or (said.startswith("run #3 is ") and "; " in said)


def test_the_words_of_a_refusal() -> None:
    finished = RunRecord(3, state="finished", attempt=1)
    assert refusal("resume", finished) == "run #3 is finished; use requeue to run its recipe again"
    pausing = RunRecord(3, state="running", attempt=1, request="pause")
    assert refusal("cancel", pausing) is None  # a pause may still become a cancel
    assert (
        refusal("priority", finished) == "run #3 is finished; only a run that waits has a place in the queue"
    )


def test_who_does_not_know_of_a_request_is_never_stricter() -> None:
    """The screen knows the state of a run but not whether it was asked to stop."""
    for action in ALLOWED:
        for state in RunState:
            for request in ("cancel", "pause"):
                if refused(action, 3, state, request) is None:  # type: ignore[arg-type]
                    assert refused(action, 3, state) is None, (action, state, request)  # type: ignore[arg-type]
