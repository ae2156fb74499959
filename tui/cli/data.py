"""`finetui data`: everything about a recipe's data on one page."""

from __future__ import annotations

import sys
from pathlib import Path

from rich.text import Text

from engine.report.page import LEARNED, lines
from finetui.errors import ExitCode
from tui.cli.output import console, print_json, say
from tui.reports import Reporting


def data(path: Path, overrides: list[str], *, as_json: bool) -> None:
    """Print the page; exit code 3 if the data are refused."""
    say("reading, tokenising and comparing every row …")
    report = Reporting(str(path), *overrides).result()
    if as_json:
        print_json(report)
    else:
        console().print(_coloured("\n".join(lines(report))), highlight=False)
    if report["refusals"]:
        sys.exit(ExitCode.BAD_INPUT)


def _coloured(page: str) -> Text:
    """The text that is learned in green, its marks kept for those who see no colour."""
    text = Text(page)
    text.highlight_regex(f"(?s){LEARNED[0]}.*?{LEARNED[1]}", "green")
    text.highlight_regex(r"(?m)^  warning .*$", "yellow")
    text.highlight_regex(r"(?m)^  refused .*$", "bold red")
    return text
