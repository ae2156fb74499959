"""The pure parts of the flag benchmark: what other rules say, and what counts as true."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from flag_runs import LOOKS, falling, history, jumping, turning

from benchmarks import flag_baselines as rules
from benchmarks.flag_clean import CLEAN, clean_runs, judge_clean
from benchmarks.flag_data import train_rows, write
from benchmarks.flag_judge import judge, preferences, tell
from benchmarks.flag_models import FAMILIES
from benchmarks.flag_plants import FORGETS_LESS, PLANTS, cache_path
from benchmarks.flag_regimes import SECOND
from benchmarks.flag_tables import print_groups, print_sizes
from benchmarks.flag_truth import (
    FORGETS,
    FORGETS_BADLY,
    PER_GAIN,
    TURNED_UP,
    onset,
    outcome,
    score,
    truth,
    upper_bound,
)
from engine.recipe.sections import Flags, Recipe


def losses(*values):
    return np.array(values, dtype=float)


def first(hits):
    return hits.index(True) if True in hits else None


def test_patience_counts_looks_without_a_new_best():
    assert rules.patience(losses(3, 2, 2.1, 1.9, 2, 2, 2), 3) == [False] * 6 + [True]
    assert first(rules.patience(losses(5, 4, 3, 2, 1), 1)) is None


def test_prechelts_generalisation_loss_is_in_per_cent_of_the_minimum():
    assert rules.generalisation_loss(losses(2, 1, 1.04, 1.06), 5) == [False, False, False, True]
    assert first(rules.generalisation_loss(losses(2, 1, 1.03), 2)) == 2


def test_prechelts_up_asks_for_rises_in_a_row():
    assert rules.rises(losses(3, 2, 2.1, 2.2, 2.1, 2.2, 2.3, 2.4), 3) == [False] * 7 + [True]
    assert first(rules.rises(losses(1, 2, 3, 4), 3)) == 3


def test_a_training_loss_that_rises_too_is_no_overfitting():
    rising = losses(2, 1, 1.2)
    assert first(rules.generalisation_loss_while_learning(rising, losses(2, 1, 0.5), 5)) == 2
    assert first(rules.generalisation_loss_while_learning(rising, losses(2, 1, 1.5), 5)) is None


def test_gap_and_relative_thresholds():
    assert first(rules.gap(losses(3, 2.5, 2.5), losses(2.9, 2.2, 1.8), 0.5)) == 2
    assert first(rules.relative(losses(4, 4.1, 4.3), 0.05)) == 2


def test_a_naive_paired_test_flags_a_drift_that_nobody_minds_and_an_unpaired_one_misses_real_ones():
    rng = np.random.default_rng(0)
    tiny = history(jumping(0.02), rng, "general", noise=0.01)
    assert first(rules.FORGETTING["paired p<0.05"](tiny)) == 1
    real = history(jumping(0.15), rng, "general", noise=0.01)
    assert first(rules.FORGETTING["unpaired z"](real)) is None


def test_every_rule_finds_a_plain_case():
    rng = np.random.default_rng(1)
    heldout, seen = (
        history(turning(2.0), rng, noise=0.01, between=0.1),
        history(falling(-1.9), rng, "seen", noise=0.01),
    )
    assert all(first(rule(heldout, seen)) is not None for rule in rules.OVERFITTING.values())
    general = history(jumping(0.5), rng, "general", noise=0.01, between=0.1)
    assert all(first(rule(general)) == 1 for rule in rules.FORGETTING.values())


# ---- truth


def oracle(means, rng, explained=0.0, right=0.5):
    """A held-out suite whose rises since look 4 are explained by temperature 2 to this share."""
    run = history(means, rng, n=500, noise=0.001)
    rise = np.maximum(0, run.nll - run.nll[4]) * (np.arange(LOOKS) > 4)[:, None]
    share = np.where(np.arange(LOOKS) <= 4, 0.5, right)[:, None]
    return dataclasses.replace(
        run,
        temperatures=(1.0, 2.0),
        tempered=np.stack([run.nll, run.nll - explained * rise], axis=1),
        right=share * run.tokens,
    )


def told(heldout, drift=0.0, train=-2.0):
    rng = np.random.default_rng(9)
    general = history(jumping(drift), rng, "general", n=500, noise=0.001)
    return truth(heldout, general, history(np.linspace(0, train, LOOKS), rng, "train", n=500, noise=0.001))


def test_a_clean_run():
    found = told(oracle(falling(), np.random.default_rng(2)), drift=0.03)
    assert found.clean
    assert found.harmless is None
    assert found.drift == pytest.approx(0.03, abs=0.002)


def test_overfitting_harmless_rises_and_instability():
    rng = np.random.default_rng(3)
    harmful = told(oracle(turning(), rng))
    assert (harmful.turned_up, harmful.harmless, harmful.cause) == (5, None, "overfitting")
    harmless = told(oracle(turning(), rng, explained=0.9))
    assert (harmless.turned_up, harmless.harmless, harmless.clean) == (None, 5, True)
    worse = told(oracle(turning(), rng, explained=0.9, right=0.45))
    assert worse.turned_up == 5
    assert told(oracle(turning(), rng), train=2.0).cause == "instability"


def test_forgetting_in_one_slice_is_forgetting_but_not_among_texts_of_the_base_model():
    rng = np.random.default_rng(4)
    general = history(jumping(0.0), rng, "general", n=300, noise=0.001)
    general.nll[1:, :100] += 0.25 * general.tokens[:100]
    heldout, train = oracle(falling(), rng), history(falling(), rng, "train", n=500)

    def of(*names):
        slices = tuple(names[0] if i < 100 else names[1] for i in range(300))
        return truth(heldout, dataclasses.replace(general, slices=slices), train)

    assert truth(heldout, general, train).forgets is None
    assert of("a", "b").forgets == 1
    assert (of("samples", "b").forgets, of("samples", "b").drift) == (None, pytest.approx(0, abs=0.002))


def test_a_price_is_weighed_against_the_gain():
    rng = np.random.default_rng(7)
    gains, nothing = oracle(jumping(-1.0), rng), oracle(jumping(0.0), rng)
    in_proportion = told(gains, drift=0.15)
    assert (in_proportion.forgets, in_proportion.pays, in_proportion.clean) == (None, 1, True)
    assert in_proportion.excess == pytest.approx(0.75, abs=0.02)
    assert (told(gains, drift=0.25).forgets, told(gains, drift=0.25).pays) == (1, None)
    assert (told(nothing, drift=0.15).forgets, told(nothing, drift=0.05).pays) == (1, None)
    much = told(oracle(jumping(-3.0), rng), drift=0.35)
    assert (much.forgets, much.forgets_badly) == (1, 1)
    unweighed = truth(gains, history(jumping(0.15), rng, "general", noise=0.001), gains, weighs=False)
    assert unweighed.forgets == 1


def test_the_margins_of_truth_are_the_default_ones():
    defaults = Flags()
    assert (
        defaults.forgetting.warn,
        defaults.forgetting.critical,
        defaults.forgetting.per_gain,
    ) == (FORGETS, FORGETS_BADLY, PER_GAIN)
    assert defaults.overfitting.warn == TURNED_UP


def test_onset_passes_over_a_single_look():
    assert onset(np.array([False, True, False, True, True])) == 3
    assert onset(np.array([False, False, True])) == 2
    assert onset(np.array([False, True, False])) is None


def test_outcomes():
    assert outcome(None, None, 0.0, 0.05, 20) == "right"
    assert outcome(None, 3, 0.0, 0.05, 20) == "false"
    assert outcome(4, 6, 0.3, 0.05, 20) == "hit"
    assert outcome(4, 3, 0.3, 0.05, 20) == "false"
    assert outcome(4, None, 0.3, 0.05, 20) == "missed"
    assert outcome(4, 6, 0.055, 0.05, 20) == "borderline"
    assert outcome(20, None, 0.3, 0.05, 20) == outcome(20, 20, 0.3, 0.05, 20) == "last"
    assert outcome(20, 5, 0.3, 0.05, 20) == "false"
    found = score(["hit", "hit", "false", "missed", "right"], [2, 4])
    assert (found.precision, found.recall, found.lag) == (2 / 3, 2 / 3, 3)


def test_upper_bound_of_no_false_warning_in_sixty():
    assert upper_bound(0, 60) == pytest.approx(1 - 0.05 ** (1 / 60))
    assert upper_bound(60, 60) == 1


# ---- judge


EVERY = {plant.name: plant for plant in (*PLANTS, *SECOND, *CLEAN)}


def cached(path: Path, task, drift, train, explained=0.0, flags=()) -> Path:
    """A run's arrays as flag_run.py writes them."""
    rng = np.random.default_rng(5)
    suites = {
        "heldout": oracle(task, rng, explained),
        "oracle-heldout": oracle(task, rng, explained),
        "seen": history(train, rng, "seen", noise=0.01),
        "general": history(drift, rng, "general", noise=0.01),
        "oracle-general": history(drift, rng, "general", n=500, noise=0.01),
    }
    names = ("ids", "nll", "tokens", "right", "tempered")
    arrays = {
        f"{suite}/{name}": np.array(value)
        for suite, run in suites.items()
        for name in names
        if (value := getattr(run, name)) is not None
    }
    plant = EVERY[path.stem.rpartition("-")[0]]
    files = {name: f"{name}.jsonl" for name in ("train", "heldout", "general", "replay")}
    meta = {"plant": plant.name, "seed": 0, "recipe": plant.recipe(0, files, "bundled:stdlib-2m")}
    meta["flags"] = list(flags)
    if plant.task == "dpo":  # the task's curve is that of the rejected answers
        for suite in ("heldout", "oracle-heldout", "seen"):
            arrays[f"{suite}/rejected"] = -arrays[f"{suite}/nll"]
            arrays[f"{suite}/nll"] = np.tile(arrays[f"{suite}/nll"][:1], (LOOKS, 1))
    if plant.task == "classification":
        arrays = {name: values for name, values in arrays.items() if "general/" not in name}
    arrays |= {
        "meta": json.dumps(meta),
        "steps": np.array(suites["seen"].steps),
        "rates": np.ones(100),
        "temperatures": np.array([1.0, 2.0]),
        "train_loss": np.linspace(4, 3, 100) + 0.1 * rng.standard_normal(100),
        "grad_norm": np.ones(100),
        "disagreement": 0.0,
        "disagreement_of_change": 0.0,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **arrays)
    return path


