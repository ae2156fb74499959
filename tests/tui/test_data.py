"""Fetching: live changes arrive, a lost daemon is said and found again, nothing is asked twice."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import made_home
import pytest
from made_home import NOW, Served
from pilot import ready, text_of, until

from finetui.errors import StoreError, Unavailable
from finetui.home import Home
from finetui.progress import Progress
from tui.app import FinetuiApp
from tui.connection import Connection, Trouble
from tui.poller import Poller, log_tail
from tui.rows import Snapshot, ask
from tui.widgets.panel import Panel


@pytest.fixture
def living(tmp_path: Path) -> Any:
    """A home of its own with one running run, whose log the test goes on writing."""
    home = Home(tmp_path / "h")
    home.create()
    run = made_home.make_run(home, 1, "live")
    log = made_home.train(run, 120, floor=1.0)
    with made_home.served(home) as served:
        yield served, run, log
    log.close()


async def test_a_live_run_is_followed(living: Any) -> None:
    served, run, log = living
    app = FinetuiApp(served.home, connect=served.connect, unicode=True)
    async with app.run_test(size=(80, 24)) as pilot:
        await ready(pilot)
        assert "step 120/400" in text_of(app, "#table")
        chart = app.screen.query_one("#pane0", Panel)
        log.write("metrics", step=122, t=NOW, values={"train/loss": 1.7})
        served.look()
        await until(pilot, lambda: "step 122/400" in text_of(app, "#table"), "the step")
        await until(pilot, lambda: "#1 1.7" in text_of(app, "#pane0"), "the point")
        assert sum(region.area for region in chart.painted) < 60, "only what changed was painted"
        made_home.raise_flag(log, 110, "overfitting", "heldout")
        served.look()
        await until(pilot, lambda: "⚑ 1" in text_of(app, "#table"), "the flag")
        log.write("end", status="finished", step=122, t=NOW)
        made_home.say(run, "ended", state="finished", attempt=1, exit_code=0, t=NOW)
        served.look()
        await until(pilot, lambda: "✓ finished" in text_of(app, "#table"), "the end")


class Gate:
    """A connection that can be cut."""

    def __init__(self, served: Served) -> None:
        self.served = served
        self.cut = False
        self.pid: int | None = None
        self.asked: list[tuple[str, Any]] = []

    def __call__(self) -> Any:
        if self.cut:
            raise Unavailable("no daemon answers")
        self.client = self.served.connect()
        return self

    def named(self, name: str, **args: Any) -> Any:
        if self.cut:
            raise Unavailable("no daemon answers")
        self.asked.append((name, args))
        return self.client.named(name, **args)

    def query(self, sql: str, **args: Any) -> Any:
        return self.client.query(sql, **args)

    def action(self, name: str, **body: Any) -> Any:
        if self.cut:
            raise Unavailable("no daemon answers")
        return self.client.action(name, **body)


async def test_a_lost_daemon_is_said_and_found_again(served: Served) -> None:
    gate = Gate(served)
    app = FinetuiApp(served.home, connect=gate, unicode=True)
    async with app.run_test(size=(80, 24)) as pilot:
        await ready(pilot)
        gate.cut = True
        await until(pilot, lambda: "the daemon is gone since" in text_of(app, "#header"), "the trouble")
        assert "docstrings-full" in text_of(app, "#table"), "what was known stays"
        await pilot.press("x")
        assert app.state.status.shown is not None
        assert "the daemon is not answering" in app.state.status.shown[0]
        gate.cut = False
        await until(pilot, lambda: "the daemon is gone" not in text_of(app, "#header"), "the daemon")


async def test_a_part_is_shown_as_a_part(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the logs are read into a new database the daemon marks its answers, and the screen says so."""
    marks: dict[str, str] = {}
    monkeypatch.setattr(served.server._flight, "_marks", lambda: dict(marks))
    app = FinetuiApp(served.home, [1, 2], connect=served.connect, unicode=True)
    async with app.run_test(size=(80, 24)) as pilot:
        await ready(pilot)
        marks["reading"] = Progress(3, 12, 40.0).as_json()
        await until(pilot, lambda: "reading logs" in text_of(app, "#header"), "the progress")
        header = text_of(app, "#header")
        assert header.endswith("3 of 12, 40 s left")
        assert "runs so far" in header
        assert "a part" in str(app.screen.query_one("#table").border_title)
        part = replace(app.state.snapshot, runs=())
        app.state.take(part)
        assert app.state.marked == [1, 2], "marks wait for their runs"
        marks.clear()
        await until(pilot, lambda: "reading logs" not in text_of(app, "#header"), "the end")
        assert "a part" not in str(app.screen.query_one("#table").border_title)


