"""Texts as columns of a screen."""

from __future__ import annotations

import pytest

from tui.lines.text import broken, folded, unique, width_of, wrap
from tui.widgets.details import _block


@pytest.mark.parametrize("text", ["x" * 100, "漢" * 100, "a漢" * 40])
def test_what_is_too_wide_is_broken_by_columns_and_nothing_is_lost(text: str) -> None:
    for pieces in (broken(text, 39), wrap(text, 39), _block(text, 39)):
        assert "".join(pieces) == text
        assert all(0 < width_of(piece) <= 39 for piece in pieces)
    assert broken("", 10) == [""]
    assert broken("漢", 1) == ["漢"]


def test_a_line_is_folded_between_words_and_keeps_its_indentation() -> None:
    assert folded("    return the number of it", 14) == ["    return the", "number of it"]
    assert folded("one " + "x" * 12, 10) == ["one xxxxxx", "xxxxxx"]
    assert folded("", 10) == [""]
    assert folded("漢", 1) == ["漢"]


def test_columns_of_one_name_stay_two() -> None:
    assert unique(["step", "value", "value"]) == ["step", "value", "value_2"]
    assert unique(["a", "a", "a_2"]) == ["a", "a_2", "a_2_2"]
