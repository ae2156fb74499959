"""Texts as columns of a screen."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest

from engine.basics.safe_text import one_line
from engine.basics.wording import moment
from tui.cli.output import cell
from tui.lines import format
from tui.lines.text import (
    block,
    broken,
    centered,
    cut,
    distinct,
    fit,
    folded,
    left,
    line_width,
    right,
    squeezed,
    unique,
    width_of,
    wrap,
)
from tui.lines.theme import to_ascii
from tui.widgets import details


@pytest.mark.parametrize("text", ["x" * 100, "漢" * 100, "a漢" * 40, "की" * 90])
def test_what_is_too_wide_is_broken_by_columns_and_nothing_is_lost(text: str) -> None:
    for pieces in (broken(text, 39), wrap(text, 39), block(text, 39)):
        assert "".join(pieces) == text
        assert all(0 < width_of(piece) <= 39 for piece in pieces)
    assert broken("", 10) == [""]
    assert broken("漢", 1) == ["漢"]


def test_times_are_those_of_the_machine_and_say_their_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    try:
        local = "2026-09-21 18:43:20 IST"
        assert moment(1790000000.0 - 3600) == local
        as_in_sql = datetime.fromtimestamp(1790000000.0 - 3600, UTC)
        assert format.value(as_in_sql) == cell(as_in_sql) == local
        assert cell(datetime(2026, 9, 21)) == format.value(datetime(2026, 9, 21)), (
            "a time that knows no zone has none"
        )
        row = {"step": 4, "bytes": 10, "path": "checkpoints/4", "present": True, "t": 1790000000.0 - 3600}
        attempt = {"attempt": 1, "started": 1790000000.0 - 3600, "ended": None, "signal": 15, "peak_rss_mb": 812.0,
                   "resumed_from": None, "device": "cpu"}  # fmt: skip
        lines = ["".join(text for text, _ in line) for line in details.checkpoints([row], [attempt], 80)]
        assert [line.endswith(end) for line, end in ((lines[2], "checkpoints/4"), (lines[-1], "cpu"))] == [
            True,
            True,
        ]
        assert local in lines[2]
        assert local in lines[-1]
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_line_is_folded_between_words_and_keeps_its_indentation() -> None:
    assert folded("    return the number of it", 14) == ["    return the", "number of it"]
    assert folded("one " + "x" * 12, 10) == ["one xxxxxx", "xxxxxx"]
    assert folded("", 10) == [""]
    assert folded("漢", 1) == ["漢"]


@pytest.mark.parametrize(
    "text", ["plain words", "漢字の損失", "चरण की हानि", "ขั้นที่ค่าที่", "e\u0301" * 20, "❤️ 👩‍💻 " * 5]
)
def test_a_text_takes_the_columns_that_it_is_given(text: str) -> None:
    for width in range(40):
        assert width_of(cut(text, width)) <= width
        assert width_of(squeezed(text, width)) <= width
        for shown in (left(text, width), right(text, width), to_ascii(left(text, width))):
            assert width_of(shown) == width
        assert line_width(fit([(text, ""), (text, "dim")], width)) == width
    assert to_ascii(text).isascii()
    assert width_of(centered(text, 60)) == 60


def test_what_is_squeezed_keeps_its_end() -> None:
    assert squeezed("support-lora r=8 lr=0.0003", 20) == "support-lo…lr=0.0003"
    assert squeezed("short", 20) == "short"


def test_a_long_line_is_cut_without_reading_it_whole() -> None:
    assert cut("क" + "\u0301" * 100_000, 10).startswith("क")
    assert cut("हानि " * 20_000, 10) == "हानि हानि हानि …"


def test_what_has_no_width_and_is_no_mark_is_left_out() -> None:
    assert one_line("a\tb\x1b[0m") == "a b"
    assert one_line("می\u200cخواهم \u202eabc\u202c") == "میخواهم abc"


def test_columns_of_one_name_stay_two() -> None:
    assert unique(["step", "value", "value"]) == ["step", "value", "value_2"]
    assert unique(["a", "a", "a_2"]) == ["a", "a_2", "a_2_2"]


METRICS = [
    *(
        f"{suite}/{name}"
        for suite in ("heldout", "heldout_few_shot", "general", "seen", "samples")
        for name in ("loss", "token_accuracy", "exact_match", "rouge_l", "preference_loss", "shots", "kl", "distance")
    ),
    "train/loss", "train/lr", "train/grad_norm", "train/tokens_per_s", "train/tokens", "train/epoch",
    "memory/peak_mb", "choices.mmlu_astronomy/accuracy", "choices.mmlu_astronomy/accuracy_norm",
    "choices.mmlu_anatomy/accuracy", "choices.mmlu_anatomy/accuracy_norm", "train/rewards/chosen",
    "train/rewards/rejected", "train/rewards/margins", "train/rewards/accuracies", "train/logps/chosen",
    "train/logps/rejected", "train/logits/chosen", "train/logits/rejected", "eval/rewards/chosen",
    "eval/rewards/rejected", "eval/rewards/margins", "eval/rewards/accuracies", "eval_samples_per_second",
    "eval_steps_per_second", "train_samples_per_second", "train_steps_per_second",
]  # fmt: skip


@pytest.mark.parametrize("width", [14, 16, 20, 22])
def test_runs_of_a_sweep_that_differ_in_the_middle_of_their_names_are_told_apart(width: int) -> None:
    names = [f"lora-sweep r={r} lr={lr}" for r in (4, 16) for lr in ("0.001", "0.004")]
    short = distinct(names, width)
    assert len(set(short.values())) == 4, short
    if width in (16, 20):
        assert [name[:5].strip("…").split()[0] for name in short.values()] == ["r=4", "r=4", "r=16", "r=16"]


@pytest.mark.parametrize("width", [14, 17, 18, 24, 32])
def test_names_of_metrics_that_are_cut_stay_distinct(width: int) -> None:
    """Of finetui's own runs, of trl's and transformers'; 17 and 18 columns are those of 80x24."""
    short = distinct(METRICS, width)
    assert list(short) == METRICS
    assert len(set(short.values())) == len(METRICS), width
    assert all(width_of(name) <= width for name in short.values())
    assert all(short[name] == name for name in METRICS if len(name) <= width)
