"""`finetui store …`: the commands that look after the database's file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tui.cli.arguments import Json, Yes

app = typer.Typer(help="Look after the database: check, rebuild, compact, back up.", no_args_is_help=True)


@app.command()
def check(as_json: Json = False) -> None:
    """Compare the database with the logs, run by run; exit code 1 if a run differs. Changes nothing."""
    from tui.cli import database

    database.check(as_json=as_json)


@app.command()
def rebuild(yes: Yes = False, as_json: Json = False) -> None:
    """Make the database again from the logs; the old file is kept beside it. Runs go on."""
    from tui.cli import database

    database.rebuild(yes=yes, as_json=as_json)


@app.command()
def compact(as_json: Json = False) -> None:
    """Write the database anew without the space of what was deleted; it is read meanwhile, and runs go on."""
    from tui.cli import database

    database.compact(as_json=as_json)


@app.command()
def backup(
    path: Annotated[
        Path, typer.Argument(metavar="FILE", help="Where to: a new file, NAME.tar.gz.", show_default=False)
    ],
    as_json: Json = False,
) -> None:
    """Copy the logs of every run, the plans of sweeps and config.toml into one file; without weights."""
    from tui.cli import database

    database.backup(path, as_json=as_json)
