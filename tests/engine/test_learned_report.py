"""What the report on data says about answers, their ends, and what the chat template does to them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from test_data_report import EOS, codes, question, report_on, rows_of, template
from transformers import AutoTokenizer

from engine.bundled.catalogue import model_path


@pytest.fixture
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(model_path("stdlib-2m"))


def test_answers_that_the_template_does_not_write_are_refused(tmp_path: Path, tokenizer: Any) -> None:
    tokenizer.chat_template = template().replace("{{- message['content'] + '<|end|>' }}{%- end", "{%- end")
    found = report_on(tmp_path, rows_of(30), tokenizer)
    message = found.refusals[0].message
    assert "27 of 27 rows cannot be used" in message
    assert "turn 2 (assistant) is not written as it is by the chat template" in message
    assert found.truncation is None
    assert any(line.startswith("  refused") for line in found.lines())


def test_answers_that_the_template_does_not_mark_are_learned(tmp_path: Path, tokenizer: Any) -> None:
    marked = "{{- message['content'] + '<|end|>' }}{%- endgeneration %}"
    tokenizer.chat_template = template().replace(
        marked, "{%- endgeneration %}{{- message['content'] + '<|end|>' }}"
    )
    found = report_on(tmp_path, rows_of(30), tokenizer)
    assert not found.refusals
    assert [text.endswith(EOS) for text, learned in found.examples[0].pieces if learned] == [True]
    # What begins the next turn is learned as the end, at which generation does not stop here.
    tokenizer.chat_template = template().replace(marked, "{%- endgeneration %}{{- message['content'] }}")
    found = report_on(tmp_path, rows_of(30), tokenizer)
    assert not found.refusals
    assert "learned with <|user|> as the end" in codes(found.warnings)["end-added"].message
    assert "set eos_token" in codes(found.warnings)["stop-not-trained"].message


def chats_of(count: int) -> list[dict[str, Any]]:
    turns = [
        ("user", "{}"),
        ("assistant", "First, it is {}."),
        ("user", "Sure?"),
        ("assistant", "Yes, it is {}."),
    ]
    return [
        {"messages": [{"role": role, "content": text.format(question(i))} for role, text in turns]}
        for i in range(count)
    ]


def test_answers_that_need_an_example_each_are_all_shown_and_told(tmp_path: Path, tokenizer: Any) -> None:
    written = "{{- message['content'] +"
    thought = "{%- if loop.last %}{{- '<think></think>' }}{%- endif %}"
    tokenizer.chat_template = template().replace(written, thought + written, 1)
    found = report_on(tmp_path, chats_of(60), tokenizer)
    assert not found.refusals
    message = codes(found.warnings)["turn-by-turn"].message
    assert message.startswith("54 of 54 conversations are learned answer by answer, as 108 examples")
    assert "turn 2: '<think></think>First" in message
    shown = ["".join(text for text, learned in example.pieces if learned) for example in found.examples]
    assert sum("First," in text for text in shown) == sum("Yes," in text for text in shown) == 12


def test_ends_of_answers_are_counted_after_the_cut(tmp_path: Path, tokenizer: Any) -> None:
    long = [{"prompt": question(i), "completion": f"It is {i}. " * 40} for i in range(30)]
    found = report_on(tmp_path, long, tokenizer, train={"max_length": 64}, data={"heldout": 2})
    message = codes(found.refusals)["ends-cut"].message
    assert "train.max_length cuts the end off 28 of 28 answers at 64 tokens" in message
    found = report_on(
        tmp_path, [*rows_of(90), *long], tokenizer, train={"max_length": 64}, data={"heldout": 2}
    )
    assert "ends-cut" not in codes(found.refusals)
    assert "cuts the end off" in codes(found.warnings)["ends-cut"].message
    assert "ends-cut" not in codes(report_on(tmp_path, [*rows_of(90), *long], tokenizer).warnings)


def test_keys_of_messages_that_nothing_reads_are_told(tmp_path: Path, tokenizer: Any) -> None:
    lines = chats_of(30)
    lines[0]["messages"][1]["mood"] = "calm"
    lines[1]["messages"][1]["refusal"] = None
    found = report_on(tmp_path, lines, tokenizer, data={"heldout": 1})
    message = codes(found.warnings)["unread-keys"].message
    assert "this key is not read, so nothing of it is learned: `messages.mood` (1 of 30 rows)" in message
