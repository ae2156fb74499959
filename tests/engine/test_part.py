"""Looks at a part of a suite: which part, when the rest is wanted, and what a part says of the whole."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
from flag_runs import LOOKS, falling, history, turning
from scipy.special import ndtri
from workers import make_run, measured, of_kind, small, work

from engine.basics.statistics import TwoPhase, ratio, two_phase
from engine.evals.base_samples import measures
from engine.evals.looks import Looks, read_looks
from engine.evals.score import Scores
from engine.flags import forgetting, overfitting
from engine.flags.multiplicity import level_at
from engine.flags.part import CHANCE, chance, choose_part, is_whole, replay_looks
from engine.flags.progress import converged
from engine.recipe.sections import Recipe
from engine.runs.home import RunDir
from engine.training.flagging import best_step

STEPS = 10 * (LOOKS - 1)  # of the runs of flag_runs


def scored(run) -> list[int]:
    return [int(run.scored(look).sum()) for look in range(len(run.steps))]


# ---- which part


def test_a_part_has_each_slice_and_each_fold_in_its_share():
    ids = tuple(f"{n:x}" for n in range(300))
    slices = ("text",) * 180 + ("code",) * 120
    chosen = choose_part(ids, slices, 100)
    assert chosen.sum() == 100
    folds = overfitting.fold_of(ids)
    for name, share in (("text", 0.6), ("code", 0.4)):
        of_slice = np.array(slices) == name
        assert abs((chosen & of_slice).sum() - 100 * share) <= 1
        for fold in range(overfitting.FOLDS):
            in_both = of_slice & (folds == fold)
            assert abs((chosen & in_both).sum() - in_both.sum() / 3) <= 1
    assert np.array_equal(chosen, choose_part(ids, slices, 100))


def test_the_folds_of_a_part_are_those_of_the_documents():
    """The part that a replay scores is spread over the folds by which a rise is tested."""
    run = history(falling(), np.random.default_rng(0), "general", n=300)
    run = dataclasses.replace(run, documents=tuple(f"{n // 4}" for n in range(300)))
    seen = replay_looks(run, 100, STEPS)
    part = next(part for part in map(seen.scored, range(LOOKS)) if not part.all())
    folds = overfitting.fold_of(run.documents)
    assert [int(part[folds == fold].sum()) for fold in range(overfitting.FOLDS)] == pytest.approx(
        [(folds == fold).sum() / 3 for fold in range(overfitting.FOLDS)], abs=1
    )


@pytest.mark.parametrize("count", [0, 100, 200])
def test_a_suite_that_is_no_larger_is_always_whole(count):
    ids = tuple(f"{n:x}" for n in range(100))
    assert choose_part(ids, (), count).all()
    run = history(falling(), np.random.default_rng(0), "heldout", n=100)
    assert scored(replay_looks(run, count, STEPS)) == [100] * LOOKS


def test_both_ends_are_whole_and_held_out_ones_once_in_every_tenth():
    looks = [0, 5, 10, 20, 40, 80, 100, 110, 200, 390, 1000]
    pairs = list(zip(looks[1:], looks, strict=False))
    assert [step for step, last in pairs if is_whole("heldout", step, last, 1000)] == [100, 200, 390, 1000]
    assert [step for step, last in pairs if is_whole("general", step, last, 1000)] == [1000]
    assert is_whole("general", 0, 0, 1000)


# ---- when the rest is wanted


def test_the_chance_of_a_hit_is_how_often_the_whole_suite_hits():
    rng = np.random.default_rng(0)
    said, hit = [], []
    for _ in range(3000):
        values = rng.uniform(-0.1, 0.3) + 0.5 * rng.standard_normal(300)
        ones = np.ones(300)
        estimate = two_phase(values[:100], np.zeros(100), ones[:100], 0.0, 300)
        said.append(chance(estimate, 0.05, level_at(3)))
        hit.append(ratio(values, ones).p_above(0.05) < level_at(3))
    said, hit = np.array(said), np.array(hit)
    for low, high in ((0.01, 0.1), (0.1, 0.4), (0.4, 0.8), (0.8, 1.0)):
        inside = (said >= low) & (said < high)
        assert inside.sum() > 80
        assert low - 0.04 < hit[inside].mean() < high + 0.04
    assert hit[said < CHANCE].mean() < CHANCE


def test_what_is_scored_whole_has_no_chance_but_yes_or_no():
    edge = 0.05 - float(ndtri(level_at(2))) * 0.01
    assert chance(TwoPhase(edge + 1e-6, 0.01, 0.0, 300), 0.05, level_at(2)) == 1.0
    assert chance(TwoPhase(edge - 1e-6, 0.01, 0.0, 300), 0.05, level_at(2)) == 0.0
    assert chance(TwoPhase(-9.0, np.inf, np.inf, 1), 0.05, level_at(2)) == 1.0  # one example says nothing


def replayed(detector, means, suite, runs=40, noise=0.02, seed=1):
    """Hits of the whole suite and of what is looked at, and the share of it that was scored."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(runs):
        run = history(means, rng, suite, n=300, noise=noise)
        seen = replay_looks(run, 100, STEPS)
        found.append((detector.hits(run)["warn"], detector.hits(seen)["warn"], np.mean(scored(seen)) / 300))
    return found


