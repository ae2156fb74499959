"""The tools of `finetui mcp`: what an assistant may read and, by config.toml, do. Imports `mcp`, of the extra.

A tool is a function: its docstring and the words beside its arguments are all that an assistant knows of it. Each
answers as the command of the same purpose does with `--json`, shortened where it is long.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import anyio
from anyio import to_thread
from mcp.server.mcpserver import Context
from pydantic import Field

from engine.basics.errors import QueueError
from engine.basics.safe_text import one_line
from engine.client import fix as engine_fix
from engine.client import submit
from engine.client.preflight import absolute
from engine.queue.agents import LONGEST, has_code
from engine.recipe import recipe_file
from engine.recipe.recipe_file import RecipeFile
from finetui.client import Client, note
from finetui.daemon import AGENT_VARIABLE, connect
from tui.cli import events, queue
from tui.cli.compare import compared
from tui.cli.estimate import estimated
from tui.cli.fix import similar
from tui.cli.logs import find as directory_of
from tui.cli.selection import select
from tui.cli.shape import runs_as_json
from tui.cli.show import read, run_as_json
from tui.lines import arrow_values
from tui.lines.text import unique
from tui.orders import done
from tui.reports import Reporting

POLL_S = 1.0
UNNAMED = "an assistant"
Number = Annotated[int, Field(ge=1, description="The run's number")]
RecipeText = Annotated[
    str, Field(description="The path of a .yaml file on this machine, or the recipe itself as YAML")
]
Changes = Annotated[
    list[str], Field(description="Keys set beside the recipe, each as key=value, such as train.lr=1.0e-4")
]


# ---- reading -------------------------------------------------------------------------------------------


def list_runs(
    filter: Annotated[
        str,
        Field(
            description="As on the screen: words of the name, state:running, tag:night, method:lora, method.r=8, "
            "train.lr>1e-4, heldout<2; several are joined by a blank. Empty: all"
        ),
    ] = "",
    last: Annotated[int, Field(ge=1, le=100, description="Only the latest so many")] = 20,
) -> dict[str, Any]:
    """List or search runs, the latest last: state, why it waits, progress, losses, number of flags. `matched` is how
    many there are in all.
    """
    with connect() as client:
        client.drain()
        numbers = select(client, filter.split()).numbers if filter.split() else None
        rows = runs_as_json(client, numbers)
    return {"runs": rows[-last:], "matched": len(rows)}


def show_run(run: Number) -> dict[str, Any]:
    """Everything about one run: state, recipe, results with intervals, the base model beside it, samples, memory,
    checkpoints, and `flags_raised`: each flag at each look, the latest first, with its evidence, the examples hit worst
    and what to do (`advice`).
    """
    with connect() as client:
        client.drain()
        return run_as_json(client, *read(client, run))


def read_output(
    run: Number, lines: Annotated[int, Field(ge=1, le=400, description="The last so many")] = 60
) -> dict[str, Any]:
    """The last lines that a run's worker printed in its latest attempt: why it failed, where it is."""
    attempts = [attempt for attempt in directory_of(run).attempts() if attempt.stdout.exists()]
    if not attempts:
        raise QueueError(f"run #{run} has printed nothing")
    with attempts[-1].stdout.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - (1 << 18)))
        text = file.read().decode(errors="replace").splitlines()
    shown = [line.rsplit("\r", 1)[-1] for line in text[-lines:]]
    return {"run": run, "attempt": attempts[-1].number, "lines": shown}


def compare_runs(runs: Annotated[list[int], Field(min_length=2, max_length=10)]) -> dict[str, Any]:
    """Compare runs: results, what differs in their recipes (`config`), the last value of each metric, and in `paired`
    the difference of their losses over the same examples with its 95% interval (`lo` to `hi`; if 0 is inside, the runs
    cannot be told apart).
    """
    with connect() as client:
        client.drain()
        return compared(client, runs)


