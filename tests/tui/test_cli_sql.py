"""`finetui sql` gives all rows, or says what is left out and how to get it; `ls` says what is wrong with the home."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from made_home import Served
from test_cli_ls import finetui

from finetui.client import Client
from finetui.errors import ExitCode
from store.limits import Limits

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
    assert finetui(served, monkeypatch, "sql", ROWS) == ExitCode.FAILED, "a script sees that rows are missing"
    said = capsys.readouterr()
    assert "only the first 1,000 of 3,000 rows are shown; --csv, --json and -o FILE give all" in said.err
    assert finetui(served, monkeypatch, "sql", "--csv", "-n", "5", ROWS) == 0
    said = capsys.readouterr()
    assert len(said.out.split()) == 6
    assert said.err == "only the first 5 of 3,000 rows are shown\n"


def test_an_answer_that_is_too_large_is_an_error_for_programs(
    served: Served, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Limits, "answer_bytes", 10_000)
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


# ---- into a file -----------------------------------------------------------------------------------------

TABLE = "SELECT range AS r, 'a|b' AS t, CASE range WHEN 1 THEN 0.5 END AS x FROM range(2000)"


def test_an_answer_goes_into_a_file_of_each_form_whole(
    served: Served, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for ending in (".csv", ".parquet", ".json", ".md"):
        assert finetui(served, monkeypatch, "sql", TABLE, "-o", str(tmp_path / f"rows{ending}")) == 0
        said = capsys.readouterr()
        assert (said.out, said.err) == ("", f"2,000 rows in {tmp_path}/rows{ending}\n")
    with (tmp_path / "rows.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2000
    assert rows[1] == {"r": "1", "t": "a|b", "x": "0.5"}
    assert pq.read_table(tmp_path / "rows.parquet").to_pylist()[1] == {"r": 1, "t": "a|b", "x": 0.5}
    assert json.loads((tmp_path / "rows.json").read_text())[0] == {"r": 0, "t": "a|b", "x": None}
    assert (tmp_path / "rows.md").read_text().splitlines()[:4] == [
        "| r | t | x |", "|---:|---|---:|", "| 0 | a\\|b |  |", "| 1 | a\\|b | 0.5 |",
    ]  # fmt: skip
    assert len(list(tmp_path.iterdir())) == 4, "nothing is left beside them"


def test_a_file_is_not_written_where_rows_would_be_missing(
    served: Served, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("what was there\n")
    monkeypatch.setattr(Limits, "answer_bytes", 10_000)
    assert finetui(served, monkeypatch, "sql", ROWS, "-o", str(path)) == ExitCode.FAILED
    assert f"{path} is not written, for it would lack rows" in capsys.readouterr().err
    assert path.read_text() == "what was there\n"
    assert finetui(served, monkeypatch, "sql", ROWS, "-n", "3", "-o", str(path)) == 0
    assert path.read_text().split() == ["r", "0", "1", "2"]


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["-o", "rows.xlsx"], ExitCode.REFUSED, "rows.xlsx: end the name in .csv, .parquet, .json or .md"),
        (["-o", "rows.csv", "--json"], ExitCode.USAGE, "give one of --csv, --json and --out"),
        (["-o", "nowhere/rows.csv"], ExitCode.REFUSED, "there is no directory nowhere"),
    ],
)
def test_a_file_that_cannot_be_is_refused_in_a_sentence(
    served: Served,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    words: list[str],
    code: ExitCode,
    sentence: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert finetui(served, monkeypatch, "sql", "SELECT 1", *words) == code
    assert sentence in " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert not list(tmp_path.iterdir())


ODD = """
SELECT 'nan'::DOUBLE AS a, '-inf'::DOUBLE AS b, NULL AS c, 'infinity'::DATE AS d,
       '55840-11-08 22:13:20'::TIMESTAMP AS e, INTERVAL '14 months 3 days 2.5 seconds' AS f, '\\xAA'::BLOB AS g,
       ['-infinity'::DATE] AS h, 170141183460469231731687303715884105727 AS i, '0044-03-15 (BC)'::DATE AS j
"""


def test_values_that_python_or_json_lacks_are_texts(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    written = {
        "a": "NaN", "b": "-Infinity", "c": None, "d": "infinity", "e": "55840-11-08 22:13:20",
        "f": "1 year 2 months 3 days 00:00:02.5", "g": "\\xAA", "h": ["-infinity"],
        "i": 170141183460469231731687303715884105727, "j": "0044-03-15 (BC)",
    }  # fmt: skip
    assert finetui(served, monkeypatch, "sql", "--json", ODD) == 0
    assert json.loads(capsys.readouterr().out) == [written]
    assert finetui(served, monkeypatch, "sql", "--csv", ODD) == 0
    assert "nan,-inf,,infinity,55840-11-08 22:13:20," in capsys.readouterr().out
    assert finetui(served, monkeypatch, "sql", ODD) == 0
    assert "170,141,183,460,469,231,731,687,303,715,884,105,727" in capsys.readouterr().out
    assert finetui(served, monkeypatch, "sql", "SELECT 3::DECIMAL(18, 6) AS d") == 0
    assert capsys.readouterr().out.split() == ["d", "3"]
    for ending in ("csv", "json", "md"):
        assert finetui(served, monkeypatch, "sql", "-o", str(tmp_path / f"odd.{ending}"), ODD) == 0
        assert "1 year 2 months" in (tmp_path / f"odd.{ending}").read_text()
