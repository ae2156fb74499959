"""What is learned of conversations under the chat templates of the families people use."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache
from random import Random

import pytest

from engine.basics.errors import DataError
from engine.data.answers import learned_texts, prompt_text
from engine.data.chat import tokenize
from engine.data.messages import is_answer, is_learned, plain_text
from engine.data.template import _with_ids, special_texts
from scripts.template_table import (
    CALL,
    OURS,
    PAGE,
    REASONING,
    RESULT,
    SYSTEM,
    TOOL,
    TOOLS,
    TURNS,
    assistant,
    document_of,
    made,
    tokenizer_with,
    user,
)

FAMILIES = sorted(path.stem for path in OURS.glob("*.jinja"))
IM, EOT, TURN = "<|im_end|>", "<|eot_id|>", "<end_of_turn>"
# Two answers, as they are learned: a list for each example.
PLAIN = {
    "deepseek": [["In the attic.<｜end▁of▁sentence｜>", "In the cellar.<｜end▁of▁sentence｜>"]],
    "gemma2": [[f"In the attic.{TURN}", f"In the cellar.{TURN}"]],
    "gemma3": [[f"In the attic.{TURN}", f"In the cellar.{TURN}"]],
    "gemma4": [["In the attic.<turn|>", "In the cellar.<turn|>"]],
    "glm4_5": [["\n<think></think>\nIn the attic.<|user|>", "\n<think></think>\nIn the cellar.<|user|>"]],
    "gpt_oss": [
        ["<|channel|>final<|message|>In the attic.<|return|>"],
        ["<|channel|>final<|message|>In the cellar.<|return|>"],
    ],
    "granite": [["In the attic.<|end_of_text|>", "In the cellar.<|end_of_text|>"]],
    "lfm2": [[f"In the attic.{IM}", f"In the cellar.{IM}"]],
    "llama3": [[f"In the attic.{EOT}", f"In the cellar.{EOT}"]],
    "llama4": [["In the attic.<|eot|>", "In the cellar.<|eot|>"]],
    "mistral": [[" In the attic.</s>", " In the cellar.</s>"]],
    "phi3": [["In the attic.<|end|>", "In the cellar.<|end|>\n<|endoftext|>"]],
    "phi4": [[f"In the attic.{IM}", f"In the cellar.{IM}"]],
    "qwen2_5": [[f"In the attic.{IM}", f"In the cellar.{IM}"]],
    "qwen3": [
        [f"<think>\n\n</think>\n\nIn the attic.{IM}"],
        [f"<think>\n\n</think>\n\nIn the cellar.{IM}"],
    ],
    "qwen3_5": [[f"\n</think>\n\nIn the attic.{IM}"], [f"\n</think>\n\nIn the cellar.{IM}"]],
    "smollm3": [[f"In the attic.{IM}", f"In the cellar.{IM}"]],
}
PLAIN_ENDS = ["In the attic.<|end|>", "In the cellar.<|end|>"]
# The first answer with its reasoning, where the template has a place for it; all of these leave it out of the history.
REASONED = {
    "deepseek": "Not below.\n</think>\n\nIn the attic.<｜end▁of▁sentence｜>",
    "gemma4": "<|channel>thought\nNot below.\n<channel|>In the attic.<turn|>",
    "glm4_5": "\n<think>Not below.</think>\nIn the attic.<|user|>",
    "gpt_oss": "<|channel|>analysis<|message|>Not below.<|end|><|start|>assistant<|channel|>final<|message|>"
    "In the attic.<|return|>",
    "lfm2": f"<think>Not below.</think>In the attic.{IM}",
    "qwen3": f"<think>\nNot below.\n</think>\n\nIn the attic.{IM}",
    "qwen3_5": f"Not below.\n</think>\n\nIn the attic.{IM}",
}
CALLS = {
    "deepseek": '<｜tool▁call▁begin｜>find_thing\n```json\n{"number": 7}\n```<｜tool▁call▁end｜><｜end▁of▁sentence｜>',
    "gemma4": "<|tool_call>call:find_thing{number:7,}<tool_call|><|tool_response>",
    "glm4_5": "\n<think></think>\n<tool_call>find_thing\n<arg_key>number</arg_key>\n<arg_value>7</arg_value>\n"
    "</tool_call><|observation|>",
    "gpt_oss": ' to=functions.find_thing<|channel|>commentary json<|message|>{"number": 7}<|call|>',
    "granite": '\n<tool_call>\n{"name": "find_thing", "arguments": {"number": 7}}\n</tool_call><|end_of_text|>',
    "lfm2": f"<|tool_call_start|>[find_thing(number=7)]<|tool_call_end|>{IM}",
    "llama3": f'{{"name": "find_thing", "parameters": {{"number": 7}}}}{EOT}',
    "llama4": '{"name": "find_thing", "parameters": {"number": 7}}<|eot|>',
    "mistral": '[TOOL_CALLS] [{"name": "find_thing", "arguments": {"number": 7}}]</s>',
    "qwen2_5": f'\n<tool_call>\n{{"name": "find_thing", "arguments": {{"number": 7}}}}\n</tool_call>{IM}',
    "qwen3": "<think>\n\n</think>\n\n"
    f'\n<tool_call>\n{{"name": "find_thing", "arguments": {{"number": 7}}}}\n</tool_call>{IM}',
    "qwen3_5": "\n</think>\n\n<tool_call>\n<function=find_thing>\n<parameter=number>\n7\n</parameter>\n</function>\n"
    f"</tool_call>{IM}",
}


@pytest.fixture(scope="module")
def tokenizer_of():
    return cache(lambda name: tokenizer_with((OURS / f"{name}.jinja").read_text()))


def learned(turns, tokenizer, **row):
    """The learned stretches of each example."""
    texts = learned_texts(document_of(turns, **row), tokenizer)
    return [[text.text[start:end] for start, end in text.spans] for text in texts]


def notes(turns, tokenizer, **row):
    return {note.code for text in learned_texts(document_of(turns, **row), tokenizer) for note in text.notes}


@pytest.mark.parametrize("family", FAMILIES)
def test_every_answer_is_learned_with_its_end(family, tokenizer_of):
    assert learned(TURNS, tokenizer_of(family)) == PLAIN[family]
    told = notes(TURNS, tokenizer_of(family))
    assert ("turn-by-turn" in told) == (len(PLAIN[family]) > 1)
    assert ("empty-reasoning" in told) == (family in ("glm4_5", "qwen3", "qwen3_5"))


@pytest.mark.parametrize("family", FAMILIES)
def test_an_answer_stands_after_what_a_model_is_prompted_with(family, tokenizer_of):
    tokenizer, document = tokenizer_of(family), document_of(REASONING if family in REASONED else TURNS)
    text = learned_texts(document, tokenizer)[-1]
    prompt = prompt_text(document.turns_before_answer, (), tokenizer)
    assert text.text.startswith(prompt)
    assert text.spans[-1][0] == len(prompt)


@pytest.mark.parametrize("family", FAMILIES)
def test_reasoning_is_learned_or_refused_by_its_name(family, tokenizer_of):
    tokenizer = tokenizer_of(family)
    in_text = [user("Where is it?"), assistant("<think>\nNot below.\n</think>\n\nIn the attic.")]
    if family in REASONED:
        first, second = learned(REASONING, tokenizer)
        assert first == [REASONED[family]]
        assert "Not above." in second[0]
        assert learned(in_text, tokenizer) == [[REASONED[family]]]
        assert "Not below." not in learned_texts(document_of(REASONING), tokenizer)[-1].text
        dropped = document_of(REASONING).without_reasoning()
        texts = learned_texts(dropped, tokenizer)
        assert [[text.text[a:b] for a, b in text.spans] for text in texts] == PLAIN[family]
        return
    [[answer]] = learned(in_text, tokenizer)
    assert "<think>\nNot below.\n</think>\n\nIn the attic." in answer
    if family != "smollm3":  # reads it in the text only, so there it is put
        with pytest.raises(DataError, match=r"turn \d .* has `reasoning_content`, .*data.reasoning=drop"):
            learned(REASONING, tokenizer)


@pytest.mark.parametrize("family", FAMILIES)
def test_calls_are_learned_and_results_are_not(family, tokenizer_of):
    tokenizer = tokenizer_of(family)
    if family not in CALLS:
        with pytest.raises(DataError, match=r"`tool_calls`|by turns"):
            learned(TOOLS, tokenizer)
        return
    stretches = [stretch for example in learned(TOOLS, tokenizer) for stretch in example]
    assert stretches[0] == CALLS[family]
    assert "In the attic." in stretches[1]
    assert not any("place" in stretch for stretch in stretches)
    if family == "deepseek":
        with pytest.raises(DataError, match="has `tools`, which the chat template does not write"):
            learned(TOOLS, tokenizer, tools=[TOOL])
    else:
        assert "find_thing" in prompt_text(document_of(TOOLS).messages[:1], (TOOL,), tokenizer)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_system_turn_is_in_the_text(family, tokenizer_of):
    tokenizer = tokenizer_of(family)
    [text] = learned_texts(document_of(SYSTEM), tokenizer)
    assert "You are the porter." in text.text
    assert ("system-merged" in notes(SYSTEM, tokenizer)) == (family == "gemma2")
    assert "You are the porter." in prompt_text(document_of(SYSTEM).messages[:-1], (), tokenizer)


def test_a_result_may_be_written_as_json(tokenizer_of):
    lines = 'Straße 1\nÜber "Nord"\nОгород\n' * 3
    stretches = learned([*TOOLS[:2], RESULT | {"content": lines}, TOOLS[3]], tokenizer_of("llama3"))
    assert stretches == [[CALLS["llama3"], f"In the attic.{EOT}"]]


def test_calls_get_ids_that_a_template_insists_on(tokenizer_of):
    def conversation(*ids):
        calls = [{"function": CALL["function"], **({"id": id} if id else {})} for id in ids]
        results = [RESULT | {"tool_call_id": id} for id in reversed(ids)]
        return [TOOLS[0], assistant(None, tool_calls=calls), *results, TOOLS[3], *TURNS[2:]]

    for ids in ((None,), ("call_0123456789",), ("call_a", "call_b")):
        first, second, _ = learned(conversation(*ids), tokenizer_of("mistral"))[0]
        assert first.count("find_thing") == len(ids)
        assert second == " In the attic.</s>"
    call, one, two = _with_ids(document_of(conversation("call_a", "call_b")).messages)[1:4]
    assert [made["id"] for made in call["tool_calls"]] == [two["tool_call_id"], one["tool_call_id"]]
    assert all(len(message["tool_call_id"]) == 9 for message in (one, two))


def test_a_template_that_drops_a_role_is_told(tokenizer_of):
    with pytest.raises(
        DataError, match=r"a turn of the role critic \(turn 2\), which the chat template does not"
    ):
        learned([user("Where?"), {"role": "critic", "content": "Think."}, TURNS[1]], tokenizer_of("phi4"))
    renamed = [{"role": "developer", "content": "You are the porter."}, *TURNS]
    assert learned(renamed, tokenizer_of("phi4")) == PLAIN["phi4"]


def test_a_system_turn_that_moves_makes_each_answer_an_example(tokenizer_of):
    tokenizer = tokenizer_of("mistral")
    first, second = learned_texts(document_of([SYSTEM[0], *TURNS]), tokenizer)
    assert "[INST] You are the porter.\n\nWhere is it?[/INST]" in first.text
    assert "[INST] Where is it?[/INST] In the attic.</s>[INST] You are the porter.\n\nAnd" in second.text


def test_reasoning_before_a_call_stays_in_the_prompt_of_the_answer(tokenizer_of):
    call = assistant(None, tool_calls=[CALL], reasoning_content="I must look.")
    turns = [user("Where is it?"), call, RESULT, assistant("In the attic.")]
    [[first, second]] = learned(turns, tokenizer_of("gpt_oss"))
    assert first.startswith("<|channel|>analysis<|message|>I must look.<|end|>")
    assert second == "<|channel|>final<|message|>In the attic.<|return|>"


@pytest.mark.parametrize("family", sorted(REASONED))
def test_a_whole_history_has_every_answer_in_one_example(family, tokenizer_of):
    tokenizer, document = tokenizer_of(family), document_of(REASONING)
    apart = learned_texts(document, tokenizer)
    together = learned_texts(replace(document, whole_history=True), tokenizer)
    stretches = [[text.text[start:end] for start, end in text.spans] for text in together]
    if family == "gpt_oss":  # earlier answers have another end, so nothing can stand between the two
        assert together == apart
        return
    [[first, second]], [whole] = stretches, together
    assert first == REASONED[family]
    assert second == apart[1].text[slice(*apart[1].spans[0])]
    assert whole.text.startswith(apart[0].text.rstrip())
    between = whole.text[whole.spans[0][1] : whole.spans[1][0]]
    prompt = apart[1].text[: apart[1].spans[0][0]]
    assert prompt.endswith(between.lstrip())
    assert "And its twin?" in between
    assert "whole-history" in {note.code for note in whole.notes}
    assert learned_texts(replace(document_of(SYSTEM), whole_history=True), tokenizer) == learned_texts(
        document_of(SYSTEM), tokenizer
    )


def test_a_whole_history_goes_through_calls(tokenizer_of):
    turns = [*TOOLS, *TURNS[2:]]
    document = replace(document_of(turns), whole_history=True)
    [whole] = learned_texts(document, tokenizer_of("qwen3"))
    stretches = [whole.text[start:end] for start, end in whole.spans]
    assert stretches == [CALLS["qwen3"], *(stretch for [stretch] in PLAIN["qwen3"])]
    assert "<tool_response>" in whole.text[whole.spans[0][1] : whole.spans[1][0]]


def test_a_conversation_may_begin_with_an_answer(tokenizer_of):
    for family in ("llama3", "phi3", "qwen2_5", "glm4_5"):
        stretches = [s for example in learned(TURNS[1:], tokenizer_of(family)) for s in example]
        assert stretches == [s for example in PLAIN[family] for s in example]


def test_a_prompt_that_no_answer_begins_with_is_told(tokenizer_of):
    assert notes(TURNS, tokenizer_of("deepseek")) == {"prompt-differs"}
    assert notes(REASONING, tokenizer_of("deepseek")) == {"written-whole", "turn-by-turn"}


def test_a_prompt_that_changes_the_question_is_what_is_trained(tokenizer_of):
    asking = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}"
    asking += "{% if loop.last and add_generation_prompt %}!{% endif %}"
    asking += "<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
    first, second = learned_texts(document_of(TURNS), tokenizer_with(asking))
    assert first.text == "<|user|>Where is it?!<|end|><|assistant|>In the attic.<|end|>"
    assert second.text.endswith("<|user|>And its twin?!<|end|><|assistant|>In the cellar.<|end|>")
    assert [text.text[slice(*span)] for text in (first, second) for span in text.spans] == PLAIN_ENDS


def test_an_answer_of_weight_0_is_context(tokenizer_of):
    turns = [*TURNS[:1], TURNS[1] | {"weight": 0}, *TURNS[2:]]
    for family in FAMILIES:
        assert learned(turns, tokenizer_of(family)) == [PLAIN[family][-1][-1:]]
        assert "In the attic." in learned_texts(document_of(turns), tokenizer_of(family))[0].text


def test_the_tokens_of_an_answer_are_the_targets(tokenizer_of):
    for family in FAMILIES:
        tokenizer = tokenizer_of(family)
        examples = tokenize(document_of(TURNS), tokenizer)
        for example, stretches in zip(examples, PLAIN[family], strict=True):
            text = tokenizer.decode(example.tokens[example.mask])
            assert "".join(text.split()) == "".join("".join(stretches).split())


def test_an_answer_that_a_template_changes_is_put_in_whole():
    turns = [user("Where?"), assistant("In  the\n\nattic. ")]  # white space is no change
    trimming = (
        (OURS / "gemma2.jinja").read_text().replace("m.content | trim", "m.content.split() | join(' ')")
    )
    assert learned(turns, tokenizer_with(trimming)) == [[f"In the attic.{TURN}"]]
    swapped = trimming.replace("m.content.split()", "m.content.split()[::-1]")
    [text] = learned_texts(document_of(turns), tokenizer_with(swapped))
    assert [note.code for note in text.notes] == ["written-whole"]
    assert text.text[slice(*text.spans[0])] == f"In  the\n\nattic. {TURN}"


def test_an_object_that_a_template_prints_as_python_is_written_as_json(tokenizer_of):
    printing = "{% for m in messages %}<|user|>{{ m.content }}{% for c in m.tool_calls or [] %}"
    printing += "{{ c.function.name }} {{ c.function.arguments }}{% endfor %}<|end|>{% endfor %}"
    printing += "{% if add_generation_prompt %}<|user|>{% endif %}"
    [stretches] = learned(TOOLS, tokenizer_with(printing))
    assert stretches[0] == 'find_thing {"number": 7}<|end|>'


def test_the_page_is_up_to_date():
    page = PAGE.read_text()
    assert made(page) == page


# ---- any conversation

MARK = re.compile(r"[A-Z]\d+q")


def any_conversation(random: Random) -> list[dict]:
    """Turns of every kind, each with a mark of its own: S, U and T in context, R, C and A in answers."""
    turns = [{"role": "system", "content": "Be S0q"}] if random.random() < 0.3 else []
    for _ in range(random.randrange(1, 4)):
        n = len(turns)
        turns.append(user(f"Ask U{n}q"))
        if random.random() < 0.3:
            call = CALL | {"function": {"name": "find_thing", "arguments": {"what": f"C{n}q"}}}
            thought = {"reasoning": f"R{n}q"} if random.random() < 0.4 else {}
            turns += [
                assistant(None, tool_calls=[call], **thought),
                RESULT | {"content": f'{{"place": "T{n}q"}}'},
            ]
        answer = f"Say A{n}q."
        turns.append(
            random.choice(
                [
                    assistant(answer),
                    assistant(answer, reasoning=f"Hm R{n + 9}q"),
                    assistant(f"<think>\nHm R{n + 9}q\n</think>\n\n{answer}"),
                    assistant(answer, weight=0),
                ]
            )
        )
    return [*turns, user("And?"), assistant("That is all, A99q.")]


@pytest.mark.parametrize("family", FAMILIES)
def test_of_any_conversation_all_answers_and_nothing_else_are_learned_or_it_is_refused(family, tokenizer_of):
    tokenizer, random, refused = tokenizer_of(family), Random(family), 0
    for _ in range(12):
        document = replace(document_of(any_conversation(random)), whole_history=random.random() < 0.5)
        try:
            texts = learned_texts(document, tokenizer)
        except DataError:
            refused += 1
            continue
        stretches = [text.text[start:end] for text in texts for start, end in text.spans]
        answers = [plain_text(message) for message in document.messages if is_learned(message)]
        context = [message["content"] for message in document.messages if not is_answer(message)]
        assert sorted(MARK.findall(" ".join(stretches))) == sorted(MARK.findall(" ".join(answers)))
        assert all(stretch.endswith(special_texts(tokenizer, tokenizer.eos_token)) for stretch in stretches)
        assert set(MARK.findall(" ".join(context))) <= set(MARK.findall(texts[-1].text))
    assert refused < 12
