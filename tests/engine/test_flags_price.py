"""What general text has paid is weighed against what the task has gained, by the user's margins."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from flag_runs import CONTEXT, ever, history, jumping

from engine.basics.statistics import Estimate
from engine.flags.forgetting import forgetting
from engine.flags.history import Context
from engine.flags.part import wants_rest
from engine.flags.price import Trade, gain_at
from engine.recipe.sections import Flags


def told(price, gain, noise=0.02, seed=0, n=100, **changes):
    """The last flag of a run at these levels from its first look on."""
    rng = np.random.default_rng(seed)
    general = history(jumping(price), rng, "general", n, noise=noise)
    heldout = history(jumping(-gain), rng, n=n, noise=noise)
    return forgetting(general, dataclasses.replace(CONTEXT, **changes), heldout)


def with_flags(**forgets) -> dict[str, Flags]:
    return {"flags": Flags.model_validate({"forgetting": forgets})}


@pytest.mark.parametrize(
    ("price", "gain", "level"),
    [
        (0.05, 0.0, None),
        (0.18, 0.0, "warn"),  # nothing was gained: the soft margin
        (0.18, 0.3, "warn"),
        (0.18, 2.0, "info"),  # up to 0.30 would be
        (0.18, -1.0, "warn"),
        (0.50, 9.0, "critical"),  # whatever was gained
    ],
)
def test_a_price_is_weighed_against_the_gain(price, gain, level):
    flag = told(price, gain)
    assert (flag.level if flag else None) == level


def test_a_flag_says_what_was_paid_for_what():
    paid = told(0.18, 0.6)
    assert "Paid 0.1" in paid.message
    assert " for a gain of 0.6" in paid.message
    assert "for each nat: out of proportion (above 0.1" in paid.message
    assert "in proportion (up to 0.300)" in told(0.18, 2.0).message
    assert "beyond the hard margin of 0.3, whatever was gained" in told(0.5, 9.0).message
    assert "for no gain beyond noise: the held-out loss fell by -0.0" in told(0.18, -0.05).message
    assert told(0.18, 2.0).actions[0].change == {}
    assert any("train.lr" in action.change for action in told(0.18, 0.6).actions)


def test_a_loss_in_other_units_is_not_weighed():
    flag = told(0.18, 2.0, task="dpo")
    assert flag.level == "warn"
    assert "Paid" not in flag.message


def test_a_price_in_proportion_is_rarely_warned_of():
    """Exactly in proportion is the hardest; exactly at the hard margin, too."""
    flags = [told(price, 5 * price, noise=0.1, seed=seed) for seed in range(60) for price in (0.2, 0.3)]
    assert sum(flag is not None and flag.level in ("warn", "critical") for flag in flags) <= 0.05 * len(flags)


def test_p_values_are_nested_and_an_unsure_gain_warns_of_nothing():
    rng = np.random.default_rng(1)
    for _ in range(50):
        price, gain = (Estimate(float(rng.normal(0.2, 0.1)), 0.02, 50, 49) for _ in "ab")
        p = Trade(price, gain, 0.1, 0.3, 0.2).p_values()
        assert p["info"] <= p["warn"] <= p["critical"]
    price = Estimate(0.2, 0.001, 50, 49)
    assert Trade(price, Estimate(0.5, 0.01, 50, 49), 0.1, 0.3, 0.2).p_values()["warn"] < 1e-6
    assert Trade(price, Estimate(0.5, 5.0, 50, 49), 0.1, 0.3, 0.2).p_values()["warn"] > 0.3
    assert Trade(price, Estimate(9.0, 0.01, 50, 49), 0.1, 0.3, 0.0).p_values()["warn"] < 1e-6
    assert [Trade(price, Estimate(gain, 0.1, 50, 49), 0.1, 0.3, 0.2).margin for gain in (-1, 1, 9)] == [
        0.1,
        0.2,
        0.3,
    ]


def test_the_gain_is_that_of_the_same_step():
    heldout = history(jumping(-0.5), np.random.default_rng(2), noise=0.01)
    assert gain_at(heldout, 20).value == pytest.approx(0.5, abs=0.02)
    assert gain_at(heldout, 0) is gain_at(heldout, 15) is gain_at(None, 20) is None


def test_margins_are_the_users_for_all_and_for_a_slice():
    assert told(0.18, 0.0, **with_flags(warn=0.25)) is None
    assert told(0.18, 0.0, **with_flags(warn=0.05, critical=0.1)).level == "critical"
    assert told(0.18, 2.0, **with_flags(per_gain=0.05)).level == "warn"
    rng = np.random.default_rng(3)
    general = history(jumping(0.07), rng, "general", n=200, noise=0.01)
    general = dataclasses.replace(general, slices=("prose", "code") * 100)
    assert ever(forgetting, general) == []
    context = dataclasses.replace(CONTEXT, **with_flags(prose={"warn": 0.04}))
    flag = forgetting(general, context)
    assert (flag.level, flag.slice) == ("warn", "prose")
    # And so does the choice of how much to score.
    part = general.nll.copy()
    part[1:, 100:] = np.nan
    some = dataclasses.replace(general, nll=part).until(1)
    assert [wants_rest(some, flags) for flags in (Flags(), context.flags)] == [False, True]


def test_what_the_base_model_wrote_is_evidence_and_never_a_reason():
    rng = np.random.default_rng(4)
    samples = history(jumping(0.45), rng, "samples", noise=0.01)
    still, worse = (history(jumping(to), rng, "general", noise=0.02) for to in (0.0, 0.2))
    assert forgetting(still, Context("lora", 1e-3, 0.0), None, samples) is None
    message = forgetting(worse, CONTEXT, None, samples).message
    assert "What the base model wrote itself has become less likely by 0.4" in message
    assert "a distance from the base model, not a loss" in message
