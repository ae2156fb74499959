"""Data prepared by an earlier run are those that this one would have prepared, or they are prepared again."""

from __future__ import annotations

import json
import pickle
import shutil
from collections import OrderedDict
from pathlib import Path

import pytest
from workers import HERE, small

from engine.basics import cache_files
from engine.bundled.catalogue import model_path
from engine.data import data_cache, sources
from engine.data.gather import gather
from engine.models.tokenizer import load_tokenizer
from engine.recipe.sections import Recipe
from engine.tasks import prepared_cache
from engine.tasks.prepare import Prepared, prepare
from engine.tasks.prepared_cache import prepare_once

ROWS = HERE / "rows.jsonl"
LONGEST = 256
RECIPES = {
    "sft": small(method="lora", evals__general={"prose": str(HERE / "prose.jsonl")}),
    "dpo": small(method="full", task="dpo", evals__limit=4),
    "classification": small(method="lora", task="classification", data__train="bundled:docstring-subjects"),
    "completion": small(method="lora", task="completion", data__train=str(HERE / "prose.jsonl")),
}


def recipe(tree) -> Recipe:
    return Recipe.model_validate(tree)


def once(tree, directory) -> Prepared:
    asked = recipe(tree)
    return prepare_once(asked, load_tokenizer(asked.model), LONGEST, directory)


def examples(directory: Path) -> list[Path]:
    return list(directory.glob("examples-*"))


def content(prepared: Prepared) -> tuple:
    suites = [
        (suite.name, suite.documents, [one.content for one in suite.examples], suite.slices)
        for suite in prepared.suites
    ]
    rest = (prepared.notes, prepared.labels, prepared.overlaps, prepared.fingerprints, prepared.choices)
    return (prepared.digest, [item.id for item in prepared.train], prepared.max_length, suites, rest)


@pytest.fixture
def pairs(tmp_path, monkeypatch):
    """Of the recipe `dpo`."""
    rows = [
        {"prompt": f"What is {n}?", "chosen": f"It is {n}, no less.", "rejected": f"Is it {n + 1}?"}
        for n in range(30)
    ]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setitem(RECIPES["dpo"]["data"], "train", str(tmp_path / "pairs.jsonl"))


@pytest.fixture
def nothing_is_prepared(monkeypatch):
    def fail(*_):
        raise AssertionError("prepared again")

    return lambda: monkeypatch.setattr(prepared_cache, "prepare", fail)


@pytest.mark.parametrize("task", RECIPES)
def test_it_is_what_would_be_prepared(task, pairs, tmp_path, nothing_is_prepared):
    asked = recipe(RECIPES[task])
    theirs = content(prepare(asked, load_tokenizer(asked.model), LONGEST))
    assert content(once(RECIPES[task], tmp_path / "cache")) == theirs
    nothing_is_prepared()
    again = once(RECIPES[task], tmp_path / "cache")
    assert content(again) == theirs
    assert [item.tokens.dtype.name for item in again.train[:1]] == ["int32"]


def test_runs_that_differ_in_training_alone_share_it(tmp_path, nothing_is_prepared):
    first = once(RECIPES["sft"], tmp_path)
    nothing_is_prepared()
    other = {**RECIPES["sft"], "method": {"name": "lora", "r": 4}, "seed": 3, "name": "x"}
    other["train"] = {**other["train"], "lr": 0.5, "max_steps": 99}
    assert content(once(other, tmp_path)) == content(first)


def test_another_length_text_or_row_is_prepared_anew(tmp_path):
    mine, directory = tmp_path / "mine.jsonl", tmp_path / "cache"
    shutil.copy(ROWS, mine)
    trees = [
        small(method="lora", data__train=str(mine)),
        small(method="lora", data__train=str(mine), train__max_length=64),
        small(method="lora", data__train=str(mine), evals__limit=5),
        small(method="lora", data__train=str(mine), data__heldout=9),
        small(method="lora", data__train=str(mine), flags__leak="off"),
    ]
    assert len({str(content(once(tree, directory))) for tree in trees}) == len(trees)
    assert len(examples(directory)) == len(trees)
    before = once(trees[0], directory)
    rows = mine.read_text().splitlines(keepends=True)
    mine.write_text("".join(rows[:-1]))
    after = once(trees[0], directory)
    assert len(after.train) == len(before.train) - 1
    assert len(examples(directory)) == len(trees) + 1


def test_another_tokenizer_is_another_file(tmp_path):
    model = tmp_path / "model"
    shutil.copytree(model_path("stdlib-2m"), model)
    tree = small(model=str(model), method="lora")
    once(tree, tmp_path / "cache")
    settings = json.loads((model / "tokenizer_config.json").read_text())
    (model / "tokenizer_config.json").write_text(json.dumps(settings | {"model_max_length": 99}))
    once(tree, tmp_path / "cache")
    assert len(examples(tmp_path / "cache")) == 2


