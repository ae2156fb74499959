"""Curves as characters: known series give known cells."""

from __future__ import annotations

import math

import pytest

from tui.lines.text import line_width
from tui.lines.theme import Glyphs
from tui.state import ChartView
from tui.widgets import axis
from tui.widgets.curves import smooth
from tui.widgets.plot import Mark, Plot, Series, render


def shown(plot: Plot, width: int, height: int) -> list[str]:
    lines = render(plot, width, height)
    assert len(lines) == height
    assert all(line_width(line) == width for line in lines)
    return ["".join(text for text, _ in line) for line in lines]


def line(*ys: float, slot: int = 0, **options: object) -> Series:
    return Series(f"#{slot + 1}", slot, tuple(range(len(ys))), ys, **options)  # type: ignore[arg-type]


def test_a_rising_line_in_braille() -> None:
    # Below 20 columns there are no axes. 8 cells are 16 dots across and 4 high; the axis goes from -0.05 to
    # 1.05, so dot k is round(3 * (1.05 - k / 15) / 1.1) dots from the top: 3 3 2 2 2 2 2 2 1 1 1 1 1 0, marker.
    rows = shown(Plot((line(0.0, 1.0),)), 8, 2)
    assert rows[0] == "● #1 1  "
    assert rows[1][-1] == "●"
    assert rows[1][:-1] == "⣀⠤⠤⠤⠒⠒⠊"


def test_the_same_line_in_blocks_and_ascii() -> None:
    assert shown(Plot((line(0.0, 1.0),), glyphs=Glyphs.BLOCK), 8, 2)[1] == "▄▄▄▄▀▀▀●"
    rows = shown(Plot((line(0.0, 1.0),), glyphs=Glyphs.ASCII), 24, 10)
    assert all(text.isascii() for text in rows)
    assert rows[0].startswith("* #1 1")
    assert "0.0 +*" in "\n".join(rows)


def test_axes_have_round_ticks_in_the_unit_of_the_data() -> None:
    rows = shown(Plot((line(*(2.0 + at / 100 for at in range(101))),)), 60, 12)
    assert [row.split("┤")[0].strip() for row in rows if "┤" in row] == ["3.0", "2.5", "2.0"]
    assert rows[-1].split() == ["0", "50", "100"]


def test_several_series_share_the_space_and_the_first_is_on_top() -> None:
    lines = render(Plot((line(1.0, 1.0), line(1.0, 1.0, slot=1))), 30, 8)
    styles = [
        style for row in lines[1:-2] for text, style in row if any(0x2800 < ord(c) < 0x2900 for c in text)
    ]
    assert styles
    assert set(styles) == {"s0"}
    assert "#1" in lines[0][1][0]


def test_points_with_intervals_have_markers_and_faint_whiskers() -> None:
    series = line(1.0, 1.0, 1.0, low=(0.5, 0.5, 0.5), high=(1.5, 1.5, 1.5), interval=True)
    lines = render(Plot((series,)), 40, 12)
    text = "\n".join("".join(part for part, _ in row) for row in lines[1:])
    assert text.count("•") == 2
    assert text.count("●") == 1
    assert any(style == "s0-faint" for row in lines for _, style in row)


def test_a_flag_is_a_vertical_line() -> None:
    rows = render(Plot((line(1.0, 2.0, 3.0),), marks=(Mark(1.0, "warn"),)), 40, 10)
    marked = [text for row in rows for text, style in row if style == "warn"]
    assert marked[0] == "⚑"
    assert set(marked[1:]) == {"┊"}


def test_nan_breaks_the_line_and_infinity_does_not_spoil_the_axis() -> None:
    rows = shown(Plot((line(1.0, math.nan, 3.0, math.inf, 2.0),)), 40, 10)
    assert any(row.strip().startswith("3") for row in rows)
    whole = shown(Plot((line(1.0, 2.0, 3.0, 2.5, 2.0),)), 40, 10)
    dots = sum(0x2800 < ord(char) < 0x2900 for row in rows for char in row)
    assert dots < sum(0x2800 < ord(char) < 0x2900 for row in whole for char in row)


@pytest.mark.parametrize(
    ("plot", "said"),
    [
        (Plot(()), "nothing to draw yet"),
        (Plot((), empty="no heldout/loss yet"), "no heldout/loss yet"),
        (Plot((line(math.nan, math.nan),)), "only NaN or infinite values"),
        (Plot((line(0.0, -1.0),), log=True), "nothing above 0 to draw on a log scale"),
    ],
)
def test_nothing_to_draw_says_why(plot: Plot, said: str) -> None:
    assert said in "\n".join(shown(plot, 60, 9))


