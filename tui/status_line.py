"""The status line: one sentence, or a question that the next key answers."""

from __future__ import annotations

from collections.abc import Callable


class StatusLine:
    """`shown` is a sentence and its style, None while the line shows the keys."""

    def __init__(self) -> None:
        self.shown: tuple[str, str] | None = None
        self._question: Callable[[], None] | None = None

    def say(self, text: str, style: str) -> None:
        """An empty text clears the line. A question that is covered is forgotten: nobody can see any more what they
        would answer.
        """
        self._question = None
        self.shown = (text, style) if text else None

    def ask(self, question: str, then: Callable[[], None]) -> None:
        self.shown = (f"{question}   y yes   n no", "warn")
        self._question = then

    def take_question(self) -> Callable[[], None] | None:
        """What is to be done after a yes, once; None where nothing was asked."""
        question, self._question = self._question, None
        return question
