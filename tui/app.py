"""The Textual app: owns the state that screens share, runs the keys, talks to the daemon from threads.

It holds no run: closing it, losing the connection or killing it changes nothing that runs.
"""

from __future__ import annotations

import gc
import json
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textual import events
from textual._compositor import ChopsUpdate
from textual.app import App
from textual.message import Message
from textual.screen import Screen

from finetui.home import Home
from tui import bindings
from tui.data import Poller, Request, Run, Snapshot, default_connect
from tui.lines import theme
from tui.screens.base import BaseScreen
from tui.screens.dashboard import Dashboard
from tui.spans import SpansUpdate
from tui.widgets.chart import SMOOTHING, ChartView
from tui.widgets.plot import Glyphs

if TYPE_CHECKING:
    from textual.command import Provider

STATUS_SECONDS = 6.0


def _key_commands() -> type[Provider]:
    from tui.palette import KeyCommands

    return KeyCommands


class Arrived(Message):
    """A snapshot has come from the poller's thread."""

    def __init__(self, snapshot: Snapshot) -> None:
        super().__init__()
        self.snapshot = snapshot

    def can_replace(self, message: Message) -> bool:
        return isinstance(message, Arrived)


class FinetuiApp(App[None]):
    """`finetui` without arguments. `select` are the runs to mark, the first one under the cursor."""

    TITLE = "finetui"
    CSS = theme.CSS
    COMMANDS = {_key_commands}  # noqa: RUF012 (Textual's own declaration)
    ENABLE_COMMAND_PALETTE = True

    def __init__(
        self,
        home: Home,
        select: list[int] | None = None,
        *,
        connect: Callable[[], Any] | None = None,
        unicode: bool | None = None,
    ) -> None:
        # With native ANSI colours Textual drops every colour when NO_COLOR is set, instead of greying them.
        super().__init__(ansi_color=True if "NO_COLOR" in os.environ else None)
        self.home = home
        self.home_name = _short_path(home.path)
        self.ascii_only = not (theme.terminal_has_unicode() if unicode is None else unicode)
        self.snapshot = Snapshot()
        self.marked: list[int] = list(select or [])
        self.select = select[0] if select else None
        self.view = self._kept_view()
        self.status: tuple[str, str] | None = None
        self._question: Callable[[], None] | None = None
        self._status_timer: Any = None
        self.poller = Poller(home, connect or partial(default_connect, home), self._deliver)

    def _kept_view(self) -> ChartView:
        """Curves drawn as in the session before."""
        kept = self.remembered()
        names = {glyphs.name: glyphs for glyphs in Glyphs}
        glyphs = Glyphs.ASCII if self.ascii_only else names.get(str(kept.get("glyphs")), Glyphs.BRAILLE)
        smooth = kept.get("smooth")
        level = smooth if isinstance(smooth, int) and 0 <= smooth < len(SMOOTHING) else ChartView().smooth
        return ChartView(glyphs=glyphs, smooth=level, log=kept.get("log") is True)

    def get_default_screen(self) -> BaseScreen:
        return Dashboard()

    def on_mount(self) -> None:
        self.call_after_refresh(self.poller.start)

    def on_unmount(self) -> None:
        self.poller.stop()

    def _display(self, screen: Screen[Any], renderable: Any) -> None:
        if type(renderable) is ChopsUpdate:
            renderable = SpansUpdate.of(renderable)
        super()._display(screen, renderable)

    # ---- data -----------------------------------------------------------------------------------

    def _deliver(self, snapshot: Snapshot) -> None:
        self.post_message(Arrived(snapshot))

    def on_arrived(self, message: Arrived) -> None:
        if message.snapshot.loaded and not self.snapshot.loaded and not self.is_headless:
            self.call_after_refresh(_spare_collector)
        self.snapshot = message.snapshot
        known = {run.number for run in self.snapshot.runs}
        if self.snapshot.loaded:
            self.marked = [number for number in self.marked if number in known]
        self.refresh_screen()

    def refresh_screen(self) -> None:
        """Let the screen on top show what is known."""
        screen = self._room()
        if screen:
            screen.changed()

    def settled(self) -> bool:
        """Whether everything that the screen on top shows has come (screenshots and tests wait for it)."""
        screen = self._room()
        wanted = screen.wants() if screen else ()
        return self.snapshot.loaded and all(self.snapshot.has(request) for request in wanted)

    def want(self, requests: Iterable[Request]) -> None:
        self.poller.want(requests)

    def slot(self, number: int) -> int | None:
        """The colour of a marked run."""
        return self.marked.index(number) if number in self.marked else None

    def _room(self) -> BaseScreen | None:
        """Our own screen on top, below a palette that may cover it."""
        return next(
            (screen for screen in reversed(self.screen_stack) if isinstance(screen, BaseScreen)), None
        )

    # ---- keys -----------------------------------------------------------------------------------

    async def action_act(self, action: str) -> None:
        """Run an action of the binding table, or say in one sentence why not now."""
        screen = self._room()
        if screen is None:
            return
        binding = bindings.find(action, screen.room)
        why = binding.unless(screen.context()) if binding else None
        if why:
            self.say(why, "warn")
            return
        name, _, argument = action.rstrip(")").partition("(")
        method = getattr(screen, f"do_{name}", None) or getattr(self, f"do_{name}")
        method(int(argument)) if argument else method()

    async def on_event(self, event: events.Event) -> None:
        if isinstance(event, events.Key) and self._answered(event.key):
            return
        await super().on_event(event)

    def _answered(self, key: str) -> bool:
        """Whether an open question took the key; any key clears what the status line said before."""
        if self._question is None:
            if self.status:
                self.say("")
            return False
        question = self._question
        self.forget_question()
        if key in ("y", "Y", "enter"):
            question()
            return True
        self.say("nothing done")
        return key in ("n", "N", "escape")

    def confirm(self, question: str, then: Callable[[], None]) -> None:
        """Ask in the status line; y or enter does it, every other key forgets it."""
        self._question = then
        self.say(f"{question}   y yes   n no", "warn", keep=True)

    def forget_question(self) -> None:
        self._question = None
        self.say("")

    def say(self, text: str, style: str = "text", keep: bool = False) -> None:
        """One sentence in the status line, for some seconds; an empty one clears it. A question that it covers is
        forgotten: nobody can see any more what they would answer.
        """
        if not keep:
            self._question = None
        self.status = (text, style) if text else None
        if self._status_timer:
            self._status_timer.stop()
            self._status_timer = None
        if text and not keep:
            self._status_timer = self.set_timer(STATUS_SECONDS, partial(self.say, ""))
        screen = self._room()
        if screen:
            screen.update_panels()

    # ---- actions on runs ------------------------------------------------------------------------

    def _target(self) -> Run:
        screen = self._room()
        run = screen.target() if screen else None
        assert run is not None, "the binding table lets no run key through without a run"
        return run

    def do_cancel(self) -> None:
        run = self._target()
        self.confirm(
            f"Cancel run #{run.number} {run.name}?", lambda: self.order("cancel", run, "is being cancelled")
        )

    def do_pause(self) -> None:
        self.order("pause", self._target(), "is being paused")

    def do_resume(self) -> None:
        self.order("resume", self._target(), "resumes")

    def do_requeue(self) -> None:
        number = self._target().number
        self.in_thread(
            lambda client: client.action("requeue", run=number),
            lambda reply: self.say(
                f"the recipe of run #{number} is queued as run #{reply.get('run')}", "good"
            ),
        )

    def do_earlier(self) -> None:
        run = self._target()
        self.order("priority", run, f"has priority {run.priority + 1}", priority=run.priority + 1)

    def do_later(self) -> None:
        run = self._target()
        self.order("priority", run, f"has priority {run.priority - 1}", priority=run.priority - 1)

    def order(self, action: str, run: Run, done: str, **body: Any) -> None:
        """Ask the daemon for an action in a thread, and say what came of it."""
        self.in_thread(
            lambda client: client.action(action, run=run.number, **body),
            lambda _: self.say(f"run #{run.number} {done}", "good"),
        )

    def in_thread(
        self,
        work: Callable[[Any], Any],
        then: Callable[[Any], None],
        failed: Callable[[str], None] | None = None,
    ) -> None:
        """`work(client)` in a thread, `then(result)` or `failed(sentence)` back here."""

        def run() -> None:
            from finetui.errors import StoreError

            try:
                result = work(self.poller.client())
            except StoreError as error:
                outcome = partial(failed or (lambda text: self.say(text, "bad")), str(error))
            else:
                outcome = partial(then, result)
            self.poller.poke()
            with suppress(RuntimeError):  # the app has ended meanwhile
                self.call_from_thread(outcome)

        self.run_worker(run, thread=True, exit_on_error=False)

    # ---- actions on charts, the same on every screen that has some -------------------------------

    def set_view(self, view: ChartView, said: str = "") -> None:
        self.view = view
        self.refresh_screen()
        if said:
            self.say(said)

    def set_metric(self, key: str) -> None:
        """The key of the first chart, on every screen."""
        self.set_view(replace(self.view, metric=key))

    def do_log_scale(self) -> None:
        on = not self.view.log
        self.set_view(replace(self.view, log=on), f"y axis: {'logarithmic' if on else 'linear'}")

    def do_zoom_in(self) -> None:
        self.set_view(self.view.zoomed(1))

    def do_zoom_out(self) -> None:
        self.set_view(self.view.zoomed(-1))

    def do_pan_left(self) -> None:
        self.set_view(self.view.panned(-1))

    def do_pan_right(self) -> None:
        self.set_view(self.view.panned(1))

    def do_smooth(self) -> None:
        level = (self.view.smooth + 1) % len(SMOOTHING)
        self.set_view(replace(self.view, smooth=level), f"smoothing: {('off', 'little', 'much')[level]}")

    def do_glyphs(self) -> None:
        order = list(Glyphs)
        glyphs = order[(order.index(self.view.glyphs) + 1) % len(order)]
        self.set_view(replace(self.view, glyphs=glyphs), f"curves in {glyphs.name.lower()}")

    # ---- screens --------------------------------------------------------------------------------

    def do_sql(self) -> None:
        from tui.screens.sql import SqlScreen

        self.push_screen(SqlScreen())

    def do_data(self) -> None:
        from engine.runs.home import run_dirs
        from tui.screens.data import DataScreen

        run = self._target()
        found = next((at.path for at in run_dirs(self.home) if at.number == run.number), None)
        if found is None:
            self.say(f"the directory of run #{run.number} is gone", "bad")
            return
        self.push_screen(DataScreen(f"#{run.number} {run.name}", "--run", str(found)))

    def do_fix(self) -> None:
        from tui.screens.fix import FixScreen

        run = self._target()
        self.push_screen(FixScreen(run.number, run.name))

    def do_help(self) -> None:
        from tui.screens.help import HelpScreen

        screen = self._room()
        self.push_screen(HelpScreen(screen.room if screen else "dashboard"))

    def do_compare(self) -> None:
        from tui.screens.compare import CompareScreen

        self.push_screen(CompareScreen(tuple(self.marked)))

    def open_run(self, number: int) -> None:
        from tui.screens.run import RunScreen

        self.push_screen(RunScreen(number))

    def do_back(self) -> None:
        if len(self.screen_stack) > 1:
            self.pop_screen()
        else:
            self.say("press q to leave; runs go on")

    def do_quit(self) -> None:
        kept: dict[str, Any] = {"smooth": self.view.smooth, "log": self.view.log}
        if not self.ascii_only:
            kept["glyphs"] = self.view.glyphs.name
        board = self.screen_stack[0]
        if isinstance(board, Dashboard):
            kept["sort"] = [board.sort, board.down]
        self.remember(**kept)
        self.exit()

    def action_help_quit(self) -> None:
        self.say("press q to leave; runs go on")

    # ---- memory between sessions ----------------------------------------------------------------

    def remembered(self) -> dict[str, Any]:
        """What earlier sessions kept in the home: history of queries, order of runs, how curves are drawn."""
        try:
            kept = json.loads((self.home.path / "screen.json").read_text())
        except (OSError, ValueError):
            return {}
        return kept if isinstance(kept, dict) else {}

    def remember(self, **values: Any) -> None:
        """Keep something for the next session; losing it is no harm, so a full disk is no error."""
        path = self.home.path / "screen.json"
        temporary = path.with_name(f".screen.json.{os.getpid()}.tmp")
        with suppress(OSError):
            temporary.write_text(json.dumps({**self.remembered(), **values}))
            temporary.replace(path)


def _spare_collector() -> None:
    """Once all libraries are there: the collector would walk through them for 50 to 100 ms while a key waits."""
    gc.collect()
    gc.freeze()


def _short_path(path: Path) -> str:
    with suppress(ValueError, RuntimeError):
        return f"~/{path.relative_to(Path.home())}"
    return str(path)
