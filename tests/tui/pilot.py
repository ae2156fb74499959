"""What the tests of the screen share: waiting for it, and reading it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from tui.app import FinetuiApp
from tui.widgets.panel import Panel


async def until(pilot: Any, condition: Callable[[], bool], what: str = "the condition") -> None:
    """Wait until something is so; at most a minute, for a report is a process of its own."""
    for _ in range(1200):
        if condition():
            await pilot.pause()
            return
        await asyncio.sleep(0.05)
        await pilot.pause()
    raise AssertionError(f"{what} did not come")


async def ready(pilot: Any) -> None:
    """The run table is loaded and every answer that the screen wants has come."""
    await until(pilot, pilot.app.settled, "the data")
    await pilot.pause()


def text_of(app: FinetuiApp, selector: str) -> str:
    """What a panel shows."""
    return app.screen.query_one(selector, Panel).text()


def status(app: FinetuiApp) -> str:
    """What the status line says; empty where it has the keys."""
    return app.state.status.shown[0] if app.state.status.shown else ""


async def type_text(pilot: Any, text: str) -> None:
    names = {
        " ": "space",
        ":": "colon",
        "=": "equals_sign",
        ">": "greater_than_sign",
        "'": "apostrophe",
        '"': "quotation_mark",
        ".": "full_stop",
    }
    await pilot.press(*(names.get(char, char) for char in text))
