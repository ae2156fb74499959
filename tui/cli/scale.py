"""`finetui fix --scale`: what a run is worth at factors below 1, and its weights at the one that is worth most."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from engine.runs.home import RunDir
from finetui.daemon import answering
from finetui.errors import ExitCode, StoreError
from finetui.home import home
from tui.cli.exporting import export_folder, work
from tui.cli.logs import find
from tui.cli.output import out, print_json, print_table, say
from tui.lines import front


def scale(number: int, folder: Path | None, *, dry_run: bool, force: bool, as_json: bool) -> None:
    """Print the front and the folder that was written, if the factor helps; else exit with code 4."""
    run = find(number)
    found = work(run, {"kind": "scale"}, lambda point: say(front.sentence(point)))
    written = None
    try:
        if found["helps"] and not dry_run:
            written = export_folder(run, out=folder, factor=found["factor"], force=force)
    finally:
        _tell_daemon(run)
    if as_json:
        print_json({**found, "folder": written and written["path"]})
    else:
        _print(found)
    if not found["helps"]:
        say(f"finetui: scaling run #{number} is not worth it; nothing was written")
        sys.exit(ExitCode.REFUSED)
    if written:
        say(f"wrote {written['path']}: run #{number} at factor {found['factor']:g}")
    else:
        say(f"write it with: finetui export {number} --factor {found['factor']:g}")


def _print(found: dict[str, Any]) -> None:
    title = {"choose": "chose the factor", "confirm": "did not choose it"}
    for half in title:
        rows = front.rows(found, half)
        if not rows:
            continue
        out(
            f"On {front.row_counts(found, half)} that {title[half]}; {found['unit']}, changes since the base model:"
        )
        print_table(rows, right=tuple(rows[0]))
        out()
    out(f"{found['message']}.")
    out(f"Chosen for: {found['why']}." if found["factor"] is not None else "")


def _tell_daemon(run: RunDir) -> None:
    """Have the run's log read into the store now; a daemon that is started later reads it anyway."""
    with suppress(StoreError):
        if client := answering(home()):
            with client:
                client.action("look", run=run.number)
