"""`finetui fix`: a new recipe that answers the flags of a run, saved or queued."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from engine.client import fix as engine_fix
from engine.client.fix import Fix
from finetui.daemon import connect
from finetui.errors import ExitCode, StoreError
from tui.cli.logs import find
from tui.cli.output import out, print_json, print_table, say, waiting
from tui.cli.shape import runs_as_json


def fix(number: int, out: Path | None, *, add: bool, dry_run: bool, as_json: bool) -> None:
    """Print what differs; save the recipe, or queue it with `add`. Exit code 4 if there is only advice."""
    found = engine_fix.propose(find(number), lambda: similar(number))
    path, queued, shown = None, None, []
    if found.changes and not dry_run:
        report = engine_fix.check(found)
        if add:
            with connect() as client:
                queued = engine_fix.queue(client, found, report)
                if as_json:
                    client.drain(waiting())
                    shown = runs_as_json(client, [queued])
        else:
            path = engine_fix.save(found, out)
    if as_json:
        print_json({**found.as_dict(), "path": path and str(path.absolute()), "queued": shown})
    else:
        _print(found)
    if not found.changes:
        say(f"finetui: no change of the recipe answers the flags of run #{number}; follow the advice by hand")
        sys.exit(ExitCode.REFUSED)
    if path:
        say(f"saved {path}; queue it with: finetui run {path}")
    if queued:
        say(f"queued #{queued} {found.recipe.name}, made from run #{number}")


def similar(number: int) -> list[dict[str, Any]]:
    """What similar runs did; nothing, said why, where the store cannot be asked."""
    try:
        with connect() as client:
            client.drain(waiting())
            return list(client.named("similar", run=number).to_pylist())
    except StoreError as error:
        say(f"what similar runs did is not known: {error}")
        return []


def _print(found: Fix) -> None:
    """What needs no new run; each key with its old and new value, and why; then what no key stands for."""
    for one in (one for one in found.advice if one.command and one.worth is not False):
        out(f"First, without a new run: {one.command}")
        out(f"  {_cited(one.text, one.source)}")
        out(f"  {one.foretold}")
        out()
    rows = [{**vars(one), "for": f"{one.level} {one.flag}"} for one in found.changes]
    if rows:
        print_table(rows, ("key", "old", "new", "for"))
        out()
    for *why, foretold in dict.fromkeys((one.why, one.source, one.foretold) for one in found.changes):
        out(f"  {_cited(*why)}")
        if foretold:
            out(f"    {foretold}")
    by_hand = [one for one in found.advice if not one.command or one.worth is False]
    for flag in dict.fromkeys((one.level, one.flag) for one in by_hand):
        out(f"{flag[0].upper()} {flag[1]}: by hand, in this order")
        for one in by_hand:
            if (one.level, one.flag) == flag:
                out(f"  - {_cited(one.text, one.source)}" + (f" {one.foretold}" if one.foretold else ""))


def _cited(text: str, source: str) -> str:
    return f"{text} [{source}]" if source else text
