"""What rows become for each task: windows of text, labelled texts, pairs of answers."""

from __future__ import annotations

import json

import numpy as np
import pytest
from finished import killed_after
from transformers import AutoTokenizer
from workers import curve, of_kind, small, work

from engine.basics.errors import DataError
from engine.bundled.catalogue import model_path
from engine.data.chat import Example, tokenize
from engine.data.formats import to_document
from engine.data.gather import gather
from engine.data.labels import labels_of
from engine.recipe.sections import Recipe
from engine.tasks.items import Pair, labelled_items, pair_items, text_items, windows
from engine.tasks.prepare import prepare


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(model_path("stdlib-2m"))


# ---- completion


@pytest.mark.parametrize(("length", "longest"), [(10, 4), (10, 10), (11, 10), (9, 3), (2, 2)])
def test_windows_learn_every_token_once_from_its_predecessor(length, longest):
    example = Example("x", np.arange(length, dtype=np.int32), np.arange(length) > 0)
    pieces = windows(example, longest)
    assert all(2 <= len(piece.tokens) <= longest for piece in pieces)
    learned = [
        (int(piece.tokens[i - 1]), int(piece.tokens[i]))
        for piece in pieces
        for i in np.flatnonzero(piece.mask)
    ]
    assert learned == [(i - 1, i) for i in range(1, length)]


def test_a_text_ends_with_the_end_of_sequence(tokenizer):
    document = to_document({"text": "Return the sum."}, "text")
    [example] = text_items(document, tokenizer)
    assert tokenizer.decode(example.tokens) == f"{tokenizer.bos_token}Return the sum.{tokenizer.eos_token}"
    assert example.mask.tolist() == [False] + [True] * (len(example.tokens) - 1)


def test_completion_splits_long_training_rows_and_says_so(tokenizer, tmp_path):
    rows = tmp_path / "rows.csv"
    rows.write_text("text\n" + "\n".join(f"{'word ' * 40}{n}" for n in range(6)))
    tree = small(
        method="full", task="completion", data={"train": str(rows), "heldout": 1}, train__max_length=20
    )
    data = prepare(Recipe.model_validate(tree), tokenizer, 1024)
    assert max(len(example.tokens) for example in data.train) == 20
    whole = text_items(to_document({"text": f"{'word ' * 40}0"}, "text"), tokenizer)[0].targets
    assert sum(example.targets for example in data.train) == pytest.approx(5 * whole, abs=5)
    assert "5 rows are longer than 20 tokens and are split" in data.notes[0]


# ---- conversations