def sql(
    query: Annotated[
        str, Field(description="One SELECT in DuckDB's SQL; SHOW TABLES and DESCRIBE runs help")
    ],
    rows: Annotated[int, Field(ge=1, le=500, description="At most so many rows")] = 50,
) -> dict[str, Any]:
    """Ask the store in SQL, read only: tables runs, params, metrics, evals, eval_examples, samples, flags, events,
    hardware and more. `left_out` says if there are more rows.
    """
    with connect() as client:
        client.drain()
        table = client.query(query, limit=rows)
    left_out = note(table)
    table = table.rename_columns(unique(table.column_names))
    return {"columns": table.column_names, "rows": arrow_values.rows(table), "left_out": left_out}


def check_recipe(recipe: RecipeText, changes: Changes = []) -> dict[str, Any]:  # noqa: B006
    """Check a recipe before it is queued: what is wrong with it, in one sentence, or what would run: examples, tokens,
    steps, time where an earlier run tells it, warnings. Queues nothing.
    """
    file, folder, path = _read(recipe, changes)
    reports = queue.reports_of(file, folder, Path.cwd())
    notes = queue.token_notes(file, reports[0], path, changes)
    return queue.check_as_json(file.path, reports, queue.costs_of(reports), notes)


def show_data(recipe: RecipeText, changes: Changes = []) -> dict[str, Any]:  # noqa: B006
    """Look at a recipe's data: rows, lengths, which tokens are learned, duplicates, leaks into the held-out set,
    warnings, and refusals. Reads every row, which takes a while.
    """
    file, _, path = _read(recipe, changes)
    return Reporting(path, *changes, stdin=file.text).result()


def estimate_memory(
    recipe: RecipeText,
    changes: Changes = [],  # noqa: B006
    gpu_gb: Annotated[
        float | None, Field(gt=0, description="A GPU of so many GB, instead of this machine")
    ] = None,
) -> dict[str, Any]:
    """Estimate the memory that a recipe needs, part by part, whether it fits, and what would make it fit."""
    file, folder, _ = _read(recipe, changes)
    return estimated(absolute(file.recipes[0], folder), gpu_gb).as_dict()


def propose_fix(run: Number) -> dict[str, Any]:
    """What to do about a run's flags: the recipe with the first suggestions made, each change with its reason and what
    it did for similar runs, and advice that needs no new run. Queues nothing.
    """
    return engine_fix.propose(directory_of(run), partial(similar, run)).as_dict()


async def wait(
    runs: Annotated[list[int], Field(description="Of these runs; empty: of all")] = [],  # noqa: B006
    seconds: Annotated[
        float, Field(ge=0, le=600, description="How long at most; clients often give up at 60")
    ] = 50,
    since: Annotated[
        float | None, Field(description="`now` of the answer before, so that nothing is missed in between")
    ] = None,
    every: Annotated[bool, Field(description="Also when runs are queued, begin or are interrupted")] = False,
) -> dict[str, Any]:
    """Wait until a run ends, pauses or is stopped, or a flag warns. Answers with `events`, empty if nothing happened in
    that time, and the runs; at once if the runs asked for are all over.
    """
    start = time.time() if since is None else since
    deadline = anyio.current_time() + seconds
    look = partial(to_thread.run_sync, partial(_look, start, runs, every=every))
    while True:
        found = await look()
        if found["events"] or anyio.current_time() >= deadline:
            return found
        if events.all_over(found, runs):
            return await look()  # with what ended the last of them just now
        await anyio.sleep(min(POLL_S, max(0.0, deadline - anyio.current_time())))


def rights(context: Context) -> dict[str, Any]:
    """What you may do here besides reading (`may`), and how many runs and hours are left of the day."""
    with _acting(context) as client:
        return client.action("agent")


# ---- acting: only as config.toml allows ----------------------------------------------------------------


