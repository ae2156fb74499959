"""`finetui ls`: the states that it takes, and those that it refuses."""

from __future__ import annotations

import errno
import io
import json
import os
import re
import subprocess
import sys
from unittest.mock import Mock

import pytest
from made_home import Served

from finetui.errors import ExitCode
from store.states import RunState
from tui import cli
from tui.cli import command, ls
from tui.cli.output import print_listing


def finetui(served: Served, monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    """The exit code of a command in the served home."""
    monkeypatch.setenv("FINETUI_HOME", str(served.home.path))
    monkeypatch.setattr("sys.argv", ["finetui", *words])
    with pytest.raises(SystemExit) as ended:
        cli.command()
    return int(ended.value.code or 0)


def test_a_state_that_there_is_not_is_refused_with_those_that_there_are(
    served: Served, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert finetui(served, monkeypatch, "ls", "--state", "runing") == ExitCode.USAGE
    said = capsys.readouterr()
    assert "runing" in said.err
    assert all(state in said.err for state in RunState)
    assert said.out == ""


@pytest.mark.parametrize(("state", "runs"), [("finished", [1, 2]), ("running", [3]), ("paused", [])])
def test_a_state_chooses_its_runs(
    served: Served,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    state: str,
    runs: list[int],
) -> None:
    assert finetui(served, monkeypatch, "ls", "--state", state, "--json") == ExitCode.OK
    assert [row["run"] for row in json.loads(capsys.readouterr().out)] == runs
    assert finetui(served, monkeypatch, "ls", "--state", state) == ExitCode.OK
    assert (f"no run is {state}" in capsys.readouterr().err) == (not runs)


# ---- how it looks -----------------------------------------------------------------------------------


class Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


def listed(monkeypatch: pytest.MonkeyPatch, width: int, **changes: object) -> list[str]:
    """The lines of a table of two runs on a terminal."""
    row = {
        "cost": None,
        "run": 12345, "name": "support-lora with a rather long name r=16 lr=0.0003", "state": "finished",
        "method": "lora", "progress": "100%", "left": "–", "loss": 1.2345, "heldout": 2.3456, "general": 3.4567,
        "flags": "1 critical", "note": "out of memory: an example of 121 tokens alone does not fit into 10 MiB",
    }  # fmt: skip
    terminal = Tty()
    monkeypatch.setattr("sys.stdout", terminal)
    monkeypatch.setenv("COLUMNS", str(width))
    rows = [{**row, **changes}, {**row, "run": 7, "name": "short", **changes}]
    print_listing(rows, ls.LIST_COLUMNS, ls.LEAST, ls.DISPENSABLE)
    text = re.sub("\x1b\\[[0-9;]*m", "", terminal.getvalue())
    return [line.rstrip() for line in text.splitlines()]


@pytest.mark.parametrize("width", [60, 80, 100, 120, 200])
def test_a_run_is_one_line_with_its_number_its_state_and_both_ends_of_its_name(
    monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    head, first, second = listed(monkeypatch, width)
    assert all(len(line) <= width for line in (head, first, second))
    assert first.startswith("12345  support-l")
    assert "lr=0.0003  finished" in first
    assert second.split()[:3] == ["7", "short", "finished"]
    assert ("1.234" in first) == (width >= 80)
    assert "left" not in head, "no run has anything left"
    assert ("note" in head) == (width >= 100)


@pytest.mark.parametrize("width", [60, 80])
def test_runs_whose_names_differ_in_the_middle_do_not_look_alike(
    monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    names = [f"support-sweep r={rank} alpha=32 dropout=0.05" for rank in (4, 16, 64)]
    rows = [dict.fromkeys(ls.LIST_COLUMNS, "–") | {"run": at, "name": name} for at, name in enumerate(names)]
    terminal = Tty()
    monkeypatch.setattr("sys.stdout", terminal)
    monkeypatch.setenv("COLUMNS", str(width))
    print_listing(rows, ls.LIST_COLUMNS, ls.LEAST, ls.DISPENSABLE)
    assert all(f"r={rank} " in terminal.getvalue() for rank in (4, 16, 64)), terminal.getvalue()


def test_a_wide_terminal_shows_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    head, first, _ = listed(monkeypatch, 240)
    assert "r=16" in first
    assert first.endswith("does not fit into 10 MiB")
    assert head.split()[-1] == "note"
    assert "note" not in listed(monkeypatch, 240, note="")[0]


@pytest.mark.parametrize("words", [("ls",), ("ls", "--json")], ids=" ".join)
def test_alone_it_says_what_the_parser_makes_of_it_without_that(
    served: Served,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
) -> None:
    code = """if True:
        import sys
        from tui import cli
        try:
            cli.command()
        except SystemExit as ended:
            assert ended.code == 0
        print(*sys.modules, file=sys.stderr)
        import numpy, pyarrow as pa
        assert pa.array([1, 2]).to_pylist() == [1, 2]
    """
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        env={**os.environ, "FINETUI_HOME": str(served.home.path)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    capsys.readouterr()
    assert finetui(served, monkeypatch, *words, "-n", "50") == ExitCode.OK
    assert done.stdout == capsys.readouterr().out
    assert {"typer", "pydantic", "numpy"}.isdisjoint(done.stderr.split())


def test_alone_it_ends_as_the_others_do_where_nobody_reads_or_the_user_interrupts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "argv", ["finetui", "ls"])
    for error, code in ((KeyboardInterrupt(), 130), (BrokenPipeError(errno.EPIPE, "nobody reads"), 1)):
        monkeypatch.setattr(ls, "ls", Mock(side_effect=error))
        with pytest.raises(SystemExit) as ended:
            command()
        assert ended.value.code == code
