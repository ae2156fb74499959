"""The commands that give what is in the store to other programs: DuckDB, a lake, TensorBoard, W&B."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tui.cli.arguments import Json, RunNumbers

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


@app.command("export-curves")
def export_curves(
    numbers: RunNumbers,
    tensorboard: Annotated[
        Path | None, typer.Option(help="Write a folder for each run below this one, for TensorBoard.")
    ] = None,
    wandb: Annotated[
        Path | None,
        typer.Option(help="Write offline runs of W&B below this folder; `wandb sync` sends them."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace what is there of these runs.")] = False,
    as_json: Json = False,
) -> None:
    """Write what runs have logged for TensorBoard, or as offline runs of W&B; needs the extra `curves`."""
    if (tensorboard is None) == (wandb is None):
        raise typer.BadParameter("give one of --tensorboard and --wandb, with a folder")
    from engine.curves import to_tensorboard, to_wandb
    from tui.cli import export_curves as module

    form, folder = (to_tensorboard, tensorboard) if tensorboard else (to_wandb, wandb)
    assert folder is not None
    module.export_curves(list(dict.fromkeys(numbers)), form, folder, force=force, as_json=as_json)
