"""The widget repaints what changed and nothing else."""

from __future__ import annotations

from textual.app import App, ComposeResult
from textual.geometry import Region

from tui.lines.text import Line
from tui.widgets.panel import Panel, changed_spans
from tui.widgets.plot import Plot, Series, render


class OnePanel(App[None]):
    ascii_only = False

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[Line] = [[("hello world", "text")], [("second", "dim")]]

    def compose(self) -> ComposeResult:
        yield Panel(lambda width, height: self.lines, id="panel")


def test_changed_spans() -> None:
    before: Line = [("abcdefghijklmnop", "text")]
    assert list(changed_spans(before, before)) == []
    assert list(changed_spans(before, [("abXdefghijklmnop", "text")])) == [(2, 3)]
    assert list(changed_spans(before, [("abXdYfghijklmnop", "text")])) == [(2, 5)]
    assert list(changed_spans(before, [("aXcdefghijklmnoZ", "text")])) == [(1, 2), (15, 16)]
    assert list(changed_spans(before, [("abcd", "text"), ("efgh", "warn"), ("ijklmnop", "text")])) == [(4, 8)]


def test_wide_characters_take_two_cells() -> None:
    assert list(changed_spans([("日本ab", "text")], [("日本aX", "text")])) == [(5, 6)]
    assert list(changed_spans([("日本ab", "text")], [("日xyab", "text")])) == [(2, 4)]
    assert list(changed_spans([("日本ab", "text")], [("月本ab", "text")])) == [(0, 2)], "no half characters"


def test_nothing_behind_a_letter_with_marks_has_a_place_of_its_own() -> None:
    assert list(changed_spans([("ab की 10", "text")], [("ab की 11", "text")])) == [(3, 7)]
    assert list(changed_spans([("ab की 10", "text")], [("aX की 10", "text")])) == [(1, 2)]
    one, other = ([("e", "text"), (f"\u0301 {number}", "dim")] for number in (1, 2))
    assert list(changed_spans(one, other)) == [(0, 3)], "the mark has another style than its letter"


async def test_only_changed_cells_are_refreshed() -> None:
    app = OnePanel()
    async with app.run_test(size=(40, 5)) as pilot:
        panel = app.query_one(Panel)
        await pilot.pause()
        panel.repaint()
        assert panel.painted == []
        app.lines[0] = [("hello World", "text")]
        panel.repaint()
        assert panel.painted == [Region(6, 0, 1, 1)]
        await pilot.pause()
        shown = app.screen._compositor.render_strips()
        assert "".join(segment.text for segment in shown[0]).startswith("hello World")


async def test_one_more_point_of_a_live_curve_repaints_a_few_cells() -> None:
    app = OnePanel()

    def plot(points: int) -> list[Line]:
        xs, ys = tuple(range(points)), tuple(3.0 - at / 100 for at in range(points))
        return render(Plot((Series("#1", 0, xs, ys),), x_range=(0, 200)), 100, 20)

    async with app.run_test(size=(100, 20)) as pilot:
        panel = app.query_one(Panel)
        app.lines = plot(100)
        panel.repaint()
        await pilot.pause()
        app.lines = plot(101)
        panel.repaint()
        cells = sum(region.area for region in panel.painted)
        assert 0 < cells < 40


async def test_a_resize_paints_everything_again() -> None:
    app = OnePanel()
    async with app.run_test(size=(40, 5)) as pilot:
        await pilot.resize_terminal(60, 8)
        await pilot.pause()
        assert app.query_one(Panel).painted == [Region(0, 0, 60, 8)]
