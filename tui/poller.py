"""Keeps what the screens show fresh, in a thread of its own.

The poller asks the daemon for the answers that a screen wants, again only when something about that run has changed,
and hands over a `Snapshot`. The daemon's client (and with it pyarrow) is imported in the thread, after the first paint.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from finetui.errors import Unavailable
from finetui.files import open_regular
from finetui.home import Home
from tui.connection import Connection, Trouble
from tui.lines.log_levels import LevelReader
from tui.rows import Request, Row, Snapshot, etas_of
from tui.run_filter import MOST_VALUES, column_sql, values_sql
from tui.run_rows import RunRows

# Seconds between looks while something runs, while nothing runs, and after the daemon was lost.
BUSY, IDLE, LOST = 0.5, 2.0, 1.0
# Between looks at the hardware, and at what it did in the last minutes.
HARDWARE_S, HISTORY_S, IDLE_HARDWARE_S = 2.0, 10.0, 20.0
LONGEST_S = 10.0  # between looks, also after one that took long because the daemon was stopped
TAIL_BYTES = 64 * 1024


class Poller:
    """Keeps a `Snapshot` fresh; `deliver` is called in the poller's thread with every one that differs."""

    def __init__(
        self, home: Home, connect: Callable[[], Any] | None, deliver: Callable[[Snapshot], None]
    ) -> None:
        self._home, self._deliver = home, deliver
        self._connection = Connection(home, connect, self._troubled)
        self._wanted: frozenset[Request] = frozenset()
        self._wake, self._stop = threading.Event(), threading.Event()
        self._lock = threading.Lock()  # of the snapshot: trouble comes from other threads, too
        self._snapshot = Snapshot()
        self._versions: dict[Request, Any] = {}
        self._rows = RunRows()
        self._known = Snapshot()  # the last look at the run table
        # When the run table is due, by the monotonic clock; until then only what has become wanted is fetched.
        self._next_look = 0.0
        self._is_asked = False  # to look at the run table before it is due
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
        self._is_asked = True
        self._wake.set()

    def client(self) -> Any:
        """The connected client, connecting if needed (slow: not in the screen's thread)."""
        return self._connection.client()

    def _loop(self) -> None:
        while not self._stop.is_set():
            self._look()
            self._wake.wait(max(0.0, self._next_look - time.monotonic()))
            self._wake.clear()

    def _look(self) -> None:
        """At the run table where that is due, and at all that is wanted. To read 100,000 runs again at each key that
        moves the cursor would keep two cores busy.
        """
        client, started = None, time.monotonic()
        is_due = self._is_asked or started >= self._next_look
        self._is_asked = False
        try:
            with self._connection.waiting():
                client = self._connection.client()
                if is_due:
                    self._known = self._look_at_runs(client)
                snapshot = self._fetch(client)
        except Unavailable:
            self._connection.lost(client)
            self._look_again(LOST)
            return
        except Exception as error:  # a screen that dies over one bad answer helps nobody
            self._connection.failed(error)
            self._look_again(LOST)
            return
        self._connection.answered()
        self._show(lambda _: snapshot)
        if is_due:
            pause = BUSY if snapshot.busy or snapshot.reading else IDLE
            # With many thousands of runs a look takes long; the keys must not wait for it most of the time.
            self._next_look = time.monotonic() + max(pause, min(LONGEST_S, 4 * (time.monotonic() - started)))

    def _look_again(self, pause: float) -> None:
        """At everything, at the latest after a pause in seconds."""
        self._is_asked, self._next_look = True, time.monotonic() + pause

    def _troubled(self, trouble: Trouble) -> None:
        self._show(lambda last: replace(last, trouble=trouble.sentence, starting=trouble.starting))

    def _show(self, next_one: Callable[[Snapshot], Snapshot]) -> None:
        with self._lock:
            snapshot = next_one(self._snapshot)
            if snapshot != self._snapshot and not self._stop.is_set():
                self._snapshot = snapshot
                self._deliver(snapshot)

    def _look_at_runs(self, client: Any) -> Snapshot:
        """What is known of the runs, without any other answer."""
        from finetui.client import notice, progress

        table = client.named("runs")
        self._rows.take(table)
        return Snapshot(
            self._rows.runs, etas_of(table), loaded=True, reading=progress(table), notice=notice(table),
            made=self._rows.index,
        )  # fmt: skip

    def _fetch(self, client: Any) -> Snapshot:
        """The runs as they are known, with all that is wanted."""
        known = self._known
        versions = {request: self._version(request[0], dict(request[1]), known) for request in self._wanted}
        answers = {
            request: self._snapshot.answers[request]
            for request, version in versions.items()
            if request in self._snapshot.answers and self._versions.get(request) == version
        }
        missing = [request for request in versions if request not in answers]
        answers |= answers_to(missing, client, lambda name, args: self._answer(client, name, args))
        self._versions = versions
        return replace(known, answers=answers)

    def _answer(self, client: Any, name: str, args: dict[str, Any]) -> list[Row]:
        if name == "log":
            return log_tail(stdout_of(self._home, args["run"]))
        if name == "parameter":
            return client.query(values_sql(args["key"]), limit=MOST_VALUES).to_pylist()
        if name == "column":
            return client.query(column_sql(args["key"]), limit=MOST_VALUES).to_pylist()
        if name == "machine":
            return [machine_now(client)]
        return client.named(name, **args).to_pylist()

    def _version(self, name: str, args: dict[str, Any], known: Snapshot) -> Any:
        """What an answer depends on: asked again only when this has changed."""
        if name == "log":
            path = stdout_of(self._home, args["run"])
            try:
                return (str(path), path.stat().st_size) if path else None
            except OSError:
                return None
        numbers = [*(args[key] for key in ("run", "a", "b") if key in args), *args.get("runs", ())]
        if numbers:
            return [known.run(number) for number in numbers]
        if name == "parameter":
            return len(known.runs)
        if name == "column":  # the same tuple as before, unless a run has moved on
            return id(known.runs)
        # Others may use the machine while no run goes on; but then it is looked at seldom, and shown coarsely.
        every = HISTORY_S if name == "hardware_history" else HARDWARE_S
        return int(time.monotonic() / (every if known.busy else IDLE_HARDWARE_S))


