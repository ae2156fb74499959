"""Text of others as a terminal, a spreadsheet and a reader of Markdown may have it."""

from __future__ import annotations

import csv
import io

import pytest

from engine.basics.safe_text import csv_cell, lines, markdown, markdown_block, markdown_code, one_line, stream

EVERY_CONTROL = [*map(chr, range(0x20)), "\x7f", *map(chr, range(0x80, 0xA0))]
MARKS = ["\u200b", "\u200d", "\u200e", "\u202a", "\u202e", "\u2066", "\u2069", "\ufeff", "\U000e0041"]
OTHERS = ["\ud800", "\udfff", "\u2028", "\u2029", "\ue000", "\uffff"]


@pytest.mark.parametrize("char", EVERY_CONTROL + MARKS + OTHERS, ids=lambda char: f"{ord(char):04x}")
def test_no_character_that_a_terminal_obeys_is_left(char: str) -> None:
    assert one_line(f"a{char}b") == ("ab" if char in MARKS else "a b")
    assert lines(f"a{char}b") == (f"a{char}b" if char in "\n\t" else one_line(f"a{char}b"))
    assert stream(f"a{char}b") == (f"a{char}b" if char in "\n\t\r" else one_line(f"a{char}b"))


def test_of_all_characters_only_printable_ones_are_left() -> None:
    every = "".join(map(chr, [*range(0x20000), *range(0xE0000, 0xE1000), 0x10FFFF]))
    assert one_line(every).isprintable()
    assert set(lines(every)) - set(one_line(every)) == {"\n", "\t"}
    assert set(stream(every)) - set(one_line(every)) == {"\n", "\t", "\r"}


def test_letters_of_every_script_stay() -> None:
    text = "漢字 चरण ขั้น é e\u0301 שלום ❤️ – «x»"
    assert (one_line(text), lines(text), stream(text)) == (text, text, text)


def test_colours_are_left_out_and_other_sequences_lose_their_meaning() -> None:
    assert one_line("\x1b[1;31mred\x1b[0m\x1b[2J") == "red"
    assert one_line("\x1b]2;title\x07") == " ]2;title "
    assert one_line("\x9b31m") == " 31m"
    assert lines("a\r\n\tb\x1b[0m\r\n") == "a\n\tb\n"
    assert stream("\x1b[1mbold\x1b[0m\x1b[A\x1b]2;x\x07") == "\x1b[1mbold\x1b[0m ]2;x "


@pytest.mark.parametrize(
    "text", ["=1+1", "+1 x", "-1+1", "@SUM(A1)", "\t=1", "\r=1", " =1", "＝1", "-", "-x"]
)
def test_a_cell_that_a_spreadsheet_would_compute_is_text(text: str) -> None:
    assert csv_cell(text) == f"'{text}"


@pytest.mark.parametrize("text", ["-1", "+1", "-0.5", "-1e-4", "-inf", "", "a=b", "1-2", "–", "'=1"])
def test_numbers_and_other_cells_stay(text: str) -> None:
    assert csv_cell(text) == text


def test_a_cell_reads_back_as_one_cell() -> None:
    file = io.StringIO()
    csv.writer(file).writerow([csv_cell('=1,"2"\n3'), csv_cell("x")])
    assert next(csv.reader(io.StringIO(file.getvalue()))) == ['\'=1,"2"\n3', "x"]


def test_markdown_shows_a_text_and_does_nothing() -> None:
    assert markdown("[a](http://x.y)") == r"\[a\](http:\//x.y)"
    assert markdown("<b>&amp;</b>") == r"\<b\>\&amp;\</b\>"
    assert markdown("a|b `c` **d**\n# e") == r"a\|b \`c\` \*\*d\*\* \# e"
    assert markdown("www.x.y") == r"www\.x.y"
    assert markdown("train.max_length") == "train.max_length"
    assert markdown("plain words, 1.5 (of 2).") == "plain words, 1.5 (of 2)."


def test_code_ends_where_its_text_ends() -> None:
    assert markdown_code("a") == "`a`"
    assert markdown_code("a`b``c") == "```a`b``c```"
    assert markdown_code("`a`") == "`` `a` ``"
    assert markdown_code("a|b\n") == "` a|b  `"
    assert markdown_code("a|b", in_table=True) == r"`a\|b`"
    assert markdown_block("a\n````\nb", "yaml") == ["`````yaml", "a\n````\nb", "`````"]
    assert markdown_block("a", "python") == ["```python", "a", "```"]
