"""Scores per example, how sure their mean is, and what is read back from earlier attempts."""

from __future__ import annotations

import copy
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, LlamaForCausalLM
from workers import small

from engine.basics.errors import DataError
from engine.basics.statistics import change, ratio
from engine.bundled.catalogue import model_path
from engine.data.chat import tokenize
from engine.data.formats import to_document
from engine.evals import base_samples
from engine.evals.generate import choose_questions, generate_answers
from engine.evals.looks import read_looks
from engine.evals.score import score
from engine.losses.loss import TargetLoss
from engine.recipe.sections import Recipe
from engine.runs.home import RunDir
from engine.tasks.prepare import Suite, prepare
from engine.training.stop import Cancelled
from finetui.log import LogWriter

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(model_path("stdlib-2m"))


@pytest.fixture(scope="module")
def model():
    return LlamaForCausalLM.from_pretrained(model_path("stdlib-2m"), dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def suite(tokenizer):
    rows = [{"prompt": f"What is {n}?", "completion": "It is " + "very " * n + "long."} for n in range(9)]
    documents = [to_document(row) for row in rows]
    return Suite("heldout", documents, [tokenize(document, tokenizer)[0] for document in documents])


def test_each_example_has_the_score_it_has_alone(model, suite):
    scores = score(TargetLoss(model), suite, 64, CPU, lambda: None)
    for i, example in enumerate(suite.examples):
        ids = torch.tensor(example.tokens, dtype=torch.long)
        with torch.no_grad():
            logits = model(input_ids=ids[None]).logits[0, :-1]
        chosen = torch.tensor(example.mask[1:])
        nll = torch.nn.functional.cross_entropy(logits[chosen], ids[1:][chosen], reduction="sum")
        assert scores.ids[i] == example.id
        assert scores.nll[i] == pytest.approx(nll.item(), rel=1e-4)
        assert scores.tokens[i] == chosen.sum()
        assert scores.right[i] == (logits.argmax(-1) == ids[1:])[chosen].sum()


def test_scoring_can_be_given_up(model, suite):
    def check():
        raise Cancelled

    with pytest.raises(Cancelled):
        score(TargetLoss(model), suite, 64, CPU, check)


def test_answers_are_what_each_prompt_gets_alone(model, suite, tokenizer):
    asked = choose_questions(
        Recipe.model_validate(small(method="full", evals__generate=3)), suite, tokenizer, 1000
    )
    together = generate_answers(model, tokenizer, asked, 6, CPU)
    alone = [generate_answers(model, tokenizer, [question], 6, CPU)[0] for question in asked]
    assert [(q.prompt, q.reference) for q in asked] == [(d.prompt, d.target) for d in suite.documents[:3]]
    assert together == alone
    assert all(isinstance(a.text, str) and "<|" not in a.text for a in together)
    assert generate_answers(model, tokenizer, [], 6, CPU) == []


def test_prompts_that_do_not_fit_and_answers_to_nothing_are_not_asked_for(suite, tokenizer):
    recipe = Recipe.model_validate(small(method="full", evals__generate=3))
    everything = choose_questions(recipe, suite, tokenizer, 1000)
    room = min(len(question.tokens) for question in everything)
    short = choose_questions(recipe, suite, tokenizer, room)
    assert short
    assert all(len(question.tokens) <= room for question in short)
    opening = replace(suite.documents[0], messages=({"role": "assistant", "content": "Hello there."},))
    begun = Suite("heldout", [opening, *suite.documents], suite.examples)
    assert choose_questions(recipe, begun, tokenizer, 1000) == everything


# ---- intervals


def drawn(rng, n):
    """Losses and tokens of examples that differ in difficulty; the true mean per token is 2."""
    tokens = rng.integers(5, 80, n)
    return (2 + 0.7 * rng.standard_normal(n)) * tokens, tokens


@pytest.mark.parametrize("n", [20, 100])
def test_intervals_cover_the_truth_as_often_as_they_say(n):
    rng = np.random.default_rng(0)
    intervals = [ratio(*drawn(rng, n)).interval() for _ in range(2000)]
    covered = np.mean([lo <= 2 <= hi for lo, hi in intervals])
    assert 0.92 <= covered <= 0.97


def test_a_paired_change_is_sharper_than_two_intervals():
    rng = np.random.default_rng(1)
    before, tokens = drawn(rng, 100)
    now = before + 0.05 * tokens + 0.02 * tokens * rng.standard_normal(100)
    estimate = change(before, now, tokens)
    lo, hi = estimate.interval()
    unpaired_lo, unpaired_hi = ratio(now, tokens).interval()
    assert lo < 0.05 < hi
    assert hi - lo < (unpaired_hi - unpaired_lo) / 5
    assert estimate.p_above(0) < 1e-6
    assert 0.01 < estimate.p_above(0.05) < 0.99
    assert estimate.p_above(0.5) > 0.999


def test_one_example_says_nothing_about_sureness():
    estimate = ratio(np.array([3.0]), np.array([2]))
    assert (estimate.value, estimate.interval(), estimate.p_above(0)) == (1.5, (-np.inf, np.inf), 1.0)


def test_no_spread_at_all_is_no_error():
    estimate = change(np.array([1.0, 2.0]), np.array([2.0, 4.0]), np.array([1, 2]))
    assert (estimate.p_above(0.5), estimate.p_above(1.5)) == (0.0, 1.0)


# ---- reading back


def write_attempt(run, number, *entries):
    log = LogWriter(run.attempt(number).events, "worker", 1, number)
    for kind, fields in entries:
        log.write(kind, **fields)
    log.close()


def evaluated(step, nll, suite="heldout"):
    examples = {"id": ["a", "b"], "nll": [nll, nll], "tokens": [1, 2], "right": [0, 1]}
    return "eval", {"step": step, "suite": suite, "examples": examples}


def test_what_earlier_attempts_found_is_read_back_without_what_was_superseded(tmp_path):
    run = RunDir(tmp_path / "000001-run")
    flag = {"step": 10, "flag": "forgetting", "suite": "general", "level": "warn"}
    write_attempt(run, 1, evaluated(0, 1.0), evaluated(10, 2.0), ("flag", flag), evaluated(20, 3.0))
    write_attempt(run, 2, ("resume", {"from_step": 15}), evaluated(20, 4.0), evaluated(30, 5.0))
    write_attempt(run, 3, ("resume", {"from_step": 25}), evaluated(30, 6.0))
    looks = read_looks(run, attempt=3, from_step=25)
    history = looks.history("heldout")
    assert history is not None
    assert history.steps == (0, 10, 20)
    assert history.nll[:, 0].tolist() == [1.0, 2.0, 4.0]
    assert looks.level_of("forgetting", "general") == "warn"
    assert looks.has(20)
    assert not looks.has(30)
    fresh = read_looks(run, attempt=3, from_step=-1)
    assert fresh.history("heldout") is None
    assert fresh.level_of("forgetting", "general") is None


def test_losses_at_other_temperatures_than_todays_count_as_not_measured(tmp_path):
    run = RunDir(tmp_path / "000001-run")
    for step in (0, 5):
        kind, fields = evaluated(step, 1.0)
        fields["examples"]["tempered"] = {"0.7": [1.5, 1.5]}
        write_attempt(run, step + 1, (kind, fields))
    history = read_looks(run, attempt=9, from_step=5).history("heldout")
    assert history is not None
    assert history.nll[:, 0].tolist() == [1.0, 1.0]
    assert (history.tempered, history.temperatures) == (None, ())


# ---- suites of a recipe


def recipe(**data):
    from engine.recipe.sections import Recipe

    tree = {
        "model": "bundled:stdlib-2m",
        "method": "lora",
        "data": {"train": "bundled:docstrings", "limit": 60, **data},
        "evals": {"limit": 20},
    }
    return Recipe.model_validate(tree)


def test_no_suite_shares_a_row_with_training_but_seen(tokenizer):
    data = prepare(recipe(replay={"source": "bundled:stdlib-prose", "ratio": 0.3}), tokenizer, 1024)
    train = {example.id for example in data.train}
    ids = {suite.name: {example.id for example in suite.examples} for suite in data.suites}
    assert ids["seen"] <= train
    assert not ids["heldout"] & train
    assert not ids["general"] & train
    assert len(ids["general"]) == 20
    task = sum(len(e.tokens) for e in data.train if e.mask.mean() < 0.9)
    replayed = sum(len(e.tokens) for e in data.train if e.mask.mean() >= 0.9)
    assert replayed / (task + replayed) == pytest.approx(0.3, abs=0.05)


def test_named_sources_are_slices_beside_what_the_base_model_writes(tokenizer, tmp_path):
    rows = [{"text": f"{word} {word} and so on"} for word in ("sun", "rain", "wind", "snow")]
    own = write_rows(tmp_path / "own.jsonl", rows)
    tree = recipe().model_dump() | {
        "evals": {"general": {"own": own, "prose": "bundled:stdlib-prose"}, "limit": 20}
    }
    data = prepare(Recipe.model_validate(tree), tokenizer, 1024)
    assert data.suite("general").slices == ("own",) * 4 + ("prose",) * 10
    texts = [document.text for document in data.suite("general").documents]
    assert set(texts[:4]) == {row["text"] for row in rows}
    assert [document.id for document in data.suite("general").documents] == [
        example.id for example in data.suite("general").examples
    ]
    end = tokenizer.eos_token_id
    drawn = [[1, *tokenizer("a base text")["input_ids"], end], [1, end]]
    more = base_samples.with_samples(data, drawn, tokenizer, [end])
    assert more.suite("general") == data.suite("general")
    (example,) = more.suite("samples").examples
    assert example.mask.tolist() == [False, *[True] * (len(drawn[0]) - 2), False]  # neither beginning nor end
    assert [(o.suite, len(o.ids)) for o in data.overlaps] == [("heldout", 6), ("general", 24)]
    assert data.replayable == ["bundled:stdlib-prose"], "all four rows of the other are scored"


def write_rows(path, rows):
    path.write_text("\n".join(map(json.dumps, rows)))
    return str(path)


def test_held_out_rows_that_are_trained_on_are_not_scored(tokenizer, tmp_path):
    rows = [{"prompt": f"{n}?", "completion": f"{n}."} for n in range(4)]
    train = write_rows(tmp_path / "train.jsonl", rows)
    heldout = write_rows(
        tmp_path / "heldout.jsonl", [rows[0], *({"prompt": x, "completion": "y"} for x in "xyz")]
    )
    data = prepare(recipe(train=train, heldout=heldout, limit=None), tokenizer, 1024)
    assert "1 row of heldout.jsonl is also in train.jsonl and is not scored" in data.notes
    assert {document.prompt for document in data.suite("heldout").documents} == {"x", "y", "z"}


def test_rows_that_cannot_be_used_are_left_out_and_told(tokenizer, tmp_path):
    rows = [{"prompt": f"{n}?", "completion": f"{n}."} for n in range(100)]
    tool = {"messages": [{"role": "tool", "content": "x"}, {"role": "assistant", "content": "y"}]}
    train = write_rows(tmp_path / "train.jsonl", [*rows, tool, {"prompt": "and?"}])
    data = prepare(recipe(train=train, heldout=1, limit=None), tokenizer, 1024)
    assert len(data.train) == 99
    (unusable, unrenderable) = (note for note in data.notes if "skipped" in note)
    assert "1 of 102 rows cannot be used and is skipped: line 102 has the columns `prompt`" in unusable
    assert "line 101 the chat template refuses the row" in unrenderable
    train = write_rows(tmp_path / "train.jsonl", [*rows[:9], tool])
    with pytest.raises(DataError, match=r"1 of \d+ rows cannot be used.*line 10 the chat template refuses"):
        prepare(recipe(train=train, heldout=1, limit=None), tokenizer, 1024)


def test_a_run_that_would_never_learn_to_stop_is_refused(tokenizer, tmp_path):
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.chat_template = (
        "{%- for m in messages %}{{ m['role'] + ': ' + m['content'] + '\\n' }}{%- endfor %}"
    )
    with pytest.raises(DataError, match=r"no answer ends with a trained token .*never stop"):
        prepare(recipe(), tokenizer, 1024)
