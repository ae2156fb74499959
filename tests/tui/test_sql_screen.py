"""The SQL screen beyond asking: completion, cells, order, copying, saving, saved queries, charts."""

from __future__ import annotations

import csv
import errno
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from made_home import Served
from pilot import ready, status, text_of, type_text, until
from textual import events

from finetui.errors import StoreError
from tui import table_files
from tui.app import FinetuiApp
from tui.lines.theme import Glyphs
from tui.screens.queries import EXAMPLES, QueriesScreen
from tui.screens.reader import ReaderScreen
from tui.screens.sql import SqlScreen
from tui.state import ChartView
from tui.widgets import result_chart
from tui.widgets.panel import Panel
from tui.widgets.plot import render

MakeApp = Callable[..., FinetuiApp]
SMALL, LARGE = (80, 24), (200, 50)
SIZES = pytest.mark.parametrize("size", [SMALL, LARGE], ids=["small", "large"])


async def open_sql(pilot: Any, query: str = "") -> SqlScreen:
    """The screen with a query that has run, or an empty editor, once the names are known."""
    await ready(pilot)
    await pilot.press("colon")
    await until(pilot, lambda: isinstance(pilot.app.screen, SqlScreen), "the screen")
    screen = pilot.app.screen
    assert isinstance(screen, SqlScreen)
    await until(pilot, lambda: bool(screen.editor.names.items), "the names")
    screen.editor.load_text(query)
    await pilot.pause()
    if query:
        await pilot.press("f5")
        await until(pilot, lambda: not screen.running and screen.results.shown is not None, "the result")
    return screen


# ---- completion and highlighting ---------------------------------------------------------------------


@SIZES
async def test_names_are_completed_as_they_are_typed(make_app: MakeApp, size: tuple[int, int]) -> None:
    app = make_app()
    async with app.run_test(size=size) as pilot:
        screen = await open_sql(pilot)
        await type_text(pilot, "FROM lea")
        await until(pilot, lambda: "leaderboard" in text_of(app, "#completion"), "the list")
        region = screen.editor.completion.region
        assert region.y == screen.editor.cursor_screen_offset.y + 1
        assert app.screen.region.contains_region(region)
        await pilot.press("tab")
        assert screen.editor.text == "FROM leaderboard"
        assert screen.active == "editor"
        assert not screen.editor.completion.display
        await pilot.press("tab")
        assert screen.active == "results"


async def test_metrics_and_parameters_are_completed_within_quotes(make_app: MakeApp) -> None:
    app = make_app()
    async with app.run_test(size=SMALL) as pilot:
        screen = await open_sql(pilot)
        await type_text(pilot, "FROM cur")
        await pilot.press("tab")
        await type_text(pilot, "1, 'train/lo")
        await until(pilot, lambda: "train/loss" in text_of(app, "#completion"), "the list")
        await pilot.press("tab")
        await type_text(pilot, ")")
        assert screen.editor.text == "FROM curve(1, 'train/loss')"
        screen.editor.load_text("FROM params WHERE key = 'data.tr")
        screen.editor.move_cursor(screen.editor.document.end)
        await pilot.press("ctrl+@")
        await until(pilot, lambda: "data.train" in text_of(app, "#completion"), "the parameters")


async def test_enter_runs_and_takes_from_the_list_only_after_an_arrow(make_app: MakeApp) -> None:
    app = make_app()
    async with app.run_test(size=SMALL) as pilot:
        screen = await open_sql(pilot)
        await type_text(pilot, "SELECT ru")
        await until(pilot, lambda: screen.editor.completion.display, "the list")
        await pilot.press("down", "down", "up", "enter")
        assert screen.editor.text == "SELECT run"
        assert screen.running is None
        await type_text(pilot, ", s")
        await until(pilot, lambda: screen.editor.completion.display, "the list")
        await pilot.press("escape")
        assert not screen.editor.completion.display
        assert app.screen is screen
        await type_text(pilot, "tat")
        await until(pilot, lambda: screen.editor.completion.display, "the list")
        await pilot.press("enter")
        await until(pilot, lambda: bool(screen.results.error), "the answer")
        assert screen.editor.text == "SELECT run, stat"


async def test_keys_that_come_all_at_once_leave_the_list_of_the_last(make_app: MakeApp) -> None:
    app = make_app()
    async with app.run_test(size=SMALL) as pilot:
        screen = await open_sql(pilot)
        for key in "leade":  # as over a slow line
            screen.editor.post_message(events.Key(key, key))
        await until(pilot, lambda: "leaderboard" in text_of(app, "#completion"), "the list")
        assert screen.editor.text == "leade"
        screen.editor.load_text("other")
        await until(pilot, lambda: not screen.editor.completion.display, "the end of the list")


