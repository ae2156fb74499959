"""`finetui data`: everything about a recipe's data on one page."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from rich.text import Text

from engine.data.report.page import LEARNED, lines
from engine.data.sources import DataError
from tui.cli import exits
from tui.cli.output import console, print_json, say


def data(path: Path, overrides: list[str], *, as_json: bool) -> None:
    """Print the page; exit code 3 if the data are refused."""
    say("reading, tokenising and comparing every row …")
    report = read_report(path, overrides)
    if as_json:
        print_json(report)
    else:
        console().print(_coloured("\n".join(lines(report))), highlight=False)
    if report["refusals"]:
        sys.exit(exits.BAD_INPUT)


def read_report(path: Path, overrides: list[str], *, brief: bool = False) -> dict[str, Any]:
    """The report on a recipe, made in a process of its own, which loads the tokenizer. Raises DataError."""
    command = [sys.executable, "-P", "-m", "engine.data.report", *(["--brief"] if brief else [])]
    done = subprocess.run([*command, str(path), *overrides], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise DataError(done.stderr.strip() or "the report ended without a word")
    return dict(json.loads(done.stdout))


def _coloured(page: str) -> Text:
    """The text that is learned in green, its marks kept for those who see no colour."""
    text = Text(page)
    text.highlight_regex(f"(?s){LEARNED[0]}.*?{LEARNED[1]}", "green")
    text.highlight_regex(r"(?m)^  warning .*$", "yellow")
    text.highlight_regex(r"(?m)^  refused .*$", "bold red")
    return text
