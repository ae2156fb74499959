"""`finetui data`: everything about a recipe's data on one page."""

from __future__ import annotations

import sys
from pathlib import Path

from engine.basics.safe_text import one_line
from engine.recipe.recipe_file import STDIN
from engine.report.page import LEARNED, lines
from finetui.errors import ExitCode
from tui.cli.output import out_coloured, print_json, say
from tui.reports import Reporting

STYLES = (  # the text that is learned in green, its marks kept for those who see no colour
    (f"(?s){LEARNED[0]}.*?{LEARNED[1]}", "green"),
    (r"(?m)^  warning .*$", "yellow"),
    (r"(?m)^  refused .*$", "bold red"),
)


def data(path: Path, overrides: list[str], *, as_json: bool) -> None:
    """Print the page; exit code 3 if the data are refused."""
    say("reading, tokenising and comparing every row …")
    given = sys.stdin.read() if path == STDIN else ""
    report = Reporting(str(path), *overrides, stdin=given).result()
    if as_json:
        print_json(report)
    else:
        out_coloured("\n".join(map(one_line, lines(report))), STYLES)
    if report["refusals"]:
        sys.exit(ExitCode.BAD_INPUT)