def test_a_run_that_forgets_little_is_looked_at_in_part():
    found = replayed(forgetting, 0.002 * np.arange(LOOKS), "general")
    assert not any(any(some) for _, some, _ in found)
    # Step 0, the end, and a third of the rest.
    assert np.mean([share for *_, share in found]) < 0.5


@pytest.mark.parametrize("at_the_end", [0.2, 0.8, 2.0])
def test_forgetting_is_found_at_the_looks_at_which_the_whole_suite_shows_it(at_the_end):
    found = replayed(forgetting, np.linspace(0, at_the_end, LOOKS), "general")
    assert sum(any(whole) for whole, *_ in found) > 20
    flagged = [_first_flag(whole) == _first_flag(some) for whole, some, _ in found]
    assert sum(flagged) >= 0.95 * len(found)
    assert not any(any(s and not w for w, s in zip(*hits[:2], strict=True)) for hits in found), "an extra hit"


def test_once_a_critical_flag_stands_the_part_is_enough():
    found = replayed(forgetting, np.linspace(0, 4, LOOKS), "general", runs=5)
    assert all(all(some) for _, some, _ in found)
    assert all(share < 0.6 for *_, share in found)


def _first_flag(hits) -> int | None:
    return next((look for look in range(1, len(hits)) if hits[look] and hits[look - 1]), None)


def test_overfitting_between_two_tenths_is_seen_as_it_would_be_by_whole_looks():
    """31 looks in a run: the best one is mostly known in part only."""
    x = np.linspace(0, 1, 31)
    means = np.where(x < 0.35, -x, -0.35 + 0.5 * (x - 0.35))
    rng, late = np.random.default_rng(2), []
    for _ in range(12):
        run = history(means, rng, n=300, noise=0.02, every=20)
        some = replay_looks(run, 100, 600)
        first = [_first_flag(overfitting.hits(each)["warn"]) for each in (run, some)]
        assert None not in first
        late.append(first[1] - first[0])
        assert np.mean(scored(some)[:11]) < 200  # looks of the fall
    assert np.mean(late) <= 1


def test_partial_looks_make_no_false_alarm_of_overfitting():
    """A run that falls and then stands still: half the looks are partial, and each may be the best by luck."""
    rng, found = np.random.default_rng(7), []
    for _ in range(25):
        run = history(-np.minimum(np.linspace(0, 1, 31), 0.3), rng, n=300, noise=0.02, every=20)
        found.append(any(overfitting.hits(replay_looks(run, 100, 600))["warn"]))
    assert sum(found) <= 1


def test_a_rise_since_a_partial_look_is_of_all_examples():
    """What the best look left out is taken from the whole look beside it, moved as the others moved in between."""
    rng = np.random.default_rng(8)
    run = history(turning(0.3), rng, n=300, noise=0.01)
    whole = overfitting.rise_at(run, LOOKS - 1)
    run.nll[4, ~choose_part(run.ids, (), 100)] = np.nan
    rise = overfitting.rise_at(run, LOOKS - 1)
    assert (rise.estimate.n, rise.scored.sum(), set(rise.best)) == (300, 100, {4})
    assert rise.estimate.value == pytest.approx(whole.estimate.value, abs=0.005)
    assert whole.estimate.se < rise.estimate.se < 1.5 * whole.estimate.se


# ---- what a part says of the whole


