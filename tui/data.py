"""What the screens show, fetched by a thread of its own.

A screen says which answers it needs (`ask("curve", run=3, key="train/loss")`); the poller asks the daemon for
them, again only when something about that run has changed, and hands over a `Snapshot`. The daemon's client
(and with it pyarrow) is imported in the thread, after the first paint.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from engine.home import Home, RunDir

# Seconds between looks while something runs, while nothing runs, and after the daemon was lost.
BUSY, IDLE, LOST = 0.5, 2.0, 1.0
LIVE_STATES = ("queued", "starting", "running", "interrupted")
TAIL_BYTES = 64 * 1024

Row = dict[str, Any]
Request = tuple[str, tuple[tuple[str, Any], ...]]


def ask(name: str, **args: Any) -> Request:
    """A named query with its arguments; `log` is read from disk instead."""
    return name, tuple(sorted(args.items()))


@dataclass(frozen=True)
class Run:
    """A row of the run table. Losses are in nats per token, times in Unix seconds."""

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
    # Moves with the clock alone, so it does not count as a change.
    eta_s: float | None = field(default=None, compare=False)

    @property
    def live(self) -> bool:
        return self.state in LIVE_STATES


@dataclass(frozen=True)
class Snapshot:
    """Everything known at one moment."""

    runs: tuple[Run, ...] = ()
    answers: Mapping[Request, list[Row]] = field(default_factory=dict)
    trouble: str = ""  # why there are no fresh answers; the old ones stay
    loaded: bool = False  # the run table has been fetched at least once

    def rows(self, request: Request) -> list[Row]:
        """The answer, empty while it has not come."""
        return self.answers.get(request, [])

    def has(self, request: Request) -> bool:
        return request in self.answers

    def run(self, number: int | None) -> Run | None:
        return next((run for run in self.runs if run.number == number), None)


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
        from store import StoreError, Unavailable

        client = None
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
        return BUSY if any(run.live for run in snapshot.runs) else IDLE

    def _troubled(self, why: str) -> float:
        if self._snapshot.trouble != why and not self._stop.is_set():
            self._snapshot = Snapshot(self._snapshot.runs, self._snapshot.answers, why, self._snapshot.loaded)
            self._deliver(self._snapshot)
        return LOST

    def _fetch(self, client: Any) -> Snapshot:
        runs = tuple(run_of(row) for row in client.named("runs").to_pylist())
        by_number = {run.number: run for run in runs}
        answers: dict[Request, list[Row]] = {}
        for request in self._wanted:
            name, pairs = request
            args = dict(pairs)
            version = self._version(name, args, by_number)
            if request in self._snapshot.answers and self._versions.get(request) == version:
                answers[request] = self._snapshot.answers[request]
                continue
            answers[request] = self._answer(client, name, args)
            self._versions[request] = version
        self._versions = {request: self._versions[request] for request in answers}
        return Snapshot(runs, answers, "", True)

    def _answer(self, client: Any, name: str, args: dict[str, Any]) -> list[Row]:
        if name == "log":
            return log_tail(stdout_of(self._home, args["run"]))
        if name == "parameter":  # the key is one word of letters, dots and underscores: see tui/filter.py
            sql = f"SELECT run, value FROM params WHERE key = '{args['key']}' OR key LIKE '%.{args['key']}'"
            return client.query(sql, limit=100_000).to_pylist()
        return client.named(name, **args).to_pylist()

    def _version(self, name: str, args: dict[str, Any], runs: Mapping[int, Run]) -> Any:
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
        return int(time.monotonic() / 2) if any(run.live for run in runs.values()) else "idle"


def run_of(row: Row) -> Run:
    """A `Run` from a row of the named query `runs`."""
    known = {item.name for item in fields(Run)}
    values = {key: value for key, value in row.items() if key in known and value is not None}
    return Run(number=row["run"], **values)


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
    """The client of this home's daemon, which is started if it does not run. Raises `store.Unavailable`."""
    from engine import service

    return service.connect(home)
