import numpy as np
import pytest
from pydantic import ValidationError

from engine.evals import schedule
from engine.evals.schedule import EARLY, Schedule, TimeSpent, is_affordable, is_due, is_wanted
from engine.recipe.fields import parse_share
from engine.recipe.sections import Evals


class Clock:
    """Time passes only when it is told to."""

    now = 0.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(schedule.time, "monotonic", clock.monotonic)
    return clock


def looks(clock, total, step_s, look_s, every="auto", budget="5%", start=0):
    """The steps looked at in a run of steps and looks that take so long, and the share of the time for looks."""
    plan = Schedule(every, budget, total, start)
    found = []
    for step in range(start, total + 1):
        clock.now += step_s if step > start else 0
        if plan.is_due(step) if step > start else plan.is_certain(step):
            with plan.timing(step):
                clock.now += look_s
            found.append(step)
    eval_s = len(found) * look_s
    return found, eval_s / (eval_s + (total - start) * step_s)


@pytest.mark.parametrize("total", [10, 21, 70, 137])
def test_a_percentage_gives_evenly_spread_looks(total):
    looks = [step for step in range(total + 1) if is_due(step, parse_share("10%"), total)]
    assert len(looks) == 11
    assert max(np.diff(looks)) - min(np.diff(looks)) <= 1
    assert (looks[0], looks[-1]) == (0, total)


def test_a_count_is_kept_to_and_the_end_is_added():
    assert [step for step in range(13) if is_due(step, parse_share(5), 12)] == [0, 5, 10, 12]
    assert all(is_due(step, parse_share("1%"), 3) for step in range(4))


def test_cheap_looks_are_close_together_at_first_and_then_every_2_percent(clock):
    found, share = looks(clock, 1000, step_s=1.0, look_s=0.01)
    assert found == [0, 5, 10, 20, 40, 80, 100, 150, *range(160, 1001, 20)]
    assert share < 0.05


@pytest.mark.parametrize("look_s", [1.5, 2.0, 4.0])
def test_dear_looks_are_thinned_evenly_until_they_stay_within_the_budget(clock, look_s):
    found, share = looks(clock, 1000, step_s=1.0, look_s=look_s)
    assert share <= 0.05
    assert {0, 1000, *range(100, 1001, 100)} <= set(found)
    late = [step for step in found if step > EARLY[-1]]
    assert max(np.diff(late)) <= 100
    if look_s <= 2:
        assert share > 0.04  # what is there is used
        halves = [sum(200 < step <= 600 for step in found), sum(600 < step <= 1000 for step in found)]
        assert abs(halves[0] - halves[1]) <= 2


def test_the_tenths_and_the_last_step_are_looked_at_whatever_they_cost(clock):
    found, share = looks(clock, 25, step_s=0.01, look_s=10.0)
    assert len(found) == 11
    assert (found[0], found[-1]) == (0, 25)
    assert share > 0.9


def test_a_budget_of_all_the_time_thins_nothing(clock):
    found, _ = looks(clock, 400, step_s=0.01, look_s=10.0, budget="100%")
    assert set(EARLY) <= set(found)
    assert found == [step for step in range(401) if is_wanted(step, 400) or step % 40 == 0]


def test_a_recipe_that_says_how_often_is_obeyed(clock):
    found, share = looks(clock, 200, step_s=0.01, look_s=10.0, every="5%")
    assert found == list(range(0, 201, 10))
    assert share > 0.9
    assert looks(clock, 12, 1.0, 0.0, every=5)[0] == [0, 5, 10, 12]


def test_an_attempt_that_goes_on_has_its_own_share(clock):
    found, share = looks(clock, 1000, step_s=1.0, look_s=1.0, start=500)
    assert {600, 700, 800, 900, 1000} < set(found)
    assert 0.03 < share <= 0.05


def test_looks_in_between_that_score_less_are_more(clock):
    """Tenths take 3 s, the looks between them 1 s: of 50 s, 30 go to the tenths."""

    def between(share, in_between_s):
        plan, spent, found = Schedule("auto", "5%", 1000, 0, share=share), 0.0, []
        for step in range(1, 1001):
            clock.now += 0.95
            if plan.is_due(step):
                took = 3.0 if plan.is_certain(step) else in_between_s
                with plan.timing(step):
                    clock.now += took
                found.append(step)
                spent += took
        assert spent / clock.now < 0.06
        clock.now = 0.0
        return [step for step in found if step % 100]

    cheap, dear = between(1 / 3, 1.0), between(1.0, 3.0)
    assert 16 <= len(cheap) <= 22
    assert 4 <= len(dear) <= 7
    assert max(np.diff([step for step in cheap if step > 150])) <= 120


def test_a_first_look_that_cost_nothing_is_no_measure_of_the_others(clock):
    """The base model's scores may be read from a cache: then one look is free, and not five."""
    plan, found = Schedule("auto", "5%", 200, 0, share=1 / 3), []
    with plan.timing(0):
        pass
    for step in range(1, 20):
        clock.now += 0.5
        if plan.is_due(step):
            with plan.timing(step):
                clock.now += 1.0
            found.append(step)
    assert found == [5]


def test_looks_that_have_to_come_are_paid_for_first():
    # Room for ten in all.
    spent = TimeSpent(train_s=95.0, eval_s=0.0, done=50, steps=100, certain_s=1.0, look_s=1.0)
    assert spent.affordable_looks(0.05, certain=0) == pytest.approx(10.0)
    assert is_affordable(40, 100, 0, spent, 0.05)  # six tenths are to come
    assert not is_affordable(5, 100, 0, spent, 0.05)


def test_several_processes_ask_each_other_only_about_steps_that_may_be_left_out(clock):
    asked = []

    def agree(mine):
        asked.append(mine)
        return False

    plan = Schedule("auto", "5%", 1000, 0, agree)
    found = [step for step in range(1, 1001) if plan.is_due(step)]
    assert found == list(range(100, 1001, 100))
    assert len(asked) == sum(is_wanted(step, 1000) and step % 100 != 0 for step in range(1001)) < 60


@pytest.mark.parametrize(
    ("key", "value", "ok"),
    [
        ("every", "auto", True), ("every", "5%", True), ("every", 20, True), ("every", "often", False),
        ("budget", "2.5%", True), ("budget", 5, False), ("budget", "0%", False),
    ],
)  # fmt: skip
def test_what_a_recipe_may_say(key, value, ok):
    if ok:
        assert getattr(Evals.model_validate({key: value}), key) == value
    else:
        with pytest.raises(ValidationError, match="share such as"):
            Evals.model_validate({key: value})
