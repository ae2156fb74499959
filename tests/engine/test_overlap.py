"""Planted duplicates and leaks are found, and nothing is found where nothing was planted."""

from __future__ import annotations

import random

import pytest

from engine.bundled import catalogue
from engine.data import overlap
from engine.data.duplicates import Sketches, exact_duplicates, near_duplicates
from engine.data.formats import to_document
from engine.data.overlap import (
    answer_overlap,
    comparable,
    exact_overlap,
    leaks,
    near_overlap,
    ngram_overlap,
    one_word_overlap,
)
from engine.data.rows import compared_text, preview
from engine.data.shingles import Entry, normalise

PLANTED = 250
QUESTION = "is this number prime , yes or no :"
TEMPLATE = (
    "Below is an instruction that describes a task, paired with an input that gives context. "
    "Write a response that completes the request. ### Input: "
)


class Writer:
    """Sentences of invented words: two of them have next to nothing in common."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        letters = "abcdefghijklmnopqrstuvwxyz"
        self.words = ["".join(self.random.choices(letters, k=self.random.randint(2, 9))) for _ in range(4000)]

    def text(self, low: int = 20, high: int = 60) -> list[str]:
        return self.random.choices(self.words, k=self.random.randint(low, high))

    def edited(self, words: list[str]) -> list[str]:
        """One word in 25 replaced: about 0.8 or more of the shingles stay in most such texts."""
        out = list(words)
        for place in self.random.sample(range(len(out)), max(1, len(out) // 25)):
            out[place] = self.random.choice(self.words)
        return out


def entry(number: int, text: str, source: str = "train") -> Entry:
    return Entry(f"{source}-{number}", source, (number,), normalise(text), text[:60])


def entries(texts: list[str], source: str = "train") -> list[Entry]:
    return [entry(number, text, source) for number, text in enumerate(texts, start=1)]


def shuffled(writer: Writer, texts: list[str]) -> list[str]:
    return writer.random.sample(texts, len(texts))


def similarity(a: str, b: str) -> float:
    """Jaccard similarity of character 5-grams, by the definition."""
    one, two = ({text[i : i + 5] for i in range(len(text) - 4)} for text in (normalise(a), normalise(b)))
    return len(one & two) / len(one | two)


@pytest.fixture
def writer() -> Writer:
    return Writer(7)


def test_normalising_keeps_what_tells_rows_apart() -> None:
    assert normalise("  Hello\n\tWORLD ") == normalise("hello world")
    assert normalise("cafe\u0301") == normalise("caf\u00e9")
    assert normalise("a >= b") != normalise("a <= b")


def test_exact_duplicates_are_found_whatever_case_and_space(writer: Writer) -> None:
    texts = [" ".join(writer.text()) for _ in range(PLANTED)]
    copies = [text.upper().replace(" ", "\n  ") for text in texts]
    groups = exact_duplicates(entries(texts + copies))
    assert {group.rows for group in groups} == {(n, n + PLANTED) for n in range(1, PLANTED + 1)}


def test_a_row_that_stands_twice_is_an_exact_duplicate_and_never_a_near_one() -> None:
    one = Entry("a", "s", (3, 9), "the same text twice over", "")
    assert [group.rows for group in exact_duplicates([one])] == [(3, 9)]
    assert near_duplicates([one, entry(4, "the same text twice over")]) == []


def test_the_exact_similarity_is_that_of_the_definition(writer: Writer) -> None:
    words = writer.text()
    a, b = " ".join(words), " ".join(writer.edited(words))
    sketches = Sketches([normalise(a), normalise(b)])
    assert sketches.jaccard(0, sketches, 1) == pytest.approx(similarity(a, b), abs=1e-12)


def test_near_duplicates_are_found_and_nothing_else(writer: Writer) -> None:
    pairs = []
    while len(pairs) < PLANTED:
        words = writer.text()
        a, b = " ".join(words), " ".join(writer.edited(words))
        if similarity(a, b) >= 0.8:
            pairs.append((a, b))
    others = [" ".join(writer.text()) for _ in range(500)]
    texts = shuffled(writer, [text for pair in pairs for text in pair] + others)
    place = {text: number for number, text in enumerate(texts, start=1)}
    planted = {tuple(sorted((place[a], place[b]))) for a, b in pairs}
    found = near_duplicates(entries(texts))
    hits = {tuple(sorted(group.rows)) for group in found}
    assert not hits - planted
    assert len(hits & planted) >= 0.98 * PLANTED
    assert all(0.8 <= group.similarity < 1 for group in found)


def test_rows_with_the_same_long_template_are_no_duplicates_and_no_leaks(writer: Writer) -> None:
    texts = [TEMPLATE + " ".join(writer.text(5, 12)) for _ in range(600)]
    assert similarity(texts[0], texts[1]) > 0.4
    assert near_duplicates(entries(texts)) == []
    assert leaks(entries(texts[:500]), entries(texts[500:], "heldout"), "heldout") == []
    assert ngram_overlap(entries(texts[:500]), entries(texts[500:], "heldout"), "heldout") == []


def test_templates_with_one_short_slot_are_compared_by_the_slot(writer: Writer) -> None:
    words = writer.words
    texts = [f"{TEMPLATE}{words[2 * i]} {words[2 * i + 1]}" for i in range(400)]
    assert near_duplicates(entries(texts)) == []


def test_exact_leaks(writer: Writer) -> None:
    texts = [" ".join(writer.text(3, 30)) for _ in range(1000)]
    heldout = [text.title() for text in texts[:PLANTED]] + [" ".join(writer.text(3, 30)) for _ in range(300)]
    found = exact_overlap(entries(texts), entries(heldout, "heldout"), "heldout")
    assert [leak.rows for leak in found] == [leak.train_rows for leak in found]
    assert {leak.rows[0] for leak in found} == set(range(1, PLANTED + 1))


def test_near_leaks(writer: Writer) -> None:
    train = [writer.text() for _ in range(1000)]
    heldout = []
    while len(heldout) < PLANTED:
        words = train[len(heldout)]
        edited = writer.edited(words)
        if edited != words and similarity(" ".join(words), " ".join(edited)) >= 0.8:
            heldout.append(" ".join(edited))
        elif edited != words:
            train[len(heldout)] = writer.text()
    heldout += [" ".join(writer.text()) for _ in range(300)]
    found = near_overlap(
        entries([" ".join(words) for words in train]), entries(heldout, "heldout"), "heldout"
    )
    assert all(leak.rows == leak.train_rows for leak in found)
    assert len(found) >= 0.98 * PLANTED
    assert all(0.8 <= leak.similarity <= 1 for leak in found)


@pytest.mark.parametrize("template", ["", TEMPLATE])
def test_leaks_of_thirteen_words(writer: Writer, template: str) -> None:
    train = [writer.text(30, 80) for _ in range(1000)]
    heldout = []
    for words in train[:PLANTED]:
        start = writer.random.randrange(len(words) - 13)
        copied = words[start : start + 13]
        # Punctuation and case do not hide a copy.
        heldout.append(" ".join([*writer.text(), ", ".join(copied).upper() + ".", *writer.text()]))
    for words in train[PLANTED : 2 * PLANTED]:  # twelve words are no leak
        heldout.append(" ".join([*writer.text(), *words[4:16], *writer.text()]))
    found = ngram_overlap(
        entries([template + " ".join(words) for words in train]),
        entries([template + text for text in heldout], "heldout"),
        "heldout",
    )
    assert all(leak.rows == leak.train_rows for leak in found)
    assert len(found) >= 0.98 * PLANTED
    assert max(leak.rows[0] for leak in found) <= PLANTED


def conversation(number: int, words: list[str], source: str = "train", ask: int = 5) -> Entry:
    """The first words ask, the others answer."""
    answer = normalise(" ".join(words[ask:]))
    return Entry(f"{source}-{number}", source, (number,), normalise(" ".join(words)), "", answer)


def test_short_conversations_that_differ_in_one_word_are_nearly_equal(writer: Writer) -> None:
    texts = [writer.text(8, 20) for _ in range(3 * PLANTED)]
    heldout = [list(words) for words in texts]
    for n, words in enumerate(heldout):
        place = writer.random.randrange(len(words))
        words[place : place + 1] = ([], ["quite", words[place]], ["other"])[n % 3]  # gone, added, changed
    train = [conversation(n, words) for n, words in enumerate(texts)]
    held = [conversation(n, words, "heldout") for n, words in enumerate(heldout) if len(words) >= 8]
    found = one_word_overlap(train, held, "heldout")
    assert [leak.rows for leak in found] == [entry.rows for entry in held]
    assert all(leak.rows == leak.train_rows and leak.kind == "near" for leak in found)
    both = leaks(train, held, "heldout")
    assert sorted(leak.rows for leak in both) == sorted(entry.rows for entry in held)
    assert len({leak.id for leak in both}) == len(both)


def test_two_words_are_another_thing_and_a_word_in_plain_text_may_be(writer: Writer) -> None:
    texts = [writer.text(8, 20) for _ in range(PLANTED)]
    train = [conversation(n, words) for n, words in enumerate(texts)]
    two = [conversation(n, ["other", *words[1:-1], "other"], "heldout") for n, words in enumerate(texts)]
    assert one_word_overlap(train, two, "heldout") == []
    one = entries([" ".join(["other", *words[1:]]) for words in texts], "heldout")
    assert one_word_overlap(entries([" ".join(words) for words in texts]), one, "heldout") == []


def test_a_word_that_tells_many_rows_apart_is_the_slot_of_a_template(writer: Writer) -> None:
    texts = [[*QUESTION.split(), str(n), "no"] for n in range(200)]
    train = [conversation(n, words, ask=10) for n, words in enumerate(texts[:100])]
    assert (
        one_word_overlap(train, [conversation(n, texts[n], "heldout") for n in range(100, 200)], "heldout")
        == []
    )
    few = [*train[:3], *(conversation(n, writer.text(8, 20)) for n in range(100))]
    assert len(one_word_overlap(few, [conversation(100, texts[100], "heldout")], "heldout")) == 1


def test_the_answer_to_another_question_is_found_if_it_is_nobody_elses(writer: Writer) -> None:
    texts = [writer.text(12, 30) for _ in range(PLANTED)]
    common = ["i", "cannot", "tell", "you", "about", "this"]
    train = [conversation(n, words) for n, words in enumerate(texts)]
    train += [conversation(n, [*writer.text(5, 5), *common]) for n in range(300, 310)]
    copies = [conversation(n, [*writer.text(5, 5), *words[5:]], "heldout") for n, words in enumerate(texts)]
    others = [conversation(n, writer.text(12, 30), "heldout") for n in range(300, 500)]
    others += [conversation(500, [*writer.text(5, 5), *common], "heldout")]
    found = answer_overlap(train, copies + others, "heldout")
    assert [(leak.kind, leak.rows, leak.train_rows) for leak in found] == [
        ("answer", entry.rows, entry.rows) for entry in copies
    ]
    short = [conversation(1, ["why", "not", "because", "so"], ask=2)]
    assert answer_overlap(short, short, "heldout") == []
    said = entries([" ".join(texts[3][5:])], "general")  # plain text that training answers with
    assert [leak.train_rows for leak in answer_overlap(train, said, "general")] == [(3,)]


def test_an_overlapping_row_is_told_once_and_as_what_it_is(writer: Writer) -> None:
    text = " ".join(writer.text())
    others = [" ".join(writer.text()) for _ in range(20)]
    found = leaks(entries([*others, text]), entries([text, " ".join(writer.text())], "heldout"), "heldout")
    assert [(leak.kind, leak.rows, leak.train_rows, leak.similarity) for leak in found] == [
        ("exact", (1,), (21,), 1.0)
    ]


def test_few_rows_do_not_show_what_is_template() -> None:
    texts = [f"What is {n} plus {n}, please tell me in a whole sentence?" for n in range(16)]
    held = entries([texts[3], "What is 9 plus 8, please tell me in a whole sentence?"], "heldout")
    assert [leak.kind for leak in leaks(entries(texts), held, "heldout")] == ["exact"]
    assert [leak.kind for leak in near_overlap(entries(texts), held, "heldout")] == ["near", "near"]


def test_the_cap_is_on_rows_and_on_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    some = entries(["x" * 10] * 100)
    assert len(comparable(some)) == 100
    monkeypatch.setattr(overlap, "NEAR_ROWS", 40)
    assert len(comparable(some)) == 40
    monkeypatch.setattr(overlap, "NEAR_CHARACTERS", 300)
    assert len(comparable(some)) == 30
    monkeypatch.setattr(overlap, "NEAR_CHARACTERS", 200)
    assert len(comparable(some)) == 0


def test_nothing_to_compare_is_no_overlap() -> None:
    some = entries(["one two three"])
    assert leaks([], some, "heldout") == []
    assert leaks(some, [], "heldout") == []
    assert near_overlap([], some, "heldout") == near_overlap(some, [], "heldout") == []
    assert near_duplicates([]) == []
    assert exact_duplicates([]) == []
    assert near_duplicates(entries(["a", "b", "?"])) == []
    signs = entries(["?", "🙂 🙂"], "heldout")
    assert ngram_overlap(some, signs, "heldout") == ngram_overlap(signs, some, "heldout") == []


def test_in_the_bundled_data_every_hit_is_real() -> None:
    """No hit but rows that do share a sentence or say the same of a sibling; there are only a few."""
    documents = [to_document(row) for row in catalogue.load("docstrings")]
    rows = [
        Entry(d.id, "docstrings", (n,), normalise(compared_text(d)), preview(d), normalise(d.target))
        for n, d in enumerate(documents, start=1)
    ]
    assert exact_duplicates(rows) == []
    near = near_duplicates(rows)
    for group in near:
        texts = [rows[row - 1].text for row in group.rows]
        assert all(similarity(texts[0], text) >= 0.6 for text in texts[1:])  # template counted
    train, heldout = rows[len(rows) // 10 :], rows[: len(rows) // 10]
    found = leaks(train, heldout, "heldout") + ngram_overlap(train, heldout, "heldout")
    assert answer_overlap(train, heldout, "heldout") == []
    assert {leak.kind for leak in found} <= {"near", "13-gram"}
    assert len({leak.id for leak in found}) + len(near) < 0.02 * len(rows)
    by_id = {row.id: row for row in rows}
    for leak in found:
        mine, theirs = by_id[leak.id].text, rows[leak.train_rows[0] - 1].text
        assert similarity(mine, theirs) > 0.2