def test_data_that_change_while_they_are_read_are_not_kept(tmp_path, monkeypatch):
    mine = tmp_path / "mine.jsonl"
    shutil.copy(ROWS, mine)

    def meanwhile(*arguments):
        rows = mine.read_text().splitlines(keepends=True)
        mine.write_text("".join(rows[:-1]))
        return prepare(*arguments)

    monkeypatch.setattr(prepared_cache, "prepare", meanwhile)
    once(small(method="lora", data__train=str(mine)), tmp_path / "cache")
    assert examples(tmp_path / "cache") == []


def test_rows_that_change_while_they_are_gathered_are_not_kept(tmp_path, monkeypatch):
    mine = tmp_path / "mine.jsonl"
    shutil.copy(ROWS, mine)

    def meanwhile(asked):
        gathered = gather(asked)
        mine.write_text("".join(mine.read_text().splitlines(keepends=True)[:-1]))
        return gathered

    monkeypatch.setattr(data_cache, "gather", meanwhile)
    data_cache.gather_once(recipe(small(method="lora", data__train=str(mine))), tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("task", RECIPES)
def test_what_is_gathered_is_what_would_be_gathered(task, pairs, tmp_path, monkeypatch):
    asked = recipe(RECIPES[task])
    theirs = gather(asked)
    assert data_cache.gather_once(asked, tmp_path / "cache") == theirs
    monkeypatch.delattr(data_cache, "gather")
    assert data_cache.gather_once(asked, tmp_path / "cache") == theirs


def damage_bit(path: Path) -> None:
    body = bytearray(path.read_bytes())
    body[len(body) // 2] ^= 1
    path.write_bytes(body)


def replace_by_other(path: Path) -> None:
    cache_files.write(path, pickle.dumps(OrderedDict(a=1)), 9)


@pytest.mark.parametrize(
    "damage",
    [
        damage_bit,
        replace_by_other,
        lambda path: path.write_bytes(path.read_bytes()[:-9]),
        lambda path: path.write_bytes(b""),
        lambda path: (path.unlink(), path.mkdir()),
    ],
)
def test_a_damaged_file_costs_the_preparation(damage, tmp_path):
    whole = content(once(RECIPES["sft"], tmp_path))
    for path in list(tmp_path.iterdir()):
        damage(path)
    assert content(once(RECIPES["sft"], tmp_path)) == whole
    assert content(once(RECIPES["sft"], tmp_path)) == whole


def load(directory, made):
    cache_files.write(directory / "x", pickle.dumps(made), 9)
    return data_cache.load(directory / "x")


def test_a_file_of_somebody_else_is_not_run(tmp_path):
    """Of a pickle nothing is called but what prepared data are made of."""
    assert load(tmp_path, OrderedDict(a=1)) is None
    assert load(tmp_path, Path("x")) is None
    assert load(tmp_path, prepare) is None


def test_what_is_cached_is_closed_to_others(tmp_path):
    """Rows of a user, in a home that a command makes before a daemon does."""
    cache_files.write(tmp_path / "home" / "cache" / "data" / "x", b"y", 3)
    for path in (tmp_path / "home", tmp_path / "home" / "cache", tmp_path / "home" / "cache" / "data"):
        assert path.stat().st_mode & 0o077 == 0


def test_the_oldest_go_first(tmp_path):
    for number in range(5):
        cache_files.write(tmp_path / f"{number}", b"x" * 100, max_files=3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2", "3", "4"]
    cache_files.write(tmp_path / "5", b"x" * 100, max_files=3, max_bytes=250)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["4", "5"]
    cache_files.write(tmp_path / "6", b"x" * 300, max_files=3, max_bytes=250)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["4", "5"]


@pytest.mark.parametrize("source", ["bundled:docstrings", "bundled:general-chat", str(ROWS)])
def test_the_identity_of_a_source_is_that_of_its_content(source, tmp_path):
    assert sources.identity(source) == sources.identity(source)
    assert sources.identity(source) != sources.identity(str(HERE / "prose.jsonl"))


def test_a_folder_is_its_files_and_their_names(tmp_path):
    shutil.copy(ROWS, tmp_path / "a.jsonl")
    one = sources.identity(str(tmp_path))
    (tmp_path / "a.jsonl").rename(tmp_path / "b.jsonl")
    renamed = sources.identity(str(tmp_path))
    shutil.copy(ROWS, tmp_path / "c.jsonl")
    assert len({one, renamed, sources.identity(str(tmp_path))}) == 3


def test_text_of_which_rows_are_left_can_be_replayed(tmp_path: Path) -> None:
    for name, count in (("few", 8), ("many", 60)):
        rows = [
            json.dumps({"text": f"Text {name} {i}: what it says of {i * i} and {i**3}."})
            for i in range(count)
        ]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(rows))
    tree = small(
        method="lora", evals__general={name: str(tmp_path / f"{name}.jsonl") for name in ("few", "many")}
    )
    assert once(tree, None).replayable == [str(tmp_path / "many.jsonl")]