def test_cached_runs_are_replayed_and_judged(tmp_path, capsys):
    runs = tmp_path / "runs"
    clean = tell(cached(runs / "clean-lora-0.npz", falling(), jumping(0.01), falling(-2)))
    assert clean.truth.clean
    assert (clean.task["finetui"], clean.general["finetui"], clean.cause, clean.dead) == (
        None,
        None,
        None,
        False,
    )
    assert clean.general["paired p<0.05"] is not None
    forgot = tell(cached(runs / "far-0.npz", falling(), np.linspace(0, 2, LOOKS), falling(-2)))
    assert (forgot.truth.forgets, forgot.general["finetui"]) == (1, 2)
    assert forgot.forecasts[0.25].lo < 2.0 < forgot.forecasts[0.25].hi
    overfit = tell(cached(runs / "overfit-full-0.npz", turning(), jumping(0.01), falling(-2)))
    assert (overfit.truth.turned_up, overfit.cause, overfit.truth.cause) == (5, "overfitting", "overfitting")
    helps = tell(cached(runs / "helps-0.npz", turning(), jumping(0.01), falling(-2), explained=0.9))
    assert (helps.truth.harmless, helps.overconfident, helps.task["finetui"]) == (5, True, None)

    judge(tmp_path, PLANTS, range(1), tmp_path / "picture.svg")
    printed = capsys.readouterr().out
    assert "4 of" in printed
    assert "| finetui | 1.00 | 1.00 |" in printed
    assert "harmless rises told as information, never as a warning: 1 of 1" in printed
    assert "told as dead: 0 of 0 of tiny-rate, 0 others" in printed
    assert (tmp_path / "picture.svg").read_text().count("finetui") == 2  # a panel each


