"""`finetui demo`: three real fine-tuning runs of the bundled model, watched, compared and queried."""

from __future__ import annotations

import sys
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from engine.client import preflight, submit
from engine.recipe import recipe_file
from finetui.daemon import connect
from finetui.errors import ExitCode
from finetui.home import home
from store.states import ACTIVE, WAITING, RunState
from tui.cli.flags import print_flags
from tui.cli.follow import follow_runs
from tui.cli.output import out, out_text, print_json, print_side_by_side, say, waiting
from tui.cli.shape import runs_as_json

if TYPE_CHECKING:
    from finetui.client import Client

RECIPES = ("demo-full.yaml", "demo-lora.yaml", "demo-qlora.yaml")


def demo(*, headless: bool, as_json: bool) -> None:
    """Queue full, LoRA and QLoRA on the same data and seed; end with the table, the flags and the SQL."""
    headless = headless or as_json or not (sys.stdin.isatty() and sys.stdout.isatty())
    with connect() as client:
        numbers = _queue(client)
        if headless:
            follow_runs(client, numbers)
        else:
            from tui.app import FinetuiApp

            FinetuiApp(home(), select=numbers).run()
        ended = _report(client, numbers, as_json)
    sys.exit(ExitCode.OK if ended else ExitCode.FAILED)


def _queue(client: Client) -> list[int]:
    numbers = []
    for name in RECIPES:
        file = recipe_file.read(Path(str(files("recipes") / name)))
        report = preflight.check(file.recipes[0], file.path.parent)
        numbers += submit.submit(client, file, [report])
        say(f"queued #{numbers[-1]} {report.recipe.name}: {report.summary()}")
    return numbers


def _report(client: Client, numbers: list[int], as_json: bool) -> bool:
    """Print the results; False if a run failed."""
    from store.queries import compare_table_sql

    client.drain(waiting())
    rows = {row["run"]: row for row in runs_as_json(client, numbers)}
    query = compare_table_sql(numbers)
    if as_json:
        print_json({"runs": list(rows.values()), "query": query.strip()})
    else:
        out()
        print_side_by_side(client.query(query).to_pylist())
        for number in numbers:
            print_flags(client, number)
        out_text(f'\nThe table came from:\n\n  finetui sql "\n{query.strip()}\n"\n')
    going = [number for number in numbers if rows[number]["state"] in WAITING | ACTIVE]
    if going:
        say(
            f"still going: {', '.join(f'#{n}' for n in going)}. They need no terminal; `finetui` shows them again."
        )
    else:
        say(
            f"next: finetui   |   finetui compare {' '.join(map(str, numbers))}   |   finetui sql 'SHOW TABLES'"
        )
    return all(row["state"] not in (RunState.FAILED, RunState.CANCELLED) for row in rows.values())