def answers_to(
    requests: Iterable[Request], client: Any, other: Callable[[str, dict[str, Any]], list[Row]]
) -> dict[Request, list[Row]]:
    """Curves of several runs are asked for together: twenty at once take a third of the time. `other`: the answer to
    what is no curve.
    """
    answers: dict[Request, list[Row]] = {}
    curves: dict[tuple[tuple[str, Any], ...], dict[int, Request]] = {}
    for request in requests:
        name, pairs = request
        args = dict(pairs)
        if name == "curve":
            run = args.pop("run")
            curves.setdefault(tuple(args.items()), {})[run] = request
            answers[request] = []
        else:
            answers[request] = other(name, args)
    for pairs, by_run in curves.items():
        for row in client.named("curves", runs=sorted(by_run), **dict(pairs)).to_pylist():
            answers[by_run[row["run"]]].append(row)
    return answers


def machine_now(client: Any) -> Row:
    """What the daemon says goes on on the machine; where it does not (one of an older version), why as `problem`."""
    from finetui.errors import StoreError

    try:
        return client.action("machine")
    except StoreError as error:
        return {"problem": f"the processes are not known: {error}"}


# ---- the log of a run, from disk -----------------------------------------------------------------


def stdout_of(home: Home, number: int) -> Path | None:
    """The file that a run's last attempt prints into, None before its first start."""
    path = next(iter(home.runs.glob(f"{number:06}-*")), None)
    from engine.runs.home import RunDir  # not before the first paint

    attempts = RunDir(path).attempts() if path else []
    return attempts[-1].stdout if attempts else None


def log_tail(path: Path | None) -> list[Row]:
    """The last lines of a run's output with their levels, `[{"line": …, "level": …}]`; progress bars keep only what
    they showed last.
    """
    try:
        if path is None:
            return []
        with open_regular(path) as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except OSError:
        return []
    lines = text.split("\n")
    if size > TAIL_BYTES:
        lines = lines[1:]  # the first one is only the end of a line
    reader = LevelReader()
    shown = (line.rstrip("\r").rsplit("\r", 1)[-1] for line in lines if line.strip())
    return [{"line": line, "level": reader.of(line)} for line in shown]
