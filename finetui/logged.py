"""A run that a program logs by itself: `finetui.init`, and what it returns.

Whatever goes wrong here is a warning of the logger `finetui`, once, and never an exception: the training goes on. Each
line is written by one `write()` before the call returns, so a program that is killed has lost none. No daemon is needed
and none is asked; one that runs finds the directory and reads on.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from finetui import endings
from finetui.config import Config, Summary
from finetui.devices import devices
from finetui.errors import FinetuiError
from finetui.examples import Examples
from finetui.heldout import HeldOut
from finetui.home import Home
from finetui.home import home as default_home
from finetui.log import line_of
from finetui.measures import Measures, as_number, as_step
from finetui.names import directions_of
from finetui.new_run import Start, make_run, rewrite, word_of
from finetui.patient_log import PatientLog
from finetui.plain import plain

RANKS = ("RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK", "PMI_RANK")  # the first that is set
PLAIN = {float, int}
STATUSES = ("finished", "failed", "cancelled")
DAEMON = "FINETUI_DAEMON"

log = logging.getLogger("finetui")


def init(
    project: str | None = None,
    *,
    name: str | None = None,
    config: Any = None,
    tags: str | Iterable[str] = (),
    group: str | None = None,
    note: str = "",
    total_steps: int | None = None,
    higher_is_better: str | Iterable[str] | Mapping[str, bool] = (),
    home: str | Path | None = None,
    rank: int | None = None,
    daemon: bool | None = None,
) -> Run:
    """Begin a run that this program logs: a context manager, or call `finish`. Raises nothing.

    `project`: becomes a tag; `name`: shown in lists, by default the project or the script; `config`: what was decided,
    a dictionary or what has one; `group`: as of `finetui run`; `total_steps`: optimiser steps, for the time left;
    `higher_is_better`: names of metrics, as they are logged, of which the greatest value is the best (`{"score":
    False}`: the least); `home`: a directory, by default as of `finetui`; `rank`: of this process, by default from the
    environment: but for that of 0, the run logs nothing; `daemon`: False starts none (nor does `FINETUI_DAEMON=off`).
    """
    try:
        if (own_rank() if rank is None else rank) != 0:
            return Run(None, _config(config))
        given = [tags] if isinstance(tags, str) else tags or ()
        words = [word_of(str(word)) for word in (*((project,) if project else ()), *given)]
        start = Start(
            name=str(name or project or _script())[:200],
            config=_config(config),
            tags=tuple(dict.fromkeys(filter(None, words))),
            group=(word_of(str(group)) or None) if group else None,
            note=str(note or ""),
            project=str(project) if project else None,
            directions=directions_of(higher_is_better),
        )
        place = default_home() if home is None else Home(Path(home).expanduser().absolute())
        run = Run(make_run(place, start), start.config, start.name, start.project, start.directions)
    except Exception as error:
        why = str(error) if isinstance(error, OSError | FinetuiError) else f"{type(error).__name__}: {error}"
        log.warning("finetui: this run is not logged: %s", why)
        return Run(None, {})
    if total_steps is not None:
        run.plan(total_steps)
    if daemon is not False and os.environ.get(DAEMON, "").lower() not in ("off", "0", "no", "false"):
        _start_daemon(place)
    log.info("finetui: this is run #%s, in %s", run.number, run.path)
    return run


def own_rank() -> int:
    """Return the rank of this process among those of a distributed program; 0 for one that stands alone."""
    for name in RANKS:
        value = os.environ.get(name, "")
        if value.strip().isdecimal():
            return int(value)
    return 0


class Run:
    """A run that this process logs. All methods may be called from several threads, and raise nothing."""

    def __init__(
        self,
        path: Path | None,
        config: Mapping[str, Any],
        name: str = "",
        project: str | None = None,
        directions: Mapping[str, bool] | None = None,
    ) -> None:
        """`path`: the run's directory; None logs nothing, as on all ranks but the first. Raises OSError."""
        self.path = path
        self.number = int(path.name.partition("-")[0]) if path else None
        self.name = name
        self.step = 0  # the last one that was logged
        self._pid = os.getpid()
        self._lock = threading.RLock()  # a handler of a signal may log as well
        self._said: set[str] = set()
        self._measures = Measures(self._warn)
        self._examples = Examples(HeldOut(project))
        self._looked_at_devices = False
        self._planned: dict[str, Any] = {}  # fields of the line `plan`, of which the last one counts
        self._directions = dict(directions or {})
        self._last: dict[str, Any] = {}
        self.config = Config(config, self._rewrite)
        self.summary = Summary(self._last, lambda values: self.log(values, step=self.step))
        self._log: PatientLog | None = None
        if path is not None and self.number is not None:
            self._log = PatientLog(path / "attempts" / "1" / "events.jsonl", self.number, self._warn)
            endings.watch(self)

    @property
    def active(self) -> bool:
        """Whether it logs: not on other ranks, not after `finish`, not in a process that was forked from its own."""
        return self._log is not None and os.getpid() == self._pid

    def log(self, values: Mapping[str, Any], step: int | None = None) -> None:
        """Write numbers by name, of an optimiser step: by default one more than the last. Dictionaries in it become
        names with `/`.
        """
        if self._log is None or os.getpid() != self._pid:
            self._refuse("log")
            return
        if not hasattr(values, "items"):
            self._warn(f"log takes a dictionary of numbers by name, not {type(values).__name__}")
            return
        try:
            with self._lock:
                now = self.step + 1 if step is None else as_step(step)
                if now is None:
                    self._warn(f"{step!r} is no step: a whole number from 0 on")
                    now = self.step
                self.step = now
                if not self._looked_at_devices:
                    self._look_at_devices()
                line = self._measures.line(values, now)
                if line is not None and self._log is not None:
                    self._log.append(line)
                self._keep(values)
        except Exception as error:
            self._warn(f"log: {type(error).__name__}: {error}")

    def log_examples(
        self,
        step: int,
        losses: Sequence[float],
        tokens: Sequence[int] | None = None,
        ids: Sequence[str] | None = None,
        texts: Sequence[Any] | None = None,
        *,
        suite: str = "heldout",
        reduction: str = "sum",
    ) -> None:
        """Write the loss of each example of a set that is scored again and again: from these, flags are raised.

        `losses`: nats, summed over the `tokens` of each (`reduction="mean"`: means over them); `ids`: what each is
        called, the same at every step; `texts`: of each, a text or a pair of prompt and target; `suite`: `heldout`,
        `seen` (of the training set) or `general`. Arrays and tensors will do.
        """
        if not self.active:
            self._refuse("log_examples")
            return
        try:
            planned, lines = self._examples.lines(step, losses, tokens, ids, texts, suite, reduction)
        except Exception as error:
            self._warn(f"log_examples: {error}")
            return
        with self._lock:
            self._plan(planned)
            for line in lines:
                self._append(line)
            self.step = max(self.step, as_step(step) or 0)

    def plan(self, total_steps: int | None = None, **more: Any) -> None:
        """Say how many optimiser steps there will be. `more`: other fields of the line, such as `device`, `gpus`,
        `precision`, `tokens_per_step` and `train_examples`, see docs/architecture.md. What was said before stays.
        """
        self._plan(({} if total_steps is None else {"total_steps": as_step(total_steps)}) | more)

    def checkpoint(self, step: int, path: str | Path) -> None:
        """Say that a checkpoint is whole on the disk."""
        folder = Path(path).absolute()
        self._write(
            "checkpoint", sync=True, step=as_step(step) or 0, path=str(folder), bytes=_bytes_of(folder)
        )

    def rename(self, name: str) -> None:
        """Give the run another name in lists."""
        self.name = str(name)[:200]
        self._rewrite()

    def judge(self, name: str, *, higher_is_better: bool = True) -> None:
        """Say whether the greatest or the least value of a metric is its best, also after it was logged."""
        said = directions_of({name: higher_is_better})
        if not said.items() <= self._directions.items():
            self._directions |= said
            self._rewrite()

    def say(self, message: str, level: str = "info") -> None:
        """Write a sentence for people. `level`: `info`, `warning` or `error`."""
        self._write("log", level=level, message=str(message))

    def finish(self, status: str = "finished", error: str | None = None) -> None:
        """End the run: `finished`, `failed` (`error` says why) or `cancelled`. A second call does nothing."""
        if not self.active:
            return
        if status not in STATUSES:
            self._warn(f"{status!r} is no status: {', '.join(STATUSES)}")
            status = "finished"
        with self._lock:
            if self._log is None:
                return
            self._look_at_devices()
            why = {"error": error} if status == "failed" else {"reason": error}
            self._append(line_of("end", status=status, step=self.step, **why), sync=True)
            self._log.close()
            self._log = None
        endings.forget(self)

    def __enter__(self) -> Run:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.finish(*endings.ending_of(error))

    def _keep(self, values: Mapping[str, Any]) -> None:
        """Keep the last values as numbers: a tensor would keep all that it was computed from."""
        if not PLAIN.issuperset(map(type, values.values())):
            values = {
                name: number for name, value in values.items() if (number := as_number(value)) is not None
            }
        self._last.update(values)

    def _plan(self, fields: Mapping[str, Any]) -> None:
        """Write a plan with these fields and those that are known, where it is another one."""
        with self._lock:
            planned = {**self._planned, **plain(dict(fields))}
            if planned != self._planned:
                self._planned = planned
                self._write("plan", **planned)

    def _look_at_devices(self) -> None:
        """Say what the program computes on, unless it has said so: at the first measures and at the end, since a GPU is
        seldom in use when a run begins.
        """
        self._looked_at_devices = True
        if self._planned.keys().isdisjoint(("device", "gpus")) and (found := devices()):
            self._plan(found)

    def _write(self, kind: str, *, sync: bool = False, **fields: Any) -> None:
        if not self.active:
            self._refuse(kind)
            return
        with self._lock:
            self._append(line_of(kind, **plain(fields)), sync=sync)

    def _append(self, line: bytes, *, sync: bool = False) -> None:
        if self._log is not None:
            self._log.append(line, sync=sync)

    def _rewrite(self) -> None:
        if not self.active or self.path is None:
            self._refuse("config")
            return
        try:
            with self._lock:
                rewrite(self.path, self.name, plain(dict(self.config)), self._directions)
        except (OSError, ValueError) as error:
            self._warn(f"its config cannot be written: {error}")

    def _refuse(self, what: str) -> None:
        """Say why nothing is logged, where that may be news."""
        if self.path is None:
            return
        if os.getpid() != self._pid:
            self._warn(f"{what} in a process that was forked from the one that logs does nothing")
        else:
            self._warn(f"it is finished, so {what} does nothing")

    def _warn(self, sentence: str) -> None:
        """Warn once, and let the run's log say it, too."""
        if sentence in self._said or len(self._said) > 1000:
            return
        self._said.add(sentence)
        log.warning("finetui: run #%s: %s", self.number, sentence)
        if self.active:
            with self._lock:
                self._append(line_of("log", level="warning", message=sentence))

    def __reduce__(self) -> tuple[Any, ...]:
        """In another process it logs nothing, as in one that was forked."""
        return Run, (None, {}, self.name)

    def __deepcopy__(self, _: Any) -> Run:
        return self

    def __repr__(self) -> str:
        return f"<finetui.Run #{self.number}>" if self.number else "<finetui.Run that logs nothing>"


def _script() -> str:
    """Return what a run is called that nobody has named."""
    if "ipykernel" in sys.modules:
        return "notebook"
    stem = Path(sys.argv[0] if sys.argv else "").stem
    return stem if any(letter.isalnum() for letter in stem) and not stem.startswith("-") else "run"


def _config(config: Any) -> dict[str, Any]:
    """Return a config as a dictionary: that of a Namespace or a data class, too."""
    known = plain(config) if config is not None and not isinstance(config, Mapping) else config
    return dict(known) if isinstance(known, Mapping) else {} if known is None else {"config": known}


def _bytes_of(folder: Path) -> int:
    """Return what a file, or all files below a folder, take."""
    try:
        files = [path for path in folder.rglob("*") if path.is_file()] if folder.is_dir() else [folder]
        return sum(path.stat().st_size for path in files)
    except OSError:
        return 0


def _start_daemon(home: Home) -> None:
    """Have a daemon that samples the hardware and raises flags. Whether one begins is not waited for."""
    from finetui.daemon import start_in_background

    try:
        start_in_background(home)
    except (OSError, FinetuiError, subprocess.SubprocessError) as error:
        log.warning("finetui: no daemon could be started: %s", error)
