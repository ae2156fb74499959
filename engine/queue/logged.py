"""Runs that a program logs by itself: whether they have ended, and the process that raises their flags.

Their processes are not ours. One that is to be cancelled is sent SIGTERM, once and alone, and nothing more.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import time
from dataclasses import dataclass, field

from engine.basics.cpu import THREAD_VARIABLES
from engine.basics.process import send
from engine.runs import lifecycle
from engine.runs.home import RunDir
from engine.runs.journal import RunRecord
from engine.runs.logged_program import is_gone, why_gone
from engine.runs.submitted import other_host
from finetui.files import append_regular
from finetui.lock import Lock
from finetui.log import tail
from finetui.start import program
from store.journal_lines import Ended
from store.line_fields import last_line
from store.lines import End

log = logging.getLogger("finetui.queue")

FLAGS = "engine.attempt.logged"  # the module of the process beside a run
FLAGS_S = 60.0  # that it may take when the run has ended
MOST_LIVE, MOST_ENDED = 16, 4  # such processes at a time: of runs that go on, and of those that have ended
WINDOW = 4096  # bytes at the end of a log in which its last line is looked for, at each look


@dataclass
class _Known:
    """What this daemon knows of one run."""

    elsewhere: str | None  # the other machine or container that its program runs on
    flags: subprocess.Popen[bytes] | None = None
    flags_since: float | None = None  # monotonic; None: its turn has not come
    over_since: float | None = None  # monotonic
    asked: bool = False  # to end


@dataclass
class LoggedRuns:
    """The active runs that programs log by themselves."""

    _known: dict[int, _Known] = field(default_factory=dict)

    def look(self, run: RunDir, record: RunRecord) -> Ended | None:
        """Look at a run; return the line for its journal once it has ended and its flags are raised."""
        known = self._known.get(run.number) or self._begin(run)
        self._see_end(run, record, known)
        if known.flags_since is None:
            self._begin_flags(run, known)
        if known.over_since is None:
            if record.request == "cancel" and not known.asked and record.worker is not None:
                known.asked = True
                send(record.worker, signal.SIGTERM)
            return None
        if not self._flags_are_raised(run, known):
            return None
        del self._known[run.number]
        end = last_line(run.attempt(1).events, End)
        return lifecycle.logged_verdict(record, end, why_gone(record, known.elsewhere))

    def forget(self, run: RunDir) -> None:
        """Look at a run no more, whose directory is gone; its program goes on."""
        known = self._known.pop(run.number, None)
        if known and known.flags:
            known.flags.kill()
            known.flags.wait()

    def _begin(self, run: RunDir) -> _Known:
        known = self._known[run.number] = _Known(other_host(run))
        if last_line(run.attempt(1).events, End):
            known.over_since = time.monotonic()
        return known

    def _begin_flags(self, run: RunDir, known: _Known) -> None:
        """Start the process beside a run, unless there are so many already: of those that have ended, each is short."""
        ended = known.over_since is not None
        others = [one for one in self._known.values() if one.flags is not None and one.flags.poll() is None]
        if sum((one.over_since is not None) == ended for one in others) >= (
            MOST_ENDED if ended else MOST_LIVE
        ):
            return
        known.flags_since = time.monotonic()
        if _is_free(run):  # else one goes on that an earlier daemon has started
            known.flags = _start(run)

    def _see_end(self, run: RunDir, record: RunRecord, known: _Known) -> None:
        if known.over_since is not None:
            return
        events = run.attempt(1).events
        if is_gone(run, record, known.elsewhere) or (
            b'"kind":"end"' in tail(events, WINDOW) and last_line(events, End)
        ):
            known.over_since = time.monotonic()

    def _flags_are_raised(self, run: RunDir, known: _Known) -> bool:
        if known.flags_since is None or known.over_since is None:
            return False
        late = time.monotonic() - max(known.over_since, known.flags_since) > FLAGS_S
        if known.flags is None:
            return late or _is_free(run)
        if known.flags.poll() is None:
            if not late:
                return False
            log.warning("run #%d: its flags take more than %g s and are given up", run.number, FLAGS_S)
            known.flags.kill()
            known.flags.wait()
        return True


def _is_free(run: RunDir) -> bool:
    """Whether no process beside the run holds its lock."""
    lock = Lock(run.lock)
    try:
        return lock.acquire()
    finally:
        lock.release()


def _start(run: RunDir) -> subprocess.Popen[bytes] | None:
    """Start the process that raises the flags of a run; None where that cannot be done: the run does without."""
    try:
        with os.fdopen(append_regular(run.shim_log), "ab") as output:
            return subprocess.Popen(
                program(FLAGS, str(run.path)),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd="/",
                env={**os.environ, **dict.fromkeys(THREAD_VARIABLES, "1"), "CUDA_VISIBLE_DEVICES": ""},
                start_new_session=True,
            )
    except OSError as error:
        log.warning("run #%d: no flags are raised: %s", run.number, error)
        return None