async def test_a_list_near_the_edges_stays_on_the_screen(make_app: MakeApp) -> None:
    app = make_app()
    async with app.run_test(size=(60, 12)) as pilot:
        screen = await open_sql(pilot)
        screen.editor.load_text("SELECT\n1\n2\n3, " + "9" * 40 + ", ")
        screen.editor.move_cursor(screen.editor.document.end)
        await type_text(pilot, "s")
        await until(pilot, lambda: screen.editor.completion.display, "the list")
        await pilot.pause()
        assert app.screen.region.contains_region(screen.editor.completion.region)


async def test_keywords_texts_and_known_names_are_told_apart(make_app: MakeApp) -> None:
    app = make_app()
    async with app.run_test(size=SMALL) as pilot:
        screen = await open_sql(pilot)
        screen.editor.load_text("SELECT name, nmae FROM runs /* two\nlines */ WHERE name = 'ü' -- x")
        await pilot.pause()
        first, second = screen.editor.get_line(0), screen.editor.get_line(1)
        look = {first.plain[span.start : span.end]: span.style for span in first.spans}
        assert set(look) == {"SELECT", "name", "FROM", "runs", "/* two"}
        assert len({str(look[word]) for word in ("SELECT", "name", "runs", "/* two")}) == 4
        assert [second.plain[span.start : span.end] for span in second.spans] == [
            "lines */", "WHERE", "name", "'ü'", "-- x",
        ]  # fmt: skip


# ---- describing --------------------------------------------------------------------------------------


async def test_what_is_under_the_cursor_is_described_beside_and_whole(make_app: MakeApp) -> None:
    app = make_app()
    async with app.run_test(size=LARGE) as pilot:
        screen = await open_sql(pilot)
        await type_text(pilot, "FROM curve")
        await pilot.pause()
        assert "curve(run, key)  macro" in text_of(app, "#tables")
        assert "Every point of one metric of one run" in text_of(app, "#tables")
        await pilot.press("f4")
        await until(pilot, lambda: isinstance(app.screen, ReaderScreen), "the reader")
        assert "Every point of one metric" in text_of(app, "#text")
        await pilot.press("escape")
        screen.editor.load_text("FROM runs")
        screen.editor.move_cursor(screen.editor.document.end)
        await pilot.press("f4")
        await until(pilot, lambda: isinstance(app.screen, ReaderScreen), "the reader")
        assert "number of the run" in text_of(app, "#text")


async def test_nothing_to_describe_is_said(make_app: MakeApp) -> None:
    app = make_app()
    async with app.run_test(size=SMALL) as pilot:
        await open_sql(pilot)
        await pilot.press("f4")
        assert "no table, column or function" in status(app)


# ---- results -----------------------------------------------------------------------------------------

LONG = "word " * 60 + "end"
QUERY = f"SELECT i, repeat('x', 70) AS wide, 3 - i AS back, '{LONG}' AS long, NULL AS none FROM range(3) t(i)"


@SIZES
async def test_a_cell_is_reached_sideways_and_read_whole(make_app: MakeApp, size: tuple[int, int]) -> None:
    app = make_app()
    async with app.run_test(size=size) as pilot:
        await open_sql(pilot, QUERY)
        await pilot.press("tab", "j", "l", "l", "l")
        assert "long" in text_of(app, "#results").splitlines()[0]
        assert "…" in text_of(app, "#results")
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, ReaderScreen), "the reader")
        assert "long, row 2" in text_of(app, "#header")
        await until(pilot, lambda: "word end" in text_of(app, "#text").replace("\n", ""), "the text")
        await pilot.press("escape", "l", "enter")
        await until(pilot, lambda: isinstance(app.screen, ReaderScreen), "the reader")
        assert text_of(app, "#text").strip() == "NULL"


async def test_rows_are_sorted_by_the_column_under_the_cursor(make_app: MakeApp) -> None:
    app = make_app()
    async with app.run_test(size=SMALL) as pilot:
        screen = await open_sql(pilot, "SELECT i, [i] AS l FROM (VALUES (2), (NULL), (10), (1)) t(i)")

        def column() -> list[Any]:
            assert screen.results.result is not None
            return list(screen.results.result.table.column(0).to_pylist())

        await pilot.press("tab", "s")
        assert column() == [1, 2, 10, None]
        assert "i ▴" in text_of(app, "#results")
        await pilot.press("s")
        assert column() == [10, 2, 1, None]
        assert "i ▾" in text_of(app, "#results")
        await pilot.press("S")
        assert column() == [1, 2, 10, None]
        await pilot.press("l", "s")
        assert "l cannot be sorted by" in status(app)


