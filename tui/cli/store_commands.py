"""The commands that give what is in the store to other programs: DuckDB, a lake, TensorBoard, W&B."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tui.cli.arguments import Json

app = typer.Typer()


@app.command()
def snapshot(
    file: Annotated[Path, typer.Argument(help="The file to write, as out.duckdb.", show_default=False)],
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
    as_json: Json = False,
) -> None:
    """Write the store to a file for any other DuckDB tool; the daemon goes on meanwhile."""
    from tui.cli import snapshot as module

    module.snapshot(file, force=force, as_json=as_json)


@app.command("export-store")
def export_store(
    folder: Annotated[
        Path, typer.Argument(help="The folder to write or to bring up to date.", show_default=False)
    ],
    as_json: Json = False,
) -> None:
    """Write the store as Parquet, partitioned by run, for DuckDB, Spark or a lake; again: only what has changed."""
    from tui.cli import export_store as module

    module.export_store(folder, as_json=as_json)
