"""Multiple-choice questions: read as people have them, scored as lm-evaluation-harness does."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, LlamaForCausalLM
from workers import small

from engine.basics.errors import DataError
from engine.bundled.catalogue import model_path
from engine.data import choices
from engine.data.gather import gather
from engine.evals.choices import choice_suite, choose
from engine.evals.score import score
from engine.losses.loss import TargetLoss
from engine.recipe.sections import Recipe

FOUR = ["3", "4", "5", "22"]


def read(path, *rows, limit: int = 100):
    file = path / "questions.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return choices.read("q", str(file), limit)


@pytest.mark.parametrize(
    ("row", "context", "options", "answer"),
    [
        ({"question": "Two?", "choices": {"text": ["ice", "iron"], "label": ["A", "B"]}, "answerKey": "B"},
         "Question: Two?\nAnswer:", ("ice", "iron"), 1),
        ({"question": "Two?", "choices": {"text": ["ice", "iron"], "label": ["1", "2"]}, "answerKey": "1"},
         "Question: Two?\nAnswer:", ("ice", "iron"), 0),
        ({"question": {"stem": "Two?", "choices": [{"text": "ice", "label": "A"}, {"text": "iron", "label": "B"}]},
          "answerKey": "B"}, "Question: Two?\nAnswer:", ("ice", "iron"), 1),
        ({"ctx": "She opens it and", "endings": ["steps out.", "eats it."], "label": "1", "activity_label": "Rain"},
         "She opens it and", ("steps out.", "eats it."), 1),
        ({"question": "2 + 2?", "choices": FOUR, "answer": 1}, "Question: 2 + 2?\nAnswer:", tuple(FOUR), 1),
        ({"question": "2 + 2?", "choices": FOUR, "answer": 1.0}, "Question: 2 + 2?\nAnswer:", tuple(FOUR), 1),
        ({"question": "2 + 2?", "choices": FOUR, "answer": "b"}, "Question: 2 + 2?\nAnswer:", tuple(FOUR), 1),
        ({"question": "2 + 2?", "choices": FOUR, "answer": "22"}, "Question: 2 + 2?\nAnswer:", tuple(FOUR), 3),
        ({"prompt": "Say it: ", "options": '["no", "yes"]', "gold": "yes"}, "Say it:", ("no", "yes"), 1),
    ],
)  # fmt: skip
def test_questions_are_read_as_people_have_them(tmp_path, row, context, options, answer):
    (question,) = read(tmp_path, row).questions
    assert (question.context, question.options, question.answer) == (context, options, answer)


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ({"choices": FOUR, "answer": 1}, "has none of `question`, `prompt` and `ctx`"),
        ({"question": "2?", "answer": 1}, "has none of `choices`, `endings` and `options`"),
        ({"question": "2?", "choices": FOUR}, "has none of `answer`, `label`, `gold` and `answerKey`"),
        ({"question": " ", "choices": FOUR, "answer": 1}, "`question` must be text that asks something"),
        ({"question": "2?", "choices": ["4"], "answer": 0}, "`choices` must be a list of two texts or more"),
        ({"question": "2?", "choices": [4, 5], "answer": 0}, "`choices` must be a list of two texts or more"),
        ({"question": "2?", "choices": "[4", "answer": 0}, "the options are not valid JSON"),
        (
            {"question": "2?", "choices": ["4", "4 "], "answer": 0},
            "has an option that is empty or there twice",
        ),
        (
            {"question": "2?", "choices": {"text": ["4", "5"], "label": ["A"]}, "answer": "A"},
            "a label of its own",
        ),
        (
            {"question": "2?", "choices": FOUR, "answer": 4},
            "'4', which is none of the 4 options; letters begin at A",
        ),
        ({"question": "2?", "choices": FOUR, "answer": "E"}, "'E', which is none of the 4 options"),
        ({"question": "2?", "choices": FOUR, "answer": True}, "`answer` must be a label, a letter, a number"),
        (
            {"question": "2?", "choices": FOUR, "answer": "3"},
            "the text of one option and the place of another",
        ),
    ],
)
def test_a_row_that_cannot_be_read_is_named_with_its_line(tmp_path, row, sentence):
    good = {"question": "What?", "choices": FOUR, "answer": 0}
    with pytest.raises(DataError) as error:
        read(tmp_path, good, row)
    assert "questions.jsonl, line 2: " in str(error.value)
    assert sentence in str(error.value)


def test_equal_questions_are_scored_once_and_other_answers_refused(tmp_path):
    row = {"question": "2 + 2?", "choices": FOUR, "answer": 1}
    found = read(tmp_path, row, row, {**row, "question": "4?"}, limit=1)
    assert len(found.questions) == 1
    assert "1 of 3 questions equal another and are scored once" in found.notes[0]
    with pytest.raises(DataError, match=r"line 2: asks what an earlier row asks, with another answer"):
        read(tmp_path, row, {**row, "answer": 2})


def test_only_local_files_and_never_for_a_classifier(tmp_path):
    tree = small(method="lora", evals__choices={"arc": "allenai/ai2_arc"}, evals__general=None)
    with pytest.raises(DataError, match=r"evals.choices.arc: allenai/ai2_arc is not a local file; download"):
        gather(Recipe.model_validate(tree))
    with pytest.raises(ValueError, match=r"task classification and evals.choices do not go together"):
        Recipe.model_validate({**tree, "task": "classification"})
    with pytest.raises(ValueError, match="give files by name such as"):
        Recipe.model_validate(small(method="lora", evals__choices="arc.jsonl"))


def test_the_likeliest_option_is_chosen_by_sum_and_by_length(tmp_path):
    path = model_path("stdlib-2m")
    model = LlamaForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(path)
    rows = [
        {
            "question": "What does a list hold?",
            "choices": ["Items.", "The items of a sequence."],
            "answer": 1,
        },
        {"ctx": "Return a new", "endings": ["list of the items in the set.", "xq", "banana"], "label": 0},
    ]
    found = read(tmp_path, *rows)
    suite = choice_suite(found, tokenizer, 1024)
    chosen = choose(
        suite, lambda options: score(TargetLoss(model), options, 256, torch.device("cpu"), lambda: None)
    )
    for place, question in enumerate(found.questions):
        sums = []
        for option in question.options:
            ids = tokenizer(f"{question.context} {option}", add_special_tokens=False, return_tensors="pt")[
                "input_ids"
            ]
            start = len(tokenizer(question.context, add_special_tokens=False)["input_ids"])
            ids = torch.cat([torch.tensor([[tokenizer.bos_token_id]]), ids], dim=1)
            with torch.no_grad():
                log_p = model(ids).logits[0].log_softmax(-1)
            sums.append(sum(float(log_p[at, ids[0, at + 1]]) for at in range(start, ids.shape[1] - 1)))
        assert chosen.by_sum[place] == np.argmax(sums)
        assert chosen.by_length[place] == np.argmax(
            [s / len(o) for s, o in zip(sums, question.options, strict=True)]
        )
    right = [int(c) == q.answer for c, q in zip(chosen.by_sum, found.questions, strict=True)]
    assert chosen.measures["accuracy"].value == np.mean(right)
    assert chosen.measures["accuracy_norm"].n == 2


def test_of_a_long_question_the_beginning_is_left_out(tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(model_path("stdlib-2m"))
    found = read(tmp_path, {"question": "word " * 50 + "What?", "choices": ["Items.", "None."], "answer": 1})
    whole, cut = (choice_suite(found, tokenizer, longest).options.examples for longest in (1024, 20))
    for long, short in zip(whole, cut, strict=True):
        assert len(short.tokens) == 20
        assert short.targets == long.targets
        assert short.tokens.tolist() == long.tokens.tolist()[-20:]
