"""What the screens show, fetched by a thread of its own.

A screen says which answers it needs (`ask("curve", run=3, key="train/loss")`); the poller asks the daemon for
them, again only when something about that run has changed, and hands over a `Snapshot`. The daemon's client
(and with it pyarrow) is imported in the thread, after the first paint.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from engine.runs.home import RunDir
from finetui.home import Home
from store.states import ACTIVE, WAITING

# Seconds between looks while something runs, while nothing runs, and after the daemon was lost.
BUSY, IDLE, LOST = 0.5, 2.0, 1.0
LIVE_STATES = WAITING | ACTIVE
TAIL_BYTES = 64 * 1024

Row = dict[str, Any]
Request = tuple[str, tuple[tuple[str, Any], ...]]


def ask(name: str, **args: Any) -> Request:
    """A named query with its arguments; `curve` is a run's part of `curves`, `log` is read from disk instead."""
    return name, tuple(sorted(args.items()))


class Run(NamedTuple):
    """A row of the run table. Losses are in nats per token, times in Unix seconds.

    A named tuple because there may be 100,000 of them, made anew whenever one of them has moved on.
    """

    number: int
    name: str
    state: str
    method: str = ""
    model: str = ""
    reason: str = ""
    waiting_for: str = ""
    phase: str = ""
    priority: int = 0
    attempt: int = 0
    step: int = 0
    total_steps: int = 0
    created: float | None = None
    started: float | None = None
    ended: float | None = None
    loss: float | None = None
    heldout: float | None = None
    heldout_best: float | None = None
    general: float | None = None
    tokens_per_s: float | None = None
    flags: int = 0
    flag_level: str = ""
    parent: int | None = None  # the run that this one was made from

    @property
    def live(self) -> bool:
        return self.state in LIVE_STATES


# Columns of the named query `runs`, in the order of the fields of `Run`.
COLUMNS = ("run", *Run._fields[1:])


@dataclass(frozen=True)
class Snapshot:
    """Everything known at one moment."""

    runs: tuple[Run, ...] = ()
    # Seconds left by run; they move with the clock alone, so they do not count as a change.
    etas: Mapping[int, float] = field(default_factory=dict, compare=False)
    answers: Mapping[Request, list[Row]] = field(default_factory=dict)
    trouble: str = ""  # why there are no fresh answers; the old ones stay
    loaded: bool = False  # the run table has been fetched at least once

    def rows(self, request: Request) -> list[Row]:
        """The answer, empty while it has not come."""
        return self.answers.get(request, [])

    def has(self, request: Request) -> bool:
        return request in self.answers

    @cached_property
    def _by_number(self) -> dict[int, Run]:
        return {run.number: run for run in self.runs}

    @cached_property
    def states(self) -> Mapping[str, int]:
        """How many runs are in each state."""
        return Counter(run.state for run in self.runs)

    @cached_property
    def busy(self) -> bool:
        """Whether something runs or is about to."""
        return any(self.states.get(state) for state in LIVE_STATES)

    def run(self, number: int | None) -> Run | None:
        return self._by_number.get(number) if number is not None else None


