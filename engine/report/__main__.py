"""`python -P -m finetui.start engine.report RECIPE.yaml [key=value …]`: the report as one JSON object on stdout.

A process of its own, so that the command line and the screen need not import transformers. Of a sweep, the report is
on the first recipe. `--run DIR` instead of a recipe: on the data of a run. `--brief`: only refusals and warnings,
from some of the rows. A recipe `-` is read from stdin; `--folder`: where its paths start. Exit code 2 and one sentence
on stderr if there is nothing to report on.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.recipe.sections import Recipe


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -P -m engine.report", description="Report on data.")
    parser.add_argument("--brief", action="store_true")
    parser.add_argument("--run", action="store_true", help="the path is the directory of a run")
    parser.add_argument("path", type=Path)
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--folder", type=Path, help="where paths of a recipe start, if not where it is")
    options = parser.parse_args(arguments)
    from engine.basics.errors import InputError
    from engine.recipe.recipe_file import read

    try:
        if options.run:
            recipe, base = _read_run(options.path)
        else:
            recipe = read(options.path, options.overrides).recipes[0]
            base = options.folder or options.path.absolute().parent
        if not recipe.model.trust_remote_code and "torch" not in sys.modules:
            _disable_torch()
        from engine.report.build import brief_report, build

        report = (brief_report if options.brief else build)(recipe, base)
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    print(json.dumps(report.as_dict()))  # in ASCII, which any locale can print
    return 0


def _read_run(directory: Path) -> tuple[Recipe, Path]:
    from engine.basics.errors import DataError
    from engine.recipe.command import Command
    from engine.runs.home import RunDir
    from engine.runs.imported import refuse_foreign
    from engine.runs.submitted import read_submitted, refuse_command

    run = RunDir(directory)
    if why := refuse_foreign(run, "looked into"):
        raise DataError(why)
    try:
        meta, recipe = read_submitted(run)
    except ValueError as error:
        raise DataError(f"{directory}: its recipe cannot be read ({error})") from None
    if isinstance(recipe, Command):
        raise DataError(refuse_command(run, recipe, "looked into"))
    return recipe, Path(meta.get("cwd") or ".")


def _disable_torch() -> None:
    """Hide torch: tokenizers do not need it, and without it transformers imports two seconds faster."""
    os.environ["TRANSFORMERS_VERBOSITY"] = "error"  # it would warn that torch is missing
    sys.modules["torch"] = None  # type: ignore[assignment]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