def test_log_scale_spaces_decades_evenly() -> None:
    rows = shown(Plot((line(1.0, 10.0, 100.0),), log=True), 40, 15)
    at = {row.split("┤")[0].strip(): index for index, row in enumerate(rows) if "┤" in row}
    assert at["10"] - at["100"] == pytest.approx(at["1"] - at["10"], abs=1)


def test_without_colour_lines_have_different_rhythms() -> None:
    def dots(slot: int) -> int:
        rows = shown(Plot((line(1.0, 1.0, 1.0, slot=slot),), rhythm=True), 60, 8)[1:-2]
        return sum(
            bin(ord(char) - 0x2800).count("1") for row in rows for char in row if 0x2800 < ord(char) < 0x2900
        )

    assert dots(0) > dots(1) > dots(2)


@pytest.mark.parametrize("height", [2, 3, 4])
@pytest.mark.parametrize("glyphs", [Glyphs.BRAILLE, Glyphs.ASCII])
def test_a_short_chart_says_its_ranges_and_last_values(height: int, glyphs: Glyphs) -> None:
    series = Series("#1", 0, tuple(range(0, 20_001, 100)), tuple(3.2 - 2.5 * at / 200 for at in range(201)))
    rows = shown(Plot((series,), x_name="tokens", glyphs=glyphs), 79, height)
    assert rows[0].split()[1:] == ["#1", "0.7", "0–20k", "tokens"]
    if height == 2:
        assert rows[1].startswith("0.6–3.3 ")
    else:
        assert rows[1].startswith("3.3 ")
        assert rows[-1].startswith("0.6 ")
    narrow = shown(Plot((series,)), 20, height)
    assert "0.7" in narrow[0], "the last value goes before the range"


def test_an_axis_with_few_rows_has_two_labels() -> None:
    rows = shown(Plot((line(2.9, 0.8),)), 60, 6)
    labels = [float(row.split("┤")[0]) for row in rows if "┤" in row]
    assert len(labels) >= 2
    assert max(labels) >= 2.9
    assert min(labels) <= 0.8
    assert axis.value(18_320.4) == "18320"


@pytest.mark.parametrize("size", [(1, 1), (8, 2), (20, 5), (20, 2), (7, 30), (200, 3)])
def test_any_size_is_filled_exactly(size: tuple[int, int]) -> None:
    shown(Plot((line(1.0, 5.0, 2.0), line(3.0, 1.0, slot=1))), *size)


def test_one_point_and_equal_values_can_be_drawn() -> None:
    assert "●" in "".join(shown(Plot((line(1.5),)), 40, 8)[1:])
    assert "●" in "".join(shown(Plot((line(0.0, 0.0, 0.0),)), 40, 8)[1:])


def test_a_window_cuts_the_line_at_its_edges() -> None:
    plot = Plot((line(*map(float, range(101))),), x_range=(40.0, 60.0))
    rows = shown(plot, 50, 12)
    assert rows[-1].split()[0] == "40"
    labels = [float(row.split("┤")[0]) for row in rows if "┤" in row]
    assert min(labels) >= 40
    assert max(labels) <= 60
    assert all(0x2800 < ord(row[-1]) < 0x2900 or row[-1] == "●" for row in rows[1:2])


@pytest.mark.parametrize("spike", [1e3, 1e12])
def test_a_spike_beside_a_window_is_drawn_at_its_edge_alone(spike: float) -> None:
    """One dot for each dot of its height would be millions."""
    ys = [1.0 + at % 2 for at in range(40)] + [spike] + [1.0 + at % 2 for at in range(40)]
    rows = shown(Plot((line(*ys),), x_range=(41.0, 60.0)), 60, 12)
    assert any("⡇" in row or "⢸" in row or "⣿" in row or "⠁" in row for row in rows)


@pytest.mark.parametrize(
    ("low", "high", "most", "ticks"),
    [
        (0, 10, 6, [0, 2, 4, 6, 8, 10]),
        (0.93, 1.07, 4, [0.95, 1.0, 1.05]),
        (-1, 1, 5, [-1, -0.5, 0, 0.5, 1]),
        (5, 5, 4, [5]),
    ],
)
def test_ticks(low: float, high: float, most: int, ticks: list[float]) -> None:
    assert axis.nice_ticks(low, high, most) == pytest.approx(ticks)


