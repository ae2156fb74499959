"""Metrics of written text, against their libraries and by hand, and functions of the user's own."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from workers import last_error, make_run, of_kind, small, work

from engine.basics.errors import MetricError
from engine.basics.statistics import bootstrap, mean, share
from engine.evals.metrics import BUILT_IN, Metrics
from engine.recipe.sections import METRICS
from finetui.errors import ExitCode
from tui import cli

RECIPE = "model: bundled:stdlib-2m\nmethod: lora\ndata: {train: bundled:docstrings}\n"
PREDICTIONS = ["Return the sum.", "A list of  items", "nothing at all here", "the cat sat on the mat today"]
REFERENCES = ["Return the sum.", "A list of items", "Something else", "the cat sat on a mat"]


def measured(*names: str, directory: Path = Path()) -> dict:
    said: list[str] = []
    found = Metrics(names, directory, lambda level, message: said.append(message)).measures(
        PREDICTIONS, REFERENCES
    )
    assert said == []
    return found


def test_the_recipe_knows_the_metrics_that_there_are():
    assert set(METRICS) == set(BUILT_IN)


def test_metrics_equal_those_of_their_libraries():
    found = measured("exact_match", "rouge", "bleu", "chrf")
    assert set(found) == {"exact_match", "rouge1", "rouge2", "rougeL", "bleu", "chrf"}
    assert found["exact_match"].value == 0.5
    # Imported here: by the one process that asks, not by all that collect tests.
    import sacrebleu
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rougeL"], use_stemmer=True)
    pairs = list(zip(REFERENCES, PREDICTIONS, strict=True))
    rouge = np.mean([scorer.score(r, p)["rougeL"].fmeasure for r, p in pairs])
    assert found["rougeL"].value == pytest.approx(rouge)
    assert found["bleu"].value == pytest.approx(sacrebleu.corpus_bleu(PREDICTIONS, [REFERENCES]).score)
    assert found["chrf"].value == pytest.approx(sacrebleu.corpus_chrf(PREDICTIONS, [REFERENCES]).score)
    for measure in found.values():
        assert measure.n == 4
        assert measure.lo <= measure.value <= measure.hi
    assert found == measured("exact_match", "rouge", "bleu", "chrf"), "intervals have a fixed seed"


def test_no_answers_no_metrics():
    assert Metrics(["bleu"], Path(), print).measures([], []) == {}


# ---- libraries that are an extra


@pytest.mark.parametrize(
    ("metric", "library"), [("rouge", "rouge_score"), ("bleu", "sacrebleu"), ("chrf", "sacrebleu")]
)
def test_a_metric_that_is_not_installed_is_told_before_anything_is_queued(
    metric, library, tmp_path, monkeypatch, capsys
):
    monkeypatch.setitem(sys.modules, library, None)  # as if it were not there
    said = (
        f"key evals.metrics: {metric} needs the package {library}, which is not installed; "
        "run: pip install 'finetui[metrics]'"
    )
    with pytest.raises(MetricError) as caught:  # what a worker says
        Metrics([metric], tmp_path, print)
    assert str(caught.value) == said
    recipe = tmp_path / "my.yaml"
    recipe.write_text(f"{RECIPE}evals: {{metrics: [{metric}]}}\n")
    monkeypatch.setenv("FINETUI_HOME", str(tmp_path / "home"))
    for command in ("check", "run"):
        monkeypatch.setattr("sys.argv", ["finetui", command, str(recipe)])
        with pytest.raises(SystemExit) as ended:
            cli.command()
        assert ended.value.code == ExitCode.BAD_INPUT
        assert capsys.readouterr().err == f"finetui: {said}\n"
    assert not (tmp_path / "home").exists()


def test_the_other_metrics_do_without_the_extra(tmp_path, monkeypatch):
    for library in ("rouge_score", "sacrebleu"):
        monkeypatch.setitem(sys.modules, library, None)
    assert measured("exact_match")["exact_match"].value == 0.5


# ---- functions of the user's own

OWN = """
def number(predictions, references):
    return 0.25
def each(predictions, references):
    return [float(p == r) for p, r in zip(predictions, references)]
def several(predictions, references):
    return {"words": sum(len(p.split()) for p in predictions), "n": len(references)}
