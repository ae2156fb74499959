"""The commands that look: at the list, at a run, at several, at the store; commands.py has the others."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from store.states import RunState
from tui.cli import completions
from tui.cli.arguments import Json, JsonLines, RunNumber, RunNumbers
from tui.cli.plain_ls import LATEST

app = typer.Typer()

Every = Annotated[float, typer.Option("--every", min=0.1, help="Seconds between two looks.")]


@app.command()
def ls(
    state: Annotated[RunState | None, typer.Option(help="Only runs in this state.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="Only the latest N.")] = LATEST,
    every: Annotated[
        bool | None,
        typer.Option(
            "--all/--folded",
            help="A line for each run of a sweep, or one for the sweep; without it: one on a terminal.",
            show_default=False,
        ),
    ] = None,
    by: Annotated[
        str | None,
        typer.Option(
            help="In groups: state, sweep, tag, method, model, task, group, or a key as data.train."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """List runs, latest last; on a terminal a sweep is one line."""
    from tui.cli import ls as module

    module.ls(state, limit, by=by, every=every, as_json=as_json)


@app.command()
def show(number: RunNumber, as_json: Json = False) -> None:
    """Show everything about a run: state, results, flags with evidence, checkpoints, samples, recipe."""
    from tui.cli import show as module

    module.show(number, as_json=as_json)


@app.command()
def logs(
    number: RunNumber,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Keep printing until the run ends.")] = False,
    level: Annotated[
        Literal["debug", "info", "warning", "error"],
        typer.Option(help="Only lines of this level and graver; a line that says none counts as info."),
    ] = "debug",
    as_json: JsonLines = False,
) -> None:
    """Print the worker's output, all attempts. Works without the daemon."""
    from tui.cli import logs as module
    from tui.lines.log_levels import Level

    module.logs(number, follow=follow, least=Level[level.upper()], as_json=as_json)


@app.command()
def examples(
    number: RunNumber,
    suite: Annotated[
        str | None, typer.Option(help="heldout, general, seen or samples; default: the first that there is.")
    ] = None,
    slice: Annotated[str | None, typer.Option(help="Only this slice of the suite.")] = None,
    start: Annotated[
        int | None, typer.Option("--from", help="The step of the look before; default: 0, the base model.")
    ] = None,
    end: Annotated[
        int | None, typer.Option("--to", help="The step of the look after; default: the last one.")
    ] = None,
    before: Annotated[
        int | None, typer.Option(help="Another run: how the examples change from it to this one.")
    ] = None,
    words: Annotated[str, typer.Option("--with", help="Only examples whose text has these words.")] = "",
    best: Annotated[bool, typer.Option("--best", help="Those that got better first.")] = False,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="Only the first N.")] = 20,
    example: Annotated[str | None, typer.Option(help="All there is on the example with this id.")] = None,
    tokens: Annotated[
        bool, typer.Option("--tokens", help="With --example: score each of its tokens (loads the model).")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show which held-out or general examples got worse and which better, with text and answers."""
    if tokens and not example:
        raise typer.BadParameter("--tokens goes with --example: give the id of one")
    from tui.cli import examples as module
    from tui.lines.looks import Selection

    selection = Selection(suite, slice, start, end)
    module.examples(
        number,
        selection,
        before=before,
        words=words,
        best=best,
        limit=limit,
        example=example,
        tokens=tokens,
        as_json=as_json,
    )


@app.command()
def compare(numbers: RunNumbers, as_json: Json = False) -> None:
    """Compare two or more runs side by side: what differs in their recipes, and their results."""
    from tui.cli import compare as module

    module.compare(numbers, as_json=as_json)


@app.command()
def sweep(
    number: RunNumber,
    add: Annotated[
        int | None, typer.Option(min=1, help="Give the sweep so many runs more, instead of showing it.")
    ] = None,
    stop: Annotated[
        bool,
        typer.Option(
            "--stop", help="Let the sweep end with the runs that it has: none is proposed any more."
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Show the sweep that a run belongs to: its runs, the best first, and what each setting was worth."""
    from tui.cli import sweep as module

    if add is not None:
        return module.add(number, add, as_json=as_json)
    if stop:
        return module.stop(number, as_json=as_json)
    return module.sweep(number, as_json=as_json)


@app.command()
def sql(
    query: Annotated[str, typer.Argument(help="One SELECT; `-` reads it from stdin.", show_default=False)],
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit",
            "-n",
            min=1,
            help="At most this many rows; default: 1,000, or all of them with --csv, --json and -o.",
        ),
    ] = None,
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", help="Write this file: .csv, .parquet, .json or .md, by its ending."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Query the store. `finetui sql 'SHOW TABLES'` and `'DESCRIBE runs'` show what is in it."""
    from tui.cli import sql as module

    if sum((csv, as_json, out is not None)) > 1:
        raise typer.BadParameter("give one of --csv, --json and --out")
    module.sql(query, limit, as_csv=csv, as_json=as_json, to=out)


@app.command()
def watch(
    number: RunNumber,
    every: Every = 1.0,
    once: Annotated[bool, typer.Option("--once", help="Print how it is now, and leave.")] = False,
    as_json: JsonLines = False,
) -> None:
    """Watch one run in a few lines below the prompt until it ends; ctrl+c leaves it alone."""
    from tui.cli import watch as module

    module.watch(number, every, once=once, as_json=as_json)


@app.command()
def top(
    every: Every = 1.0,
    once: Annotated[bool, typer.Option("--once", help="Print it once, and leave.")] = False,
    as_json: Json = False,
) -> None:
    """Show the hardware, its processes, and the runs that run or wait, live; q or ctrl+c leaves."""
    from tui.cli import top as module

    module.top(every, once=once, as_json=as_json)


@app.command()
def plot(
    numbers: RunNumbers,
    key: Annotated[
        str, typer.Option("--key", "-k", help="The metric.", autocompletion=completions.metrics)
    ] = "train/loss",
    log: Annotated[bool, typer.Option("--log", help="A logarithmic axis.")] = False,
    text: Annotated[bool, typer.Option("--text", help="Print it, which is the default.")] = False,
    svg: Annotated[Path | None, typer.Option(help="Write an SVG picture.")] = None,
    png: Annotated[Path | None, typer.Option(help="Write a PNG picture; needs the extra `png`.")] = None,
    width: Annotated[int | None, typer.Option(min=20, help="Columns; default: the terminal's.")] = None,
    height: Annotated[int | None, typer.Option(min=5, help="Lines; default: 20, or the terminal's.")] = None,
    as_json: Json = False,
) -> None:
    """Draw one metric of runs, as text, as a picture, or its points as JSON."""
    from tui.cli import plot as module

    if text and (svg or png or as_json):
        raise typer.BadParameter("--text prints the chart; --svg, --png and --json are instead of that")
    form = module.Form(svg, png, width, height, log=log, as_json=as_json)
    module.plot(list(dict.fromkeys(numbers)), key, form)


@app.command()
def keys(
    screen: Annotated[
        str | None, typer.Argument(help="Only this screen: dashboard, run, compare, …", show_default=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """List the keys of the screen as config.toml has them, with the names of what they do."""
    from tui.cli import keys as module

    module.keys(screen, as_json=as_json)
