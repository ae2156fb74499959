"""The base model with training examples before each held-out prompt: same targets, asked once, nothing disturbed."""

from __future__ import annotations

import json

import numpy as np
import pytest
from transformers import AutoTokenizer
from workers import curve, make_run, nlls, of_kind, small, start, wait_for, work

from engine.data.chat import tokenize
from engine.data.formats import Document
from engine.evals.looks import read_looks
from engine.models.source import locate
from engine.tasks.items import text_items
from engine.tasks.prepare import Prepared, Suite
from engine.training.few_shot import few_shot_suite

SUITE = "heldout_few_shot"


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(locate("bundled:stdlib-2m"))


def chat(name: str, system: str = "", turns: int = 1) -> Document:
    messages = [{"role": "system", "content": system}] if system else []
    for turn in range(turns):
        messages.append({"role": "user", "content": f"What is {name} {turn}?"})
        messages.append({"role": "assistant", "content": f"{name} is number {turn}."})
    return Document(name, tuple(messages))


def prepared(
    tokenizer, heldout: list[Document], seen: list[Document], make=tokenize, cut: int = 10**6
) -> Prepared:
    def suite(name: str, documents: list[Document]) -> Suite:
        return Suite(name, documents, [make(document, tokenizer)[-1].cut(cut) for document in documents])

    return Prepared([], [suite("heldout", heldout), suite("seen", seen)], cut, cut, [], [], [])


def targets(example) -> list[int]:
    return example.tokens[example.mask].tolist()


SEEN = [chat(name) for name in ("alpha", "beta", "gamma", "delta")]


def test_the_others_come_first_and_the_targets_are_the_same(tokenizer):
    data = prepared(tokenizer, [chat("omega"), chat("psi", turns=2)], SEEN)
    suite, shots = few_shot_suite(data, 2, tokenizer, 10**6)
    assert (suite.name, shots) == (SUITE, [2, 2])
    for made, plain in zip(suite.examples, data.suite("heldout").examples, strict=True):
        assert made.id == plain.id
        assert targets(made) == targets(plain)
    whole = tokenizer.decode(suite.examples[0].tokens)
    chosen = [name for name in ("alpha", "beta", "gamma", "delta") if f"{name} is number 0." in whole]
    assert len(chosen) == 2
    assert all(whole.index(f"{name} is number 0.") < whole.index("What is omega 0?") for name in chosen)
    again, _ = few_shot_suite(data, 2, tokenizer, 10**6)
    assert [e.content for e in again.examples] == [e.content for e in suite.examples]


def test_a_system_message_stays_in_front_and_others_are_dropped(tokenizer):
    data = prepared(tokenizer, [chat("omega", system="Be brief.")], [chat("alpha", system="Be long.")])
    (made,) = few_shot_suite(data, 4, tokenizer, 10**6)[0].examples
    whole = tokenizer.decode(made.tokens)
    assert "Be long." not in whole
    assert whole.index("Be brief.") < whole.index("What is alpha 0?") < whole.index("What is omega 0?")


def test_as_many_are_put_there_as_fit(tokenizer):
    data = prepared(tokenizer, [chat("omega")], SEEN)
    lengths = {n: len(few_shot_suite(data, n, tokenizer, 10**6)[0].examples[0].tokens) for n in (1, 2, 3)}
    assert few_shot_suite(data, 3, tokenizer, lengths[3])[1] == [3]
    assert few_shot_suite(data, 3, tokenizer, lengths[3] - 1)[1] == [2]
    assert few_shot_suite(data, 3, tokenizer, lengths[1] - 1)[0].examples == []


def test_a_row_that_was_cut_has_no_more_targets_than_without(tokenizer):
    long = chat("omega", turns=3)
    cut = len(tokenize(long, tokenizer)[0].tokens) - 9
    data = prepared(tokenizer, [long], SEEN, cut=cut)
    (made,) = few_shot_suite(data, 2, tokenizer, 10**6)[0].examples
    assert targets(made) == targets(data.suite("heldout").examples[0])
    assert len(targets(made)) < tokenize(long, tokenizer)[0].targets


