"""`finetui sql` gives all rows, or says what is left out and how to get it; `ls` says what is wrong with the home."""

from __future__ import annotations

import json
from typing import Any

import pytest
from made_home import Served
from test_cli_ls import finetui

from finetui.client import Client
from store import guard

ROWS = "SELECT range AS r FROM range(3000)"


def test_programs_get_all_rows(
    served: Served, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert finetui(served, monkeypatch, "sql", "--csv", ROWS) == 0
    said = capsys.readouterr()
    assert said.out.split() == ["r", *map(str, range(3000))]
    assert said.err == ""
    assert finetui(served, monkeypatch, "sql", "--json", ROWS) == 0
    assert len(json.loads(capsys.readouterr().out)) == 3000


def test_people_are_told_what_is_left_out(
    served: Served, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert finetui(served, monkeypatch, "sql", ROWS) == 0
    said = capsys.readouterr()
    assert "only the first 1,000 of 3,000 rows are shown; --csv and --json give all" in said.err
    assert finetui(served, monkeypatch, "sql", "--csv", "-n", "5", ROWS) == 0
    said = capsys.readouterr()
    assert len(said.out.split()) == 6
    assert said.err == "only the first 5 of 3,000 rows are shown\n"


def test_an_answer_that_is_too_large_is_an_error_for_programs(
    served: Served, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(guard, "LARGEST_ANSWER", 10_000)
    assert finetui(served, monkeypatch, "sql", "--json", ROWS) == 1
    said = capsys.readouterr()
    assert 0 < len(json.loads(said.out)) < 3000
    assert "of 3,000 rows are shown, since the answer has more than" in said.err


def test_ls_says_what_it_waits_for_and_what_is_wrong(
    served: Served, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    replies = [
        {"reading": "logs are being read: 1 of 3 runs so far", "problems": []},
        {"reading": "logs are being read: 1 of 3 runs so far", "problems": []},
        {"reading": None, "problems": ["run #2: journal.jsonl is empty"]},
    ]
    action = Client.action

    def answer(self: Client, name: str, /, **body: Any) -> dict[str, Any]:
        return replies.pop(0) if name == "drain" else action(self, name, **body)

    monkeypatch.setattr(Client, "action", answer)
    assert finetui(served, monkeypatch, "ls") == 0
    said = capsys.readouterr()
    assert said.err == "logs are being read: 1 of 3 runs so far\nproblem: run #2: journal.jsonl is empty\n"
    assert said.out.startswith("run")