def test_pairs_are_judged_by_their_preference_loss():
    rng = np.random.default_rng(6)
    chosen = history(np.full(LOOKS, 1.0), rng, n=20, noise=0.0)
    rejected = np.linspace(30, 60, LOOKS)[:, None] * np.ones(20)
    found = preferences(chosen, rejected, beta=0.1)
    assert found.loss(0) == pytest.approx(np.log(2))
    assert found.loss(-1) == pytest.approx(np.log(1 + np.exp(-0.1 * 30)))
    assert found.right.sum(axis=1).tolist() == [0, *[20] * (LOOKS - 1)]


def test_pairs_and_classes_are_judged_by_regime_and_model(tmp_path, capsys):
    root = tmp_path / "runs"
    good = tell(cached(root / "dpo-sane-0.npz", falling(), jumping(0.01), falling(-2)))
    assert good.truth.clean
    assert good.task["finetui"] is None
    # A preference loss moves by a fraction of a pair's nats.
    bad = tell(cached(root / "dpo-few-0.npz", turning(2.0), jumping(0.01), falling(-2)))
    assert (bad.truth.turned_up, bad.truth.cause, bad.cause) == (5, "overfitting", "overfitting")
    classes = tell(cached(root / "classes-few-0.npz", turning(1.0), jumping(1.0), falling(-2)))
    assert (classes.truth.turned_up, classes.truth.forgets, classes.general["finetui"]) == (5, None, None)
    print_groups([good, bad, classes], SECOND)
    printed = capsys.readouterr().out
    assert "| dpo | 2 | 1 / 0 / 0 / 1, 0; 1 | 0 / 0 / 0 / 2, 0; – | 0 of 1 (≤ 95%) | 0 |" in printed
    assert "| classes | 1 | 1 / 0 / 0 / 0, 0; " in printed
    assert "| stdlib-2m | 3 |" in printed