class Poller:
    """Keeps a `Snapshot` fresh; `deliver` is called in the poller's thread with every one that differs."""

    def __init__(self, home: Home, connect: Callable[[], Any], deliver: Callable[[Snapshot], None]) -> None:
        self._home, self._connect, self._deliver = home, connect, deliver
        self._wanted: frozenset[Request] = frozenset()
        self._wake, self._stop = threading.Event(), threading.Event()
        self._client: Any = None
        self._lock = threading.Lock()
        self._snapshot = Snapshot()
        self._versions: dict[Request, Any] = {}
        self._table: Any = None
        self._made: tuple[Run, ...] = ()
        self._thread = threading.Thread(target=self._loop, name="poller", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ask the thread to end; it is not waited for, since it may sit in a connect."""
        self._stop.set()
        self._wake.set()

    def want(self, requests: Iterable[Request]) -> None:
        """Which answers are needed from now on; new ones are fetched at once."""
        wanted = frozenset(requests)
        if wanted != self._wanted:
            self._wanted = wanted
            self._wake.set()

    def poke(self) -> None:
        """Look again now: something was just asked of the daemon."""
        self._wake.set()

    def client(self) -> Any:
        """The connected client, connecting if needed (slow: not in the screen's thread)."""
        with self._lock:
            if self._client is None:
                self._client = self._connect()
            return self._client

    def drop(self, client: Any) -> None:
        """The client has lost its daemon: the next caller connects again."""
        with self._lock:
            if self._client is client:
                self._client = None

    def _loop(self) -> None:
        while not self._stop.is_set():
            pause = self._look()
            self._wake.wait(pause)
            self._wake.clear()

    def _look(self) -> float:
        from finetui.errors import StoreError, Unavailable

        client, started = None, time.monotonic()
        try:
            client = self.client()
            snapshot = self._fetch(client)
        except Unavailable:
            self.drop(client)
            return self._troubled("daemon not answering, retrying")
        except StoreError as error:
            return self._troubled(str(error))
        except Exception as error:  # a screen that dies over one bad answer helps nobody
            return self._troubled(f"{type(error).__name__}: {error}")
        if snapshot != self._snapshot and not self._stop.is_set():
            self._snapshot = snapshot
            self._deliver(snapshot)
        pause = BUSY if snapshot.busy else IDLE
        # With many thousands of runs a look takes long; the keys must not wait for it most of the time.
        return max(pause, 4 * (time.monotonic() - started))

    def _troubled(self, why: str) -> float:
        if self._snapshot.trouble != why and not self._stop.is_set():
            self._snapshot = replace(self._snapshot, trouble=why)
            self._deliver(self._snapshot)
        return LOST

    def _fetch(self, client: Any) -> Snapshot:
        table = client.named("runs")
        runs, etas = self._runs(table), etas_of(table)
        by_number = {run.number: run for run in runs}
        busy = any(run.live for run in runs)
        versions = {
            request: self._version(request[0], dict(request[1]), by_number, busy) for request in self._wanted
        }
        answers = {
            request: self._snapshot.answers[request]
            for request, version in versions.items()
            if request in self._snapshot.answers and self._versions.get(request) == version
        }
        answers |= self._answers(client, [request for request in versions if request not in answers])
        self._versions = versions
        return Snapshot(runs, etas, answers, "", True)

    def _runs(self, table: Any) -> tuple[Run, ...]:
        """The runs; the same ones as before if no column that is shown has changed."""
        shown = table.select([name for name in COLUMNS if name in table.column_names])
        if self._table is None or not shown.equals(self._table):
            self._table, self._made = shown, runs_of(shown)
        return self._made

    def _answers(self, client: Any, requests: Iterable[Request]) -> dict[Request, list[Row]]:
        """Curves of several runs are asked for together: twenty at once take a third of the time."""
        found: dict[Request, list[Row]] = {}
        curves: dict[tuple[tuple[str, Any], ...], dict[int, Request]] = {}
        for request in requests:
            name, pairs = request
            args = dict(pairs)
            if name == "curve":
                run = args.pop("run")
                curves.setdefault(tuple(args.items()), {})[run] = request
                found[request] = []
            else:
                found[request] = self._answer(client, name, args)
        for pairs, by_run in curves.items():
            for row in client.named("curves", runs=sorted(by_run), **dict(pairs)).to_pylist():
                found[by_run[row["run"]]].append(row)
        return found

    def _answer(self, client: Any, name: str, args: dict[str, Any]) -> list[Row]:
        if name == "log":
            return log_tail(stdout_of(self._home, args["run"]))
        if name == "parameter":  # the key is one word of letters, dots and underscores: see tui/filter.py
            sql = f"SELECT run, value FROM params WHERE key = '{args['key']}' OR key LIKE '%.{args['key']}'"
            return client.query(sql, limit=100_000).to_pylist()
        return client.named(name, **args).to_pylist()

    def _version(self, name: str, args: dict[str, Any], runs: Mapping[int, Run], busy: bool) -> Any:
        """What an answer depends on: asked again only when this has changed."""
        if name == "log":
            path = stdout_of(self._home, args["run"])
            try:
                return (str(path), path.stat().st_size) if path else None
            except OSError:
                return None
        numbers = [*(args[key] for key in ("run", "a", "b") if key in args), *args.get("runs", ())]
        if numbers:
            return [runs.get(number) for number in numbers]
        if name == "parameter":
            return len(runs)
        # Hardware is looked at only while something runs: an idle screen writes nothing.
        return int(time.monotonic() / 2) if busy else "idle"


def runs_of(table: Any) -> tuple[Run, ...]:
    """The rows of the named query `runs`; a column that it lacks has its default everywhere."""
    columns = []
    for name in COLUMNS:
        default = Run._field_defaults.get("number" if name == "run" else name)
        column = table.column(name) if name in table.column_names else None
        if column is None or column.null_count == table.num_rows:
            columns.append([default] * table.num_rows)
            continue
        columns.append((column if default is None else column.fill_null(default)).to_pylist())
    return tuple(map(Run, *columns))


def etas_of(table: Any) -> dict[int, float]:
    """Seconds left of every run where they are known."""
    if "eta_s" not in table.column_names or table.column("eta_s").null_count == table.num_rows:
        return {}
    pairs = zip(table.column("run").to_pylist(), table.column("eta_s").to_pylist(), strict=True)
    return {number: seconds for number, seconds in pairs if seconds is not None}


# ---- the log of a run, from disk -----------------------------------------------------------------


def stdout_of(home: Home, number: int) -> Path | None:
    """The file that a run's last attempt prints into, None before its first start."""
    found = next(iter(home.runs.glob(f"{number:06}-*")), None)
    attempts = RunDir(found).attempts() if found else []
    return attempts[-1].stdout if attempts else None


def log_tail(path: Path | None) -> list[Row]:
    """The last lines of a run's output, `[{"line": …}]`; progress bars keep only what they showed last."""
    try:
        if path is None:
            return []
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except OSError:
        return []
    lines = text.split("\n")
    if size > TAIL_BYTES:
        lines = lines[1:]  # the first one is only the end of a line
    return [{"line": line.rstrip("\r").rsplit("\r", 1)[-1]} for line in lines if line.strip()]


def default_connect(home: Home) -> Any:
    """The client of this home's daemon, which is started if it does not run. Raises Unavailable."""
    from finetui.daemon import connect

    return connect(home)