def fails(predictions, references):
    raise ValueError("no dictionary for this language")
several.higher_is_better = True
def short(predictions, references):
    return [1.0]
def text(predictions, references):
    return "good"
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    name = f"own_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(OWN)
    return name


def test_a_function_may_give_a_number_a_list_or_numbers_by_name(own, tmp_path):
    found = measured(f"{own}:number", f"{own}:each", f"{own}:several", directory=tmp_path)
    assert {name: measure.value for name, measure in found.items()} == {
        "number": 0.25,
        "each": 0.25,
        "several_words": 18.0,
        "several_n": 4.0,
    }
    assert found["number"].lo == -np.inf
    assert [found[name].higher_is_better for name in ("number", "several_n")] == [None, True]
    assert found["each"] == mean(np.array([1.0, 0, 0, 0]))


@pytest.mark.parametrize(
    ("function", "why"),
    [
        ("fails", "ValueError: no dictionary for this language"),
        ("short", "ValueError: it returned 1 numbers for 4 texts"),
        ("text", "TypeError: it returned a str; return a number, a list of numbers, or a dict of numbers"),
    ],
)
def test_a_function_that_fails_is_told_and_the_others_count(own, tmp_path, function, why):
    said: list[tuple[str, str]] = []
    metrics = Metrics([f"{own}:{function}", "exact_match"], tmp_path, lambda *what: said.append(what))
    assert list(metrics.measures(PREDICTIONS, REFERENCES)) == ["exact_match"]
    assert said == [("warning", f"evals.metrics {own}:{function}: {why}; it is skipped in this evaluation")]


def test_a_name_that_leads_nowhere_is_one_sentence(own, tmp_path):
    with pytest.raises(
        MetricError, match=r"key evals.metrics: nowhere:f cannot be imported from .*No module named"
    ):
        Metrics(["nowhere:f"], tmp_path, print)
    with pytest.raises(MetricError, match=rf"key evals.metrics: {own} \(.*{own}\.py\) has no function other"):
        Metrics([f"{own}:other"], tmp_path, print)


def test_a_run_writes_its_metrics_and_survives_one_that_fails(own, tmp_path):
    tree = small(
        method="lora", train__max_steps=1, evals__limit=4, evals__generate=3,
        evals__metrics=["chrf", f"{own}:each", f"{own}:fails"],
    )  # fmt: skip
    run = make_run(tmp_path / "000001-run", tree)
    meta = run.meta.read_text()
    run.meta.write_text(meta[:-1] + f', "recipe_path": "{tmp_path / "recipe.yaml"}"}}')
    assert work(run) == 0, run.attempt(1).stdout.read_text()
    values = {e["step"]: e["values"] for e in of_kind(run, 1, "eval") if e["suite"] == "heldout"}
    assert {"loss", "token_accuracy", "chrf", "each"} == set(values[0]) == set(values[1])
    assert values[1]["chrf"]["n"] == 3
    assert sum("no dictionary" in e["message"] for e in of_kind(run, 1, "log")) == 2


def test_a_bad_name_ends_a_run_before_training(tmp_path):
    run = make_run(tmp_path / "000001-bad", small(method="lora", evals__metrics=["nowhere:f"]))
    assert work(run) == 4
    assert last_error(run).startswith("key evals.metrics: nowhere:f cannot be imported from")
    assert of_kind(run, 1, "eval") == []


# ---- intervals


def test_the_share_of_hits_has_the_interval_of_wilson():
    found = share(np.array([True] * 9 + [False]))
    assert (found.lo, found.hi) == pytest.approx((0.5958, 0.9821), abs=1e-4)  # Wilson's, 9 of 10
    none = share(np.zeros(10))
    assert (none.value, none.lo) == (0.0, pytest.approx(0.0, abs=1e-9))
    assert none.hi == pytest.approx(0.2775, abs=1e-4)


def test_a_bootstrap_of_a_mean_has_the_interval_of_the_mean():
    values = np.random.default_rng(0).standard_normal(200)
    found, theirs = bootstrap(lambda chosen: float(values[chosen].mean()), 200), mean(values)
    assert found.value == pytest.approx(theirs.value)
    assert (found.lo, found.hi) == pytest.approx((theirs.lo, theirs.hi), abs=0.03)
