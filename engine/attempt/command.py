"""One attempt of a command: `python -P -m finetui.start engine.attempt.command RUN_DIR ATTEMPT`.

Stands where the worker does: starts the user's program in its own folder and environment, reads the curves that it
writes into the attempt's log, passes on what asks it to stop, and reports how it ended. Its exit codes are in
store/states.py. Torch-free.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from engine.basics.cpu import THREAD_VARIABLES
from engine.basics.process import adopt_orphans, descendants, die_with_parent, has_ended, kill_descendants
from engine.curves.flag_line import flag_line
from engine.curves.follow import Curves, News
from engine.recipe.command import Command
from engine.runs import disk, journal
from engine.runs.events import events_of
from engine.runs.home import AttemptDir, RunDir
from engine.runs.lifecycle import signal_name
from engine.runs.output import last_line_of
from engine.runs.removed import bytes_of
from finetui.files import read_json
from finetui.log import LogWriter
from store.line_fields import write
from store.lines import Checkpoint, End, Log, Metrics, Phase, Plan, Resume, WorkerLine
from store.states import RunState, WorkerExit

if TYPE_CHECKING:
    from engine.curves.curve_flags import CurveFlags

LOOK_S = 1.0  # between looks at the curves
COARSE_S = 0.02  # that the time of a file may lie before its change
OF_DEVICES = ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER")
# What our own programs are started with, and a program of the user's has from its own shell or not at all.
OURS = ("PYTHONPATH", "PYTHONSAFEPATH", "VIRTUAL_ENV")


def main(run_dir: str, attempt: int) -> int:
    """Run one attempt to its end; return the exit code."""
    run = RunDir(Path(run_dir).absolute())
    adopt_orphans()  # what the program leaves behind is ended with it
    try:
        return Attempt(run, run.attempt(attempt)).go()
    except OSError as error:
        if disk.is_full(error):
            return WorkerExit.DISK_FULL
        raise


class Attempt:
    """One attempt, from the start of the program to its end."""

    def __init__(self, run: RunDir, attempt: AttemptDir) -> None:
        meta = read_json(run.meta)
        self.command = Command.model_validate(meta["recipe"])
        self.run, self.attempt = run, attempt
        self.step = 0
        self._umask: int | None = meta.get("umask")
        self._log = LogWriter(attempt.events, "worker", run.number, attempt.number)
        self._flags: CurveFlags | None = None
        self._own = attempt.path / "own.jsonl"
        self._earlier = measured_before(run, attempt.number)
        self._resumed = attempt.number == 1
        self._total_steps: int | None = None
        self._asked = False
        self._said: set[str] = set()  # lines among the program's that are ours
        self._unwritten: list[WorkerLine] = []  # while the disk is full

    def go(self) -> int:
        """Start it, watch it, report how it ended. Raises OSError (disk full)."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._ask_to_stop)
        folders = [Path(folder) for folder in self.command.watch]
        curves = Curves(folders, self._own, time.time() - COARSE_S, self._earlier)
        words = [*self.command.command, *(self.command.on_resume if self.attempt.number > 1 else ())]
        write(self._log, Phase("training", 0, f"{words[0]} …" if len(words) > 1 else words[0]))
        self._say(f"$ {' '.join(words)}")
        try:
            child = subprocess.Popen(words, env=self._environment(), preexec_fn=self._begin)
        except OSError as error:
            return self._end(1, f"{words[0]} cannot be started: {error.strerror}")
        if self._asked:  # before it was there
            child.terminate()
        while not has_ended(child.pid, LOOK_S):
            self._look(curves)
        code = child.wait()
        failure = self._failure(code)  # before more is printed
        kill_descendants(os.getpid())
        self._look(curves, last=True)
        return self._end(code, failure)

    def _begin(self) -> None:
        """In the child: end with this process, and make files as the shell would that queued it."""
        die_with_parent()
        if self._umask is not None:
            os.umask(self._umask)

    def _ask_to_stop(self, *_: object) -> None:
        """Pass SIGTERM on to all that the program has started, whatever session it made for itself."""
        if not self._asked:
            self._asked = True
            for pid in descendants(os.getpid()):
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGTERM)

    def _environment(self) -> dict[str, str]:
        """Return the environment of the shell that queued it, with the devices and threads of this attempt."""
        own = dict(os.environ)
        try:
            shell = {str(name): str(value) for name, value in read_json(self.run.environment).items()}
        except (OSError, ValueError):  # of a run that was made by hand
            shell = {name: value for name, value in own.items() if name not in OURS}
        on_gpus = (journal.read(self.run).device or "").startswith("gpu")
        devices: dict[str, str] = {name: own[name] for name in OF_DEVICES if on_gpus and name in own}
        return {
            **{name: own[name] for name in THREAD_VARIABLES if name in own},
            "PYTHONUNBUFFERED": "1",
            **shell,
            **devices,
            "FINETUI_RUN": str(self.run.number),
            "FINETUI_ATTEMPT": str(self.attempt.number),
            "FINETUI_LOG": str(self._own),
        }

    def _look(self, curves: Curves, *, last: bool = False) -> None:
        """Take what is new. Whatever its files hold, the program goes on."""
        try:
            self._take(curves.look(last=last))
        except Exception as error:
            self._warn(f"its curves cannot be read: {type(error).__name__}: {error}")

    def _take(self, news: News) -> None:
        """Write what a look has found to the log."""
        for note in news.notes:
            self._warn(note)
        if news.steps and not self._resumed:
            self._resumed = True
            step = self._goes_on_from(min(news.steps))
            self._write(Resume(step))
            self._curve_flags().go_on(self._earlier, step)
        if news.total_steps not in (None, self._total_steps):
            self._total_steps = news.total_steps
            self._write(Plan(total_steps=news.total_steps))
        for step, values in news.steps.items():
            self._write(Metrics(step, dict(values)))
            self.step = max(self.step, step)
        for flag in self._curve_flags().add(news.steps) if news.steps else ():
            self._write(flag_line(flag))
            self._say(f"flag {flag.flag} ({flag.level}, {flag.state}): {flag.message}")
        for step, path in news.checkpoints:
            self._write(Checkpoint(step, str(path.absolute()), bytes_of(path)))

    def _curve_flags(self) -> CurveFlags:
        """Made with the first curve: NumPy and SciPy take memory and a second, and many a program has none."""
        if self._flags is None:
            from engine.curves.curve_flags import CurveFlags

            self._flags = CurveFlags()
        return self._flags

    def _goes_on_from(self, first: int) -> int:
        """Return the step before the first that this attempt measures; -1 if it has begun anew."""
        begun = min((step for step, _ in self._earlier), default=first)
        return first - 1 if first > begun else -1

    def _warn(self, sentence: str) -> None:
        if f"warning: {sentence}" not in self._said:
            self._write(Log("warning", sentence))
            self._say(f"warning: {sentence}")

    def _say(self, sentence: str) -> None:
        """Print a line among the program's; not where the disk is full, which is no reason to end it."""
        self._said.add(sentence)
        with suppress(OSError):
            print(sentence, flush=True)

    def _write(self, line: WorkerLine) -> None:
        """Write a line, after those that found no room on the disk; else it waits, too."""
        self._unwritten.append(line)
        with suppress(OSError):
            while self._unwritten:
                first = self._unwritten[0]
                write(self._log, first, sync=not isinstance(first, Metrics))
                del self._unwritten[0]

    def _failure(self, code: int) -> str:
        """Return in a sentence how the program failed, with what it said last; negative: the signal that ended it."""
        how = f"was ended by {signal_name(-code)}" if code < 0 else f"ended with exit code {code}"
        words = last_line_of(self.attempt.stdout, but=self._said) or "it printed nothing"
        return f"{PurePath(self.command.command[0]).name} {how}: {words} (finetui logs {self.run.number})"

    def _end(self, code: int, failure: str) -> int:
        """Report how it ended; return this process's exit code."""
        if self._asked:
            return self._report(RunState.CANCELLED)
        if code == 0:
            return self._report(RunState.FINISHED)
        if code == -signal.SIGKILL:
            with suppress(OSError):
                self._log.close()
            # As a worker would have ended that was killed: it is started again.
            os.kill(os.getpid(), signal.SIGKILL)
        return self._report(RunState.FAILED, failure)

    def _report(self, state: RunState, error: str | None = None) -> int:
        disk.release(self.attempt)  # the last lines have room, at least
        self._write(End(state, self.step, error))
        with suppress(OSError):
            self._log.close()
        self._say(f"{state}: {error}" if error else state)
        return WorkerExit.of(state)


def measured_before(run: RunDir, attempt: int) -> dict[tuple[int, str], float]:
    """Return what earlier attempts have measured, by step and name."""
    if attempt == 1:
        return {}
    return {
        (line.step, name): float(value)  # "NaN" is text in the log
        for line in events_of(run, Metrics)
        if isinstance(line, Metrics)
        for name, value in line.values.items()
        if value is not None
    }


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        sys.exit(main(sys.argv[1], int(sys.argv[2])))
