"""`finetui skill`: instructions for an assistant that has a shell and nothing else of finetui's."""

from __future__ import annotations

from importlib.resources import files

from finetui.errors import ExitCode
from store.states import RunState
from tui.cli.output import out_text


def skill() -> None:
    out_text(text().rstrip("\n"))


def text() -> str:
    """The instructions; tests/tui/test_skill.py keeps what they say of commands true."""
    table = "".join(f"| {int(code)} | {code.meaning} |\n" for code in ExitCode)
    written = files("tui.cli").joinpath("skill.md").read_text(encoding="utf-8")
    states = ", ".join(f"`{state}`" for state in RunState)
    return written.replace("EXIT CODES\n", f"| code | meaning |\n|---|---|\n{table}").replace(
        "STATES", states
    )
