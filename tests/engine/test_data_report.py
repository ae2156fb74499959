"""What `finetui data` says about planted data, and why a run on them would be refused."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer
from workers import FORKED

from engine.basics.errors import DataError
from engine.bundled.catalogue import model_path
from engine.data import chat, findings, rows
from engine.data.gather import gather
from engine.flags.forgetting import MARGINS
from engine.flags.multiplicity import level_at
from engine.recipe.recipe_file import parse
from engine.recipe.sections import Recipe, Train
from engine.report import build
from engine.report.build import DataReport, brief_report, report

BOS, EOS, PAD = "<|endoftext|>", "<|end|>", "<|pad|>"
# As the bundled model's template, with places to break it.
TEMPLATE = """\
{{- start }}
{%- for message in messages %}
    {{- '<|' + message['role'] + '|>' }}
    {%- if message['role'] == 'assistant' %}
        {%- generation %}{{- message['content'] + end }}{%- endgeneration %}
    {%- else %}{{- message['content'] + '<|end|>' }}{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|assistant|>' }}{%- endif %}
"""


def template(start: str = BOS, end: str = EOS) -> str:
    return TEMPLATE.replace("start", repr(start), 1).replace("+ end", f"+ {end!r}")


@pytest.fixture(scope="module")
def shared_tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(model_path("stdlib-2m"))


@pytest.fixture
def tokenizer(shared_tokenizer: Any) -> Any:
    before = shared_tokenizer.chat_template, shared_tokenizer.pad_token, shared_tokenizer.eos_token
    yield shared_tokenizer
    shared_tokenizer.chat_template, shared_tokenizer.pad_token, shared_tokenizer.eos_token = before


def question(i: int) -> str:
    return f"What is {i} times {i + 7}, said in words that a child would use number {i * i}?"


def rows_of(count: int, **changes: str) -> list[dict[str, str]]:
    return [{"prompt": question(i), "completion": f"It is {i * (i + 7)}.", **changes} for i in range(count)]


def write(path: Path, lines: list[Any]) -> str:
    path.write_text("".join((x if isinstance(x, str) else json.dumps(x)) + "\n" for x in lines))
    return str(path)


def report_on(path: Path, lines: list[Any], tokenizer: Any, **sections: Any) -> DataReport:
    recipe = recipe_of(path, lines, **sections)
    return report(recipe, gather(recipe), tokenizer, 1024, {tokenizer.eos_token_id})


def recipe_of(path: Path, lines: list[Any], **sections: Any) -> Recipe:
    body = {
        "model": "bundled:stdlib-2m",
        "method": "lora",
        "evals": {"general": None},
        **sections,
        "data": {"train": write(path / "train.jsonl", lines), **sections.get("data", {})},
    }
    return parse(json.dumps(body), path / "r.yaml").recipes[0]


def codes(found: list[findings.Finding]) -> dict[str, findings.Finding]:
    return {finding.code: finding for finding in found}


def test_a_sound_data_set(tmp_path: Path, tokenizer: Any) -> None:
    found = report_on(tmp_path, rows_of(700), tokenizer, train={"tokens_per_step": 256})
    assert not found.refusals
    assert not found.warnings
    assert found.train_rows + found.suites[0].rows == 700
    assert found.truncation is not None
    assert found.truncation.max_length == found.truncation.auto
    assert found.lengths is not None
    assert found.lengths.whole.max >= found.lengths.whole.p50 > found.lengths.answer.max
    assert json.loads(json.dumps(found.as_dict()))["name"] == "r"


def test_every_bad_row_is_told_with_its_line(tmp_path: Path, tokenizer: Any) -> None:
    lines: list[Any] = [*rows_of(100), "", "[1]", {"prompt": "no answer"}, {"prompt": 1, "completion": "x"}]
    lines += [{"prompt": "q", "completion": "  "}, {"prompt": "the last", "completion": "is good"}]
    found = report_on(tmp_path, lines, tokenizer)
    source = found.sources[0]
    assert (source.rows, len(source.documents)) == (105, 101)
    assert [row.row for row in source.dropped] == [102, 103, 104, 105]
    reasons = [row.reason for row in source.dropped]
    for reason, word in zip(reasons, ["object", "columns", "string", "empty"], strict=True):
        assert word in reason
        assert "train.jsonl" not in reason
    assert source.numbers[-1] == 106
    assert not found.refusals
    page = "\n".join(found.lines())
    assert "105 rows read, 4 skipped" in page
    assert "line 102: must be an object" in page
    assert "4 of 105 rows cannot be used and are skipped: line 102 must be" in page


def test_too_many_bad_rows_are_a_refusal_on_the_page(tmp_path: Path, tokenizer: Any) -> None:
    found = report_on(tmp_path, [*rows_of(30), {"prompt": "a"}, {"prompt": "b"}], tokenizer)
    refusal = codes(found.refusals)["bad-rows"]
    assert "2 of 32 rows cannot be used, which is more than 5%" in refusal.message
    assert "line 31 has the columns `prompt`" in refusal.message


def test_half_a_surrogate_pair_is_a_bad_row(tmp_path: Path) -> None:
    lines = ['{"prompt": "a", "completion": "\\ud800"}', {"prompt": "a", "completion": "\U0001f642"}]
    source = rows.read("train", write(tmp_path / "a.jsonl", lines), form="chat")
    assert [row.row for row in source.dropped] == [1]
    assert source.numbers == [2]


def test_bad_csv_rows_and_a_source_without_good_rows(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("prompt,completion\nq,a\nq\nq,a,b\nq,\nr,b\n")
    source = rows.read("train", str(path), form="chat")
    assert [row.row for row in source.dropped] == [3, 4, 5]
    assert source.numbers == [2, 6]
    with pytest.raises(
        DataError, match=r"b.jsonl, line 1: has the columns `a`.*none of its rows can be used"
    ):
        rows.read("train", write(tmp_path / "b.jsonl", [{"a": 1}, "[1]"]), form="chat")
    with pytest.raises(DataError, match="no such file"):
        rows.read("train", str(tmp_path / "none.jsonl"), form="chat")


def test_what_is_cut_is_counted_in_targets(tmp_path: Path, tokenizer: Any) -> None:
    lines = rows_of(60)
    lines += [{"prompt": f"long {i}", "completion": "word " * 300} for i in range(3)]
    lines += [{"prompt": "word " * 300 + str(i), "completion": "lost"} for i in range(2)]
    found = report_on(tmp_path, lines, tokenizer, train={"max_length": 100}, data={"heldout": 1})
    cut = found.truncation
    assert cut is not None
    documents = {d.id: d for d in found.sources[0].documents}
    heldout = set(documents) - {e.id for e in _train_examples(found, tokenizer)}
    examples = _train_examples(found, tokenizer)
    long = [e for e in examples if len(e.tokens) > 100]
    assert len(heldout) == 1
    assert cut.cut == len(long)
    assert cut.targets_lost == sum(int(e.mask[100:].sum()) for e in long)
    assert cut.targets_lost_share == pytest.approx(cut.targets_lost / sum(e.targets for e in examples))
    assert cut.rows_without_target == sum(not e.mask[:100].any() for e in long)
    assert cut.auto == chat.auto_length(examples, 1024) > 100
    assert "cut-before-answer" in codes(found.warnings)
    assert any(example.cut and example.tokens == 100 for example in found.examples)


def _train_examples(found: DataReport, tokenizer: Any) -> list[chat.Example]:
    from engine.data.split import split_heldout
    from engine.recipe.fields import Share

    train, _ = split_heldout(found.sources[0].documents, Share(count=1), "x")
    return [chat.tokenize(document, tokenizer)[0] for document in train]


def test_no_target_within_the_length_is_refused(tmp_path: Path, tokenizer: Any) -> None:
    lines = [{"prompt": "word " * 100 + str(i), "completion": "lost"} for i in range(20)]
    found = report_on(tmp_path, lines, tokenizer, train={"max_length": 50})
    assert "targets-lost" in codes(found.refusals)
    brief = brief_report(recipe_of(tmp_path, lines, train={"max_length": 50}), tmp_path)
    assert "targets-lost" in codes(brief.refusals)
    assert not brief_report(recipe_of(tmp_path, lines, train={"max_length": 200}), tmp_path).refusals


def test_rows_that_lose_their_answer_are_named_by_both_reports(tmp_path: Path, tokenizer: Any) -> None:
    lines = [*rows_of(40), *({"prompt": "word " * 100 + str(i), "completion": "lost"} for i in range(2))]
    sections: dict[str, Any] = {
        "train": {"max_length": 60},
        "data": {"heldout": write(tmp_path / "h.jsonl", rows_of(60)[50:])},
    }
    warned = codes(report_on(tmp_path, lines, tokenizer, **sections).warnings)["cut-before-answer"]
    assert warned.rows == (41, 42)
    assert "2 of 42 rows are cut to 60 tokens before their answer begins, and are skipped" in warned.message
    brief = brief_report(recipe_of(tmp_path, lines, **sections), tmp_path)
    assert codes(brief.warnings)["cut-before-answer"] == warned


def test_the_rendered_pieces_are_the_text_and_the_mask(tmp_path: Path, tokenizer: Any) -> None:
    lines = [*rows_of(40), {"prompt": "Umläute – 漢字 🙂?", "completion": "Straße 漢字 🙂"}]
    heldout = write(tmp_path / "h.jsonl", rows_of(3))
    found = report_on(tmp_path, lines, tokenizer, data={"heldout": heldout})
    document = next(d for d in found.sources[0].documents if d.prompt == question(0))
    rendered = found.examples[0]
    assert rendered.row == 1
    assert rendered.pieces == [
        (f"{BOS}<|user|>{document.prompt}{EOS}<|assistant|>", False),
        (f"{document.target}{EOS}", True),
    ]
    odd = build.tokens.render(
        chat.tokenize(found.sources[0].documents[-1], tokenizer)[0], 41, tokenizer, 1024, ""
    )
    assert (
        "".join(text for text, _ in odd.pieces)
        == f"{BOS}<|user|>Umläute – 漢字 🙂?{EOS}<|assistant|>Straße 漢字 🙂{EOS}"
    )
    assert any(f"«{document.target}{EOS}»" in line for line in found.lines())


def test_rows_that_the_template_refuses_are_left_out(tmp_path: Path, tokenizer: Any) -> None:
    tool = {"messages": [{"role": "tool", "content": "x"}, {"role": "assistant", "content": "y"}]}
    found = report_on(tmp_path, [*rows_of(60), tool], tokenizer, data={"heldout": 1})
    assert not found.refusals
    assert "line 61 the chat template refuses" in codes(found.warnings)["no-targets"].message
    found = report_on(tmp_path, [*rows_of(10), tool], tokenizer, data={"heldout": 1})
    assert "unknown role" in codes(found.refusals)["no-targets"].message


def test_a_double_beginning_is_refused(tmp_path: Path, tokenizer: Any) -> None:
    tokenizer.chat_template = template(start=BOS + BOS)
    assert "double-bos" in codes(report_on(tmp_path, rows_of(30), tokenizer).refusals)
    tokenizer.chat_template = template()
    assert "double-bos" not in codes(report_on(tmp_path, rows_of(30), tokenizer).refusals)


def test_an_end_that_is_never_trained_is_refused(tmp_path: Path, tokenizer: Any) -> None:
    tokenizer.chat_template = template(end="\n")
    found = report_on(tmp_path, rows_of(30), tokenizer)
    assert list(codes(found.refusals)) == ["end-never-trained"]
    # The end of a question is not a target, so it does not count.
    assert EOS in found.examples[0].pieces[0][0]


def test_an_end_that_is_only_outside_the_marked_answer_is_learned_all_the_same(
    tmp_path: Path, tokenizer: Any
) -> None:
    tokenizer.chat_template = template().replace(
        "+ '<|end|>' }}{%- endgeneration %}", "}}{%- endgeneration %}{{- '<|end|>' }}"
    )
    assert not report_on(tmp_path, rows_of(30), tokenizer).refusals


def test_an_end_of_turn_at_which_generation_does_not_stop(tmp_path: Path, tokenizer: Any) -> None:
    tokenizer.chat_template = template(end="<|user|>")
    found = report_on(tmp_path, rows_of(30), tokenizer)
    assert not found.refusals
    assert "<|user|>" in codes(found.warnings)["stop-not-trained"].message


def test_padding_in_the_targets(tmp_path: Path, tokenizer: Any) -> None:
    padded = [{"prompt": question(i), "completion": f"It is {i}.{PAD}"} for i in range(30)]
    found = report_on(tmp_path, padded, tokenizer)
    assert "padding-in-targets" in codes(found.refusals)
    assert "special-token-text" in codes(found.warnings)

    tokenizer.pad_token = EOS
    found = report_on(tmp_path, rows_of(30), tokenizer)
    assert not found.refusals
    padded = [{"prompt": question(i), "completion": f"It is {i}.{EOS}{EOS}"} for i in range(30)]
    assert "padding-in-targets" in codes(report_on(tmp_path, padded, tokenizer).refusals)


def test_a_missing_beginning(tmp_path: Path, tokenizer: Any) -> None:
    tokenizer.chat_template = template(start="")
    found = report_on(tmp_path, rows_of(30), tokenizer)
    adds = tokenizer("a")["input_ids"][0] == tokenizer.bos_token_id
    assert ("no-bos" in codes(found.warnings)) == adds


def test_leaks_duplicates_and_what_is_left(tmp_path: Path, tokenizer: Any) -> None:
    train = rows_of(120)
    heldout = [
        *rows_of(10),
        *({"prompt": f"Name tree {i * 37}?", "completion": f"Oak {i}"} for i in range(10)),
    ]
    other = write(tmp_path / "held.jsonl", heldout)
    lines = [*train, {"prompt": question(3).upper(), "completion": "it is 30."}]
    found = report_on(tmp_path, lines, tokenizer, data={"heldout": other})
    suite = found.suites[0]
    assert {leak.rows[0] for leak in suite.left_out} == set(range(1, 11))
    assert {leak.kind for leak in suite.left_out} == {"exact"}
    assert (suite.rows, suite.scored, suite.detectable.n) == (20, 10, 10)
    assert [group.rows for group in found.exact_duplicates] == [(4, 121)]
    warned = codes(found.warnings)
    assert warned["left-out"].message == "10 rows of held.jsonl are also in train.jsonl and are not scored"
    assert "only 10 rows" in warned["small-heldout"].message


def test_slices_of_the_general_suite_are_told_apart(tmp_path: Path, tokenizer: Any) -> None:
    text = [{"text": f"Tree {i} grows by {i * i} rings and {i + 3} leaves a year."} for i in range(30)]
    own = write(tmp_path / "own.jsonl", text)
    named = {"own": own, "prose": "bundled:stdlib-prose"}
    found = report_on(tmp_path, rows_of(120), tokenizer, evals={"general": named, "limit": 100})
    assert [(suite.name, suite.scored) for suite in found.suites][1:] == [
        ("general.own", 30),
        ("general.prose", 50),
    ]
    page = "\n".join(found.lines())
    assert "general.own 30 (30 scored), general.prose" in page
    assert "overlap    general.own rows also in training, scored: none" in page


def test_warnings_about_answers(tmp_path: Path, tokenizer: Any) -> None:
    lines: list[Any] = rows_of(60)
    lines += [{"prompt": "Say this again", "completion": "say  this again"}]
    lines += [{"prompt": "Two ways?", "completion": answer} for answer in ("one", "another")]
    turns = [("user", "a?"), ("assistant", ""), ("user", "b?"), ("assistant", "b")]
    lines += [{"messages": [{"role": role, "content": content} for role, content in turns]}]
    lines += [{"prompt": "Long?", "completion": "word " * 200}]
    found = report_on(tmp_path, lines, tokenizer, data={"heldout": write(tmp_path / "h.jsonl", rows_of(3))})
    warned = codes(found.warnings)
    assert warned["answer-is-prompt"].rows == (61,)
    assert warned["several-answers"].rows == (62, 63)
    assert warned["empty-answer"].rows == (64,)
    assert warned["long-answer"].rows == (65,)
    assert "long-prompt" not in warned
    assert "65 training rows" in warned["few-examples"].message


def test_few_examples_and_steps() -> None:
    def codes_of(method: str, rows: int, tokens: float | None, **train: Any) -> list[str]:
        train = {"tokens_per_step": 1000, **train}
        return [f.code for f in findings.train_size_warnings(method, Train(**train), rows, tokens)]

    assert codes_of("lora", 1000, 3200) == ["few-steps"]
    assert codes_of("full", 100, 50_000) == ["few-examples"]
    assert codes_of("prompt", 100, 50_000) == []
    assert codes_of("lora", 1000, 3200, max_steps=5) == []  # asked for
    assert codes_of("lora", 1000, None) == []
    assert codes_of("lora", 1000, 40_000, max_steps=900) == ["many-passes"]
    (finding,) = findings.train_size_warnings("lora", Train(epochs=50), 1000, 40_000)
    assert (
        "250 steps of about 8,000 tokens go 50 times through 1,000 rows of about 40,000 tokens"
        in finding.message
    )


def test_label_balance() -> None:
    assert findings.label_balance_warnings(["a"] * 60 + ["b"] * 40) == []
    assert findings.label_balance_warnings([]) == []
    assert [f.code for f in findings.label_balance_warnings(["a"] * 9)] == ["one-label"]
    found = codes(findings.label_balance_warnings(["a"] * 95 + ["b"] * 5))
    assert set(found) == {"label-imbalance", "rare-labels"}
    assert "95%" in found["label-imbalance"].message


def test_what_a_held_out_set_can_tell_is_what_a_simulation_finds() -> None:
    import numpy as np
    from scipy.special import stdtrit

    can = findings.detectable(40, "general")
    draws = np.random.default_rng(0).normal(can.change - MARGINS["warn"], 0.15, size=(20_000, 40))
    t = draws.mean(axis=1) / draws.std(axis=1, ddof=1) * np.sqrt(40)
    assert np.mean(t > stdtrit(39, 1 - level_at(57))) == pytest.approx(0.8, abs=0.01)
    assert findings.heldout_size_warnings(100, "heldout") == []
    assert [f.code for f in findings.heldout_size_warnings(20, "heldout")] == ["small-heldout"]


def test_labelled_text_is_shown_with_its_label(tmp_path: Path, tokenizer: Any) -> None:
    lines = [{"text": question(i), "label": "even" if i % 20 else "odd"} for i in range(120)]
    lines += [{"text": question(5).upper(), "label": "odd"}]
    found = report_on(tmp_path, lines, tokenizer, task="classification")
    assert not found.refusals
    warned = codes(found.warnings)
    assert warned["several-labels"].rows == (6, 121)
    assert "always answering 'even'" in warned["label-imbalance"].message
    for example in found.examples:
        label = "odd" if example.row in (1, 21, 41, 61, 81, 101, 121) else "even"
        assert example.pieces[-2:] == [("\nlabel: ", False), (label, True)]
        assert example.targets == 1
    assert found.truncation is not None
    assert (found.truncation.targets_lost, found.truncation.rows_without_target) == (0, 0)
    page = "\n".join(found.lines())
    assert "  whole" in page
    assert "  prompt  " not in page
    assert "label: «even»" in page


def test_pairs_are_shown_with_both_answers(tmp_path: Path, tokenizer: Any) -> None:
    lines = [
        {"prompt": question(i), "chosen": f"It is {i * (i + 7)}.", "rejected": "word " * (i + 1)}
        for i in range(120)
    ]
    found = report_on(tmp_path, lines, tokenizer, task="dpo", train={"max_length": 100})
    assert not found.refusals
    texts = [text for text, _ in found.examples[0].pieces]
    assert texts[0] == "chosen\n"
    assert [text for text, learned in found.examples[0].pieces if learned] == [
        f"It is 0.{EOS}",
        f"word {EOS}",
    ]
    assert found.truncation is not None
    assert 0 < found.truncation.cut < found.train_rows / 2  # only those with an answer that is too long
    assert found.truncation.targets_lost > 0
    assert found.lengths is not None
    assert found.lengths.measured == found.train_rows
    tokenizer.chat_template = template(end="\n")
    assert "end-never-trained" in codes(report_on(tmp_path, lines, tokenizer, task="dpo").refusals)


def test_long_texts_of_a_completion_are_split_and_lose_nothing(tmp_path: Path, tokenizer: Any) -> None:
    lines = [{"text": question(i) + " word" * i} for i in range(120)]
    found = report_on(tmp_path, lines, tokenizer, task="completion", train={"max_length": 64})
    cut = found.truncation
    assert cut is not None
    assert cut.cut > 20
    assert (cut.targets_lost, cut.rows_without_target, cut.split_up) == (0, 0, True)
    assert "rows split" in "\n".join(found.lines())
    assert found.examples[0].pieces[0] == (BOS, False)
    assert found.examples[0].pieces[1][0].endswith(EOS)  # a text ends, and that is learned


def run_module(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [*FORKED, "-m", "engine.report", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_module_prints_the_report_as_json(tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", rows_of(60))
    recipe = tmp_path / "r.yaml"
    recipe.write_text(
        "model: bundled:stdlib-2m\nmethod: lora\ndata: {train: train.jsonl}\nevals: {general: null}\n"
    )
    done = run_module(str(recipe), "train.max_length=64")
    assert (done.returncode, done.stderr) == (0, "")
    body = json.loads(done.stdout)
    assert body["sources"][0]["rows"] == 60
    assert body["truncation"]["max_length"] == 64
    assert body["suites"][0]["name"] == "heldout"


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("model: bundled:stdlib-2m\nmethod: lora\ndata: {train: none.jsonl}\n", "no such file"),
        ("model: ./none\nmethod: lora\ndata: {train: bundled:docstrings}\n", "no such directory"),
        ("model: bundled:stdlib-2m\nmethod: lara\ndata: {train: x.jsonl}\n", "did you mean"),
    ],
)
def test_the_module_says_in_one_sentence_what_is_wrong(tmp_path: Path, text: str, word: str) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text(text)
    done = run_module(str(recipe))
    assert (done.returncode, done.stdout) == (2, "")
    assert word in done.stderr
    assert len(done.stderr.splitlines()) == 1
