"""The commands that change a run's place in the queue, its state or its words; commands.py has the others."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from tui.cli import completions
from tui.cli.arguments import Changes, Json, JsonLines, RunNumber, Which, Yes

app = typer.Typer()


def _act(action: str, runs: list[str], yes: bool, as_json: bool, **body: Any) -> None:
    from tui.cli import queue

    queue.act(action, runs, yes=yes, as_json=as_json, **body)


@app.command()
def cancel(runs: Which, yes: Yes = False, as_json: Json = False) -> None:
    """Stop runs; a running one saves a checkpoint first and can be resumed."""
    _act("cancel", runs, yes, as_json)


@app.command()
def pause(runs: Which, yes: Yes = False, as_json: Json = False) -> None:
    """Pause runs: save a checkpoint, stop, and let the next run start; `resume` continues."""
    _act("pause", runs, yes, as_json)


@app.command()
def resume(runs: Which, yes: Yes = False, as_json: Json = False) -> None:
    """Queue cancelled, failed or paused runs again; they resume from their last checkpoint."""
    _act("resume", runs, yes, as_json)


@app.command()
def requeue(runs: Which, yes: Yes = False, as_json: Json = False) -> None:
    """Queue the recipes of runs again, as new runs from the start."""
    _act("requeue", runs, yes, as_json)


@app.command()
def clone(number: RunNumber, overrides: Changes, as_json: Json = False) -> None:
    """Queue the recipe of a run again with changes, as a new run made from it."""
    from tui.cli import queue

    queue.clone(number, overrides, as_json=as_json)


@app.command()
def edit(number: RunNumber, overrides: Changes, as_json: Json = False) -> None:
    """Change the recipe of a run that has not begun; it keeps its number and its place."""
    from tui.cli import queue

    queue.edit(number, overrides, as_json=as_json)


@app.command()
def hold(runs: Which, yes: Yes = False, as_json: Json = False) -> None:
    """Hold waiting runs back; others go by."""
    _act("hold", runs, yes, as_json)


@app.command()
def release(runs: Which, yes: Yes = False, as_json: Json = False) -> None:
    """Let held runs start when it is their turn, also those that wait for other runs or a time."""
    _act("release", runs, yes, as_json)


@app.command()
def start(runs: Which, yes: Yes = False, as_json: Json = False) -> None:
    """Start waiting runs now: whatever they wait for, and however many run; a GPU has to be free."""
    _act("start_now", runs, yes, as_json)


@app.command()
def move(
    number: RunNumber,
    before: Annotated[
        int | None, typer.Option(help="Before this one; else to the front of the queue.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Give a waiting run another place in the queue."""
    _act("move", [str(number)], True, as_json, before=before)


@app.command()
def priority(
    number: RunNumber,
    value: Annotated[int, typer.Argument(help="Higher starts first.")],
    as_json: Json = False,
) -> None:
    """Change the priority of a waiting run."""
    _act("priority", [str(number)], True, as_json, priority=value)


@app.command()
def group(
    name: Annotated[
        str,
        typer.Argument(
            help="Its name, or `none`.", show_default=False, autocompletion=completions.groups_or_none
        ),
    ],
    runs: Which,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Put runs into a group, of which so many run at a time as `groups` in config.toml says."""
    _act("group", runs, yes, as_json, group=None if name == "none" else name)


@app.command()
def tag(
    runs: Which,
    add: Annotated[list[str] | None, typer.Option(help="A tag to put on, or several: twice.")] = None,
    remove: Annotated[list[str] | None, typer.Option(help="A tag to take off.")] = None,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Put words on runs, by which filters find them: tag:night."""
    if not add and not remove:
        raise typer.BadParameter("say what: --add WORD or --remove WORD")
    _act("tag", runs, yes, as_json, add=add or [], remove=remove or [])


@app.command()
def note(
    number: RunNumber,
    text: Annotated[str, typer.Argument(help="The note.", show_default=False)],
    as_json: Json = False,
) -> None:
    """Write a note on a run; `finetui show` has the latest one."""
    _act("note", [str(number)], True, as_json, text=text)


@app.command()
def name(
    number: RunNumber,
    text: Annotated[str, typer.Argument(help="The name.", show_default=False)],
    as_json: Json = False,
) -> None:
    """Give a run another name."""
    _act("name", [str(number)], True, as_json, name=text)


@app.command()
def wait(
    runs: Which,
    timeout: Annotated[
        float | None, typer.Option(help="Give up after so many seconds, with exit code 1.", min=0)
    ] = None,
    as_json: JsonLines = False,
) -> None:
    """Wait until runs have ended; exit code 1 if one of them has not finished well."""
    from tui.cli import queue

    queue.wait(runs, timeout, as_json=as_json)


@app.command()
def rm(runs: Which, yes: Yes = False, as_json: Json = False) -> None:
    """Remove ended runs: shows how much that frees and asks; `finetui restore` brings them back for a week."""
    from tui.cli import disposal

    disposal.rm(runs, yes=yes, as_json=as_json)


@app.command()
def restore(
    numbers: Annotated[
        list[int] | None,
        typer.Argument(help="Numbers of removed runs; without any, they are listed.", show_default=False),
    ] = None,
    as_json: Json = False,
) -> None:
    """Bring removed runs back, or list them."""
    from tui.cli import disposal

    disposal.restore(numbers or [], as_json=as_json)


@app.command()
def clean(
    runs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUNS...]",
            help="Numbers or a filter; default: all finished runs.",
            show_default=False,
        ),
    ] = None,
    checkpoints: Annotated[
        bool, typer.Option("--checkpoints", help="Also delete checkpoints other than the best and the last.")
    ] = False,
    removed: Annotated[bool, typer.Option("--removed", help="Delete removed runs for good.")] = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Free disk: optimiser states that nothing resumes from; weights stay. Shows what goes and asks."""
    from tui.cli import disposal

    disposal.clean(runs or [], checkpoints=checkpoints, removed=removed, yes=yes, as_json=as_json)