@pytest.mark.parametrize(
    ("key", "copied"),
    [
        ("c", "a\tb"),
        ("r", 'n,text\r\n2,"a\tb"\r\n'.replace(",", "\t")),
        ("o", "'=1\na\tb"),
        ("t", 'n,text\r\n1,\'=1\r\n2,"a\tb"\r\n'.replace(",", "\t")),
        ("m", "| n | text |\n|---:|---|\n| 1 | =1 |\n| 2 | a b |\n"),
        ("q", "SELECT"),
    ],
)
async def test_cell_row_column_table_and_query_are_copied(make_app: MakeApp, key: str, copied: str) -> None:
    app = make_app()
    async with app.run_test(size=SMALL) as pilot:
        await open_sql(pilot, "SELECT * FROM (VALUES (1, '=1'), (2, 'a' || chr(9) || 'b')) t(n, text)")
        await pilot.press("tab", "j", "l", "Y")
        assert status(app) == "copy:   c cell   r row   o column   t TSV   m Markdown   q query   v view"
        await pilot.press(key)
        await until(pilot, lambda: status(app).startswith("copied"), "the copy")
        if key == "q":
            assert app.clipboard.startswith(copied)
        else:
            assert app.clipboard == (copied.removeprefix("'") if key == "o" else copied)


async def test_an_error_is_read_and_copied_whole(make_app: MakeApp) -> None:
    app = make_app()
    async with app.run_test(size=SMALL) as pilot:
        screen = await open_sql(pilot)
        screen.editor.load_text("SELECT " + "nothing_like_that_" * 6 + " FROM runs")
        await pilot.press("f5")
        await until(pilot, lambda: bool(screen.results.error), "the error")
        await pilot.press("tab", "Y", "e")
        await until(pilot, lambda: "copied the error" in status(app), "the copy")
        assert app.clipboard == screen.results.error
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, ReaderScreen), "the reader")


@pytest.mark.parametrize("size", [(80, 12), SMALL, LARGE])
async def test_a_query_that_fails_leaves_the_results_before(make_app: MakeApp, size: tuple[int, int]) -> None:
    app = make_app()
    async with app.run_test(size=size) as pilot:
        screen = await open_sql(pilot, "SELECT 42 AS answer")
        screen.editor.load_text("SELECT " + "nothing_like_that_" * 20 + " FROM runs")
        await pilot.press("f5")
        await until(pilot, lambda: bool(screen.results.error), "the error")
        await pilot.pause()
        results = screen.query_one("#results", Panel)
        assert results.border_title == "Results of the query before"
        assert "42" in results.text()
        error = " ".join(text_of(app, "#outcome").split())
        assert error.startswith("nothing_like_that_nothing") or "nothing_like_that" in error
        assert error.endswith("… enter in the results") or size == LARGE
        await pilot.press("tab", "enter")
        if size == LARGE:  # the error is there whole
            await until(pilot, lambda: isinstance(app.screen, ReaderScreen), "the cell")
            assert text_of(app, "#text").strip() == "42"
            return
        assert status(app) == "read:   c cell   e error"
        await pilot.press("e")
        await until(pilot, lambda: isinstance(app.screen, ReaderScreen), "the error")
        assert "".join(text_of(app, "#text").split()).count("nothing_like_that_") == 20
        await pilot.press("escape")
        await until(pilot, lambda: app.screen is screen, "the way back")
        await pilot.press("Y", "c")
        await until(pilot, lambda: status(app).startswith("copied"), "the copy")
        assert app.clipboard == "42"
        await pilot.press("f3")
        assert status(app).startswith("This query has failed. Save it all the same?")
        await pilot.press("n")
        assert screen.saved == {}
        screen.editor.load_text("SELECT 43 AS answer")
        await pilot.press("f5")
        await until(pilot, lambda: "43" in results.text(), "the next result")
        assert results.border_title == "Results"
        assert screen.query_one("#outcome").size.height == 1


