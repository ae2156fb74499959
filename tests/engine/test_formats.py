"""Every format means the same conversation; every row of the wrong shape is told."""

from __future__ import annotations

import pytest

from engine.data.formats import to_document, to_documents
from engine.data.sources import DataError

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
    document = to_document(row, "x")
    assert list(document.messages) == CONVERSATION
    assert document.id == to_document({"messages": CONVERSATION}, "x").id
    assert (document.prompt, document.target) == ("Why?", "Because.")


def test_an_input_follows_its_instruction():
    assert to_document({"instruction": "Add.", "input": "1, 2", "output": "3"}, "x").prompt == "Add.\n\n1, 2"


def test_plain_text_only_where_it_is_welcome():
    document = to_document({"text": "All of it."}, "x", plain=True)
    assert (document.messages, document.prompt, document.target) == ((), "", "All of it.")
    with pytest.raises(DataError, match="says not what to answer"):
        to_document({"text": "All of it."}, "x")


def test_the_last_answer_is_the_target_of_a_longer_conversation():
    messages = [{"role": "system", "content": "Be short."}, *CONVERSATION, {"role": "user", "content": "Oh?"}]
    document = to_document({"messages": [*messages, {"role": "assistant", "content": "Yes."}]}, "x")
    assert document.target == "Yes."
    assert document.prompt == "system: Be short.\nuser: Why?\nassistant: Because.\nuser: Oh?"
    assert document.turns_before_answer == messages


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ({}, "has no columns"),
        ({"question": "a", "answer": "b"}, "has the columns `question`, `answer`; finetui reads"),
        ({"messages": "hello"}, "`messages` must be a list of messages"),
        ({"messages": []}, "`messages` must be a list of messages"),
        ({"messages": ["hello"]}, "must be an object with `role` and `content`"),
        ({"messages": [{"role": "user"}]}, "it needs `role` and `content`"),
        ({"messages": CONVERSATION[:1]}, "has no assistant message"),
        ({"messages": [{"role": "assistant", "content": " "}]}, "every answer is empty"),
        ({"messages": [{"role": "user", "content": ["parts"]}]}, "`content` must be a string, not list"),
        ({"conversations": [{"from": "martian", "value": "hi"}]}, "unknown speaker 'martian'"),
        ({"prompt": 3, "completion": "b"}, "`prompt` must be a string, not int"),
        ({"text": "  "}, "`text` is empty"),
    ],
)
def test_a_row_of_the_wrong_shape_is_told_with_its_number(row, sentence):
    with pytest.raises(DataError) as error:
        to_documents([{"prompt": "a", "completion": "b"}, row], "data.jsonl", plain=True)
    assert str(error.value).startswith("data.jsonl, row 2: ")
    assert sentence in str(error.value)
