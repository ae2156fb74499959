"""Flags on the command line: what `show` prints of them, and `fix` with its exit codes."""

from __future__ import annotations

import json
import re

import pytest
from made_home import Served

from finetui.errors import ExitCode
from tui import cli
from tui.cli.flags import flags_of, print_flags


def finetui(served: Served, monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    """The exit code of a command in the served home."""
    monkeypatch.setenv("FINETUI_HOME", str(served.home.path))
    monkeypatch.setattr("sys.argv", ["finetui", *words])
    with pytest.raises(SystemExit) as ended:
        cli.command()
    return int(ended.value.code or 0)


def test_a_flag_is_printed_with_all_its_evidence(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    with served.connect() as client:
        print_flags(client, 1)
    printed = capsys.readouterr().out
    assert printed.index("CRITICAL forgetting") < printed.index("WARN overfitting")
    for said in (
        "CRITICAL forgetting of general, slice prose, since step 280",
        "effect    +0.110 nats per token (95% interval +0.060 to +0.160)",
        "seen on   40 examples, at look 5",
        "tokens    31 lost",
        "forecast  +0.200 at step 400 (80% interval +0.150 to +0.250)",
        "to do     1. Use the checkpoint before step 320. [prechelt1998]",
        "worst     1.50 → 3.50  def f1():",
        "`finetui fix 1` turns the first suggestions into a new recipe",
    ):
        assert said in printed


def test_scripts_get_lists_and_texts(served: Served) -> None:
    with served.connect() as client:
        forgetting = next(row for row in flags_of(client, 1) if row["flag"] == "forgetting")
        assert flags_of(client, 2) == []
    assert forgetting["actions"][0]["change"] == {"train.max_steps": 320}
    assert forgetting["worst"][0] == {"id": "e1", "before": 1.5, "after": 3.5, "text": "def f1():"}
    json.dumps(forgetting)


def test_a_dry_run_tells_what_would_change(
    served: Served, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert finetui(served, monkeypatch, "fix", "1", "--dry-run", "--json") == ExitCode.OK
    told = json.loads(capsys.readouterr().out)
    assert [(c["key"], c["old"], c["new"], c["flag"]) for c in told["changes"]] == [
        ("train.max_steps", None, "320", "forgetting")
    ]
    assert (told["name"], told["path"], told["queued"]) == ("docstrings-full-fix", None, [])
    assert finetui(served, monkeypatch, "fix", "1", "--dry-run") == ExitCode.OK
    assert "Use the checkpoint before step 320. [prechelt1998]" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("number", "said"),
    [
        ("2", "run #2 has no flag that warns, so there is nothing to fix"),
        ("99", "there is no run #99; `finetui ls` lists them"),
    ],
)
def test_what_cannot_be_fixed_is_refused_in_a_sentence(
    served: Served,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    number: str,
    said: str,
) -> None:
    assert finetui(served, monkeypatch, "fix", number) == ExitCode.REFUSED
    assert capsys.readouterr().err.strip() == f"finetui: {said}"


def test_a_file_and_the_queue_exclude_each_other(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    assert finetui(served, monkeypatch, "fix", "1", "--add", "-o", "x.yaml") == ExitCode.USAGE


def test_a_run_that_cannot_be_scaled_says_why(
    served: Served, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert finetui(served, monkeypatch, "fix", "1", "--scale") == ExitCode.REFUSED
    assert capsys.readouterr().err.startswith("finetui: the weights of run #1 are gone from ")
    for words in (("--scale", "--add"), ("--force",)):
        assert finetui(served, monkeypatch, "fix", "1", *words) == ExitCode.USAGE


def test_a_front_is_printed_as_tables(capsys: pytest.CaptureFixture[str]) -> None:
    from test_scale_screen import a_front

    from tui.cli import scale

    scale._print(a_front())
    printed = capsys.readouterr().out
    assert "On 40 held-out and 20 general rows that chose the factor; nats per token" in printed
    assert "On 41 held-out and 20 general rows that did not choose it" in printed
    assert re.search(r"→ +0\.7 +2\.363 +−0\.637 ±0\.010 +\+0\.049 ±0\.010", printed)
    assert printed.rstrip().endswith("at 0.7 it is so.\nChosen for: w.")