def test_a_partial_look_tells_of_the_whole_suite_without_a_jump():
    """The part is easier by half a nat than the rest, and moves as the rest does."""
    rng = np.random.default_rng(3)
    run = history(falling(), rng, "general", n=300, noise=0.01)
    run.nll[:, choose_part(run.ids, (), 100)] -= 0.75 * run.tokens[choose_part(run.ids, (), 100)]
    some = replay_looks(run, 100, STEPS)
    assert scored(some)[1:-1] == [100] * (LOOKS - 2)
    of_part = [float(row[~np.isnan(row)].sum() / run.tokens[~np.isnan(row)].sum()) for row in some.nll]
    assert abs(of_part[1] - run.loss(1)) > 0.3
    for look in range(LOOKS):
        assert some.loss(look) == pytest.approx(run.loss(look), abs=0.02)
        estimate, whole = some.estimate(look), run.estimate(look)
        assert estimate.n == scored(some)[look]
        assert estimate.estimate.se == pytest.approx(whole.estimate.se, rel=0.2)


def test_the_error_of_a_partial_look_is_as_large_as_it_says():
    rng, off = np.random.default_rng(4), []
    for _ in range(2000):
        before = 2 + rng.standard_normal(200)
        now = before - 0.5 + 0.4 * rng.standard_normal(200)
        found = two_phase(now[:60], before[:60], np.ones(60), before.mean(), 200).estimate
        off.append((found.value - 1.5) / found.se)
    assert np.std(off) == pytest.approx(1, abs=0.06)
    assert abs(np.mean(off)) < 0.08


def test_a_change_is_estimated_since_the_latest_whole_look():
    nll = np.array([[2.0, 4.0, 6.0, 8.0], [1.0, 3.0, 5.0, 3.0], [0.5, np.nan, 4.0, np.nan]])
    run = dataclasses.replace(
        history([0, 0, 0], np.random.default_rng(0), n=4), nll=nll, tokens=np.array([1, 1, 1, 1])
    )
    assert (run.loss(0), run.loss(1), run.loss(2)) == (5.0, 3.0, 2.25)
    assert run.estimate(2, since=0).value == -2.75
    assert run.estimate(2, since=0, chosen=np.array([True, True, False, False])).value == -1.5
    assert run.estimate(2, since=0, chosen=np.array([False, True, False, False])).n == 0
    assert run.peers(1).tolist() == [0, 1]
    assert run.peers(2).tolist() == [0, 1, 2]


def looks_of(run, steps) -> Looks:
    looks = Looks()
    for step, row in zip(steps, run.nll, strict=True):
        places = np.flatnonzero(~np.isnan(row))
        scores = Scores(list(run.ids), row, run.tokens, (run.tokens / 2).astype(int))
        looks.add(step, run.suite, scores.only(places))
    return looks


def test_an_example_without_a_loss_at_step_0_is_left_out():
    rng = np.random.default_rng(9)
    run = history(turning(0.6), rng, n=60, noise=0.01)
    rest = overfitting.rise_at(run.only(np.arange(60) > 0), LOOKS - 1)
    run.nll[0, 0] = np.nan
    assert overfitting.rise_at(run, LOOKS - 1).estimate == rest.estimate
    assert run.loss(LOOKS - 1) == pytest.approx(run.only(np.arange(60) > 0).loss(LOOKS - 1))


def test_the_best_step_is_not_a_look_at_an_easier_part():
    rng = np.random.default_rng(5)
    run = history(turning(0.6), rng, n=200, noise=0.01)
    easy = choose_part(run.ids, (), 50)
    run.nll[:, easy] -= 1.5 * run.tokens[easy]
    run.nll[np.ix_([2, 9], np.flatnonzero(~easy))] = np.nan
    recipe = Recipe.model_validate(small(method="lora"))
    assert best_step(looks_of(run, run.steps), recipe) == 40
    run.nll[4, ~easy] = np.nan  # the best one may well be a partial one
    assert best_step(looks_of(run, run.steps), recipe) == 40


def test_partial_looks_in_between_do_not_hide_that_a_run_has_settled():
    rng = np.random.default_rng(6)
    means = np.concatenate([[0, -0.5, -0.9], np.full(18, -1.0)])
    run = history(means, rng, n=200, noise=0.008)
    context = SimpleNamespace(total_steps=200)
    assert converged(run, context) is not None
    nll = run.nll.copy()
    nll[5:20:2, choose_part(run.ids, (), 12) ^ True] = np.nan
    flag = converged(dataclasses.replace(run, nll=nll), context)
    assert flag is not None
    assert flag.n == 200
    assert flag.since_step <= 100


