"""The queue against a model of it: whatever is asked in whatever order, and whoever is killed, both say the same.

The daemon is real, and so are its processes (tests/engine/fake_worker.py); one run goes at a time, until it is told to
stop. The model knows what is documented: the order of the line, and what each order does to a run.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
)
from supervision import submission, until
from with_daemon import FOREVER, a_home, directory, kill_daemon, wait_worker

from engine.basics.process import send
from engine.runs import journal
from finetui.daemon import connect
from finetui.errors import StoreError


@dataclass
class Expected:
    """What the model says of a run."""

    state: str
    priority: int = 0
    place: int = 0  # the lower, the sooner
    held: bool = False
    attempts: int = 0
    killed: bool = False

    @property
    def is_waiting(self) -> bool:
        return self.state in ("queued", "interrupted")


@seed(4)
class Queue(RuleBasedStateMachine):
    runs = Bundle("runs")

    def __init__(self) -> None:
        super().__init__()
        self.begin()

    def begin(self) -> None:
        self.stack = contextlib.ExitStack()
        self.folder = Path(tempfile.mkdtemp(prefix="finetui-model-"))
        self.home = self.stack.enter_context(a_home(self.folder / "home"))
        self.client = connect(self.home)
        self.expected: dict[int, Expected] = {}
        self.clock = self.asked = 0

    @initialize(target=runs)
    def begin_with_some(self) -> Any:
        """One that runs, and two that wait: orders have something to do from the beginning."""
        return multiple(*(self.submit_one(priority, held=False) for priority in (0, 0, 1)))

    def teardown(self) -> None:
        self.client.close()
        self.stack.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    # ---- what the model does ---------------------------------------------------------------------

    def later(self) -> int:
        self.clock += 1
        return self.clock

    @property
    def active(self) -> int | None:
        return next((run for run, one in self.expected.items() if one.state == "running"), None)

    def line(self) -> list[int]:
        waiting = [run for run, one in self.expected.items() if one.is_waiting and not one.held]
        return sorted(
            waiting,
            key=lambda run: (
                self.expected[run].state != "interrupted",
                -self.expected[run].priority,
                self.expected[run].place,
            ),
        )

    def start_next(self) -> None:
        if self.active is None and (line := self.line()):
            first = self.expected[line[0]]
            first.state, first.attempts, first.held = "running", first.attempts + 1, False

    def settle(self) -> None:
        """Let the model start what may start, and wait until the daemon has come as far."""
        self.start_next()
        if (run := self.active) is not None:
            wait_worker(self.home, run, self.expected[run].attempts)
        until(
            "the same states", lambda: self.states() == {run: one.state for run, one in self.expected.items()}
        )

    def states(self) -> dict[int, str]:
        return {run: journal.read(directory(self.home, run)).state for run in self.expected}

    def ask(self, action: str, run: int, allowed: bool, **body: object) -> bool:
        """Ask the daemon; whether it did what was asked has to be as the model says."""
        self.asked += 1
        if allowed:
            self.client.action(action, run=run, **body)
        else:
            with pytest.raises(StoreError):
                self.client.action(action, run=run, **body)
        return allowed

    # ---- what is asked ---------------------------------------------------------------------------

    def submit_one(self, priority: int, *, held: bool) -> int:
        body = submission(steps=FOREVER, step_s=0.1, checkpoint_every=1)
        run = int(self.client.action("submit", **body, priority=priority, held=held)["run"])
        self.expected[run] = Expected("queued", priority, self.later(), held)
        self.settle()
        return run

    @precondition(lambda self: len(self.expected) < 6)
    @rule(target=runs, priority=st.integers(-1, 1), held=st.booleans())
    def submit(self, priority: int, held: bool) -> int:
        self.asked += 1
        return self.submit_one(priority, held=held)

    @rule(run=runs)
    def hold_or_release(self, run: int) -> None:
        one = self.expected[run]
        if self.ask("release" if one.held else "hold", run, one.is_waiting):
            one.held = not one.held
        self.settle()

    @rule(run=runs, priority=st.integers(-1, 1))
    def change_priority(self, run: int, priority: int) -> None:
        if self.ask("priority", run, self.expected[run].is_waiting, priority=priority):
            self.expected[run].priority = priority

    @rule(run=runs)
    def cancel(self, run: int) -> None:
        if self.ask(
            "cancel", run, self.expected[run].state in ("queued", "interrupted", "running", "paused")
        ):
            self.expected[run].state = "cancelled"
        self.settle()

    @rule(run=runs)
    def pause(self, run: int) -> None:
        if self.ask("pause", run, self.expected[run].state in ("queued", "interrupted", "running")):
            self.expected[run].state = "paused"
        self.settle()

    @rule(run=runs)
    def resume(self, run: int) -> None:
        one = self.expected[run]
        if self.ask("resume", run, one.state in ("paused", "cancelled")):
            one.state, one.place = "queued", self.later()
        self.settle()

    @rule(run=runs)
    def remove_and_restore(self, run: int) -> None:
        if self.ask("remove", run, self.expected[run].state in ("paused", "cancelled")):
            assert not list(self.home.runs.glob(f"{run:06d}-*"))
            self.client.action("restore", run=run)
        self.settle()

    # ---- who is killed ---------------------------------------------------------------------------

    @precondition(lambda self: self.asked >= 3)
    @rule()
    def kill_the_daemon(self) -> None:
        self.asked = 0
        self.client.close()
        kill_daemon(self.home)
        self.client = connect(self.home)
        self.settle()

    @precondition(lambda self: self.active is not None and not self.expected[self.active].killed)
    @rule()
    def kill_the_worker(self) -> None:
        assert self.active is not None
        one = self.expected[self.active]
        send(wait_worker(self.home, self.active, one.attempts), signal.SIGKILL)
        one.state, one.killed = "interrupted", True
        self.settle()

    # ---- what always holds -----------------------------------------------------------------------

    @invariant()
    def both_say_the_same(self) -> None:
        if not self.expected:
            return
        status = self.client.action("status")
        assert status["running"] == ([] if self.active is None else [self.active])
        assert set(status["queued"]) == {run for run, one in self.expected.items() if one.is_waiting}
        assert status["problems"] == []
        for run, one in self.expected.items():
            record = journal.read(directory(self.home, run))
            assert (record.attempt, record.priority) == (one.attempts, one.priority), run
            assert not (directory(self.home, run).path / "TWO").exists()


Queue.TestCase.settings = settings(
    max_examples=int(os.environ.get("FINETUI_MODEL_EXAMPLES", 3)),
    stateful_step_count=20,
    deadline=None,
    phases=[Phase.generate],
    print_blob=False,
    database=None,
    suppress_health_check=list(HealthCheck),
)
TestQueue = Queue.TestCase
