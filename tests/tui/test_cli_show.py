"""What commands print of runs with results: the made home, behind the real store."""

from __future__ import annotations

import csv
import io
import json
from datetime import datetime

import pytest
from live import Line
from made_home import STEPS, Served

from finetui.errors import ExitCode
from tui.cli import show


@pytest.fixture
def finetui(served: Served, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Line:
    monkeypatch.setenv("FINETUI_HOME", str(served.home.path))
    return Line(monkeypatch, capsys)


def test_show_has_everything_of_a_run(served: Served, finetui: Line) -> None:
    ended = finetui("show", 1)
    assert (ended.code, ended.err) == (ExitCode.OK, "")
    places = [
        ended.out.index(said)
        for said in (
            "#1 docstrings-full: finished\n",
            f"step {STEPS} of {STEPS}, ",
            "sft with full of bundled:stdlib-2m, 90000 of 2100000 parameters trained",
            "Loss, nats per token, with 95% interval and number of examples",
            "Held-out results, with 95% interval",
            "Held-out loss of the base model and at step 400, paired by example",
            "heldout: with ",
            "CRITICAL forgetting of general, slice prose",
            "Answers at step 400\n> def area(r):\nreturn 400 * r",
            "\nFiles\n",
            "\nRecipe\n",
        )
    ]
    assert places == sorted(places)
    assert f"{served.home.runs}/000001-docstrings-full" in ended.out


def test_show_of_runs_without_results(served: Served, finetui: Line) -> None:
    assert "waits: run #3 is running; 1 at a time" in finetui("show", 4).out
    failed = finetui("show", 5)
    assert failed.code == ExitCode.OK, "the command worked, though the run did not"
    assert failed.out.startswith("#5 broken: failed (train.max_length 4096 is longer than the model's 512)")


def test_show_of_a_run_that_has_logged_no_step(served: Served, finetui: Line) -> None:
    for number in (1, 2, 3, 4, 5):
        assert "None" not in finetui("show", number).out


def test_checkpoints_that_are_gone_are_told(served: Served, finetui: Line) -> None:
    shown = finetui("show", 1).out
    assert "step-000" not in shown, "the made home has no checkpoint on disk"
    assert "\n4 earlier checkpoints are no longer there (train.keep_checkpoints)\n" in shown
    there = served.home.runs / "000001-docstrings-full" / "checkpoints" / "step-000400"
    there.mkdir(parents=True)
    try:
        rows = json.loads(finetui("show", 1, "--json").out)["checkpoints"]
        assert [row["present"] for row in rows] == [False, False, False, True]
        shown = finetui("show", 1).out
        assert f"{there}  (3.2 MiB)\n3 earlier checkpoints are no longer there" in shown
    finally:
        there.rmdir()
        there.parent.rmdir()


def test_the_results_of_a_stopped_run_are_those_of_the_step_that_was_kept(
    capsys: pytest.CaptureFixture[str],
) -> None:
    evals = [
        {"suite": "heldout", "key": key, "step": step, "value": step / 10, "lo": None, "hi": None, "n": 3}
        for step in (0, 6, 24)
        for key in ("loss", "preference_loss")
    ]
    show._print_evals(evals, "dpo", kept_step=6)
    losses, results = capsys.readouterr().out.split("Held-out results")
    assert "24" in losses, "the curve is shown whole"
    assert "judged by preference_loss, nats per pair" in results
    assert ("step 6" in results, "0.6000" in results, "step 24" in results) == (True, True, False)
    show._print_evals(evals, "dpo", kept_step=None)
    assert "step 24" in capsys.readouterr().out.split("Held-out results")[1]
    show._print_samples(
        [{"step": step, "prompt": "p", "text": f"t{step}"} for step in (0, 6, 24)], kept_step=6
    )
    assert "Answers at step 6\n> p\nt6\n" in capsys.readouterr().out


def test_show_says_each_warning_of_the_worker_once(capsys: pytest.CaptureFixture[str]) -> None:
    said = [(1, "4 of 80 rows are skipped"), (2, "4 of 80 rows are skipped"), (2, "the data have changed")]
    show.print_warnings([{"attempt": attempt, "message": message} for attempt, message in said])
    assert capsys.readouterr().out == (
        "\nWarnings\nattempt 1: 4 of 80 rows are skipped\nattempt 2: the data have changed\n"
    )
    show.print_warnings([])
    assert capsys.readouterr().out == ""


def test_show_for_scripts(served: Served, finetui: Line) -> None:
    body = json.loads(finetui("show", 1, "--json").out)
    assert (body["run"], body["state"], body["recipe"]["method"]["name"]) == (1, "finished", "full")
    assert {flag["flag"] for flag in body["flags_raised"]} == {"overfitting", "forgetting"}
    assert body["flags"] == 2
    for row in (body["attempts"][0], body["evals"][0], body["flags_raised"][0]):
        for key in row.keys() & {"t", "started"}:
            assert datetime.fromisoformat(row[f"{key}_at"]).timestamp() == pytest.approx(row[key], abs=1)
    assert {row["step"] for row in body["evals"] if row["suite"] == "heldout"} >= {0, STEPS}
    assert [row["step"] for row in body["checkpoints"]] == [100, 200, 300, 400]
    assert body["datasets"][0]["source"] == "bundled:docstrings"


def test_ls_lists_by_state_and_says_what_it_left_out(served: Served, finetui: Line) -> None:
    rows = json.loads(finetui("ls", "--json").out)
    assert [row["run"] for row in rows] == [1, 2, 3, 4, 5]
    assert [row["run"] for row in json.loads(finetui("ls", "--state", "finished", "--json").out)] == [1, 2]
    some = finetui("ls", "-n", 2)
    assert "docstrings-full" not in some.out
    assert some.err == "3 earlier runs are not shown; see --limit\n"
    assert finetui("ls", "--state", "paused").err == "no run is paused\n"


def test_csv_is_no_program_for_a_spreadsheet(served: Served, finetui: Line) -> None:
    query = "SELECT '=1+1' AS \"@a\", '-x' AS b, -1 AS c, '-1.5' AS d, ['=1', '-'] AS e, NULL AS f, 'x' AS g"
    assert list(csv.reader(io.StringIO(finetui("sql", query, "--csv").out))) == [
        ["'@a", "b", "c", "d", "e", "f", "g"],
        ["'=1+1", "'-x", "-1", "-1.5", '["=1", "-"]', "", "x"],
    ]
    assert json.loads(finetui("sql", query, "--json").out)[0]["@a"] == "=1+1"


def test_a_spread_over_nan_says_what_to_do(served: Served, finetui: Line) -> None:
    ended = finetui("sql", "SELECT skewness(x) FROM (VALUES ('nan'::DOUBLE), (1), (2)) t(x)")
    assert (ended.code, ended.out) == (ExitCode.REFUSED, "")
    assert "NaN" in ended.err
    assert "isfinite" in ended.err
    end = ("finetui: syntax error at end of input", 'finetui: line 1: syntax error at or near "GROUP"')
    assert finetui("sql", "SELECT 1 FROM runs GROUP").err.startswith(end)


def test_logs_of_a_run_that_has_none(served: Served, finetui: Line) -> None:
    lines = finetui("logs", 2).out.splitlines()
    assert (lines[0], lines[-1]) == ("step 0: training", f"step {STEPS}: training")
    assert finetui("logs", 4) == (ExitCode.OK, "", "")


def test_logs_of_a_level(served: Served, finetui: Line) -> None:
    (path,) = served.home.runs.glob("000002-*/attempts/1/stdout.log")
    before = path.read_text()
    grave = 'WARNING:root:x\nTraceback (most recent call last):\n  File "t.py", line 1\nValueError: y\n'
    try:
        path.write_text(f"{before}{grave} 50%|██| 1/2\r100%|██| 2/2\nplain\nERROR: the last, unfinished")
        assert finetui("logs", 2, "--level", "warning").out == f"{grave}ERROR: the last, unfinished\n"
        assert "WARNING" not in finetui("logs", 2, "--level", "error").out
        assert "plain\n" in finetui("logs", 2, "--level", "info").out
    finally:
        path.write_text(before)
    refused = finetui("logs", 2, "--level", "loud")
    assert refused.code == ExitCode.USAGE
    assert "'warning'" in refused.err


def test_compare_shows_what_differs(served: Served, finetui: Line) -> None:
    body = json.loads(finetui("compare", 1, 2, "--json").out)
    assert {"key": "method.name", "#1": "full", "#2": "lora"} in body["config"]
    assert {row["suite"] for row in body["paired"]} == {"heldout", "general"}
    shown = finetui("compare", 1, 2).out
    assert "What differs in the recipes" in shown
    assert "Loss difference over the same examples" in shown
    one = finetui("compare", 1, 1)
    assert (one.code, one.err) == (ExitCode.REFUSED, "finetui: give two or more different runs to compare\n")


def test_sql_as_table_csv_and_json(served: Served, finetui: Line) -> None:
    query = "SELECT run, name, state FROM runs ORDER BY run"
    table = finetui("sql", query)
    assert table.out.splitlines()[1].split() == ["1", "docstrings-full", "finished"]
    assert table.err == "5 rows\n"
    rows = list(csv.DictReader(io.StringIO(finetui("sql", query, "--csv").out)))
    assert rows == [
        {k: str(v) for k, v in row.items()} for row in json.loads(finetui("sql", query, "--json").out)
    ]
    assert "2" in finetui("sql", query, "--limit", 2).err
    wrong = finetui("sql", "SELECT rum FROM runs")
    assert (wrong.code, wrong.out) == (ExitCode.REFUSED, "")
    assert "rum" in wrong.err
