"""The general text that comes along: what is in it, and which of it a base model is watched on."""

from __future__ import annotations

import ast
import re

import numpy as np
import pytest
from workers import small

from engine.bundled import catalogue
from engine.data.formats import to_document
from engine.data.gather import gather
from engine.evals import known_slices
from engine.evals.language import language_of
from engine.evals.score import Scores
from engine.recipe.sections import GENERAL, Recipe
from engine.tasks.prepare import Suite

FIXED = [source.removeprefix("bundled:") for source in GENERAL.values() if "general-" in source]
NOTICE = (catalogue._packaged("x").parent / "NOTICE.md").read_text()
STEP = re.compile(r"(?<![\d.+×÷=(-] )(?<![\w/])(\d+) ([-+×÷]) (\d+) = (\d+)(?! [-+×÷])\b")


@pytest.mark.parametrize("name", FIXED)
def test_a_fixed_file_is_small_and_has_its_licence(name: str):
    rows = catalogue.load(f"bundled:{name}")
    assert catalogue._packaged(name).stat().st_size <= 64 * 1024
    assert f"`{name}.jsonl`" in NOTICE
    assert len({to_document(row, "general").id for row in rows}) == len(rows) >= 100
    assert len({row["document"] for row in rows}) >= 17
    assert all(20 <= len(to_document(row, "general").target) <= 1000 for row in rows)


def test_code_is_code_that_no_other_data_has():
    for row in catalogue.load("general-code"):
        (node,) = ast.parse(row["text"]).body
        assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        assert not ast.get_docstring(node)
        assert not re.search(r"^\s*#", row["text"], re.MULTILINE)


def test_the_working_of_every_problem_is_right():
    steps = 0
    for row in catalogue.load("general-arithmetic"):
        for a, sign, b, result in STEP.findall(row["text"]):
            one, other = int(a), int(b)
            values = {"+": one + other, "-": one - other, "×": one * other, "÷": one / other}
            assert values[sign] == int(result), row["text"]
            steps += 1
    assert steps >= 150


def test_passages_are_in_the_language_of_their_catalogue():
    rows = catalogue.load("general-languages")
    told = [(row["document"].partition(".")[2][:2], language_of(row["text"])) for row in rows]
    assert {expected for expected, _ in told} == {"de", "es", "fr", "it", "ja", "nl", "pl", "pt", "ru", "zh"}
    right = {expected: [] for expected, _ in told}
    for expected, seen in told:
        right[expected].append(seen == expected)
    assert {language: np.mean(hits) for language, hits in right.items()} == pytest.approx(
        dict.fromkeys(right, 1.0), abs=0.15
    )


def test_all_of_it_is_watched_by_default_and_shares_the_limit():
    tree = small(method="lora", evals__limit=300)
    del tree["evals"]["general"]
    recipe = Recipe.model_validate(tree)
    assert recipe.general == GENERAL
    found = gather(recipe)
    assert [suite.slice for suite in found.general] == list(GENERAL)
    assert [len(suite.documents) for suite in found.general] == [60] * 5
    assert not [suite for suite in found.general if suite.leaks]
    assert not [note for note in found.notes if "not read" in str(note)]  # the column `document` is


# ---- what a base model does not know ---------------------------------------------------------------


def suite_of(**texts: list[str]) -> Suite:
    pairs = [(name, to_document({"text": text}, "text")) for name, own in texts.items() for text in own]
    documents = [document for _, document in pairs]
    return Suite("general", documents, list(documents), tuple(name for name, _ in pairs))  # type: ignore[arg-type]


def nats(suite: Suite, per_byte: dict[str, float]) -> Scores:
    pairs = zip(suite.documents, suite.slices, strict=True)
    nll = np.array([per_byte[name] * len(document.text.encode()) for document, name in pairs])
    return Scores([document.id for document in suite.documents], nll, np.ones(len(nll)), np.zeros(len(nll)))


def test_the_entropy_of_bytes():
    assert known_slices.byte_entropy(b"aaaa") == 0.0
    assert known_slices.byte_entropy(b"abab") == pytest.approx(np.log(2))
    assert known_slices.byte_entropy(bytes(range(256))) == pytest.approx(np.log(256))


def test_a_slice_that_the_base_predicts_no_better_than_its_bytes_is_not_watched():
    general = suite_of(
        a=["abcd" * 9 + str(i) for i in range(20)], b=["мир и труд" + str(i) for i in range(20)]
    )
    probed = known_slices.probes(general)
    assert [probed.slices.count(name) for name in "ab"] == [known_slices.PROBES] * 2
    rate = known_slices.HARDLY * known_slices.byte_entropy(
        "".join(d.text for d in general.documents[20:]).encode()
    )
    known, unknown = {"a": 0.5, "b": rate - 0.01}, {"a": 0.5, "b": rate}
    assert known_slices.unknown_slices(general, probed, nats(probed, known)) == []
    assert known_slices.unknown_slices(general, probed, nats(probed, unknown)) == ["b"]
    # A model that knows nothing is watched on all of it.
    assert known_slices.unknown_slices(general, probed, nats(probed, {"a": 9.0, "b": 9.0})) == []