async def test_times_are_local_with_their_zone_and_numbers_whole(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        app = make_app()
        async with app.run_test(size=LARGE) as pilot:
            query = "SELECT created, to_timestamp(created) AS at, make_timestamp(0) AS naive FROM runs WHERE run = 2"
            screen = await open_sql(pilot, query)
            assert text_of(app, "#results").split()[-8:] == [
                *("2026-09-21", "22:06:40", "JST") * 2, "1970-01-01", "00:00:00"
            ]  # fmt: skip
            await pilot.press("tab")
            await until(pilot, lambda: "s sort" in text_of(app, "#footer"), "the keys of the results")
            await pilot.press("shift+tab")
            await until(pilot, lambda: "s sort" not in text_of(app, "#footer"), "the keys of the editor")
            await pilot.press("tab", "enter")
            await until(pilot, lambda: isinstance(app.screen, ReaderScreen), "the cell")
            assert text_of(app, "#text").split() == ["1789996000.0", "2026-09-21", "22:06:40", "JST"]
            await pilot.press("escape")
            screen.editor.load_text("SELECT to_timestamp(created) AS at, run FROM runs")
            await pilot.press("f5")
            await until(pilot, lambda: screen.results.result.names == ["at", "run"], "the second result")
            await pilot.press("c")
            assert str(screen.query_one("#results", Panel).border_title).endswith("22:06:40 JST")
    finally:
        monkeypatch.undo()
        time.tzset()


# ---- saving ------------------------------------------------------------------------------------------


async def save(pilot: Any, path: Path) -> None:
    await pilot.press("w")
    await until(pilot, lambda: pilot.app.focused is not None, "the prompt")
    pilot.app.focused.value = str(path)
    await pilot.press("enter")


SAVED = "SELECT i, i / 3 AS third, CASE WHEN i % 2 = 0 THEN 'a|b' END AS text, [i] AS list FROM range(7) t(i)"


async def test_a_result_is_saved_by_the_ending_of_the_file(make_app: MakeApp, tmp_path: Path) -> None:
    app = make_app()
    async with app.run_test(size=SMALL) as pilot:
        await open_sql(pilot, SAVED)
        await pilot.press("tab", "s", "s")
        for ending in (".csv", ".parquet", ".json", ".md"):
            path = tmp_path / f"out{ending}"
            await save(pilot, path)
            await until(pilot, lambda path=path: f"7 rows written to {path}" in status(app), ending)
    table = parquet.read_table(tmp_path / "out.parquet")
    assert table.column("i").to_pylist() == [6, 5, 4, 3, 2, 1, 0], "as sorted on the screen"
    assert table.column("list").to_pylist()[0] == [6]
    assert json.loads((tmp_path / "out.json").read_text()) == table.to_pylist()
    rows = list(csv.DictReader((tmp_path / "out.csv").open(newline="")))
    assert [float(row["third"]) for row in rows] == table.column("third").to_pylist()
    assert [row["text"] or None for row in rows] == table.column("text").to_pylist()
    lines = (tmp_path / "out.md").read_text().splitlines()
    assert lines[:3] == [
        "| i | third | text | list |",
        "|---:|---:|---|---|",
        "| 6 | 2.0 | a\\|b | \\[6\\] |",
    ]
    assert len(lines) == 9
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "out.csv",
        "out.json",
        "out.md",
        "out.parquet",
    ]


async def test_rows_beyond_those_shown_are_saved_too(make_app: MakeApp, tmp_path: Path) -> None:
    app = make_app()
    async with app.run_test(size=SMALL) as pilot:
        await open_sql(pilot, "SELECT i FROM range(150000) t(i) ORDER BY i")
        await pilot.press("tab")
        await save(pilot, tmp_path / "all.parquet")
        await until(pilot, lambda: "150,000 rows written" in status(app), "the file")
        await pilot.press("Y", "t")
        assert "100,000 rows are too many to copy" in status(app)
    assert parquet.read_table(tmp_path / "all.parquet").column("i").to_pylist() == list(range(150_000))