def test_tick_labels_are_equally_precise() -> None:
    assert axis.tick_labels([0, 0.5, 1.0]) == ["0.0", "0.5", "1.0"]
    assert axis.tick_labels([0, 1000, 2000]) == ["0", "1k", "2k"]
    assert axis.tick_labels([0, 5000, 10_000, 15_000]) == ["0", "5k", "10k", "15k"]
    assert axis.tick_labels([0, 1e-4, 2e-4]) == ["0", "1e-4", "2e-4"]
    assert axis.tick_labels([0, 5e-5, 1e-4, 1.5e-4]) == ["0", "5.0e-5", "1.0e-4", "1.5e-4"]
    assert axis.tick_labels([9.8e-5, 1.0e-4, 1.02e-4]) == ["9.80e-5", "1.00e-4", "1.02e-4"]


def test_a_log_axis_over_less_than_a_decade_has_labels_that_differ() -> None:
    rows = shown(Plot((line(2.1, 2.3, 2.6),), log=True), 60, 12)
    labels = [row.split("┤")[0].strip() for row in rows if "┤" in row]
    assert len(labels) > 2
    assert len(set(labels)) == len(labels)
    assert all(2.0 < float(label) < 2.7 for label in labels)


def test_the_x_axis_of_a_live_run_grows_by_doubling() -> None:
    assert [axis.live_end(step, 400) for step in (1, 50, 51, 150, 399, 400, 410)] == [
        50,
        50,
        100,
        200,
        400,
        400,
        410,
    ]
    assert axis.live_end(7, None) == 7


def test_the_range_without_outliers_counts_what_it_leaves_out() -> None:
    assert axis.without_outliers([1.0, 2.0, 3.0, 4.0, 5.0]) == (1.0, 5.0)
    # The middle half is 2 to 4: six beyond it is the last value that is no outlier.
    assert axis.without_outliers([1.0, 2.0, 3.0, 4.0, 11.0]) == (1.0, 4.0)
    assert axis.without_outliers([7.0]) == (7.0, 7.0)
    series = line(*(1.0 + at % 2 for at in range(40)), 50.0)
    assert max(map(float, labels_of(shown(Plot((series,)), 60, 12)))) >= 40
    rows = shown(Plot((series,), outliers=False), 60, 12)
    assert max(map(float, labels_of(rows))) <= 2.5
    assert rows[-2].rstrip().endswith("1 point outside")
    assert "●" not in "".join(rows[1:]), "its last point has no place"


def labels_of(rows: list[str]) -> list[str]:
    return [row.split("┤")[0].strip() for row in rows if "┤" in row]


def test_the_crosshair_stands_on_a_point_and_says_which_values_are_of_another() -> None:
    first = Series(
        "#1", 0, (0.0, 10.0, 20.0), (3.0, 2.0, 1.0), (2.9, 1.9, 0.9), (3.1, 2.1, 1.1), interval=True
    )
    second = Series("#2", 1, (0.0, 8.0), (5.0, 4.0), raw=(5.5, 4.5))
    rows = shown(Plot((first, second), cross=11.0, x_name="tokens"), 60, 12)
    assert rows[0].split() == ["10", "tokens", "●", "#1", "2", "[1.9,", "2.1]", "■", "#2", "4.5", "at", "8"]
    cells = render(Plot((first, second), cross=11.0), 60, 12)[1:-2]
    assert sum((text, style) == ("│", "bright") for line in cells for text, style in line) >= 5
    ascii_rows = shown(Plot((first,), cross=11.0, glyphs=Glyphs.ASCII), 60, 12)
    assert any(":" in row for row in ascii_rows[1:-2])
    assert all(row.isascii() for row in ascii_rows)


def test_a_crosshair_over_many_series_takes_more_lines_and_counts_the_rest() -> None:
    many = tuple(line(1.0, 2.0, slot=slot) for slot in range(8))
    rows = shown(Plot(many, cross=0.0), 40, 16)
    assert [text.count("#") for text in rows[:4]] == [3, 4, 1, 0]
    assert "+" in shown(Plot(many, cross=0.0), 30, 8)[1]


def test_smoothing_starts_at_the_data_and_keeps_gaps() -> None:
    smoothed = smooth((2.0, math.nan, 2.0, 4.0), 0.5)
    assert smoothed[0] == 2.0
    assert math.isnan(smoothed[1])
    assert 2.0 < smoothed[3] < 4.0


def test_zoom_and_pan_stay_inside() -> None:
    view = ChartView().zoomed(1)
    assert view.window(400) == (200, 400)
    assert view.panned(-1).window(400) == (100, 300)
    assert view.panned(-1).panned(-1).panned(-1).window(400) == (0, 200)
    assert view.panned(1).window(400) == (200, 400)
    assert view.panned(-1).zoomed(-1).window(400) == (0, 400)
    assert ChartView().zoomed(-1) == ChartView()
