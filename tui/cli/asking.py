"""Asking: the daemon for an action on one run, and the user before something is done to several."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import typer

from engine.basics.errors import QueueError
from finetui.errors import StoreError, Unavailable
from tui.cli.output import complain
from tui.orders import done

if TYPE_CHECKING:
    from finetui.client import Client


def ask_daemon(client: Client, action: str, number: int, **body: Any) -> str | None:
    """Return what is now so of the run, in words; None where the action was refused, which is said. Raises Unavailable
    where no daemon answers.
    """
    try:
        answer = client.action(action, run=number, **body)
    except Unavailable:
        raise
    except StoreError as error:
        complain(error)
        return None
    return f"#{number} {done(action, answer)}"


def confirm(question: str, yes: bool) -> None:
    """Ask, unless `yes` has answered already. Raises QueueError where nobody can be asked, or the answer is no."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise QueueError("this asks first, and there is no terminal to ask on; add --yes")
    if not typer.confirm(question, err=True):
        raise QueueError("nothing was done")


def runs_in_words(count: int) -> str:
    return "1 run" if count == 1 else f"{count} runs"
