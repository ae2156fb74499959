"""Recipes that nobody would write: some of those that scripts/fuzz_recipes.py makes."""

from __future__ import annotations

from scripts.fuzz_recipes import outcome, outcomes, sources


def test_each_is_read_or_refused_in_sentences() -> None:
    found = outcomes(80, seed=1)
    assert found.keys() == {"read", "refused"}, dict(found)
    assert found.total() == 80


def test_the_recipes_that_it_begins_with_are_read() -> None:
    assert {outcome(text) for text in sources()} == {"read"}


def test_it_sees_what_is_no_sentence() -> None:
    assert outcome("") == "refused"
    assert outcome("name: 3\n" * 2) == "refused"
