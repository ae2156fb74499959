"""The undo key: what was done is kept with what takes it back, and taken back."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from tui import bindings
from tui.host import Host
from tui.screens.base import BaseScreen
from tui.undo import NOT_UNDONE, Act, Step, take_back


def keep(host: Host, what: str, steps: Sequence[Step | None]) -> str:
    """Keep what was done to be undone, and return the words that say by which key; none where it cannot be."""
    act = Act(what, tuple(filter(None, steps)))
    return f" ({_key()} undoes it)" if act.steps and host.state.acts.keep(act) else ""


def _key() -> str:
    binding = bindings.find("undo", "dashboard")
    assert binding is not None
    return bindings.key_name(binding.keys[0])


def undo_last(host: Host, screen: BaseScreen) -> None:
    act = host.state.acts.last()
    if act is None:
        host.say("there is nothing to undo", "warn")
    elif act.why_not:
        host.say(act.why_not, "warn")
    elif act.locally:
        sentence = act.locally()
        screen.changed()
        host.say(sentence, "good")
    else:
        host.in_thread(
            lambda client: take_back(client, act),
            partial(_say, host, act),
            partial(_not_undone, host, act),
        )


def _say(host: Host, act: Act, outcome: str) -> None:
    host.say(f"undone, {act.what}: {outcome}", "warn" if NOT_UNDONE in outcome else "good", keep=True)


def _not_undone(host: Host, act: Act, why: str) -> None:
    host.state.acts.keep(act)  # for when the daemon answers again
    host.say(why, "bad")
