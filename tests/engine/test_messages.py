"""Turns of conversations in the forms that data come in."""

from __future__ import annotations

import json

import pytest

from engine.basics.errors import DataError
from engine.data.formats import to_document
from engine.data.messages import read_message, read_tools, split_reasoning, without_reasoning

FUNCTION = {"name": "find_thing", "arguments": {"number": 7}}
CALL = {"type": "function", "function": FUNCTION}


@pytest.mark.parametrize(
    ("turn", "message"),
    [
        ({"role": "Assistant", "content": "Hi"}, {"role": "assistant", "content": "Hi"}),
        ({"role": "SYSTEM", "content": "Hi"}, {"role": "system", "content": "Hi"}),
        ({"from": "Human", "value": "Hi"}, {"role": "user", "content": "Hi"}),
        ({"role": "human", "value": "Hi"}, {"role": "user", "content": "Hi"}),
        ({"from": "observation", "value": "3"}, {"role": "tool", "content": "3"}),
        ({"role": "critic", "content": "Hm"}, {"role": "critic", "content": "Hm"}),
        (
            {"role": "user", "content": [{"type": "text", "text": "a"}, "b"]},
            {"role": "user", "content": "ab"},
        ),
        (
            {"role": "assistant", "content": None, "tool_calls": [CALL], "refusal": None},
            {"role": "assistant", "content": "", "tool_calls": [CALL]},
        ),
        (
            {"role": "assistant", "content": "", "function_call": FUNCTION | {"arguments": '{"number": 7}'}},
            {"role": "assistant", "content": "", "tool_calls": [CALL]},
        ),
        (
            {"from": "function_call", "value": json.dumps(FUNCTION)},
            {"role": "assistant", "content": "", "tool_calls": [CALL]},
        ),
        (
            {"role": "tool", "content": "3", "tool_call_id": "c1", "name": "find_thing"},
            {"role": "tool", "content": "3", "tool_call_id": "c1", "name": "find_thing"},
        ),
        (
            {"role": "assistant", "content": "A", "thinking": "R"},
            {"role": "assistant", "content": "A", "reasoning": "R"},
        ),
        (
            {
                "role": "assistant",
                "content": [{"type": "thinking", "thinking": "R"}, {"type": "text", "text": "A"}],
            },
            {"role": "assistant", "content": "A", "reasoning": "R"},
        ),
        (
            {"role": "assistant", "content": "A", "weight": 0},
            {"role": "assistant", "content": "A", "learned": False},
        ),
        ({"role": "assistant", "content": "A", "train": True}, {"role": "assistant", "content": "A"}),
        ({"role": "user", "content": "A", "weight": 0}, {"role": "user", "content": "A"}),
    ],
)
def test_a_turn_is_read(turn, message):
    assert read_message(turn) == message


@pytest.mark.parametrize(
    ("turn", "sentence"),
    [
        (
            {"role": "user", "content": [{"type": "image_url"}]},
            "a part of the type 'image_url'; finetui trains",
        ),
        ({"role": "user", "content": None}, "it needs `role` and `content`"),
        ({"role": 3, "content": "a"}, "`role` must be a string, not int"),
        (
            {"role": "assistant", "content": "a", "weight": 0.5},
            "`weight` of a message must be 0 or 1, not 0.5",
        ),
        ({"role": "assistant", "content": "a", "loss": "no"}, "`loss` of a message must be 0 or 1, not 'no'"),
        ({"role": "assistant", "content": "a", "reasoning": ["b"]}, "`reasoning` must be a string, not list"),
        (
            {"role": "assistant", "content": "", "tool_calls": [{"id": "c1"}]},
            "a call without the name of a function",
        ),
        ({"from": "function_call", "value": "find it"}, "`value` is text that is not JSON: 'find it'"),
        (
            {
                "role": "assistant",
                "content": "",
                "tool_calls": [{"function": {"name": "f", "arguments": [1]}}],
            },
            "a call whose arguments are no object",
        ),
    ],
)
def test_a_turn_that_cannot_be_read_is_named(turn, sentence):
    with pytest.raises(DataError) as error:
        read_message(turn)
    assert sentence in str(error.value)


def test_tools_are_read_from_a_list_or_its_json_text():
    bare = {"name": "find_thing", "parameters": {}}
    wrapped = {"type": "function", "function": bare}
    assert read_tools([bare], "tools") == read_tools(json.dumps([wrapped]), "tools") == (wrapped,)
    with pytest.raises(DataError, match="`tools` has a tool without a name"):
        read_tools([{"type": "function", "function": {}}], "tools")
    with pytest.raises(DataError, match="`tools` must be a list"):
        read_tools([3], "tools")


def test_what_changes_the_meaning_of_a_row_changes_its_id():
    turns = [{"role": "user", "content": "Where?"}, {"role": "assistant", "content": "There."}]
    plain = to_document({"messages": turns})
    assert plain.id == to_document({"messages": turns, "tools": []}).id
    for more in ({"reasoning_content": "R"}, {"tool_calls": [CALL]}):
        assert to_document({"messages": [turns[0], turns[1] | more]}).id != plain.id
    assert to_document({"messages": turns, "tools": [FUNCTION]}).id != plain.id


def test_answers_to_learn_are_those_without_weight_0():
    turns = [{"role": "user", "content": "Where?"}, {"role": "assistant", "content": "There.", "weight": 0}]
    with pytest.raises(DataError, match="no answer to learn"):
        to_document({"messages": turns})
    more = [{"role": "user", "content": "Where?"}, {"role": "assistant", "content": "Here."}]
    assert to_document({"messages": [*more, *turns]}).target == "Here."
    with pytest.raises(DataError, match="no assistant message among user, critic"):
        to_document({"messages": [turns[0], {"role": "critic", "content": "Hm"}]})


def test_reasoning_is_told_from_the_answer():
    assert split_reasoning("<think>\nR\n</think>\n\nA") == ("\nR\n", "\n\nA")
    assert split_reasoning("R\n</think>\nA") == ("R", "A")  # the prompt has the opening tag
    assert split_reasoning("The tag </think> ends it.") == ("", "The tag </think> ends it.")
    assert split_reasoning("A") == ("", "A")
    answer = {"role": "assistant", "content": "<think>R</think>\n\nA", "reasoning": "S"}
    assert without_reasoning(answer) == {"role": "assistant", "content": "A"}
    asked = {"role": "user", "content": "What does </think> do?"}
    assert without_reasoning(asked) == asked