def queue_run(
    context: Context,
    recipe: RecipeText,
    changes: Changes = [],  # noqa: B006
    note: Annotated[str, Field(description="Why it is run: kept with it, for people")] = "",
    tags: Annotated[list[str], Field(description="Words to find it by")] = [],  # noqa: B006
    held: Annotated[bool, Field(description="Let it wait until a person releases it")] = False,
) -> dict[str, Any]:
    """Check a recipe and queue it, or each run of its sweep; who asked is kept with it. `warnings`: what may spoil the
    result. Needs the right `queue`.
    """
    with _acting(context) as client:
        client.action("agent", action="submit")
        file, folder, _ = _read(recipe, changes)
        reports = queue.reports_of(file, folder, Path.cwd())
        numbers = submit.submit(client, file, reports, note=note, tags=tags, held=held)
        warnings = list(dict.fromkeys(warning for report in reports for warning in report.warnings))
        return {**_queued(client, numbers), "warnings": warnings}


def queue_fix(context: Context, run: Number) -> dict[str, Any]:
    """Queue what `propose_fix` proposes, as a new run made from the old one. Needs the right `fix` or `queue`."""
    with _acting(context) as client:
        client.action("agent", action="submit", parent=run)
        proposal = engine_fix.propose(directory_of(run), partial(similar, run))
        if not proposal.changes:
            raise QueueError(
                f"no change of the recipe answers the flags of run #{run}; propose_fix has the advice"
            )
        number = engine_fix.queue(client, proposal, engine_fix.check(proposal))
        return {**_queued(client, [number]), "changes": [vars(change) for change in proposal.changes]}


def stop_run(
    context: Context,
    run: Number,
    how: Annotated[
        Literal["cancel", "pause"],
        Field(description="Both save a checkpoint first; a person can resume both"),
    ] = "cancel",
) -> dict[str, Any]:
    """Stop a run that waits or runs. It ends a little later: `wait` says when. Needs the right `stop`."""
    with _acting(context) as client:
        answer = client.action(how, run=run)
        return {"run": run, "state": answer["state"], "says": done(how, answer)}


# ---- help ----------------------------------------------------------------------------------------------


def _read(recipe: str, changes: Sequence[str]) -> tuple[RecipeFile, Path, str]:
    """The recipe, the folder that its paths start from, and its path: `-` for one that is in no file. Raises
    RecipeError; QueueError if it brings code along that an assistant may not run.
    """
    text = recipe.strip()
    if "\n" in text or ": " in text:
        found = recipe_file.parse(recipe, Path("recipe.yaml"), list(changes)), Path.cwd(), "-"
    else:
        path = Path(text).expanduser()
        found = recipe_file.read(path, list(changes)), path.parent, str(path)
    holds = found[0].holds
    if any(map(has_code, holds if isinstance(holds, list) else [holds])):
        with connect() as client:
            client.by = client.by or UNNAMED
            client.action("agent", action="run_code")
    return found


def _acting(context: Context) -> Client:
    """A client that names the assistant with each request."""
    client = connect()
    client.by = os.environ.get(AGENT_VARIABLE) or name_of(context)
    return client


def name_of(context: Context) -> str:
    """What the assistant's program calls itself."""
    told = context.session.client_params
    info = told.client_info if told else None
    return one_line(f"{info.name} {info.version}").strip()[:LONGEST] if info else UNNAMED


def _queued(client: Client, numbers: list[int]) -> dict[str, Any]:
    client.drain()
    return {"runs": numbers, "queued": runs_as_json(client, numbers), "rights": client.action("agent")}


def _look(since: float, runs: Sequence[int], *, every: bool) -> dict[str, Any]:
    with connect() as client:
        return events.look(client, since, runs, every=every)


READING = (
    list_runs, show_run, read_output, compare_runs, sql, check_recipe, show_data, estimate_memory, propose_fix, wait,
    rights,
)  # fmt: skip
ACTING = (queue_run, queue_fix, stop_run)
