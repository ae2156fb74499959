"""Every command of `finetui`, by what it is about; the work is done in the modules beside this one."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.completion import completion_init
from typer.core import TyperCommand

from finetui.errors import ExitCode
from tui.cli import completions, opening
from tui.cli.arguments import Json, Overrides, RecipePath, RunNumber
from tui.cli.door_commands import app as door_app
from tui.cli.queue_commands import app as queue_app
from tui.cli.store_commands import app as store_app
from tui.cli.view_commands import app as view_app

app = typer.Typer(
    name="finetui",
    help="The terminal experiment manager for fine-tuning language models.",
    no_args_is_help=False,
    add_completion=False,  # `finetui completion` prints a script that knows key=value
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
daemon_app = typer.Typer(
    help="The background process that owns the queue and the store.", no_args_is_help=True
)
app.add_typer(daemon_app, name="daemon")
app.add_typer(store_app, name="store")
app.add_typer(view_app)
app.add_typer(queue_app)
app.add_typer(door_app)

COMMAND = "finetui.command"  # in the context of `run`: the program and its arguments, None without `--`


@cache
def parser() -> Any:
    """Return the command that Typer makes of `app`: it takes a while, and the pool does it for its forks."""
    completion_init()  # of the shells, which Typer does for those who let it add its options
    return typer.main.get_command(app)


def _print_version(asked: bool) -> None:
    if asked:
        from finetui.daemon import code_version
        from tui.cli.output import out

        out(f"finetui {code_version()}")
        raise typer.Exit(ExitCode.OK)


@app.callback(invoke_without_command=True)
def screen(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", "-V", is_eager=True, callback=_print_version, help="Print the version."),
    ] = False,
    readonly: Annotated[
        bool, typer.Option("--readonly", help="Open a screen whose keys change no run and write no recipe.")
    ] = False,
    no_mouse: Annotated[
        bool, typer.Option("--no-mouse", help="Open a screen that leaves the mouse to the terminal.")
    ] = False,
) -> None:
    """Without a command: open the screen."""
    if context.invoked_subcommand is not None:
        if readonly or no_mouse:
            raise typer.BadParameter("--readonly and --no-mouse open the screen: give no command with them")
        return
    if not opening.has_terminal():
        typer.echo(context.get_help())
        raise typer.Exit(ExitCode.OK)
    opening.open_screen(readonly=readonly, mouse=not no_mouse)


class RunOrCommand(TyperCommand):
    """`finetui run RECIPE` or `finetui run -- PROGRAM …`: what stands behind `--` is none of our own arguments."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        place = args.index("--") if "--" in args else len(args)
        ctx.meta[COMMAND] = args[place + 1 :] if place < len(args) else None
        return super().parse_args(ctx, args[:place])

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        return ["[OPTIONS] RECIPE [OVERRIDES]... | -- PROGRAM [ARGUMENTS]..."]


