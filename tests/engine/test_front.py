"""The front of gain against price: rows are halved, a factor is chosen on one half and judged on the other."""

from __future__ import annotations

import numpy as np
import pytest

from engine.basics.statistics import Estimate, ratio
from engine.export.front import GRID, Losses, Point, choose, confirm, halves, point

TOKENS = np.full(40, 10)
NOISE = np.tile([-0.2, 0.2], 20)


def at(factor: float, gain: float, price: float, prose: float | None = None) -> Point:
    """A point whose errors do not matter."""
    slices = () if prose is None else (("chat", about(price)), ("prose", about(prose)))
    return Point(factor, about(3 - gain), about(-gain), about(price), slices)


def about(value: float) -> Estimate:
    return ratio(value + NOISE, np.ones(40))


def margin(at: float):
    return lambda _: at


def losses(mean: float) -> Losses:
    return Losses(10 * mean + NOISE, TOKENS)


def test_both_halves_have_half_of_every_slice_and_do_not_depend_on_the_order():
    ids = [f"row{at}" for at in range(21)]
    slices = ["a" if at % 3 else "b" for at in range(21)]
    ours, theirs = halves(ids, slices)
    assert sorted([*ours, *theirs]) == list(range(21))
    for name in "ab":
        sizes = [sum(slices[at] == name for at in half) for half in (ours, theirs)]
        assert abs(sizes[0] - sizes[1]) <= 1
    again, _ = halves(ids[::-1], slices[::-1])
    assert {ids[::-1][at] for at in again} == {ids[at] for at in ours}


def test_a_point_compares_the_same_rows_with_factor_0_and_its_price_is_that_of_the_worst_slice():
    base, now = losses(3.0), losses(2.4)
    of = tuple("ab"[at % 2] for at in range(40))
    before = Losses(np.full(40, 20.0), TOKENS, of)
    after = Losses(np.where(np.array(of) == "a", 21.0, 20.0), TOKENS, of)
    found = point(0.5, now, base, after, before)
    assert found.change.value == pytest.approx(-0.6)
    assert found.change.se == pytest.approx(0, abs=1e-12)
    assert found.general is not None
    assert found.general.value == pytest.approx(0.05)
    assert dict(found.slices)["a"].value == found.price == pytest.approx(0.1)


def test_the_factor_keeps_the_gain_and_leaves_room_below_the_margin():
    # Gains as they often are: concave; prices grow with the square.
    points = [at(t, 0.7 * (1 - (1 - t) ** 2), 0.12 * t**2) for t in GRID]
    choice = choose(points, margin(0.1))
    assert (choice.factor, choice.within) == (0.8, True)  # 0.0768, where 0.9 costs 0.0972
    assert choose(points, margin(0.2)).factor == 0.9  # the last tenth costs more text than it gains


def test_where_none_is_cheap_enough_the_cheapest_that_keeps_the_gain_is_taken_and_the_other_is_named():
    choice = choose([at(t, 0.7 * (1 - (1 - t) ** 2), 0.6 * t**2) for t in GRID], margin(0.1))
    assert (choice.factor, choice.within) == (0.7, False)
    assert "0.3 does, and keeps 51%" in choice.why


def test_where_the_best_is_too_dear_what_the_whole_run_gained_is_enough():
    """An overfitted run: it has lost nearly all that it had gained on the way."""
    points = [at(t, 0.5 - 4.0 * (t - 0.4) ** 2, 0.9 * t**2) for t in GRID]
    choice = choose(points, margin(0.1))
    assert (choice.factor, choice.within) == (0.2, True)
    assert "0.4 gains more (68% of that is kept)" in choice.why


def test_each_slice_has_a_margin_of_its_own():
    points = [at(t, t, 0.0, prose=0.2 * t) for t in GRID]
    assert choose(points, lambda slice: 0.3 if slice == "prose" else 0.01).factor == 1.0


def test_an_overfitted_run_is_best_in_the_middle():
    points = [at(t, 0.6 - 2.4 * (t - 0.5) ** 2, 0.0) for t in GRID]
    assert choose(points, margin(0.1)).factor == 0.5


def test_a_slice_that_is_hit_counts_and_nothing_is_chosen_where_nothing_was_gained():
    points = [at(t, t, 0.0, prose=0.2 * t) for t in GRID]
    assert choose(points, margin(0.1)).factor == 0.9  # the cheapest that keeps 90%
    choice = choose([at(t, -t, 0.1 * t) for t in GRID], margin(0.1))
    assert choice.factor is None
    assert "than the base model" in choice.why


def test_what_keeps_the_gain_and_gives_text_back_helps():
    text = [Losses(10 * mean + NOISE, TOKENS) for mean in (2.0, 2.04, 2.1)]
    verdict = confirm(0.7, (losses(3.0), losses(2.35), losses(2.3)), tuple(text))
    assert verdict.helps
    assert verdict.kept == pytest.approx(0.65 / 0.7)
    assert verdict.cost.value == pytest.approx(0.05)
    assert verdict.saved is not None
    assert verdict.saved.value == pytest.approx(0.06)
    assert "93% of the gain stays" in verdict.message
    assert "+0.040 from the base instead of +0.100" in verdict.message


@pytest.mark.parametrize(
    ("here", "now", "why"),
    [(2.5, 2.04, "too little of the gain stays"), (2.3, 2.1, "nothing is given back"), (2.25, 2.3, "")],
)
def test_what_costs_the_gain_or_gives_nothing_back_does_not_help(here, now, why):
    text = tuple(losses(mean) for mean in (2.0, now, 2.1))
    verdict = confirm(0.7, (losses(3.0), losses(here), losses(2.3)), text)
    assert verdict.helps is (not why)  # the last one gains on the task itself


def test_all_of_it_is_no_help_and_a_run_that_gained_nothing_is_helped_by_what_does():
    whole = confirm(1.0, (losses(3.0), losses(2.3), losses(2.3)), None)
    assert not whole.helps
    assert whole.message.startswith("all that was trained is the best choice")
    verdict = confirm(0.5, (losses(3.0), losses(2.8), losses(3.2)), None)
    assert verdict.helps
    assert np.isnan(verdict.kept)
