"""A draft put into the queue, after a question."""

from __future__ import annotations

import json
from collections.abc import Callable

from engine.basics.safe_text import one_line
from tui import commands
from tui.lines.recipe_draft import Draft
from tui.screens.base import BaseScreen
from tui.widgets.forecast import Forecast


class DraftQueueing:
    """`draft()` is the latest; `queued()` is called when it is in the queue, before the screen is left."""

    def __init__(self, screen: BaseScreen, draft: Callable[[], Draft], queued: Callable[[], None]) -> None:
        self._screen, self._draft, self._then = screen, draft, queued
        self._queueing = False

    def offer(self, forecast: Forecast | None) -> None:
        host, draft = self._screen.host, self._draft()
        if self._queueing:
            host.say("it is being queued already", "warn")
        elif forecast and forecast.refusal:
            host.say(f"not queued: {one_line(forecast.refusal)}", "bad")
        else:
            name = one_line(draft.name)
            what = f"{draft.count} runs of {name}" if draft.count > 1 else f"{name} as a new run"
            host.confirm(f"Queue {what}?", self._queue)

    def _queue(self) -> None:
        host, draft = self._screen.host, self._draft()
        named = () if draft.is_named else ("--name", draft.name)
        parent = ("--made-from", str(draft.parent)) if draft.parent else ()
        words = ("run", "-", "--json", *named, *parent)

        def work(_: object) -> list[int]:
            printed, _errors = commands.run(host.home, *words, stdin=draft.text, folder=draft.path.parent)
            return list(json.loads(printed)["runs"])

        self._queueing = True
        host.say("checking the data …", keep=True)
        host.in_thread(work, self._queued, self._not_queued)

    def _not_queued(self, sentence: str) -> None:
        self._queueing = False
        self._screen.host.say(f"not queued: {one_line(sentence)}", "bad")

    def _queued(self, numbers: list[int]) -> None:
        screen, host = self._screen, self._screen.host
        self._then()
        screen.state.run_list.go_to(numbers[0])
        if screen.is_attached:
            for _ in screen.app.screen_stack[1:]:
                host.leave_screen()
        several = f"runs #{numbers[0]} to #{numbers[-1]} are" if len(numbers) > 1 else f"run #{numbers[0]} is"
        host.say(f"{several} queued", "good")