@app.command(cls=RunOrCommand)
def run(
    context: typer.Context,
    recipe: Annotated[
        Path | None, typer.Argument(help="The recipe, a .yaml file; - is stdin.", show_default=False)
    ] = None,
    overrides: Overrides = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Stay and print progress.")] = False,
    priority: Annotated[int, typer.Option(help="Higher starts first.")] = 0,
    hold: Annotated[bool, typer.Option("--hold", help="Start it when `finetui release` says so.")] = False,
    after: Annotated[
        list[str] | None, typer.Option(help="Start it after these runs have finished: 3, 5-9, or twice.")
    ] = None,
    after_any: Annotated[
        bool, typer.Option("--after-any", help="With --after: also if they fail or are cancelled.")
    ] = False,
    at: Annotated[str | None, typer.Option(help="Start it at a time: 02:00, 2030-01-31 02:00, +2h.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="A word to find it by, or several: twice.")] = None,
    group: Annotated[
        str | None,
        typer.Option(
            help="Its group, of which so many run at a time as config.toml says.",
            autocompletion=completions.groups,
        ),
    ] = None,
    note: Annotated[str, typer.Option(help="A note on it.")] = "",
    name: Annotated[str | None, typer.Option(help="Its name in lists.")] = None,
    made_from: Annotated[
        int | None, typer.Option("--made-from", min=1, help="The run that its recipe was made from.")
    ] = None,
    exclusive: Annotated[
        bool, typer.Option("--exclusive", help="Share its GPUs with no other run, whatever config.toml says.")
    ] = False,
    gpu_memory: Annotated[
        float | None,
        typer.Option(
            "--gpu-memory",
            min=0.01,
            help="GiB of a GPU that it needs, if not as estimated: for runs that share one.",
        ),
    ] = None,
    gpus: Annotated[int | None, typer.Option(min=1, help="Of a program: how many GPUs it gets.")] = None,
    watch: Annotated[
        list[Path] | None,
        typer.Option(help="Of a program: a folder that it writes its curves below, or several: twice."),
    ] = None,
    on_resume: Annotated[
        str | None,
        typer.Option(
            "--on-resume", help="Of a program: arguments that it gets besides when it is started again."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Check a recipe and queue it: one run, or one per combination of its sweep. Behind `--`: any program."""
    from tui.cli import queue

    conditions = queue.conditions(hold=hold, after=after or [], after_any=after_any, at=at)
    words = {"priority": priority, "tags": tag or [], "group": group, "note": note}
    need = None if gpu_memory is None else int(gpu_memory * 2**30)
    more = {**conditions, **words, "exclusive": exclusive, "gpu_memory": need, "parent": made_from}
    command: list[str] | None = context.meta[COMMAND]
    if command is None:
        if recipe is None:
            raise typer.BadParameter("give a recipe, or a program behind --", param_hint="RECIPE")
        if gpus or watch or on_resume:
            raise typer.BadParameter(
                "--gpus, --watch and --on-resume go with a program behind --, not with a recipe"
            )
        named = [f"name={name}"] if name is not None else []
        return queue.run(recipe, [*(overrides or []), *named], more, follow=follow, as_json=as_json)
    if not command:
        raise typer.BadParameter(
            "behind -- there is no program; write it as in a shell", param_hint="PROGRAM"
        )
    if recipe is not None:
        raise typer.BadParameter(f"give either the recipe {recipe} or the program behind --")
    file = queue.command_of(command, name, gpus, watch, on_resume)
    return queue.run_command(file, more, follow=follow, as_json=as_json)


@app.command()
def check(recipe: RecipePath, overrides: Overrides = None, as_json: Json = False) -> None:
    """Check a recipe: say what is wrong with it, or what would run. Queues nothing."""
    from tui.cli import queue

    queue.check(recipe, overrides or [], as_json=as_json)


@app.command()
def data(recipe: RecipePath, overrides: Overrides = None, as_json: Json = False) -> None:
    """Show a recipe's data on one page: rows, lengths, trained tokens, duplicates, leaks, warnings."""
    from tui.cli import data as module

    module.data(recipe, overrides or [], as_json=as_json)


@app.command()
def estimate(
    recipe: Annotated[
        Path | None, typer.Argument(help="The recipe; without one, a table of model sizes.")
    ] = None,
    overrides: Overrides = None,
    memory: Annotated[
        float | None, typer.Option(help="A GPU of this many GB, instead of this machine.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Estimate how much memory a recipe needs, and what would make it fit. Loads no weights."""
    from tui.cli import estimate as module

    if recipe is None:
        module.print_fits(memory, as_json=as_json)
    else:
        module.estimate_recipe(recipe, overrides or [], memory, as_json=as_json)


@app.command()
def fix(
    number: RunNumber,
    out: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--out",
            help="The recipe to write; default: next to the run's own. With --scale: the folder.",
        ),
    ] = None,
    add: Annotated[
        bool, typer.Option("--add", help="Queue it as a new run instead of writing a file.")
    ] = False,
    scale: Annotated[
        bool,
        typer.Option(
            "--scale",
            help="Train nothing: score what the run trained at factors from 0 to 1, and write the weights of the one "
            "that keeps the gain and costs least.",
        ),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would change.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="With --scale: replace the folder if it exists.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Turn the suggestions of a run's flags into a new recipe, or queue it; or scale what it trained."""
    if add and out:
        raise typer.BadParameter("give one of --add and --out")
    if scale and add:
        raise typer.BadParameter("--scale queues nothing; leave --add out")
    if force and not scale:
        raise typer.BadParameter("--force goes with --scale; without it no file is replaced")
    if scale:
        from tui.cli import scale as scale_module

        scale_module.scale(number, out, dry_run=dry_run, force=force, as_json=as_json)
        return
    from tui.cli import fix as module

    module.fix(number, out, add=add, dry_run=dry_run, as_json=as_json)


@app.command()
def export(
    number: RunNumber,
    adapter: Annotated[bool, typer.Option("--adapter", help="The adapter alone, as trained.")] = False,
    merged: Annotated[
        bool, typer.Option("--merged", help="A complete model in 16 bits, with the adapter merged into it.")
    ] = False,
    gguf: Annotated[
        bool, typer.Option("--gguf", help="A GGUF file for llama.cpp; needs the extra `gguf`.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(help="The folder to write; default: in this directory, named after the run."),
    ] = None,
    dtype: Annotated[
        Literal["bf16", "fp16", "fp32"], typer.Option(help="Number format of a merged model or GGUF file.")
    ] = "bf16",
    checkpoint: Annotated[
        str | None, typer.Option(help="A step, `best` or `last`, instead of the final weights.")
    ] = None,
    factor: Annotated[
        float,
        typer.Option(help="Scale what was trained: above 0 (the base model) and up to 1 (all of it)."),
    ] = 1.0,
    force: Annotated[bool, typer.Option("--force", help="Replace the folder if it exists.")] = False,
    as_json: Json = False,
) -> None:
    """Export a run's adapter, or a merged model, with a model card. Works without the daemon."""
    asked = [name for name, given in (("adapter", adapter), ("merged", merged), ("gguf", gguf)) if given]
    if len(asked) > 1:
        raise typer.BadParameter("give one of --adapter, --merged and --gguf")
    from tui.cli import export as module

    kind = asked[0] if asked else None
    module.export(
        number,
        as_json=as_json,
        kind=kind,
        out=out,
        dtype=dtype,
        checkpoint=checkpoint,
        factor=factor,
        force=force,
    )


@app.command()
def pull(
    target: Annotated[
        str | None, typer.Argument(help="The mirror, host:folder; default: `mirror` of config.toml.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Bring the runs of a mirror into this home: after the loss of a box, or to a laptop."""
    from tui.cli import pull as module

    module.pull(target, as_json=as_json)


@app.command("import")
def import_(
    paths: Annotated[
        list[Path],
        typer.Argument(help="Folders and files to look in, or another home.", show_default=False),
    ],
    tool: Annotated[
        str | None,
        typer.Option(
            "--from",
            help="Take what this has written alone: tensorboard, wandb, trackio, mlflow, trainer, finetui.",
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be imported.")] = False,
    as_json: Json = False,
) -> None:
    """Import runs of TensorBoard, W&B, trackio, MLflow, transformers' Trainer, or another home; never one twice."""
    from tui.cli import importing as module

    module.import_runs(paths, tool, dry=dry_run, as_json=as_json)


@daemon_app.command("start")
def daemon_start(as_json: Json = False) -> None:
    """Start the daemon if it is not running. Other commands do this by themselves."""
    from tui.cli import service

    service.start(as_json=as_json)


@daemon_app.command("stop")
def daemon_stop(as_json: Json = False) -> None:
    """Stop the daemon. Runs continue, and the next daemon finds them."""
    from tui.cli import service

    service.stop(as_json=as_json)


@daemon_app.command("status")
def daemon_status(as_json: Json = False) -> None:
    """Show whether the daemon runs, and what it is doing."""
    from tui.cli import service

    service.status(as_json=as_json)


@daemon_app.command("install")
def daemon_install(
    remove: Annotated[bool, typer.Option("--remove", help="Take that back.")] = False,
    as_json: Json = False,
) -> None:
    """Have the daemon started with the machine: by systemd, or say what to put where."""
    from tui.cli import service

    service.install(remove=remove, as_json=as_json)


@app.command()
def doctor(as_json: Json = False) -> None:
    """Check this machine: versions, GPU, 4-bit, disk, home, logout behaviour, terminal."""
    from tui.cli import doctor as module

    module.doctor(as_json=as_json)


@app.command()
def demo(
    headless: Annotated[
        bool,
        typer.Option("--headless", envvar="FINETUI_HEADLESS", help="Print progress instead of the screen."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Queue three real fine-tuning runs of the bundled model, and watch them."""
    from tui.cli import demo as module

    module.demo(headless=headless, as_json=as_json)


@app.command("mcp")
def mcp_server() -> None:
    """Serve this home to assistants over the Model Context Protocol, on stdin and stdout; needs the extra `mcp`."""
    from tui.cli import mcp

    mcp.serve()


@app.command()
def skill() -> None:
    """Print instructions for an assistant that has a shell: commands, their order, JSON, exit codes, what not to do."""
    from tui.cli import skill as module

    module.skill()


@app.command()
def completion(
    shell: Annotated[Literal["bash", "zsh", "fish"], typer.Argument(help="The shell.", show_default=False)],
) -> None:
    """Print what makes a shell complete commands, runs, recipe keys and metrics; docs/cli.md says where it goes."""
    from tui.cli import completion as module

    module.completion(shell)