def test_a_recipe_says_how_conversations_are_learned(tokenizer, tmp_path):
    thinking = "{% for m in messages %}<|{{ m.role }}|>"
    thinking += (
        "{% if m.reasoning_content and loop.last %}<think>{{ m.reasoning_content }}</think>{% endif %}"
    )
    thinking += "{{ m.content }}<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
    tokenizer = AutoTokenizer.from_pretrained(model_path("stdlib-2m"))
    tokenizer.chat_template = thinking
    turns = [
        {"role": role, "content": f"{role} {i} " + "{0}"} for i in (1, 2) for role in ("user", "assistant")
    ]
    rows = [
        {
            "messages": [
                turn | {"content": turn["content"].format(row), "reasoning": f"Hm {row}"} for turn in turns
            ]
        }
        for row in range(8)
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def prepared(**data):
        tree = small(method="full", data={"train": str(path), "heldout": 2, **data})
        return prepare(Recipe.model_validate(tree), tokenizer, 1024)

    def learned(example):
        return tokenizer.decode(example.tokens[example.mask])

    apart = prepared()
    assert len(apart.train) == 12  # two of each training row, one of each held-out row
    answers = [learned(example) for example in apart.train]
    assert [text.partition("</think>")[2][:11] for text in answers] == ["assistant 1", "assistant 2"] * 6
    assert len(apart.suite("heldout").examples) == 2
    assert all("assistant 2" in learned(example) for example in apart.suite("heldout").examples)
    assert any("learned answer by answer, as 12 examples" in note for note in apart.notes)
    whole = prepared(history="whole")
    assert len(whole.train) == 6
    assert all(learned(example).count("<think>Hm") == 2 for example in whole.train)
    dropped = prepared(reasoning="drop")
    assert len(dropped.train) == 6
    assert not any("Hm" in tokenizer.decode(example.tokens) for example in dropped.train)
    assert {e.id for e in dropped.suite("heldout").examples} == {
        e.id for e in apart.suite("heldout").examples
    }


# ---- classification


def test_a_labelled_text_is_what_the_tokenizer_alone_makes_of_it(tokenizer):
    document = to_document({"text": "Return the sum.", "label": 1}, "label")
    [item] = labelled_items(document, tokenizer, ["0", "1"])
    assert item.tokens.tolist() == tokenizer("Return the sum.")["input_ids"]
    assert (item.label, item.targets) == (1, 1)
    assert len(item.cut(3).tokens) == 3


def labelled_rows(tmp_path, found, **task):
    """What is gathered of a file with these labels, and the task."""
    path = tmp_path / "rows.jsonl"
    words = ("alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta")
    rows = [{"text": f"{word} {word}", "label": label} for word, label in zip(words, found, strict=False)]
    path.write_text("\n".join(map(json.dumps, rows)))
    tree = small(
        method="full", task={"name": "classification", **task}, data={"train": str(path), "heldout": 2}
    )
    recipe = Recipe.model_validate(tree)
    return recipe.task, gather(recipe)


def test_classes_are_those_of_the_recipe_or_of_the_data_in_sorted_order(tmp_path):
    assert labels_of(*labelled_rows(tmp_path, ["b", "a", "b", "c", "c", "a"])) == ["a", "b", "c"]
    given = ["c", "b", "a", "d"]
    assert labels_of(*labelled_rows(tmp_path, ["b", "a", "b", "c", "c", "a"], labels=given)) == given
    assert labels_of(*labelled_rows(tmp_path, [10, 2, 1, 2, 1, 10])) == ["1", "2", "10"]


def test_labels_that_cannot_be_learned_are_refused(tmp_path):
    with pytest.raises(
        DataError, match=r"rows.jsonl: rows have the label 'c', which is not in task.labels \(a, b\)"
    ):
        labels_of(*labelled_rows(tmp_path, ["b", "a", "b", "c", "c", "a"], labels=["a", "b"]))
    with pytest.raises(DataError, match=r"rows.jsonl: every row has the label 'b'; give rows of two classes"):
        labels_of(*labelled_rows(tmp_path, ["b"] * 8))


# ---- preference pairs

ROWS = [
    {
        "prompt": [
            {"role": "user", "content": "Hello."},
            {"role": "assistant", "content": "Hello to you."},
            {"role": "user", "content": "What is a list?"},
        ],
        "chosen": "A mutable sequence.",
        "rejected": "I do not know.",
    }
]


def test_only_the_last_answers_of_a_pair_are_targets(tokenizer):
    document = to_document(ROWS[0], "pair")
    [made] = pair_items(document, tokenizer)
    for side, answer in ((made.chosen, "A mutable sequence."), (made.rejected, "I do not know.")):
        learned = tokenizer.decode(side.tokens[side.mask], skip_special_tokens=True)
        assert learned.strip() == answer
        assert "Hello to you." in tokenizer.decode(side.tokens)
    assert len(made.tokens) == len(made.chosen.tokens) + len(made.rejected.tokens)
    assert made.targets == 1


def test_a_pair_that_loses_an_answer_to_the_limit_is_dropped(tokenizer):
    document = to_document(ROWS[0], "pair")
    [made] = pair_items(document, tokenizer)
    short = min(np.flatnonzero(side.mask)[0] for side in (made.chosen, made.rejected))
    assert made.cut(int(short)) is None
    cut = made.cut(int(short) + 2)
    assert isinstance(cut, Pair)
    assert made.cut(10_000) is made
    assert len(cut.chosen.tokens) == len(cut.rejected.tokens) == short + 2


def test_an_example_is_cut_to_its_length_or_dropped(tokenizer):
    document = to_document({"prompt": "What?", "completion": "That, and nothing else."})
    [example] = tokenize(document, tokenizer)
    start = int(np.flatnonzero(example.mask)[0])
    assert example.cut(start) is None
    assert len(example.cut(start + 1).tokens) == start + 1
    assert example.cut(10_000) is example


# ---- a run on plain text, whole and killed


def test_a_completion_run_that_is_killed_goes_on_bit_for_bit(finished, tmp_path):
    tree = small(
        method="full", task="completion", data__train="bundled:stdlib-prose", evals__metrics=["chrf"],
        evals__general="bundled:docstrings",
    )  # fmt: skip
    whole = finished.of(tree)
    run = killed_after(whole, tmp_path / "000002-killed", step=5)
    assert work(run, attempt=2) == 0, run.attempt(2).stdout.read_text()
    (resume,) = of_kind(run, 2, "resume")
    kept = {step: loss for step, loss in curve(run).items() if step <= resume["from_step"]}
    assert resume["from_step"] in (2, 4)
    assert kept | curve(run, 2) == curve(whole)
    seen = {
        e["step"]: e["values"]["loss"]["value"] for e in of_kind(whole, 1, "eval") if e["suite"] == "seen"
    }
    assert seen[6] < seen[0] - 0.05
    (sample,) = [e for e in of_kind(whole, 1, "sample") if e["step"] == 6]
    assert sample["prompt"]  # the first half of a text
