"""The status line: one sentence, or a question that the next key answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping

Answers = Mapping[str, Callable[[], None]]  # by key


class StatusLine:
    """`shown` is a sentence and its style, None while the line shows the keys."""

    def __init__(self) -> None:
        self.shown: tuple[str, str] | None = None
        self._answers: Answers | None = None

    def say(self, text: str, style: str) -> None:
        """An empty text clears the line. A question that is covered is forgotten: nobody can see any more what they
        would answer.
        """
        self._answers = None
        self.shown = (text, style) if text else None

    def ask(self, question: str, answers: Answers) -> None:
        """Ask what one of a few keys answers."""
        self.shown = (question, "warn")
        self._answers = answers

    def take_answers(self) -> Answers | None:
        """What the keys would do that answer the question, once; None where nothing was asked."""
        answers, self._answers = self._answers, None
        return answers
