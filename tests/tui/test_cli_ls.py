"""`finetui ls`: the states that it takes, and those that it refuses."""

from __future__ import annotations

import json

import pytest
from made_home import Served

from finetui.errors import ExitCode
from store.states import RunState
from tui import cli


def finetui(served: Served, monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    """The exit code of a command in the served home."""
    monkeypatch.setenv("FINETUI_HOME", str(served.home.path))
    monkeypatch.setattr("sys.argv", ["finetui", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
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