def test_documents_are_kept_from_the_scores_to_the_history():
    rng = np.random.default_rng(10)
    run = history(falling(), rng, "general", n=40)
    run = dataclasses.replace(run, documents=tuple(f"book {i // 10}" for i in range(40)))
    looks = Looks()
    for step, row in zip(run.steps, run.nll, strict=True):
        scores = Scores(list(run.ids), row, run.tokens, run.tokens, documents=run.documents)
        looks.add(step, "general", scores if step != 50 else scores.only(np.arange(0, 40, 2)))
    found = looks.history("general")
    assert found.documents == run.documents
    assert found.only(np.arange(40) >= 30).documents == ("book 3",) * 10
    assert found.change(0, 10) == run.change(0, 10)
    assert found.change(0, 10).df < 4 < run.only(np.arange(40) < 40).change(0, 10).n
    # A look at a part of each document is as unsure of the whole as those documents leave it.
    alone = dataclasses.replace(found, documents=()).estimate(5, 0)
    assert found.estimate(5, 0).estimate.df < 4 < alone.estimate.df


# ---- a worker


def looked(path, lr: float, steps: int, samples: int) -> RunDir:
    """A finished run that looks at 8 of 16 examples after every step."""
    data = {"train": "bundled:docstrings", "limit": 40, "heldout": 16}
    evals = small()["evals"] | {"every": 1, "limit": 16, "per_look": 8, "samples": samples, "generate": 0}
    train = small()["train"] | {
        "max_steps": steps,
        "lr": lr,
        "micro_tokens": 1024,
        "checkpoint_every": "100%",
    }
    run = make_run(path, small(method="full", data=data, evals=evals, train=train))
    assert work(run) == 0, run.attempt(1).stdout.read_text()
    return run


@pytest.fixture(scope="module")
def calm(tmp_path_factory) -> RunDir:
    return looked(tmp_path_factory.mktemp("runs") / "000001-calm", 1e-7, 12, samples=6)


def counts(run, suite) -> list[int]:
    return [len(examples["id"]) for (_, name), examples in sorted(measured(run).items()) if name == suite]


def test_a_calm_run_looks_at_a_part_and_its_curve_has_no_jumps(calm):
    run = calm
    # Two fifths as many of general text, a quarter as many of what the base model wrote.
    assert counts(run, "general") == [16, *[4] * 11, 16]
    assert counts(run, "samples") == [6, *[2] * 11, 6]
    # Of 12 looks in 12 steps, two begin no tenth.
    assert [step for step, n in enumerate(counts(run, "heldout")) if n == 8] == [1, 7]
    assert [step for step, n in enumerate(counts(run, "seen")) if n == 8] == [1, 7]
    values = {
        (e["step"], e["suite"]): e["values"]["loss"]
        for e in of_kind(run, 1, "eval")
        if e["suite"] in ("heldout", "general")
    }
    for suite in ("heldout", "general"):
        curve = [values[step, suite]["value"] for step in range(13)]
        assert max(np.abs(np.diff(curve))) < 1e-3
        assert [values[step, suite]["n"] for step in range(13)] == counts(run, suite)
    of_part = measured(run)[3, "general"]
    assert abs(sum(of_part["nll"]) / sum(of_part["tokens"]) - values[3, "general"]["value"]) > 1e-3
    assert "slice" not in of_part


def test_a_run_that_goes_wrong_is_looked_at_whole(tmp_path):
    run = looked(tmp_path / "000001-wild", 3e-2, 4, samples=0)
    assert counts(run, "general") == [16, 16, 16, 4, 16]  # from the critical flag on, a part is enough
    assert {e["flag"] for e in of_kind(run, 1, "flag") if e["level"] == "critical"} >= {"forgetting"}
    for (step, suite), examples in measured(run).items():
        first = measured(run)[0, suite]
        assert len(set(examples["id"])) == len(examples["id"])
        if len(examples["id"]) == len(first["id"]):
            assert (examples["id"], examples["tokens"]) == (first["id"], first["tokens"]), step


def test_what_was_scored_is_read_back_as_it_was(calm):
    run = calm
    looks = read_looks(run, 2, 12)
    for event in of_kind(run, 1, "eval"):
        history = looks.history(event["suite"])
        look = history.steps.index(event["step"])
        if event["suite"] == "samples":
            told = {name: result["value"] for name, result in event["values"].items()}
            measured_now = measures(history.until(look))
            assert told == pytest.approx({name: each.value for name, each in measured_now.items()}, abs=1e-5)
            continue
        assert history.loss(look) == pytest.approx(event["values"]["loss"]["value"])
        assert history.scored(look).sum() == event["values"]["loss"]["n"]
