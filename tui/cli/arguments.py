"""Arguments and options that several commands take, each with its help and what a shell completes it with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tui.cli import completions

RunNumber = Annotated[
    int,
    typer.Argument(
        help="The run's number, as shown by `finetui ls`.",
        show_default=False,
        autocompletion=completions.runs,
    ),
]
RunNumbers = Annotated[
    list[int],
    typer.Argument(help="Numbers of runs.", show_default=False, autocompletion=completions.runs),
]
Which = Annotated[
    list[str],
    typer.Argument(
        metavar="RUNS...",
        help="Numbers (3, 5-9), or a filter as on the screen: state:queued, tag:old, method=lora, lr>1e-4.",
        show_default=False,
        autocompletion=completions.runs_or_filter,
    ),
]
RecipePath = Annotated[Path, typer.Argument(help="The recipe, a .yaml file; - is stdin.", show_default=False)]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        help="key=value, such as train.lr=1.0e-4", show_default=False, autocompletion=completions.changes
    ),
]
Changes = Annotated[
    list[str],
    typer.Argument(
        help="key=value, such as train.lr=1.0e-4", show_default=False, autocompletion=completions.changes
    ),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead.")]
JsonLines = Annotated[bool, typer.Option("--json", help="Print a line of JSON for each.")]