async def test_a_daemon_that_does_not_answer_is_said_with_what_to_do(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is stopped keeps its socket: only the wait tells."""
    monkeypatch.setattr("tui.connection.SILENT_S", 0.2)
    monkeypatch.setattr("tui.connection.STUCK_S", 0.4)
    gate, goes_on = Gate(served), threading.Event()
    app = FinetuiApp(served.home, connect=gate, unicode=True)
    async with app.run_test(size=(80, 24)) as pilot:
        await ready(pilot)
        monkeypatch.setattr(
            gate, "named", lambda name, **args: goes_on.wait() and gate.client.named(name, **args)
        )
        gate.pid = 4711
        await until(pilot, lambda: "has not answered since" in text_of(app, "#footer"), "the silence")
        await until(pilot, lambda: "kill -9 4711 ends it" in text_of(app, "#footer"), "what to do")
        goes_on.set()
        await until(pilot, lambda: "has not answered" not in text_of(app, "#footer"), "the answer")


def test_a_slow_daemon_is_not_to_be_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine takes some seconds: only later is it said how to end what does not answer."""
    monkeypatch.setattr("tui.connection.SILENT_S", 0.01)
    monkeypatch.setattr("tui.connection.STUCK_S", 0.05)
    said: list[str] = []
    both = threading.Event()

    def say(trouble: Trouble) -> None:
        said.append(trouble.sentence)
        if len(said) == 2:
            both.set()

    connection = Connection(Home(tmp_path), lambda: SimpleNamespace(pid=4711), say)
    connection.client()
    with connection.waiting():
        assert both.wait(60)
    assert ["kill" in sentence for sentence in said] == [False, True]


async def test_a_daemon_that_is_not_there_at_the_start(empty: Served) -> None:
    gate = Gate(empty)
    gate.cut = True
    app = FinetuiApp(empty.home, connect=gate, unicode=True)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "the daemon is gone since" in text_of(app, "#header"), "the trouble")
        await pilot.press("enter")
        assert app.state.status.shown is not None
        assert app.state.status.shown[0] == "the runs are still being loaded"
        gate.cut = False
        await until(pilot, lambda: "No runs yet" in text_of(app, "#table"), "the empty table")


async def test_why_a_daemon_cannot_start_is_said(tmp_path: Path) -> None:
    def connect() -> Any:
        raise StoreError("the home cannot be used: Read-only file system", "home")

    app = FinetuiApp(Home(tmp_path), connect=connect, unicode=True)
    async with app.run_test(size=(120, 24)) as pilot:
        await until(pilot, lambda: "Read-only file system" in text_of(app, "#header"), "the reason")


async def test_answers_about_runs_that_do_not_change_are_asked_once(served: Served) -> None:
    gate = Gate(served)
    arrived: list[Snapshot] = []
    came = threading.Event()

    def deliver(snapshot: Snapshot) -> None:
        arrived.append(snapshot)
        came.set()

    poller = Poller(served.home, gate, deliver)
    wanted, other = (ask("curve", run=number, key="train/loss", buckets=400) for number in (1, 2))
    poller.want([wanted, other, ask("flags", run=1)])
    for _ in range(4):
        poller.poke()
        poller._look()
    assert gate.asked.count(("curves", {"runs": [1, 2], "key": "train/loss", "buckets": 400})) == 1
    assert gate.asked.count(("flags", {"run": 1})) == 1
    assert gate.asked.count(("runs", {})) == 4
    assert len(arrived) == 1, "the same answers are not delivered again"
    assert len(arrived[0].rows(wanted)) == 200
    assert {row["run"] for row in arrived[0].rows(other)} == {2}


def test_the_tail_of_a_log(tmp_path: Path) -> None:
    path = tmp_path / "stdout.log"
    assert log_tail(path) == []
    assert log_tail(None) == []
    path.write_bytes(b"one\n\n  10%\r  50%\r100%\nbroken \xff\xfe\nlast without an end")
    assert [row["line"] for row in log_tail(path)] == ["one", "100%", "broken ��", "last without an end"]
    path.write_text("".join(f"line {number}\n" for number in range(100_000)))
    tail = [row["line"] for row in log_tail(path)]
    assert tail[-1] == "line 99999"
    assert all(line.startswith("line ") for line in tail)
    assert len(tail) < 10_000


async def test_escape_sequences_in_a_log_do_not_reach_the_terminal(living: Any) -> None:
    served, run, _ = living
    run.attempt(1).stdout.write_text("\x1b[31mred\x1b[0m\x1b]0;title\x07\ttab\n")
    app = FinetuiApp(served.home, connect=served.connect, unicode=True)
    async with app.run_test(size=(80, 24)) as pilot:
        await ready(pilot)
        await pilot.press("6")
        await until(pilot, lambda: "red" in text_of(app, "#pane5"), "the log")
        for strip in app.screen._compositor.render_strips():
            assert all(segment.text.isprintable() for segment in strip)


async def test_a_change_of_one_cell_costs_few_bytes(living: Any) -> None:
    """Guards `tui.widgets.spans` against another Textual: what it builds on is private there."""
    from textual._compositor import ChopsUpdate

    from tui.widgets.spans import SpansUpdate

    served, _, _ = living
    app = FinetuiApp(served.home, connect=served.connect, unicode=True)
    async with app.run_test(size=(160, 50)) as pilot:
        await ready(pilot)
        panel = app.screen.query_one("#pane2", Panel)
        updates: list[Any] = []
        app._display = lambda screen, renderable: updates.append(renderable)  # type: ignore[method-assign]
        before = panel._paint
        panel._paint = lambda width, height: [
            *before(width, height)[:-1], [(" " * (width - 1), ""), ("X", "warn")],
        ]  # fmt: skip
        panel.repaint()
        assert len(panel.painted) <= 12
        await pilot.pause(0.2)
        partial = [update for update in updates if isinstance(update, ChopsUpdate)]
        assert partial
        written = "".join(SpansUpdate.of(update).render_segments(app.console) for update in partial)
        assert "X" in written
        assert len(written) < 150 * len(panel.painted)
