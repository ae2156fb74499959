"""Asking the user before something is done to several runs, or for good."""

from __future__ import annotations

import sys

import typer

from engine.basics.errors import QueueError


def confirm(question: str, *, yes: bool, as_json: bool) -> None:
    """Ask, unless `yes` has answered already. Raises QueueError where nobody can be asked, or the answer is no."""
    if yes:
        return
    if as_json:
        raise QueueError(f"{question.partition('?')[0]}? With --json nobody is asked; add --yes")
    if not sys.stdin.isatty():
        raise QueueError("this asks first, and there is no terminal to ask on; add --yes")
    if not typer.confirm(question, err=True):
        raise QueueError("nothing was done")


def runs_in_words(count: int) -> str:
    return "1 run" if count == 1 else f"{count} runs"
