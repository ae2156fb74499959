"""What looks will cost is predicted, and the schedule keeps to it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from workers import small

from engine.client import looks_cost, preflight
from engine.evals.cost import FORWARD, Cost, SuiteSize, predict
from engine.evals.schedule import Schedule
from engine.recipe.sections import Evals, Recipe
from finetui.log import LogWriter

SUITES = [SuiteSize("heldout", 300, 30_000, True), SuiteSize("seen", 100, 10_000, True)]
GENERAL = [SuiteSize("general", 300, 60_000, True), SuiteSize("samples", 100, 6_400, True)]
WHOLE = sum(suite.tokens for suite in [*SUITES, *GENERAL])
# Of 300 general texts 40, of 100 samples 25.
PART = 10_000 + 10_000 + 8_000 + 1_600
TENTH = 30_000 + 10_000 + 8_000 + 1_600


def forecast(steps: int, tokens_per_step: int = 4096, ratio: float = FORWARD, **evals: object) -> Cost:
    settings = Evals.model_validate({"generate": 0, **evals})
    return predict(settings, steps, tokens_per_step, [*SUITES, *GENERAL], 100, ratio)


def spent(steps: int, tokens_per_step: int, every: str | int, ratio: float) -> tuple[int, float]:
    """The looks of a run on a clock that counts tokens trained on, and the share of its time that they take."""
    now, eval_s = 0.0, 0.0
    schedule = Schedule(every, "5%", steps, 0, share=PART / TENTH, clock=lambda: now)
    looks = 0
    for step in range(steps + 1):
        now += tokens_per_step if step else 0
        certain = schedule.is_certain(step)
        if certain or (step and schedule.is_due(step)):
            cost = ratio * (WHOLE if step in (0, steps) else TENTH if certain else PART)
            with schedule.timing(step):
                now += cost
            looks, eval_s = looks + 1, eval_s + cost
    return looks, eval_s / now


@pytest.mark.parametrize("steps", [48, 200, 1000, 5000])
@pytest.mark.parametrize("every", ["auto", "25%", 30])
@pytest.mark.parametrize("ratio", [FORWARD, 1.5])
def test_the_schedule_keeps_what_was_foretold(steps, every, ratio):
    looks, share = spent(steps, 4096, every, ratio)
    predicted = forecast(steps, ratio=ratio, every=every)
    assert predicted.looks == looks
    assert predicted.share == pytest.approx(share, abs=0.001)


def test_a_short_run_is_told_what_to_drop():
    short, long = forecast(48), forecast(20_000)
    assert short.looks == short.certain == 11
    assert short.share > 0.3
    warning = short.warning()
    assert warning is not None
    assert f"about {short.share:.0%} of the time, and evals.budget is 5%" in warning
    assert list(short.savings) == ["evals.every=25%", "evals.limit=100", "all of these"]
    assert f"to spend less: evals.every=25% ({short.savings['evals.every=25%']:.0%})" in warning
    assert short.savings["all of these"] < 0.6 * short.share
    assert forecast(48, every="25%").share == pytest.approx(short.savings["evals.every=25%"])
    assert long.warning() is None
    assert long.looks > 50
    assert long.share < 0.05
    assert forecast(48, every="10%").warning() is None, "a recipe that says how often is obeyed"


def test_it_is_said_in_a_line():
    assert forecast(48).line() == (
        f"11 looks at 800 examples, 106,400 tokens, or 29,600 of a part; about {forecast(48).share:.0%} of the time, "
        "estimated from the tokens"
    )
    line = predict(Evals(generate=4), 9000, 4096, SUITES, 100, 0.5, measured_by=12).line()
    assert "as measured by run #12" in line
    assert "(11 whatever they cost) at 400 examples, 40,400 tokens" in line


# ---- measured by earlier runs


def ended(home: Path, number: int, tree: dict, **timing: float) -> None:
    path = home / "runs" / f"{number:06d}-run"
    path.mkdir(parents=True)
    recipe = Recipe.model_validate(tree).model_dump(mode="json")
    (path / "run.json").write_text(json.dumps({"recipe": recipe}))
    (path / "attempts" / "1").mkdir(parents=True)
    log = LogWriter(path / "attempts" / "1" / "events.jsonl", "worker", number, 1)
    log.write(
        "end", status="finished", step=9, error=None, reason=None, **({"timing": timing} if timing else {})
    )
    log.close()


def test_an_earlier_run_of_the_same_shape_has_measured_what_a_token_costs(tmp_path, monkeypatch):
    monkeypatch.setenv("FINETUI_HOME", str(tmp_path))
    mine = Recipe.model_validate(small(method="lora"))
    assert looks_cost.measured(mine) is None
    took = {"train_s": 10.0, "train_tokens": 1000, "looks": 3, "eval_s": 6.0, "eval_tokens": 1200}
    ended(tmp_path, 1, small(method="lora"), **took)
    ended(tmp_path, 2, small(method="full"), **took | {"eval_s": 60.0})
    ended(tmp_path, 3, small(method="lora"))  # of an older finetui
    ended(
        tmp_path,
        4,
        small(method="lora", train__max_steps=9, evals__limit=5),
        **took | {"looks": 0, "eval_tokens": 0},
    )
    found = looks_cost.measured(mine)
    assert found == looks_cost.Measured(pytest.approx(0.5), pytest.approx(0.01), 1)


def test_how_long_a_run_takes_is_foretold_at_the_speed_of_an_earlier_one(tmp_path, monkeypatch):
    monkeypatch.setenv("FINETUI_HOME", str(tmp_path))
    mine = Recipe.model_validate(small(method="lora", train__max_steps=50, train__tokens_per_step=1000))
    before = preflight.check(mine, tmp_path).looks
    assert before is not None
    assert before.seconds is None
    assert before.time() is None
    took = {"train_s": 10.0, "train_tokens": 1000, "looks": 3, "eval_s": 6.0, "eval_tokens": 1200}
    ended(tmp_path, 7, small(method="lora", train__max_steps=50, train__tokens_per_step=1000), **took)
    report = preflight.check(mine, tmp_path)
    looks, an_epoch = report.looks, report.tokens
    assert looks is not None
    assert looks.seconds is not None
    assert an_epoch is not None
    of_epoch = -(
        -an_epoch // 1000
    )  # steps: none reaches into the next epoch, so they are smaller than asked for
    assert an_epoch < 1000 * of_epoch
    assert looks.seconds * (1 - looks.share) == pytest.approx(50 * an_epoch / of_epoch * 0.01)
    assert str(looks.time()).endswith("of steps and looks, as fast as run #7")
