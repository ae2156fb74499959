"""The forecast on drifts whose end is known: error, coverage, and why work and not steps."""

from __future__ import annotations

import math

import numpy as np
import pytest

from engine.flags.forecast import forecast
from engine.flags.forgetting import forgetting
from engine.flags.history import Context, History

TOTAL = 400


def schedule(kind: str) -> np.ndarray:
    """Rates of all steps: warm-up over 5%, then down to a tenth."""
    step, warm_up = np.arange(TOTAL), TOTAL // 20
    done = np.clip((step - warm_up) / (TOTAL - warm_up), 0, 1)
    shape = {
        "cosine": 0.1 + 0.9 * (1 + np.cos(math.pi * done)) / 2,
        "linear": 1 - 0.9 * done,
        "constant": np.ones(TOTAL),
    }[kind]
    return np.where(step < warm_up, (step + 1) / warm_up, shape)


def drifting(rates, exponent, end, rng, n=100, floor=0.0) -> History:
    """Drift as a power of the work done, up to `end` nats per token; each example responds in its own measure."""
    steps = [0, 5, 10, 20, 40, *range(60, TOTAL + 1, 20)]
    work = np.concatenate([[0.0], np.cumsum(rates)])[steps] / rates.sum()
    tokens = rng.integers(20, 150, n)
    response = 1 + 0.8 * rng.standard_normal(n)
    wander = 0.05 * end * np.cumsum(rng.standard_normal((len(steps), n)), axis=0)
    rise = end * (work**exponent)[:, None] * response + wander + 0.002 * rng.standard_normal((len(steps), 1))
    rise[0] = 0
    return History("general", tuple(steps), tuple(map(str, range(n))), (2 + rise + floor) * tokens, tokens)


def at_a_quarter(run: History) -> History:
    return run.until(next(k for k, step in enumerate(run.steps) if step >= TOTAL / 4))


def forecasts(kind, exponents, rng, rates_known=True, runs=90):
    """(relative error, whether the interval holds the truth) of each run, at a quarter."""
    rates = schedule(kind)
    found = []
    for number in range(runs):
        end = (0.1, 0.3, 0.8)[number % 3]
        run = drifting(rates, exponents[number % len(exponents)], end, rng)
        context = Context("full", 1e-4, 0.0, rates=rates if rates_known else np.ones(TOTAL))
        expected = forecast(at_a_quarter(run), context)
        assert expected.step == TOTAL
        found.append((abs(expected.value - end) / end, expected.lo <= end <= expected.hi))
    errors, held = zip(*found, strict=True)
    return np.median(errors), np.mean(held)


@pytest.mark.parametrize("kind", ["cosine", "linear", "constant"])
def test_the_end_is_foretold_from_a_quarter(kind):
    error, held = forecasts(kind, (0.5, 0.75, 1.0), np.random.default_rng(0))
    assert error < 0.2
    assert held >= 0.75


def test_work_foretells_better_than_steps_where_the_rate_falls():
    by_work, held = forecasts("cosine", (0.5, 1.0), np.random.default_rng(1))
    by_steps, held_by_steps = forecasts("cosine", (0.5, 1.0), np.random.default_rng(1), rates_known=False)
    assert by_steps > 3 * by_work
    assert held > held_by_steps


def test_drifts_around_zero_do_not_bias_it_upwards():
    """No drift at all: half of the looks are negative, and the forecasts lie on both sides of zero."""
    rng, rates = np.random.default_rng(2), schedule("cosine")
    context = Context("full", 1e-4, 0.0, rates=rates)
    found = [forecast(at_a_quarter(drifting(rates, 1.0, 0.0, rng)), context) for _ in range(60)]
    assert np.mean([expected.value > 0 for expected in found]) == pytest.approx(0.5, abs=0.2)
    assert np.mean([expected.lo <= 0 <= expected.hi for expected in found]) >= 0.75
    assert max(abs(expected.value) for expected in found) < 0.05


def test_it_is_silent_before_a_quarter_and_at_the_end():
    rng, rates = np.random.default_rng(3), schedule("cosine")
    run, context = drifting(rates, 1.0, 0.3, rng), Context("full", 1e-4, 0.0, rates=rates)
    said = [bool(forecast(run.until(look), context)) for look in range(1, len(run.steps))]
    assert said == [TOTAL / 4 <= step < TOTAL for step in run.steps[1:]]
    assert forecast(run.until(8), Context("full", 1e-4, 0.0)) is None


def test_a_forecast_beyond_the_margin_is_a_leading_notice_only():
    rng, rates = np.random.default_rng(4), schedule("constant")
    context = Context("full", 1e-4, 0.0, rates=rates)
    flag = forgetting(at_a_quarter(drifting(rates, 1.0, 0.32, rng)), context)
    assert flag is not None
    assert flag.level == "watch"
    assert flag.effect < 0.1 < flag.forecast.lo < flag.forecast.value < flag.forecast.hi
    assert "Forecast for the end, step 400" in flag.message
