"""Sweeps that are drawn at random: which runs they have, and what is wrong with one."""

from __future__ import annotations

import math
import random
from pathlib import Path

import pytest

from engine.basics.errors import RecipeError
from engine.recipe.recipe_file import RecipeFile, parse
from engine.search.worth import FEWEST, worth

BASE = "model: bundled:stdlib-2m\nmethod: lora\ndata: {train: bundled:docstrings}\n"
PATH = Path("mine.yaml")


def swept(text: str) -> RecipeFile:
    return parse(f"{BASE}sweep:\n{text}", PATH)


def test_runs_are_drawn_from_lists_and_ranges() -> None:
    text = "  runs: 200\n  train.lr: {from: 1.0e-5, to: 1.0e-3, scale: log}\n  method.r: {from: 4, to: 8}\n"
    file = swept(text + "  train.schedule: [cosine, linear]\n")
    recipes = file.recipes
    assert len(recipes) == 200
    assert len({recipe.hash() for recipe in recipes}) == 200, "each is another one"
    rates = [float(recipe.train.lr or 0) for recipe in recipes]
    assert min(rates) >= 1e-5
    assert max(rates) <= 1e-3
    assert 60 <= sum(rate < 1e-4 for rate in rates) <= 140, "evenly on a logarithmic scale"
    assert {recipe.flat()["method.r"] for recipe in recipes} == {"4", "5", "6", "7", "8"}
    assert {recipe.train.schedule for recipe in recipes} == {"cosine", "linear"}
    assert file.sweep is not None
    assert file.sweep.keys == ["train.lr", "method.r", "train.schedule"]
    assert (
        recipes[0].name
        == f"mine lr={rates[0]:g} r={recipes[0].flat()['method.r']} schedule={recipes[0].train.schedule}"
    )
    assert len(f"{rates[0]:g}") <= 8, "short enough for a name"
    assert swept(text).recipes == swept(text).recipes, "the same again"
    assert swept(text).recipes != swept(text + "  draw_seed: 1\n").recipes


def test_without_runs_it_is_a_grid() -> None:
    assert len(swept("  method.r: [4, 8]\n  seed: [0, 1, 2]\n").recipes) == 6
    assert len(swept("  runs: 5\n  method.r: [4, 8]\n  seed: [0, 1, 2]\n").recipes) == 5


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "  train.lr: {from: 1.0e-5, to: 1.0e-3}\n",
            "line 5, key sweep.train.lr: a range is drawn from: say how",
        ),
        (
            "  runs: 3\n  train.lr: {from: 1, to: 0.1}\n",
            "line 6, key sweep.train.lr: a range goes from a number",
        ),
        ("  runs: 3\n  train.lr: {from: a, to: b}\n", "key sweep.train.lr: a range goes from a number"),
        ("  runs: 3\n  train.lr: {from: 0, to: 1, scale: log}\n", "begins above 0"),
        ("  runs: 3\n  train.lr: {from: 0, to: 1, scale: wide}\n", "scale must be one of linear, log"),
        ("  runs: 3\n  train.lr: {low: 0, high: 1}\n", "give a list of values, or a range"),
        ("  runs: 3\n  train.lr: {from: .nan, to: 1}\n", "a range goes from a number"),
        ("  runs: 0\n  seed: [1]\n", "line 5, key sweep.runs: give how many runs"),
        ("  runs: many\n  seed: [1]\n", "key sweep.runs: give how many runs"),
        ("  runs: 3\n", "key sweep.runs: there is nothing to draw"),
        ("  runs: 3\n  seed: [1, 2]\n", "key sweep.runs: 3 different runs cannot be drawn"),
        ("  runs: 5000\n  seed: {from: 1, to: 10000}\n", "these are 5,000 runs; at most 1,000"),
        ("  draw_seed: x\n  seed: [1]\n", "key sweep.draw_seed: give a whole number"),
    ],
)
def test_what_is_wrong_is_one_sentence(text: str, sentence: str) -> None:
    with pytest.raises(RecipeError) as raised:
        swept(text)
    assert sentence in str(raised.value)
    assert "\n" not in str(raised.value)


def test_what_a_setting_was_worth_is_said_where_chance_is_unlikely() -> None:
    chance = random.Random(0)
    runs = []
    for _ in range(30):
        rate, rank = 10 ** chance.uniform(-5, -1), chance.choice(("8", "16", "all-linear"))
        loss = 2 + (math.log10(rate) + 3) ** 2 + chance.gauss(0, 0.3)
        runs.append(({"train.lr": f"{rate:.3g}", "method.r": rank, "task": "sft"}, loss))
    rate, rank = worth(runs)
    assert (rate.key, rate.is_told, rate.n) == ("train.lr", True, 30), "best in the middle"
    low, high = map(float, rate.best.split(" to "))
    assert 1e-5 < low < 1e-3 < high < 1e-1
    assert rate.explains > 0.4
    assert rate.median < rate.elsewhere
    assert (rank.key, rank.is_told) == ("method.r", False), "and task is the same everywhere"
    assert worth(runs[: FEWEST - 1]) == []


def test_settings_without_worth_are_rarely_told() -> None:
    chance, told = random.Random(1), 0
    for _ in range(60):
        settings = [
            {"a": str(chance.random()), "b": chance.choice("xy"), "c": str(chance.randrange(3))}
            for _ in range(20)
        ]
        told += any(one.is_told for one in worth([(one, chance.gauss(0, 1)) for one in settings]))
    assert told <= 8, "5% of 60, by the 99.5% point of the binomial"


def test_runs_that_diverged_hide_nothing() -> None:
    runs = [
        ({"lr": str(0.001 * (place + 1)), "r": "48"[place % 2]}, [2.0, 2.1][place % 2]) for place in range(18)
    ]
    runs += [({"lr": "0.5", "r": "4"}, 1e9), ({"lr": "0.6", "r": "8"}, 2e9)]
    (rank, _) = sorted(worth(runs), key=lambda one: one.key, reverse=True)
    assert (rank.key, rank.is_told, rank.best) == ("r", True, "4")