def test_held_out_sets_of_each_size_are_cut_from_a_run(tmp_path, capsys):
    run = tell(cached(tmp_path / "runs" / "few-lora-0.npz", turning(1.0), jumping(0.01), falling(-2)))
    print_sizes(tmp_path, [run])
    lines = capsys.readouterr().out.splitlines()
    of_100 = next(line for line in lines if line.startswith("| 100 |") and "0.3 to inf" in line)
    assert "| 5 | 100% |" in of_100  # 500 rows make five sets
    of_12 = next(line for line in lines if line.startswith("| 12 |") and "0.3 to inf" in line)
    assert "| 10 |" in of_12


def test_false_warnings_of_sane_runs_are_counted_by_kind(tmp_path, capsys):
    (plant, seed), (other, its_seed), *_ = clean_runs()
    sampled = {"flag": "forgetting", "level": "warn", "suite": "general", "slice": "samples", "step": 9}
    early = {"flag": "overfitting", "level": "watch", "suite": "heldout", "slice": "", "step": 9}
    cached(
        cache_path(tmp_path, plant, seed),
        falling(),
        jumping(0.01),
        falling(-2),
        flags=[sampled, sampled, early],
    )
    risen = early | {"level": "critical"}
    cached(cache_path(tmp_path, other, its_seed), turning(), jumping(0.01), falling(-2), flags=[risen])
    judge_clean(tmp_path)
    printed = capsys.readouterr().out
    assert "2 of 200 runs are there" in printed
    assert "by their oracle, 1 rise above their best look and 0 forget" in printed
    assert "| warning | of 2 runs | false |" in printed
    assert "| forgetting (samples) | 1 | 1 |" in printed
    assert "| overfitting (heldout) | 1 | 0 |" in printed
    assert "| any | 2 | 1 |" in printed


# ---- plants


def test_every_plant_is_a_recipe_and_directions_name_plants():
    files = {name: f"{name}.jsonl" for name in ("train", "heldout", "general", "replay")}
    for plant in EVERY.values():
        Recipe.model_validate(plant.recipe(3, files, str(Path("bundled:stdlib-2m"))))
        assert plant.model in {"stdlib-2m", *FAMILIES}
    assert len(EVERY) == len(PLANTS) + len(SECOND) + len(CLEAN)  # no name twice
    names = [plant.name for plant in PLANTS]
    assert {name for _, less, more in FORGETS_LESS for name in (less, more)} <= set(names)
    assert 5 * sum("clean" in name or "noisy" in name for name in names) >= 60


def test_sane_runs_differ_in_their_seeds():
    runs = clean_runs()
    assert len({seed for _, seed in runs}) == len(runs) == 200
    assert {plant.name for plant, _ in runs} == {plant.name for plant in CLEAN}


def test_training_rows_are_changed_as_a_plant_says(tmp_path):
    answers = ["`f(x)` in `m`." if i % 3 == 0 else f"Return the answer number {i}." for i in range(90)]
    chats = [
        {"messages": [{"role": "user", "content": f"What {i}?"}, {"role": "assistant", "content": answer}]}
        for i, answer in enumerate(answers)
    ]
    write(tmp_path / "chats" / "pool.jsonl", chats)
    pairs = [{"prompt": f"{i}?", "chosen": f"good {i}", "rejected": "bad"} for i in range(90)]
    write(tmp_path / "pairs" / "pool.jsonl", pairs)

    def said(name, folder, rows):
        plant = dataclasses.replace(EVERY[name], rows=rows)
        return train_rows(tmp_path / folder, plant, 0, "")

    forward = said("shifted-lora", "chats", 700)
    assert len(forward) == 60
    assert not any(row["messages"][1]["content"].startswith("`") for row in forward)
    mixed = [row["messages"][1]["content"] for row in said("mixture-lora", "chats", 60)]
    hard = [answer for answer in mixed if len(answer) == 64]
    assert len(hard) == 3
    assert all(int(answer, 16) >= 0 for answer in hard)
    letters = said("letters-lora", "chats", 5)[0]["messages"][0]["content"]
    assert letters[:4] == "Шхат"
    swapped = said("dpo-few-noise", "pairs", 60)
    assert sum(row["chosen"] == "bad" for row in swapped) == 18
    assert said("dpo-few", "pairs", 60) != said("dpo-few-noise", "pairs", 60)
