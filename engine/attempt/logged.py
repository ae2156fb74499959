"""Flags of a run that a program logs by itself: `python -P -m finetui.start engine.attempt.logged RUN_DIR`.

Reads the run's log as it grows, and appends what the detectors make of its curves and of the examples that it scores.
Ends with the run. One that was killed is started again by the next daemon, and goes on after the last flag in the log.
Torch-free; NumPy is imported with the first curve.
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.basics.process import alive
from engine.curves.flag_line import flag_line
from engine.flags.flag import Flag, flag_of
from engine.runs import journal
from engine.runs.home import RunDir
from engine.runs.submitted import other_host
from finetui.files import open_regular
from finetui.lock import Lock
from finetui.log import LogWriter, parse_line
from store.line_fields import BadLine, body, read, write
from store.lines import WORKER, End, Eval, Metrics, WorkerLine
from store.lines import Flag as FlagLine

if TYPE_CHECKING:
    from engine.attempt.logged_examples import ExampleFlags
    from engine.curves.curve_flags import CurveFlags

LOOK_S = 0.5
QUIET_S = 2.0  # after the last set of examples of a step: more sets of it may come
HELDOUT = "heldout/loss"
WATCHED = ("train/loss", "train/grad_norm", HELDOUT)


def main(run_dir: str) -> int:
    """Watch a run to its end; return the exit code."""
    run = RunDir(Path(run_dir).absolute())
    with suppress(OSError):
        os.nice(10)  # the training comes first
    lock = Lock(run.lock)
    if not lock.acquire():
        return 0  # another one is at it
    Watch(run).go()
    return 0


class Watch:
    """The flags of one run."""

    def __init__(self, run: RunDir) -> None:
        self._run = run
        self._events = run.attempt(1).events
        self._at = 0  # bytes of the log that are read
        self._curves: CurveFlags | None = None
        self._examples: ExampleFlags | None = None
        self._scored_at: tuple[int, float] | None = (
            None  # step whose examples have no flags yet, and since when
        )

    def go(self) -> None:
        """Read until the run has ended, or its directory is gone."""
        worker = None if other_host(self._run) else journal.read(self._run).worker
        lines = self._read()
        last_flag = max((place for place, line in enumerate(lines) if isinstance(line, FlagLine)), default=-1)
        self._take(lines[: last_flag + 1], write_flags=False)
        self._take(lines[last_flag + 1 :])
        ended = any(isinstance(line, End) for line in lines)
        while not ended and self._events.exists():
            gone = worker is not None and not alive(worker)  # before the log is read for the last time
            lines = self._read()
            self._take(lines)
            ended = gone or any(isinstance(line, End) for line in lines)
            if not ended:
                time.sleep(LOOK_S)
        self._look(last=True)

    def _read(self) -> list[WorkerLine]:
        """Return the whole lines that are new."""
        try:
            with open_regular(self._events) as file:
                file.seek(self._at)
                data = file.read()
        except OSError:
            return []
        data = data[: data.rfind(b"\n") + 1]
        self._at += len(data)
        entries = (parse_line(line) for line in data.splitlines())
        return [line for entry in entries if isinstance(entry, dict) and (line := _line(entry))]

    def _take(self, lines: list[WorkerLine], *, write_flags: bool = True) -> None:
        curves: dict[int, dict[str, float]] = {}
        for line in lines:
            match line:
                case Metrics():
                    if values := _watched(line):
                        curves.setdefault(line.step, {}).update(values)
                case Eval() if line.examples.id:
                    if self._scored_at is not None and self._scored_at[0] != line.step:
                        self._look(last=True, write_flags=write_flags)
                    self._of_examples().add(line)
                    self._scored_at = line.step, time.monotonic()
                case FlagLine() if not write_flags:
                    self._take_back(flag_of(body(line)))
        if curves:
            self._of_curves(curves, write_flags)
        self._look(last=False, write_flags=write_flags)

    def _take_back(self, flag: Flag) -> None:
        """Remember a flag that an earlier process of this kind has written."""
        if self._examples is not None:
            self._examples.stated(flag)

    def _of_curves(self, curves: dict[int, dict[str, float]], write_flags: bool) -> None:
        if self._curves is None:
            from engine.curves.curve_flags import CurveFlags

            self._curves = CurveFlags()
        if self._examples is not None:  # they say more than their mean does
            curves = {step: {k: v for k, v in of.items() if k != HELDOUT} for step, of in curves.items()}
        for flag in self._curves.add(curves):
            self._write(flag, write_flags)

    def _of_examples(self) -> ExampleFlags:
        if self._examples is None:
            from engine.attempt.logged_examples import ExampleFlags

            self._examples = ExampleFlags()
        return self._examples

    def _look(self, *, last: bool, write_flags: bool = True) -> None:
        """Raise what a step's examples show, once all sets of it are there."""
        if self._scored_at is None or self._examples is None:
            return
        step, since = self._scored_at
        if not last and time.monotonic() - since < QUIET_S:
            return
        self._scored_at = None
        for flag in self._examples.flags(step) if write_flags else ():
            self._write(flag, write_flags)

    def _write(self, flag: Flag, write_flags: bool) -> None:
        if not write_flags:
            return
        # Opened for each flag, which ends a line that the program was killed in; two programs append to it.
        log = LogWriter(self._events, "worker", self._run.number, 1)
        write(log, flag_line(flag), sync=True)
        log.close()


def _line(entry: dict[str, Any]) -> WorkerLine | None:
    kind = WORKER.get(str(entry.get("kind")))
    if kind not in (Metrics, Eval, End, FlagLine):
        return None
    try:
        return read(kind, entry, strict=False)
    except BadLine:
        return None


def _watched(line: Metrics) -> dict[str, float]:
    """Return the numbers that flags are raised by."""
    found = {}
    for name in WATCHED:
        if (value := line.values.get(name)) is not None:
            with suppress(TypeError, ValueError):
                found[name] = float(value)
    return found


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        sys.exit(main(sys.argv[1]))
