"""A recipe's YAML, edited by hand."""

from __future__ import annotations

from collections.abc import Callable

from textual import events
from textual.widgets import TextArea


class YamlEditor(TextArea):
    """Escape leaves it; all other keys are its own."""

    def __init__(self, text: str, leave: Callable[[], None]) -> None:
        super().__init__(text, soft_wrap=False, tab_behavior="indent", classes="framed -active")
        self._leave = leave

    async def _on_key(self, event: events.Key) -> None:
        if event.key == "escape":
            event.stop()
            event.prevent_default()
            self._leave()
        else:
            await super()._on_key(event)
