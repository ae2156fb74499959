"""Keys pressed after one that opens a line of text, before the line is there: they are text, and not keys for runs."""

from __future__ import annotations

from textual import events
from textual.widget import Widget


class TypedAhead:
    """Holds what is typed from `wait` on, until `give_to` hands it over, in its order."""

    def __init__(self) -> None:
        self._held: list[events.Event] | None = None  # None: nothing is on its way

    def wait(self) -> None:
        """A line to type in will be there soon."""
        if self._held is None:
            self._held = []

    def takes(self, event: events.Event) -> bool:
        """Whether it is kept for the line. ctrl+q leaves at any time."""
        if self._held is None or not isinstance(event, events.Key | events.Paste):
            return False
        if isinstance(event, events.Key) and event.key == "ctrl+q":
            return False
        self._held.append(event)
        return True

    def give_to(self, widget: Widget | None) -> None:
        """The line is there. Without one nothing is done with what was typed for it."""
        held, self._held = self._held or (), None
        for event in held:
            if widget is not None:
                widget._forward_event(event)  # what the app does with the next key
