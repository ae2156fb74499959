"""Which runs a chart shows, and what it has to be told of them. What it becomes is in curves.py, for which the first
paint does not wait.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tui.rows import Request, Run, ask
from tui.state import XAxis

BUCKETS = 400
# The curve that says where each step stands.
COUNTED = {XAxis.TOKENS: "train/tokens", XAxis.EPOCHS: "train/epoch"}


@dataclass(frozen=True)
class Shown:
    """A run in a chart, with its colour."""

    run: Run
    slot: int


def requests(shown: Iterable[Shown], key: str, x_axis: XAxis = XAxis.STEPS) -> list[Request]:
    """The answers that a chart of `key` needs."""
    wanted = []
    for item in shown:
        wanted.append(ask("curve", run=item.run.number, key=key, buckets=BUCKETS))
        if x_axis in COUNTED:
            wanted.append(counted(item, x_axis))
        if not is_training(key):
            wanted.append(ask("evals", run=item.run.number))
        wanted.append(ask("flags", run=item.run.number))
    return wanted


def is_training(key: str) -> bool:
    """Logged at every step, not an evaluation with an interval."""
    return key.split("/", 1)[0] in ("train", "memory")


def counted(item: Shown, x_axis: XAxis) -> Request:
    """The curve that says where each step of the run stands."""
    return ask("curve", run=item.run.number, key=COUNTED.get(x_axis, ""), buckets=BUCKETS)
