"""Every format means the same conversation; every row of the wrong shape is told."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from engine.basics.errors import DataError
from engine.data.fields import Fields
from engine.data.formats import LeftOutError, form_of, to_document

CONVERSATION = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "Because."}]


@pytest.mark.parametrize(
    "row",
    [
        {"messages": CONVERSATION},
        {"messages": CONVERSATION, "text": "also there", "id": 3},
        {"conversations": [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": "Because."}]},
        {"conversations": CONVERSATION},
        {"prompt": "Why?", "completion": "Because."},
        {"prompt": CONVERSATION[:1], "completion": CONVERSATION[1:]},
        {"instruction": "Why?", "input": "", "output": "Because."},
        {"instruction": "Why?", "input": None, "output": "Because.", "messages": None},
        {"instruction": "Why?", "output": "Because."},
    ],
)
def test_all_formats_give_the_same_document(row):
    document = to_document(row)
    assert list(document.messages) == CONVERSATION
    assert document.id == to_document({"messages": CONVERSATION}).id
    assert (document.prompt, document.target) == ("Why?", "Because.")


def test_an_input_follows_its_instruction():
    assert to_document({"instruction": "Add.", "input": "1, 2", "output": "3"}).prompt == "Add.\n\n1, 2"


EARLIER = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Well?"},
    {"role": "assistant", "content": "Ask."},
]


@pytest.mark.parametrize(
    "row",
    [
        {"instruction": "Why?", "output": "Because.", "system": "Be brief.", "history": [["Well?", "Ask."]]},
        {"prompt": "Why?", "completion": "Because.", "system": "Be brief.", "history": EARLIER[1:]},
        {"messages": [*EARLIER[1:], *CONVERSATION], "system": "Be brief."},
        {"messages": [*EARLIER, *CONVERSATION], "system": "Be brief."},
        {
            "conversations": [
                {"from": "human", "value": "Well?"},
                {"from": "gpt", "value": "Ask."},
                {"from": "human", "value": "Why?"},
                {"from": "gpt", "value": "Because."},
            ],
            "system": "Be brief.",
        },
    ],
)
def test_system_and_history_are_turns(row):
    fields = Fields(row)
    assert list(to_document(fields).messages) == [*EARLIER, *CONVERSATION]
    assert fields.read == row.keys()


def test_system_and_history_belong_to_both_sides_of_a_pair():
    row = {"prompt": "Why?", "chosen": "Because.", "rejected": "No.", "system": "Be brief."}
    document = to_document({**row, "history": [["Well?", "Ask."]]}, form="pair")
    assert list(document.messages[:-1]) == list(document.rejected[:-1]) == [*EARLIER, CONVERSATION[0]]
    alpaca = {
        "instruction": "Why?",
        "input": "",
        "chosen": "Because.",
        "rejected": "No.",
        "system": "Be brief.",
    }
    assert to_document(alpaca, form="pair") == to_document(row, form="pair")


def test_text_named_history_and_an_empty_system_text_are_no_turns():
    fields = Fields({"prompt": "Why?", "completion": "Because.", "history": "In 1900 …", "system": ""})
    assert list(to_document(fields).messages) == CONVERSATION
    assert "history" not in fields.read


@pytest.mark.parametrize(("key", "value"), [("label", False), ("label", "False"), ("kto_tag", False)])
def test_an_answer_labelled_false_is_left_out(key, value):
    for row in ({"prompt": "Why?", "completion": "No."}, {"messages": CONVERSATION}):
        with pytest.raises(LeftOutError, match=f"`{key}` is false"):
            to_document({**row, key: value}, form="general")


@pytest.mark.parametrize(("label", "is_read"), [(True, True), ("true", True), (0, False), ("maths", False)])
def test_a_label_that_is_no_false_changes_nothing(label, is_read):
    fields = Fields({"messages": CONVERSATION, "label": label})
    assert list(to_document(fields).messages) == CONVERSATION
    assert ("label" in fields.read) is is_read


def test_keys_that_nothing_reads_are_known_afterwards():
    fields = Fields({"messages": CONVERSATION, "text": "also there", "id": 3, "note": None})
    to_document(fields)
    assert set(fields) - fields.read == {"text", "id"}


def test_plain_text_only_where_it_is_welcome():
    document = to_document({"text": "All of it."}, form="general")
    assert (document.messages, document.prompt, document.target) == ((), "", "All of it.")
    assert document == to_document({"text": "All of it."}, form="text")
    with pytest.raises(DataError, match=r"task sft needs `messages`.*; `task: completion` reads such rows"):
        to_document({"text": "All of it."})


def test_completion_takes_the_text_of_a_row_that_has_messages_too():
    row = {"text": "All of it.", "messages": CONVERSATION}
    assert to_document(row, form="text").text == "All of it."


@pytest.mark.parametrize(
    ("row", "label"),
    [
        ({"text": "Fine.", "label": "good"}, "good"),
        ({"sentence": "Fine.", "label": " good "}, "good"),
        ({"text": "Fine.", "label": 3}, "3"),
        ({"text": "Fine.", "label": 3.0}, "3"),
        ({"text": "Fine.", "label": False}, "false"),
    ],
)
def test_labelled_text(row, label):
    document = to_document(row, form="label")
    assert (document.text, document.label, document.messages) == ("Fine.", label, ())
    assert (document.prompt, document.target) == ("Fine.", label)


def test_one_text_under_two_labels_is_two_documents():
    ids = {to_document({"text": "Fine.", "label": label}, form="label").id for label in ("good", "bad")}
    assert len(ids) == 2


WORSE = [CONVERSATION[0], {"role": "assistant", "content": "No."}]


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Why?", "chosen": "Because.", "rejected": "No."},
        {"prompt": CONVERSATION[:1], "chosen": CONVERSATION[1:], "rejected": WORSE[1:]},
        {"chosen": CONVERSATION, "rejected": WORSE},
        {"prompt": "Why?", "chosen": CONVERSATION, "rejected": WORSE},  # as UltraFeedback has them
        {
            "conversations": [{"from": "human", "value": "Why?"}],
            "chosen": {"from": "gpt", "value": "Because."},
            "rejected": {"from": "gpt", "value": "No."},
        },
        {
            "input": {"messages": CONVERSATION[:1], "tools": []},
            "preferred_output": CONVERSATION[1:],
            "non_preferred_output": WORSE[1:],
        },
    ],
)
def test_all_formats_of_a_preference_pair_give_the_same_document(row):
    document = to_document(row, form="pair")
    assert (list(document.messages), list(document.rejected)) == (CONVERSATION, WORSE)
    assert document.id == to_document({"chosen": CONVERSATION, "rejected": WORSE}, form="pair").id
    assert (document.prompt, document.target) == ("Why?", "Because.")


def test_of_openais_pairs_the_keys_inside_are_told_and_tools_are_not_dropped():
    given = {"messages": CONVERSATION[:1], "tools": [], "parallel_tool_calls": True}
    row = {"input": given, "preferred_output": CONVERSATION[1:], "non_preferred_output": WORSE[1:]}
    fields = Fields(row)
    to_document(fields, form="pair")
    assert (fields.read, fields.unread_inside) == (set(row), {"input.parallel_tool_calls"})


def test_a_prompt_beside_whole_conversations_is_read_as_long_as_it_is_theirs():
    for prompt, is_read in (
        ("Why?", True),
        (CONVERSATION[:1], True),
        ("Why not?", False),
        (CONVERSATION, False),
    ):
        fields = Fields({"prompt": prompt, "chosen": CONVERSATION, "rejected": WORSE})
        to_document(fields, form="pair")
        assert ("prompt" in fields.read) is is_read


def test_content_ids_stay_what_they_were():
    # Runs in the store and held-out splits hang on them.
    assert to_document({"messages": CONVERSATION}).id == "2b0d106d4914c1a8"
    assert to_document({"text": "All of it."}, form="text").id == "84bd455c2d05a9f8"


def test_the_last_answer_is_the_target_of_a_longer_conversation():
    messages = [{"role": "system", "content": "Be short."}, *CONVERSATION, {"role": "user", "content": "Oh?"}]
    document = to_document({"messages": [*messages, {"role": "assistant", "content": "Yes."}]})
    assert document.target == "Yes."
    assert document.prompt == "system: Be short.\nuser: Why?\nassistant: Because.\nuser: Oh?"
    assert document.turns_before_answer == messages


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ({}, "has no columns"),
        ({"question": "a", "answer": "b"}, "has the columns `question`, `answer`, but general data needs"),
        ({"messages": "hello"}, "`messages` must be a non-empty list of messages"),
        ({"messages": []}, "`messages` must be a non-empty list of messages"),
        ({"messages": ["hello"]}, "must be an object with `role` and `content`"),
        ({"messages": [{"role": "user"}]}, "it needs `role` and `content`"),
        ({"messages": CONVERSATION[:1]}, "has no assistant message"),
        ({"messages": [{"role": "assistant", "content": " "}]}, "every answer is empty"),
        (
            {"messages": [{"role": "user", "content": 7}]},
            "`content` must be a string or a list of text parts, not int",
        ),
        ({"conversations": [{"from": "martian", "value": "hi"}]}, "unknown speaker 'martian'"),
        ({"prompt": 3, "completion": "b"}, "`prompt` must be a string, not int"),
        ({"text": "  "}, "`text` is empty"),
        ({"prompt": "a", "completion": None}, "the columns `prompt` (`completion` is null), but"),
        ({"messages": CONVERSATION, "images": ["a.png"]}, "has `images`, but finetui trains on text alone"),
        ({"messages": [EARLIER[0], *CONVERSATION], "system": "Be long."}, "another system turn"),
        (
            {"prompt": "a", "completion": "b", "history": [["c"]]},
            "`history` must be a list of [question, answer]",
        ),
    ],
)
def test_a_row_of_the_wrong_shape_is_told(row, sentence):
    with pytest.raises(DataError) as error:
        to_document(row, form="general")
    assert sentence in str(error.value)


@pytest.mark.parametrize(
    ("form", "row", "sentence"),
    [
        ("text", {"messages": CONVERSATION}, "task completion needs `text`; `task: sft` reads such rows"),
        ("text", {"prompt": "a", "completion": "b"}, "`task: sft` reads such rows"),
        ("chat", {"text": "a", "label": 1}, "`task: classification` reads such rows"),
        ("chat", {"prompt": "a", "chosen": "b", "rejected": "c"}, "`task: dpo` reads such rows"),
        ("general", {"text": None, "prompt": "a"}, "general data needs `messages`"),
        ("label", {"text": "a"}, "task classification needs `text` and `label`; `task: completion` reads"),
        (
            "label",
            {"text": "a", "label": 0.5},
            "`label` must be one class, as text or a whole number, not 0.5",
        ),
        (
            "label",
            {"text": "a", "label": ["x"]},
            "`label` must be one class, as text or a whole number, not list",
        ),
        ("label", {"text": " ", "label": "x"}, "`text` is empty"),
        ("label", {"text": "a", "label": " "}, "`label` is empty"),
        ("pair", {"prompt": "a", "chosen": "b"}, "task dpo needs `prompt`, `chosen` and `rejected`"),
        ("pair", {"chosen": "b", "rejected": "c"}, "`chosen` is an answer without a `prompt`"),
        ("pair", {"prompt": "a", "chosen": "b", "rejected": "b"}, "are equal"),
        ("pair", {"prompt": "a", "chosen": "b", "rejected": ""}, "every answer is empty"),
        ("pair", {"chosen": CONVERSATION, "rejected": CONVERSATION[:1]}, "has no assistant message"),
        (
            "pair",
            {"chosen": [*CONVERSATION, CONVERSATION[0]], "rejected": WORSE},
            "must end with a non-empty answer",
        ),
        (
            "pair",
            {"chosen": [*CONVERSATION, *CONVERSATION], "rejected": [*WORSE, *CONVERSATION]},
            "they part at turn 2, before their last answer",
        ),
        (
            "pair",
            {"chosen": [*EARLIER, *CONVERSATION], "rejected": [EARLIER[0], *WORSE]},
            "they part at turn 2",
        ),
        (
            "pair",
            {"chosen": CONVERSATION, "rejected": [{"role": "user", "content": "Who?"}, WORSE[1]]},
            "answer different prompts: they part at turn 1",
        ),
    ],
)
def test_a_row_of_another_form_is_told_and_which_task_would_read_it(form, row, sentence):
    with pytest.raises(DataError) as error:
        to_document(row, form=form)
    assert sentence in str(error.value)


def test_every_task_has_a_form():
    assert [form_of(task) for task in ("sft", "completion", "classification", "dpo")] == [
        "chat",
        "text",
        "label",
        "pair",
    ]


def test_the_documented_rows_are_read_by_the_task_they_stand_under():
    text = (Path(__file__).parents[2] / "docs" / "data-formats.md").read_text()
    sections = re.findall(r"### `task: (\w+)`\n\n```json\n(.*?)```", text, flags=re.S)
    assert [task for task, _ in sections] == ["sft", "completion", "classification", "dpo"]
    for task, rows in sections:
        documents = [to_document(json.loads(row), form_of(task)) for row in rows.splitlines()]
        assert all(d.messages or d.text for d in documents)
        assert all(bool(d.label) == (task == "classification") for d in documents)
        assert all(bool(d.rejected) == (task == "dpo") for d in documents)
