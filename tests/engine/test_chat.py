"""Tokens and masks: what is a target, and that nothing else is."""

from __future__ import annotations

import numpy as np
import pytest
from transformers import AutoTokenizer

from engine.basics.errors import DataError
from engine.bundled.catalogue import model_path
from engine.data.chat import Example, auto_length, render_prompt, tokenize, truncate
from engine.data.formats import Document, to_document
from engine.data.template import ensure_template

CHATML = """\
{%- for message in messages %}
{{- '<|user|>' + message['role'] + '\n' + message['content'] + '<|end|>' + '\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|user|>assistant\n' }}{%- endif %}"""
# Marks the words of an answer but not the end of its turn.
SHORT_GENERATION = """\
{{- bos_token }}
{%- for message in messages %}
{{- '<|' + message['role'] + '|>' }}
{%- if message['role'] == 'assistant' %}{% generation %}{{ message['content'] }}{% endgeneration %}
{%- else %}{{- message['content'] }}{%- endif %}{{- '<|end|>' }}
{%- endfor %}"""
# Writes earlier answers in another way than the last, as templates do that drop old reasoning.
REWRITING = """\
{%- for message in messages %}
{{- '<|' + message['role'] + '|>' }}
{%- if message['role'] == 'assistant' and not loop.last %}{{- 'short' }}
{%- else %}{{- message['content'] }}{%- endif %}{{- '<|end|>' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|assistant|>' }}{%- endif %}"""


@pytest.fixture
def tokenizer():
    return AutoTokenizer.from_pretrained(model_path("stdlib-2m"))


def conversation(*contents: str) -> Document:
    turns = [
        {"role": "user" if i % 2 == 0 else "assistant", "content": content}
        for i, content in enumerate(contents)
    ]
    return to_document({"messages": turns})


def targets(example: Example, tokenizer) -> str:
    """The target tokens as text, with a bar where tokens between them are none."""
    parts, last = [], None
    for i in np.flatnonzero(example.mask):
        parts.append(
            ("|" if last is not None and i != last + 1 else "") + tokenizer.decode([example.tokens[i]])
        )
        last = i
    return "".join(parts)


@pytest.mark.parametrize("template", [None, SHORT_GENERATION, CHATML])
def test_targets_are_the_answers_and_their_ends(tokenizer, template):
    tokenizer.chat_template = template or tokenizer.chat_template
    [example] = tokenize(
        conversation("What is a set?", " A set is unordered.", "And a list?", "Ordered"), tokenizer
    )
    assert targets(example, tokenizer) == " A set is unordered.<|end|>|Ordered<|end|>"


def test_answers_that_a_template_rewrites_are_examples_of_their_own(tokenizer):
    tokenizer.chat_template = REWRITING
    first, last = tokenize(conversation("a?", "long reasoning", "b?", "Last."), tokenizer)
    assert targets(first, tokenizer) == "long reasoning<|end|>"
    assert targets(last, tokenizer) == "Last.<|end|>"
    assert "<|assistant|>short<|end|>" in tokenizer.decode(last.tokens)  # the history as a model sees it


@pytest.mark.parametrize("template", [CHATML, SHORT_GENERATION])
def test_every_day_has_the_same_tokens(tokenizer, template):
    tokenizer.chat_template = "{{- strftime_now('%d %b %Y') }}" + template
    document = conversation("Which day is it?", "Friday.")
    assert "26 Jul 2024" in tokenizer.decode(tokenize(document, tokenizer)[0].tokens)
    assert "26 Jul 2024" in tokenizer.decode(render_prompt(document.turns_before_answer, tokenizer))


def test_a_tokenizer_without_a_template_gets_a_plain_one(tokenizer):
    tokenizer.chat_template = None
    assert ensure_template(tokenizer)
    [example] = tokenize(conversation("What?", "That."), tokenizer)
    assert tokenizer.decode(example.tokens) == "<|endoftext|>User: What?\nAssistant: That.<|end|>\n"
    assert targets(example, tokenizer) == " That.<|end|>"
    assert not ensure_template(tokenizer)


@pytest.mark.parametrize("template", [None, SHORT_GENERATION])
def test_there_is_one_beginning(tokenizer, template):
    tokenizer.chat_template = template or tokenizer.chat_template
    for document in (
        conversation("a", "b"),
        Document("id", text="plain"),
        Document("id", text="<|endoftext|>plain"),
    ):
        tokens = tokenize(document, tokenizer)[0].tokens.tolist()
        assert tokens[0] == tokenizer.bos_token_id
        assert tokens.count(tokenizer.bos_token_id) == 1


def test_every_token_of_plain_text_is_a_target_but_the_first(tokenizer):
    [example] = tokenize(Document("id", text="A plain text."), tokenizer)
    assert targets(example, tokenizer) == "A plain text."
    assert not example.mask[0]


def test_a_prompt_ends_where_the_answer_begins(tokenizer):
    document = conversation("What is a set?", "A collection.")
    [example] = tokenize(document, tokenizer)
    prompt = render_prompt(document.turns_before_answer, tokenizer)
    assert prompt == example.tokens[: np.flatnonzero(example.mask)[0]].tolist()


def test_a_row_that_the_template_refuses_is_told(tokenizer):
    document = to_document(
        {"messages": [{"role": "tool", "content": "7"}, {"role": "assistant", "content": "Seven."}]}
    )
    with pytest.raises(
        DataError, match="the chat template refuses the row that begins '7': unknown role: tool"
    ):
        tokenize(document, tokenizer)


def test_an_answer_that_the_template_does_not_write_is_refused(tokenizer):
    tokenizer.chat_template = "{%- generation %}{%- endgeneration %}{{ messages[0]['content'] }}"
    with pytest.raises(
        DataError, match=r"turn 2 \(assistant\) is not written .*, so 'b' would not be learned"
    ):
        tokenize(conversation("a", "b"), tokenizer)


# ---- length


def example(length: int, first_target: int) -> Example:
    mask = np.arange(length) >= first_target
    return Example(str(length), np.arange(length, dtype=np.int32), mask)


def test_truncation_drops_what_would_have_no_target_left():
    kept, cut, dropped = truncate([example(5, 2), example(20, 5), example(20, 15)], 10)
    assert [len(e.tokens) for e in kept] == [5, 10]
    assert (cut, dropped) == (2, 1)
    assert all(e.targets for e in kept)


def test_auto_length_fits_all_but_outliers():
    lengths = [example(n, 1) for n in [*range(1, 1001), 5000]]
    assert auto_length(lengths, 100_000) == 1000
    assert auto_length(lengths, 512) == 512
    assert auto_length([example(3, 1)], 512) == 8
