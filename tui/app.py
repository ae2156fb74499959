"""The Textual app: holds what the screens share, hands keys to actions, talks to the daemon from threads.

It holds no run: closing it, losing the connection or killing it changes nothing that runs.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from rich.text import Text
from textual import events
from textual._compositor import ChopsUpdate, CompositorUpdate
from textual.app import App
from textual.message import Message
from textual.screen import Screen

from engine.basics.safe_text import lines, one_line
from finetui.home import Home
from tui import bindings, clipboard, left_at, preferences
from tui.host import Answer
from tui.lines import format, theme
from tui.poller import Poller
from tui.remembered import Remembered
from tui.rows import Request, Snapshot, ended_between
from tui.run_list import RunList
from tui.screens.base import BaseScreen
from tui.screens.dashboard import Dashboard
from tui.state import ChartView, State
from tui.typed_ahead import TypedAhead
from tui.widgets.panel import Panel
from tui.widgets.spans import SpansUpdate, TerseUpdate

if TYPE_CHECKING:
    from textual.command import Provider

STATUS_SECONDS = 6.0
COLLECT_AFTER = (700, 10, 10)  # objects, and collections of each generation before the next: Python's own


def _key_commands() -> type[Provider]:
    from tui.screens.palette import KeyCommands

    return KeyCommands


class Arrived(Message):
    """A snapshot has come from the poller's thread."""

    def __init__(self, snapshot: Snapshot) -> None:
        super().__init__()
        self.snapshot = snapshot

    def can_replace(self, message: Message) -> bool:
        return isinstance(message, Arrived)