async def test_a_file_is_replaced_only_after_a_question_and_faults_are_sentences(
    make_app: MakeApp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make_app()
    path = tmp_path / "a.csv"
    path.write_text("mine")
    async with app.run_test(size=SMALL) as pilot:
        screen = await open_sql(pilot)
        await pilot.press("tab", "w")
        assert "run a query first" in status(app)
        screen.editor.load_text("SELECT 1 AS one")
        await pilot.press("f5")
        await until(pilot, lambda: screen.results.shown is not None, "the result")
        for name, said in (("a.txt", "end the name in .csv"), ("no/a.csv", "there is no directory")):
            await save(pilot, tmp_path / name)
            await until(pilot, lambda said=said: said in status(app), said)
        assert screen.active == "results"
        await save(pilot, path)
        await until(pilot, lambda: "Replace" in status(app), "the question")
        await pilot.press("n")
        assert path.read_text() == "mine"
        await save(pilot, path)
        await until(pilot, lambda: "Replace" in status(app), "the question")
        await pilot.press("y")
        await until(pilot, lambda: "1 row written" in status(app), "the file")
        assert path.read_text().split() == ["one", "1"]

        def full(*_: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(table_files, "csv_text", full)
        await save(pilot, tmp_path / "b.csv")
        await until(pilot, lambda: "was not written: No space left" in status(app), "the sentence")
    assert [one.name for one in tmp_path.iterdir()] == ["a.csv"], "nothing half-written is left"


def test_what_parquet_cannot_hold_is_a_sentence(tmp_path: Path) -> None:
    table = pa.table({"x": pa.array([pa.MonthDayNano([1, 2, 3])])})
    with pytest.raises(StoreError, match=r"x\.parquet was not written"):
        table_files.write(table, tmp_path / "x.parquet")
    assert list(tmp_path.iterdir()) == []


def test_a_result_without_rows_is_a_file_with_its_columns(tmp_path: Path) -> None:
    table = pa.table({"x": pa.array([], pa.int64())})
    texts = {ending: tmp_path / f"x{ending}" for ending in table_files.ENDINGS}
    for path in texts.values():
        table_files.write(table, path)
    assert texts[".csv"].read_text() == "x\n"
    assert json.loads(texts[".json"].read_text()) == []
    assert texts[".md"].read_text() == "| x |\n|---:|\n"
    assert parquet.read_table(texts[".parquet"]).schema.names == ["x"]


# ---- saved queries -----------------------------------------------------------------------------------


@SIZES
async def test_a_query_is_saved_listed_used_and_deleted(
    make_app: MakeApp, served: Served, size: tuple[int, int]
) -> None:
    app = make_app()
    async with app.run_test(size=size) as pilot:
        screen = await open_sql(pilot, "SELECT 1 AS one")
        for query in ("SELECT 2 AS two", "SELECT 3 AS three"):  # the second one replaces the first
            screen.editor.load_text(query)
            await pilot.press("f3")
            await until(pilot, lambda: app.focused is not screen.editor, "the prompt")
            await type_text(pilot, "mine")
            await pilot.press("enter")
            await until(pilot, lambda: "mine" in status(app), "the word")
            if "Replace" in status(app):
                await pilot.press("y")
        assert app.focused is screen.editor
        await until(
            pilot, lambda: app.remembered.saved_queries() == {"mine": "SELECT 3 AS three"}, "the file"
        )
        await pilot.press("f2")
        await until(pilot, lambda: isinstance(app.screen, QueriesScreen), "the list")
        lines = text_of(app, "#list").splitlines()
        assert lines[0].split() == ["▌saved", "mine", "SELECT", "3", "AS", "three"]
        assert EXAMPLES[0] in lines[1]
        await pilot.press("G")
        assert text_of(app, "#query").strip() == "SELECT 1 AS one", "the history is at the end"
        await pilot.press("D")
        assert "only saved queries can be deleted" in status(app)
        await pilot.press("g", "enter")
        assert app.screen is screen
        assert screen.editor.text == "SELECT 3 AS three"
    again = make_app()
    async with again.run_test(size=size) as pilot:
        await open_sql(pilot)
        await pilot.press("f2")
        await until(pilot, lambda: isinstance(again.screen, QueriesScreen), "the list")
        await pilot.press("D", "y")
        await until(pilot, lambda: again.remembered.saved_queries() == {}, "the file")
        assert "mine" not in text_of(again, "#list")


@pytest.mark.parametrize("kept", [None, 3, ["x"], {"a": 1}])
def test_saved_queries_that_cannot_be_read_are_none(make_app: MakeApp, served: Served, kept: object) -> None:
    (served.home.path / "screen.json").write_text(json.dumps({"saved": kept}))
    assert make_app().remembered.saved_queries() == {}


# ---- charts ------------------------------------------------------------------------------------------


def drawn(table: pa.Table, x: str | None = None) -> dict[str, tuple[tuple[float, ...], tuple[float, ...]]]:
    curves = result_chart.of(table, x)
    assert curves is not None
    return {one.label: (one.x, one.y) for one in curves.plot(None, ChartView(), color=True).series}


def test_the_first_column_with_numbers_is_x() -> None:
    table = pa.table({"lr": [3.0, 1.0, 2.0], "loss": [30, 10, None], "word": ["a", "b", "c"]})
    ((label, (x, y)),) = drawn(table).items()
    assert (label, x) == ("loss", (1.0, 2.0, 3.0))
    assert y[::2] == (10.0, 30.0)
    assert y[1] != y[1], "NULL is a gap"


def test_one_column_of_numbers_is_drawn_over_the_rows() -> None:
    assert drawn(pa.table({"loss": [3.0, 2.0]})) == {"loss": ((1.0, 2.0), (3.0, 2.0))}


def test_columns_before_the_step_tell_the_lines_apart() -> None:
    table = pa.table({"run": [1, 1, 2, 2], "step": [0, 5, 0, 5], "value": [4.0, 3.0, 2.0, 1.0]})
    assert drawn(table) == {"#1": ((0.0, 5.0), (4.0, 3.0)), "#2": ((0.0, 5.0), (2.0, 1.0))}
    assert list(drawn(table, "run")) == ["step", "value"], "another x by hand"


def test_a_result_without_numbers_has_no_chart() -> None:
    assert result_chart.of(pa.table({"word": ["a"]}), None) is None


def test_moments_that_python_lacks_have_no_place_in_a_chart() -> None:
    ends = pa.array([2**31 - 1, 20_000, 20_001], pa.int32()).cast(pa.date32())  # DuckDB's infinity first
    curves = result_chart.of(pa.table({"day": ends, "y": [1, 2, 3]}), "day")
    assert curves is not None
    (line,) = curves.series
    assert line[2:] == ((0.0, 24.0), (2.0, 3.0))
    none = result_chart.of(pa.table({"day": ends[:1], "y": [1]}), "day")
    assert none is not None
    assert none.series[0][2:] == ((), ())


def test_many_points_are_put_together_with_their_extremes() -> None:
    count = 100_000
    curves = result_chart.of(pa.table({"step": range(count), "y": [at % 100 for at in range(count)]}), None)
    assert curves is not None
    (series,) = curves.plot(None, ChartView(glyphs=Glyphs.ASCII), color=False).series
    assert len(series.x) <= result_chart.MOST_POINTS
    assert (min(series.low), max(series.high), series.y[-1]) == (0, 99, 99)
    plot = curves.plot(None, ChartView(glyphs=Glyphs.ASCII), color=False)
    assert all("".join(text for text, _ in line).isascii() for line in render(plot, 70, 15))


@SIZES
async def test_a_result_is_drawn_in_place_of_its_rows(make_app: MakeApp, size: tuple[int, int]) -> None:
    app = make_app()
    async with app.run_test(size=size) as pilot:
        screen = await open_sql(pilot, "SELECT step, value, 2 * value AS twice FROM curve(1, 'train/loss')")
        await pilot.press("tab", "c")
        assert "● value" in text_of(app, "#results")
        assert "■ twice" in text_of(app, "#results")
        await pilot.press("l", "l")
        assert "value" not in text_of(app, "#results")
        assert "● twice" in text_of(app, "#results")
        await pilot.press("y")
        assert app.state.view.log
        await pilot.press("c")
        assert text_of(app, "#results").split()[:3] == ["step", "value", "twice"]
        await pilot.press("l", "x")
        assert screen.results.curves is not None
        assert screen.results.curves.x == "value"
        screen.editor.load_text("SELECT 'a' AS word")
        await pilot.press("f5")
        await until(pilot, lambda: not screen.running and screen.results.column_name() == "word", "the rows")
        await pilot.press("c")
        assert "no column of the result has numbers" in status(app)


async def test_a_query_that_was_not_run_is_there_again_and_the_suggestion_gives_way(make_app: Any) -> None:
    app = make_app([3])
    async with app.run_test(size=(80, 24)) as pilot:
        await ready(pilot)
        await pilot.press("colon")
        await until(pilot, lambda: isinstance(app.screen, SqlScreen))
        await pilot.press("x", "y")
        assert app.screen.editor.text == "xy"
        await pilot.press("escape")
        assert status(app) == "esc again leaves; what is typed stays for the next time"
        await pilot.press("escape")
        await until(pilot, lambda: not isinstance(app.screen, SqlScreen))
        await pilot.press("colon")
        await until(pilot, lambda: isinstance(app.screen, SqlScreen))
        assert app.screen.editor.text == "xy"
        await pilot.press("z")
        assert app.screen.editor.text == "xyz"
