"""The runs of a home that were imported, by what their tools call them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from engine.runs.home import RunDir, run_dirs
from engine.runs.imported import KEY
from finetui.files import read_json
from finetui.home import Home
from store.paths import removed_runs


@dataclass(frozen=True)
class KnownRun:
    """A run that is here: its directory, or none where it was removed and may come back."""

    number: int
    origin: dict[str, Any]
    run: RunDir | None


@dataclass
class Known:
    """All of them, and those that an import adds."""

    by_id: dict[tuple[str, str], KnownRun] = field(default_factory=dict)
    by_place: dict[tuple[str, str], KnownRun] = field(default_factory=dict)

    def add(self, one: KnownRun) -> None:
        """Remember a run."""
        tool = str(one.origin.get("tool"))
        self.by_id[tool, str(one.origin.get("id"))] = one
        self.by_place[tool, str(one.origin.get("place"))] = one

    def unchanged(self, tool: str, place: str, stamp: str) -> KnownRun | None:
        """Return the run that was imported from a place, if nothing has changed there since."""
        one = self.by_place.get((tool, place))
        return one if one is not None and one.origin.get("stamp") == stamp else None


def known_runs(home: Home) -> Known:
    """Read where each run of a home came from."""
    known = Known()
    removed = [(RunDir(one.path), one.number, True) for one in removed_runs(home.removed)]
    for run, number, gone in [*removed, *((run, run.number, False) for run in run_dirs(home))]:
        try:
            body = read_json(run.meta)
        except (OSError, ValueError):
            continue
        if isinstance(origin := body.get(KEY), dict):
            known.add(KnownRun(number, origin, None if gone else run))
    return known
