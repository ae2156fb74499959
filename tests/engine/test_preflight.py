"""What is refused before anything is queued, in one sentence each; and what is promised about a good recipe."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from engine import preflight
from engine.data.bundled import model_path
from engine.data.sources import DataError
from engine.model_source import ModelError, resolve_model
from engine.recipe import Recipe
from engine.recipe_file import parse


def recipe(model: str = "bundled:stdlib-2m", train: str = "bundled:docstrings", **sections: object) -> Recipe:
    body = {"model": model, "method": "lora", "data": {"train": train}, **sections}
    return parse(json.dumps(body), Path("r.yaml")).recipes[0]


def rows(path: Path, count: int) -> str:
    path.write_text(
        "".join(json.dumps({"prompt": f"q{i}", "completion": f"a{i}"}) + "\n" for i in range(count))
    )
    return str(path)


def test_a_good_recipe_says_what_will_run(tmp_path: Path) -> None:
    report = preflight.check(recipe(), tmp_path)
    assert report.train_examples + report.heldout_examples == report.datasets[0].rows
    assert report.steps
    assert report.steps > 10
    assert [data.role for data in report.datasets] == ["train", "general"]
    assert report.model.parameters
    assert not report.warnings


def test_paths_are_relative_to_the_recipe_and_become_absolute(tmp_path: Path) -> None:
    rows(tmp_path / "mine.jsonl", 100)
    report = preflight.check(recipe(train="mine.jsonl"), tmp_path)
    assert report.recipe.data.train == str(tmp_path / "mine.jsonl")
    assert report.recipe.data.heldout == "10%"


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("gone.jsonl", None, "there is no such file"),
        ("empty.jsonl", "", "has no rows"),
        ("one.jsonl", '{"prompt": "a", "completion": "b"}\n', "has one row"),
        ("broken.jsonl", '{"prompt": "a", "completion": "b"}\n{"prompt": \n', "line 2"),
        ("shape.jsonl", '{"question": "a", "answer": "b"}\n' * 3, "row 1"),
    ],
)
def test_bad_data_is_one_sentence_with_the_file(
    tmp_path: Path, name: str, content: str | None, says: str
) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(DataError) as caught:
        preflight.check(recipe(train=name), tmp_path)
    assert name in str(caught.value)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_model_must_be_a_model(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    broken = tmp_path / "broken"
    shutil.copytree(model_path("stdlib-2m"), broken)
    (broken / "model.safetensors").write_bytes((broken / "model.safetensors").read_bytes()[:5000])
    pickled = tmp_path / "pickled"
    shutil.copytree(model_path("stdlib-2m"), pickled)
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    for source, says in [
        ("bundled:nope", "stdlib-2m"),
        (str(tmp_path / "nope"), "no such directory"),
        (str(tmp_path / "empty"), "is not a model"),
        (str(broken), "safetensors"),
        (str(pickled), "pickled weights are not loaded"),
        (str(broken / "config.json"), "is a file"),
        ("a/b/c", "no such directory"),
    ]:
        with pytest.raises(ModelError) as caught:
            resolve_model(source)
        assert says in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_target_that_the_model_does_not_have_gets_a_suggestion(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no layer q_prj; did you mean q_proj"):
        preflight.check(recipe(method={"name": "lora", "targets": ["q_prj"]}), tmp_path)


def test_warnings_carry_numbers(tmp_path: Path) -> None:
    rows(tmp_path / "small.jsonl", 20)
    rows(tmp_path / "held.jsonl", 5)  # the first five rows of small.jsonl
    data = {"train": "small.jsonl", "heldout": "held.jsonl"}
    notes = preflight.check(recipe(data=data, evals={"general": None}), tmp_path).warnings
    assert any("only 5 held-out" in note for note in notes)
    assert any("5 held-out rows are also in the training data" in note for note in notes)
    assert any("forgetting cannot be seen" in note for note in notes)


def test_replayed_general_text_is_told(tmp_path: Path) -> None:
    data = {"train": "bundled:docstrings", "replay": {"source": "bundled:stdlib-prose", "ratio": 0.1}}
    notes = preflight.check(recipe(data=data), tmp_path).warnings
    assert any("forgetting may be hidden" in note for note in notes)
