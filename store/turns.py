"""Which runs ingest looks at in a round: those that live or were named, and some of the others in turn."""

from __future__ import annotations

from collections.abc import Callable, Iterable

# Runs without a worker are looked at in turn, so many a round, so that thousands of them cost nothing.
WAITING_PER_ROUND = 200
ENDED_PER_ROUND = 20


class Turns:
    """The runs of a home by how often they are looked at. `notify` may be called from any thread."""

    def __init__(self) -> None:
        self.hot: set[int] = set()  # looked at in every round
        self._notified: set[int] = set()
        self._waiting: list[int] = []
        self._ended: list[int] = []

    def notify(self, run: int) -> None:
        """Look at this run in the next round."""
        self._notified.add(run)

    def due(self, runs: Iterable[int], is_final: Callable[[int], bool]) -> list[int]:
        """Return the runs of this round, out of all `runs`."""
        chosen = dict.fromkeys([*self.take_notified(), *sorted(self.hot)])
        if not self._waiting and not self._ended:
            self.hot = set(self.hot)  # all runs were once, and a set never shrinks
            for number in runs:
                (self._ended if is_final(number) else self._waiting).append(number)
        for turn, n in ((self._waiting, WAITING_PER_ROUND), (self._ended, ENDED_PER_ROUND)):
            chosen.update(dict.fromkeys(turn[-n:]))
            del turn[-n:]
        return list(chosen)

    def take_notified(self) -> list[int]:
        """Return the runs that were notified since the last call."""
        taken = list(self._notified)
        self._notified.difference_update(taken)
        return taken