def test_texts_stand_one_after_the_other_with_one_beginning(tokenizer):
    documents = [Document(name, text=f"The text of {name}.") for name in ("omega", "alpha", "beta")]
    data = prepared(tokenizer, documents[:1], documents[1:], make=text_items)
    (made,) = few_shot_suite(data, 2, tokenizer, 10**6)[0].examples
    plain = data.suite("heldout").examples[0]
    assert targets(made) == targets(plain)
    assert made.tokens.tolist().count(tokenizer.bos_token_id) == plain.tokens.tolist().count(
        tokenizer.bos_token_id
    )
    assert sum(f"The text of {name}." in tokenizer.decode(made.tokens) for name in ("alpha", "beta")) == 2


def asked(run, attempt: int = 1) -> list[dict]:
    return [event for event in of_kind(run, attempt, "eval") if event["suite"] == SUITE]


@pytest.fixture(scope="module")
def with_shots(tmp_path_factory):
    run = make_run(
        tmp_path_factory.mktemp("home") / "runs" / "000001-shots", small(method="lora", evals__few_shot=2)
    )
    assert work(run) == 0, run.attempt(1).stdout.read_text()
    return run


def test_it_is_asked_once_and_disturbs_nothing(with_shots, finished):
    (event,) = asked(with_shots)
    assert event["step"] == 0
    assert event["values"]["shots"]["value"] == 2
    plain = finished["lora"]
    assert curve(with_shots) == curve(plain)
    assert {key: nll for key, nll in nlls(with_shots).items() if key[1] != SUITE} == nlls(plain)
    (heldout,) = [e for e in of_kind(plain, 1, "eval") if (e["step"], e["suite"]) == (0, "heldout")]
    assert event["examples"]["id"] == heldout["examples"]["id"]
    assert event["examples"]["tokens"] == heldout["examples"]["tokens"]
    assert not np.allclose(event["examples"]["nll"], heldout["examples"]["nll"], rtol=1e-3)


def test_looks_do_not_wait_for_it(with_shots):
    looks = read_looks(with_shots, 2, 6)
    assert looks.has_few_shot
    assert [looks.has(step) for step in (0, 3, 6)] == [True, True, True]
    assert looks.history(SUITE) is None


def test_the_next_run_on_the_same_base_finds_it(with_shots):
    cache = with_shots.path.parent.parent / "cache" / "base"
    before = {path.name for path in cache.iterdir()}
    run = make_run(with_shots.path.parent / "000002-again", small(method="lora", evals__few_shot=2, seed=5))
    assert work(run) == 0
    assert {path.name for path in cache.iterdir()} == before
    assert asked(run)[0]["examples"] == asked(with_shots)[0]["examples"]


def test_virtual_tokens_are_taken_away_for_it(with_shots, tmp_path):
    method = {"name": "prompt", "tokens": 4}
    run = make_run(tmp_path / "000001-prompt", small(method=method, evals__few_shot=2, train__max_steps=1))
    assert work(run) == 0
    base, found = (asked(which)[0]["examples"]["nll"] for which in (with_shots, run))
    assert found == pytest.approx(base, rel=1e-4)


def test_a_run_that_goes_on_does_not_ask_again(tmp_path):
    run = make_run(tmp_path / "000001-killed", small(method="full", evals__few_shot=2))
    process = start(run)
    wait_for(run, 1, "checkpoint", process, step=2)
    process.kill()
    process.join()
    assert work(run, attempt=2) == 0
    assert (len(asked(run, 1)), len(asked(run, 2))) == (1, 0)


def test_a_class_is_not_asked_for_that_way(tmp_path):
    rows = [{"text": f"word {n} {'good' * (n % 2)}", "label": "ab"[n % 2]} for n in range(40)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    data = {"train": str(tmp_path / "rows.jsonl"), "heldout": 8}
    tree = small(method="full", task="classification", data=data, evals__few_shot=2, train__max_steps=1)
    run = make_run(tmp_path / "000001-class", tree)
    assert work(run) == 0, run.attempt(1).stdout.read_text()
    assert asked(run) == []
