"""What is refused before anything is queued, in one sentence each; and what is promised about a good recipe."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from engine.basics.errors import DataError, ModelError, RecipeError
from engine.bundled.catalogue import model_path
from engine.client import preflight
from engine.models.source import resolve_model
from engine.recipe.recipe_file import parse
from engine.recipe.sections import Recipe


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
    assert [data.role for data in report.datasets] == ["train", *["general"] * 5]
    assert report.model.parameters
    assert report.looks is not None
    assert report.warnings == [report.looks.warning()], "and what its looks cost, since the run is short"


def test_paths_are_relative_to_the_recipe_and_become_absolute(tmp_path: Path) -> None:
    rows(tmp_path / "mine.jsonl", 100)
    report = preflight.check(recipe(train="mine.jsonl"), tmp_path)
    assert report.recipe.data.train == str(tmp_path / "mine.jsonl")
    rows(tmp_path / "own.jsonl", 100)
    named = {"own": "own.jsonl", "prose": "bundled:stdlib-prose"}
    asked = {"question": "Two?", "choices": ["2", "3"], "answer": 0}
    (tmp_path / "arc.jsonl").write_text(json.dumps(asked) + "\n")
    evals = {"general": named, "choices": {"arc": "arc.jsonl"}}
    report = preflight.check(recipe(train="mine.jsonl", evals=evals), tmp_path)
    assert report.recipe.evals.general == named | {"own": str(tmp_path / "own.jsonl")}
    assert [data.role for data in report.datasets] == ["train", "general", "general", "choices"]
    assert report.recipe.evals.choices == {"arc": str(tmp_path / "arc.jsonl")}
    assert report.recipe.data.heldout == "10%"


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("gone.jsonl", None, "there is no such file"),
        ("empty.jsonl", "", "has no rows"),
        ("one.jsonl", '{"prompt": "a", "completion": "b"}\n', "has one row"),
        ("broken.jsonl", '{"prompt": "a", "completion": "b"}\n{"prompt": \n', "line 2"),
        ("shape.jsonl", '{"question": "a", "answer": "b"}\n' * 3, "line 1"),
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
    rows(tmp_path / "held.jsonl", 25)  # the first 20 are those of small.jsonl
    data = {"train": "small.jsonl", "heldout": "held.jsonl"}
    report = preflight.check(recipe(data=data, evals={"general": None}), tmp_path)
    assert report.warnings[0] == "20 rows of held.jsonl are also in small.jsonl and are not scored"
    assert any("heldout has only 5 rows" in note for note in report.warnings)
    assert any("20 training rows are few for lora" in note for note in report.warnings)
    assert any("forgetting cannot be measured" in note for note in report.warnings)


def test_nothing_left_to_score_is_refused(tmp_path: Path) -> None:
    rows(tmp_path / "small.jsonl", 20)
    rows(tmp_path / "held.jsonl", 21)
    with pytest.raises(DataError, match=r"20 rows of held.jsonl are also in small.jsonl, which leaves 1 to"):
        preflight.check(recipe(data={"train": "small.jsonl", "heldout": "held.jsonl"}), tmp_path)


def test_bad_rows_are_left_out_up_to_a_share(tmp_path: Path) -> None:
    rows(tmp_path / "some.jsonl", 40)
    with (tmp_path / "some.jsonl").open("a") as file:
        file.write('{"prompt": "q"}\n{"prompt": "q", "completion": " "}\n')
    report = preflight.check(recipe(train="some.jsonl"), tmp_path)
    assert report.datasets[0].dropped == 2
    assert "skipped: line 41 has the columns `prompt`, but task sft needs" in report.warnings[0]
    assert "; line 42 every answer is empty" in report.warnings[0]
    with (tmp_path / "some.jsonl").open("a") as file:
        file.write('{"prompt": "q"}\n')
    with pytest.raises(
        DataError, match=r"some.jsonl: 3 of 43 rows cannot be used, which is more than 5%: .*line 41"
    ):
        preflight.check(recipe(train="some.jsonl"), tmp_path)


def test_columns_of_ones_own(tmp_path: Path) -> None:
    lines = [json.dumps({"question": f"q{i}", "answer": f"a{i}"}) for i in range(30)]
    (tmp_path / "qa.jsonl").write_text("\n".join(lines))
    columns = {"prompt": "question", "completion": "answer"}
    report = preflight.check(recipe(data={"train": "qa.jsonl", "columns": columns}), tmp_path)
    assert report.train_examples + report.heldout_examples == 30
    with pytest.raises(DataError, match="did you mean `answer`"):
        preflight.check(recipe(data={"train": "qa.jsonl", "columns": {"completion": "anser"}}), tmp_path)
    with pytest.raises(RecipeError, match=r"data.columns.prmpt: must be one of .*did you mean `prompt`"):
        recipe(data={"train": "qa.jsonl", "columns": {"prmpt": "question"}})


def test_a_configuration_alone_in_the_cache_is_no_model(tmp_path, monkeypatch):
    """As the estimate leaves it: the weights are still on the hub."""

    def no_network(*_, **__):
        raise OSError("no network")

    (tmp_path / "config.json").write_text("{}")
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: str(tmp_path / "config.json"))
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", no_network)
    with pytest.raises(ModelError, match=r"the hub does not answer \(no network\)"):
        resolve_model("org/name")