class FinetuiApp(App[None]):
    """`finetui` without arguments. `select` are the runs to mark, the first one under the cursor.

    Screens and actions know of it what `tui.host.Host` says.
    """

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
        readonly: bool = False,
    ) -> None:
        # With native ANSI colours Textual drops every colour when NO_COLOR is set, instead of greying them.
        super().__init__(ansi_color=True if "NO_COLOR" in os.environ else None)
        self.home, self.readonly = home, readonly
        self.home_name = format.short_path(home.path)
        self.ascii_only = not (theme.terminal_has_unicode() if unicode is None else unicode)
        self.remembered = Remembered(home)
        self._selected = bool(select)
        self.preferences = preferences.read(home)
        theme.use(self.remembered.theme(self.preferences.theme))
        bindings.use(self.preferences.keys)
        first = select[0] if select else None
        remembered = self.remembered
        run_list = RunList(*remembered.order(), first, remembered.columns(), remembered.groups())
        self.state = State(run_list, self.remembered.view(self.ascii_only), list(select or []))
        self._status_timer: Any = None
        self._typed_ahead = TypedAhead()
        self._poller = Poller(home, connect, self._deliver)

    def get_default_screen(self) -> BaseScreen:
        return Dashboard(self.remembered.panes())

    def on_mount(self) -> None:
        if not self.is_headless:  # else these would leave the terminal as the screen has it
            loop = asyncio.get_running_loop()
            loop.add_signal_handler(signal.SIGTERM, self._ended_by, signal.SIGTERM)
            signal.signal(signal.SIGHUP, lambda *_: self._hung_up(loop))
        # What the shell has left of the screen is nothing, and panels write only what differs.
        self.app_resume_signal.subscribe(self, lambda _: self.screen.refresh(layout=True))
        self.call_after_refresh(self._poller.start)
        if problems := self.preferences.problems:
            whole = len(problems) == 1 and len(problems[0]) < self.size.width - 1
            lines = f"{len(problems)} entries" if len(problems) > 1 else "an entry"
            self.say(
                problems[0] if whole else f"{lines} of config.toml cannot be used: finetui keys says why",
                "warn",
                keep=True,
            )

    def _ended_by(self, number: signal.Signals) -> None:
        self._keep_session()
        self.exit(return_code=128 + number)

    def _hung_up(self, loop: asyncio.AbstractEventLoop) -> None:
        """A terminal that is gone takes nothing: what is written to it may hold the loop for ever, so this runs beside
        it.
        """
        if os.isatty(0):  # only told so
            loop.call_soon_threadsafe(self._ended_by, signal.SIGHUP)
        else:
            self._keep_session()
            os._exit(128 + signal.SIGHUP)

    def _fatal_error(self) -> None:
        """Textual's own prints a traceback with the values of all variables."""
        from tui import crash

        assert self._exception is not None, "Textual calls this where it has caught one"
        self.panic(Text(crash.sentence(self.home, self._exception)))

    def on_unmount(self) -> None:
        self._poller.stop()

    def _display(self, screen: Screen[Any], renderable: Any) -> None:
        if type(renderable) is ChopsUpdate:
            renderable = SpansUpdate.of(renderable)
        elif isinstance(renderable, CompositorUpdate):
            renderable = TerseUpdate(renderable)
        super()._display(screen, renderable)

    # ---- data -----------------------------------------------------------------------------------

    def _deliver(self, snapshot: Snapshot) -> None:
        self.post_message(Arrived(snapshot))

    def on_arrived(self, message: Arrived) -> None:
        is_first = message.snapshot.loaded and not self.state.snapshot.loaded
        if is_first and not self.is_headless:
            self.call_after_refresh(_spare_collector)
        if message.snapshot.loaded and self.state.status.shown == (bindings.LOADING, "warn"):
            self.say("")
        ended = ended_between(self.state.snapshot, message.snapshot)
        if message.snapshot.notice not in ("", self.state.snapshot.notice):
            self.say(message.snapshot.notice, "warn", keep=True)
        self.state.take(message.snapshot)
        if is_first:
            self._go_where_it_was_left()
        if ended:
            self.notify_terminal("; ".join(f"#{run.number} {run.name} {run.state}" for run in ended[:3]))
        self.refresh_screen()

    def notify_terminal(self, text: str) -> None:
        """Ring the bell and ask for a notice of the desktop (OSC 9), which terminals without one pass over."""
        if self._driver is None or "NO_BELL" in os.environ:
            return
        self.bell()
        self._driver.write(f"\x1b]9;finetui: {one_line(text)}\x07")

    def get_theme_variable_defaults(self) -> dict[str, str]:
        return theme.css_variables()

    def use_theme(self, name: str) -> None:
        theme.use(name)
        self.refresh_css(animate=False)
        for screen in self.screen_stack:
            for panel in screen.query(Panel):
                panel.refresh()
        self.remember(theme=[name, self.preferences.theme])

    def refresh_screen(self) -> None:
        """Let the screen on top show what is known."""
        screen = self._top_screen()
        if screen and screen.is_mounted:  # else it does so by itself once it is
            screen.changed()

    def settled(self) -> bool:
        """Whether everything that the screen on top shows has come (screenshots and tests wait for it)."""
        screen, snapshot = self._top_screen(), self.state.snapshot
        if screen is None or not snapshot.loaded:
            return snapshot.loaded
        return screen.is_painted() and all(map(snapshot.has, screen.wants()))

    def want(self, requests: Iterable[Request]) -> None:
        self._poller.want(requests)

    def in_thread(
        self,
        work: Callable[[Any], Any],
        then: Callable[[Any], None],
        failed: Callable[[str], None] | None = None,
    ) -> None:
        def run() -> None:
            from finetui.errors import StoreError

            try:
                result = work(self._poller.client())
            except StoreError as error:
                outcome = partial(failed or (lambda text: self.say(text, "bad")), str(error))
            else:
                outcome = partial(then, result)
            self._poller.poke()
            with suppress(RuntimeError):  # the app has ended meanwhile
                self.call_from_thread(outcome)

        self.run_worker(run, thread=True, exit_on_error=False)

    # ---- keys -----------------------------------------------------------------------------------

    def act(self, action: str) -> None:
        if screen := self._top_screen():
            from tui import actions  # not before the first paint

            actions.perform(self, screen, action)

    def action_act(self, action: str) -> None:
        """`app.act(…)` of Textual's bindings."""
        self.act(action)

    def action_help_quit(self) -> None:
        self._say_how_to_leave()

    def _say_how_to_leave(self) -> None:
        self.say(f"press {bindings.key_of('quit', 'dashboard')} to leave; runs go on")

    async def action_quit(self) -> None:
        """Textual's own ctrl+q goes before the binding table."""
        self.quit()

    async def on_event(self, event: events.Event) -> None:
        if isinstance(event, events.Paste):
            event.text = lines(event.text)  # the editor and the prompt show it as it is
        if self._typed_ahead.takes(event):
            return
        if isinstance(event, events.Key):
            if self._answered(event.key):
                return
            if self.focused is None and isinstance(self.screen, BaseScreen):
                # Not by way of the screen's queue: what the key opens is to be known before the next one comes.
                if not (await self._check_bindings(event.key, True) or await self._check_bindings(event.key)):
                    self._say_no_key(event.key)
                return
        await super().on_event(event)

    def _say_no_key(self, key: str) -> None:
        shows = bindings.key_of("help", "dashboard")
        self.say(
            f"{one_line(bindings.key_name(key))} is no key of this screen: {shows} shows those that are",
            "warn",
        )

    def await_line(self) -> None:
        self._typed_ahead.wait()

    def line_is_there(self) -> None:
        # Behind the focus, which Textual gives by the same queue.
        self.call_later(lambda: self._typed_ahead.give_to(self.focused))

    # ---- the status line --------------------------------------------------------------------------

    def say(self, text: str, style: str = "text", keep: bool = False) -> None:
        self.state.status.say(text, style)
        self._show_status(for_a_while=not keep)

    def confirm(self, question: str, then: Callable[[], None]) -> None:
        keys = bindings.keys_of("yes", "question")
        no = "n" if "n" not in keys else "esc"
        yes = bindings.key_of("yes", "question")
        self._ask(f"{question}   {yes} yes   {no} no", dict.fromkeys(keys, then))

    def choose(self, question: str, answers: Sequence[Answer]) -> None:
        words = "   ".join(f"{answer.key} {answer.label}" for answer in answers)
        self._ask(f"{question}   {words}", {answer.key: answer.then for answer in answers})

    def _ask(self, question: str, answers: Mapping[str, Callable[[], None]]) -> None:
        self.state.status.ask(question, answers)
        self._show_status(for_a_while=False)

    def copy(self, text: str, what: str) -> None:
        if not clipboard.in_tmux():
            self.copy_to_clipboard(text)
        self.run_worker(partial(self._keep_copy, text, what), thread=True, exit_on_error=False)

    def _keep_copy(self, text: str, what: str) -> None:
        also = clipboard.keep(self.home, text)
        with suppress(RuntimeError):  # the app has ended meanwhile
            self.call_from_thread(self.say, "; ".join(filter(None, (f"copied {what}", also))), "good")

    def _show_status(self, *, for_a_while: bool) -> None:
        if self._status_timer:
            self._status_timer.stop()
            self._status_timer = None
        if for_a_while and self.state.status.shown:
            self._status_timer = self.set_timer(STATUS_SECONDS, partial(self.say, ""))
        if screen := self._top_screen():
            screen.update_panels()

    def _answered(self, key: str) -> bool:
        """Whether an open question took the key; any key clears what the status line said before."""
        answers = self.state.status.take_answers()
        if answers is None:
            if self.state.status.shown:
                self.say("")
            return False
        if key in answers:
            self.say("")
            answers[key]()
            return True
        self.say("nothing done")
        leaving = (bindings.keys_of(action, "question") for action in ("quit", "suspend"))
        return not any(key in keys for keys in leaving)  # these mean the same everywhere

    # ---- charts and screens -----------------------------------------------------------------------

    def set_view(self, view: ChartView, sentence: str = "") -> None:
        self.state.view = view
        self.refresh_screen()
        if sentence:
            self.say(sentence)

    def _top_screen(self) -> BaseScreen | None:
        """Our own screen on top, below a palette that may cover it."""
        return next(
            (screen for screen in reversed(self.screen_stack) if isinstance(screen, BaseScreen)), None
        )

    def open_screen(self, screen: Screen[None]) -> None:
        if isinstance(screen, BaseScreen) and screen.begins_with_line:
            self.await_line()
        self.push_screen(screen)

    def leave_screen(self) -> None:
        if len(self.screen_stack) > 1:
            self.pop_screen()
        else:
            self._say_how_to_leave()

    def remember(self, **values: Any) -> None:
        self.run_worker(partial(self.remembered.keep, **values), thread=True, exit_on_error=False)

    def suspend_screen(self) -> None:
        self.action_suspend_process()

    def quit(self) -> None:
        self._keep_session()
        self.exit()

    def _keep_session(self) -> None:
        first, top = self.screen_stack[0], self._top_screen()
        place = top.place() if top else None
        panes = first.shown_panes.kept() if isinstance(first, Dashboard) else {}
        self.remembered.keep_session(self.state, self.ascii_only, place, panes)

    def _go_where_it_was_left(self) -> None:
        if self._selected or len(self.screen_stack) > 1:
            return
        if screen := left_at.reopened(self.remembered.place(), self.state.snapshot, self):
            self.open_screen(screen)
            self.say(left_at.BACK)


def _spare_collector() -> None:
    """Once all libraries are there: the collector would walk through them for 50 to 100 ms while a key waits."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)  # the command has put it off
