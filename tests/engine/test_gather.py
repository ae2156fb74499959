"""Who is trained on, scored and replayed; nothing that training gives away is scored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from engine.basics.errors import DataError
from engine.data.findings import label_set_warnings
from engine.data.formats import Document
from engine.data.gather import RunData, gather
from engine.data.rows import read
from engine.recipe.sections import Recipe
from engine.tasks.prepare import Suite

WORDS = ["amber", "birch", "cedar", "dune", "elm", "fern", "grove", "hazel"]
WORDS += ["iris", "juniper", "kelp", "larch", "maple", "nettle", "oak", "pine"]


def text(i: int) -> str:
    """Sentences that differ in most of their words."""
    return " ".join(f"{WORDS[(i * k + k * k) % 16]}{i * k}" for k in range(1, 16)) + "."


def rows(*numbers: int, ending: str = "") -> list[dict[str, str]]:
    return [{"prompt": f"Question {n}?", "completion": text(n) + ending} for n in numbers]


def gathered(
    path: Path, train: list[Any], limit: int = 200, slices: tuple[str, ...] = (), **files: list[Any]
) -> RunData:
    """`heldout`, `general` and `replay` are sources of their own where they are given; `slices`: names of those that
    the general suite is made of.
    """
    for name, lines in {"train": train, **files}.items():
        (path / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    data: dict[str, Any] = {"train": str(path / "train.jsonl")}
    if "heldout" in files:
        data["heldout"] = str(path / "heldout.jsonl")
    if "replay" in files:
        data["replay"] = {"source": str(path / "replay.jsonl")}
    general: Any = str(path / "general.jsonl") if "general" in files else None
    if slices:
        general = {name: str(path / f"{name}.jsonl") for name in slices}
    return gather(
        Recipe.model_validate(
            {
                "model": "bundled:stdlib-2m",
                "method": {"name": "lora"},
                "data": data,
                "evals": {"general": general, "limit": limit},
            }
        )
    )


def told(found: RunData) -> list[str]:
    return list(map(str, found.notes))


def numbers(documents: list[Any]) -> set[str]:
    return {document.prompt or document.text for document in documents}


def test_nothing_is_left_out_where_nothing_overlaps(tmp_path: Path) -> None:
    found = gathered(tmp_path, rows(*range(300)), heldout=rows(*range(300, 340)))
    assert (len(found.train), len(found.heldout.documents), found.heldout.leaks) == (300, 40, [])
    assert (found.notes, found.refusals) == ([], [])


def test_equal_and_nearly_equal_rows_are_not_scored(tmp_path: Path) -> None:
    heldout = [*rows(*range(5), ending=" "), *rows(*range(5, 8), ending=" And so."), *rows(*range(300, 340))]
    found = gathered(tmp_path, rows(*range(300)), heldout=heldout)
    assert len(found.train) == 300  # it is the suite that gives way
    assert numbers(found.heldout.documents) == {f"Question {n}?" for n in range(300, 340)}
    assert sorted((leak.kind, leak.rows[0]) for leak in found.heldout.leaks) == [
        *(("exact", line) for line in range(1, 6)),
        *(("near", line) for line in range(6, 9)),
    ]
    assert told(found) == [
        "8 rows of heldout.jsonl are also in train.jsonl (3 of them nearly) and are not scored"
    ]


def test_held_out_by_share_they_are_not_scored_either(tmp_path: Path) -> None:
    twice = [*rows(*range(200)), *rows(*range(200), ending=" And so.")]
    found = gathered(tmp_path, twice)
    held = found.heldout
    assert held.rows == len(held.documents) + len(held.leaks)
    assert len(held.leaks) > 20
    assert "held-out rows of train.jsonl are nearly the same as rows of the training data" in told(found)[0]
    trained = numbers(found.train)
    assert not trained & numbers(held.documents)


def test_the_general_suite_gives_way_too(tmp_path: Path) -> None:
    general = [{"text": text(n)} for n in range(400, 440)]
    train = [*rows(*range(300)), {"messages": [{"role": "assistant", "content": text(400)}]}]
    found = gathered(tmp_path, train, general=general)
    assert numbers(found.general[0].documents) == {text(n) for n in range(401, 440)}
    assert told(found) == ["1 row of general.jsonl is also in train.jsonl and is not scored"]


def test_the_slices_of_the_general_suite_share_its_limit_and_no_row(tmp_path: Path) -> None:
    mine, prose = ([{"text": text(n)} for n in range(*ends)] for ends in ((400, 440), (430, 480)))
    train = [*rows(*range(300)), {"messages": [{"role": "assistant", "content": text(470)}]}]
    found = gathered(tmp_path, train, 60, ("mine", "prose"), mine=mine, prose=prose)
    assert [suite.label for suite in found.suites] == ["heldout", "general.mine", "general.prose"]
    one, other = found.general
    assert (len(one.documents), len(other.documents)) == (30, 30)
    assert not numbers(one.documents) & numbers(other.documents)
    assert text(470) not in numbers(other.documents)
    assert "1 row of prose.jsonl is also in train.jsonl and is not scored" in told(found)
    assert [suite.slice for suite in gathered(tmp_path, train, general=mine).general] == [""]


def test_a_slice_that_others_leave_empty_is_refused(tmp_path: Path) -> None:
    mine = [{"text": text(n)} for n in range(400, 440)]
    found = gathered(tmp_path, rows(*range(300)), slices=("one", "two"), one=mine, two=mine)
    with pytest.raises(DataError, match=r"evals.general.two: two.jsonl has only 0 to score; give other text"):
        found.checked()


def test_words_in_common_keep_a_row_from_being_replayed(tmp_path: Path) -> None:
    general = [{"text": text(n)} for n in range(400, 440)]
    quotes = [{"text": f"Somebody said {text(n)}, and then {text(n + 1000)}"} for n in range(400, 410)]
    others = [{"text": text(n)} for n in range(500, 540)]
    found = gathered(tmp_path, rows(*range(300)), general=general, replay=[*quotes, *others])
    assert numbers(found.replay) == {row["text"] for row in others}


def test_what_is_scored_is_not_replayed(tmp_path: Path) -> None:
    general = [{"text": text(n)} for n in range(400, 500)]
    replay = [*general, *({"text": text(n).upper() + " AND SO."} for n in range(400, 450))]
    found = gathered(tmp_path, rows(*range(300)), limit=20, general=general, replay=replay)
    scored = numbers(found.general[0].documents)
    assert len(scored) == 20
    left = numbers(found.replay)
    assert not left & scored
    assert not {row.removesuffix(" AND SO.").lower() for row in left} & scored
    copies = {row for row in scored if any(text(n) == row for n in range(400, 450))}
    assert len(left) == len(replay) - len(scored) - len(copies)


def test_a_replay_that_the_suites_leave_nothing_of_is_refused(tmp_path: Path) -> None:
    general = [{"text": text(n)} for n in range(400, 440)]
    found = gathered(tmp_path, rows(*range(300)), general=general, replay=general)
    with pytest.raises(DataError, match=r"every row is in a suite, so none is left to replay; add rows, or"):
        found.checked()


def test_a_suite_that_overlap_leaves_empty_is_refused(tmp_path: Path) -> None:
    found = gathered(tmp_path, rows(*range(300)), heldout=rows(*range(30), 400))
    with pytest.raises(
        DataError, match=r"30 rows of heldout.jsonl are also in train.jsonl, which leaves 1 to"
    ):
        found.checked()


def test_a_suite_is_filled_from_the_rows_that_are_left(tmp_path: Path) -> None:
    heldout = [*rows(*range(60)), *rows(*range(300, 360), ending=" And so.")]
    train = [*rows(*range(300)), *rows(*range(300, 310))]
    found = gathered(tmp_path, train, limit=40, heldout=heldout)
    assert len(found.heldout.documents) == 40
    assert not numbers(found.heldout.documents) & numbers(found.train)


def test_one_bad_row_in_a_hundred_is_left_out_and_one_in_ten_refused(tmp_path: Path) -> None:
    bad = {"messages": [{"role": "user", "content": "And?"}]}
    found = gathered(tmp_path, [*rows(*range(99)), bad], heldout=rows(*range(100, 140))).checked()
    assert len(found.train) == 99
    (note,) = told(found)
    assert "1 of 100 rows cannot be used and is skipped: line 100 has no assistant message" in note
    found = gathered(tmp_path, [*rows(*range(9)), bad], heldout=rows(*range(100, 140)))
    with pytest.raises(
        DataError, match=r"train.jsonl: 1 of 10 rows cannot be used.*line 10 has no assistant"
    ):
        found.checked()


# ---- keys and rows that nothing learns from


def test_keys_that_nothing_reads_are_told_once_with_their_rows(tmp_path: Path) -> None:
    train = [
        {**row, "id": n, "tags": [], "topic": "trees" if n < 7 else None}
        for n, row in enumerate(rows(*range(40)))
    ]
    found = gathered(tmp_path, train, heldout=rows(*range(300, 340)))
    (note,) = told(found)
    assert note.endswith(
        "these keys are not read, so nothing of it is learned: `id` (all 40 rows), `topic` (7 of 40 rows)"
    )
    assert found.source("train").as_dict()["unread"] == {"id": 40, "topic": 7}


def test_a_source_in_two_roles_is_told_once(tmp_path: Path) -> None:
    general = [{"text": text(n), "page": n} for n in range(400, 480)]
    found = gathered(tmp_path, rows(*range(40)), general=general, replay=[{"text": "x"}] * 3)
    assert [note for note in told(found) if "`page` (all 80 rows)" in note] == told(found)[:1]


def test_the_users_own_names_of_columns_are_told(tmp_path: Path) -> None:
    path = tmp_path / "faq.csv"
    path.write_text("q,a,prompt,mood\n" + "".join(f"{n}?,{text(n)},theirs,good\n" for n in range(30)))
    source = read("train", str(path), "chat", {"prompt": "q", "completion": "a"})
    assert source.documents[0].prompt == "0?"
    assert source.unread == {"prompt": 30, "mood": 30}


def test_answers_labelled_false_are_left_out_and_do_not_refuse_the_run(tmp_path: Path) -> None:
    train = [{**row, "label": n % 2 == 0} for n, row in enumerate(rows(*range(40)))]
    found = gathered(tmp_path, train, heldout=rows(*range(300, 340))).checked()
    assert numbers(found.train) == {f"Question {n}?" for n in range(0, 40, 2)}
    (note,) = told(found)
    assert "20 of 40 rows are left out: line 2 `label` is false" in note
    assert note.endswith("(and 19 more rows)")


def test_pairs_of_two_prompts_are_told_with_the_first_of_them(tmp_path: Path) -> None:
    def pair(n: int, second: str) -> dict[str, Any]:
        asked = {"role": "user", "content": f"Question {n}?"}
        sides = {"chosen": (text(n), "More?"), "rejected": ("No.", second)}
        turns = {
            side: [asked, answer(first), {"role": "user", "content": more}]
            for side, (first, more) in sides.items()
        }
        return {side: [*lines, answer(side)] for side, lines in turns.items()}

    def answer(words: str) -> dict[str, str]:
        return {"role": "assistant", "content": words}

    path = tmp_path / "pairs.jsonl"
    whole = [{"prompt": f"{n}?", "chosen": text(n), "rejected": "No."} for n in range(60)]
    path.write_text("".join(json.dumps(row) + "\n" for row in [*whole, pair(1, "More?"), pair(2, "Why?")]))
    source = read("train", str(path), "pair")
    assert [(row.row, row.bad) for row in source.dropped] == [(61, True), (62, True)]
    assert "answer different prompts: they part at turn 2" in source.dropped[0].reason


def test_what_stands_beside_the_rows_of_an_object_is_told(tmp_path: Path) -> None:
    path = tmp_path / "wrapped.json"
    path.write_text(json.dumps({"version": 2, "data": rows(*range(9)), "author": "me"}))
    source = read("train", str(path), "chat")
    assert len(source.documents) == 9
    assert source.notes == [f"{path}: only the rows in its `data` are read, not `version`, `author`"]


# ---- labels


def test_labels_that_nothing_teaches_and_labels_hardly_different_are_told(tmp_path: Path) -> None:
    def labelled(*labels: str) -> list[dict[str, str]]:
        return [{"text": text(n), "label": label} for n, label in enumerate(labels)]

    files = {"train": labelled(*["near", "far"] * 20), "heldout": labelled(*["near", "Far", "outside"] * 4)}
    for name, lines in files.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    recipe = {
        "model": "bundled:stdlib-2m",
        "method": "lora",
        "task": {"name": "classification", "labels": ["near", "far", "Far", "outside", "nowhere"]},
        "data": {name: str(tmp_path / f"{name}.jsonl") for name in files},
        "evals": {"general": None},
    }
    messages = {finding.code: finding.message for finding in gather(Recipe.model_validate(recipe)).notes}
    assert "8 of 12 held-out rows have a label that no training row has" in messages["heldout-labels"]
    assert "'Far' (4), 'outside' (4)" in messages["heldout-labels"]
    assert messages["unused-labels"].endswith("'nowhere'")
    assert "'Far' (4 rows) and 'far' (20 rows)" in messages["similar-labels"]
    assert label_set_warnings(["a", "b"], ["b", "a"], None) == []
    assert [f.code for f in label_set_warnings(["1", "2"], ["1.0"], None)] == [
        "heldout-labels",
        "similar-labels",
    ]


# ---- passages of one document


@pytest.mark.parametrize(
    ("column", "names", "known"),
    [("document", 3, True), ("source", 25, True), ("source", 3, False), ("origin", 25, False)],
)
def test_rows_know_the_document_that_they_are_a_passage_of(tmp_path, column, names, known):
    lines = [{"text": text(n), column: f"book {n % names}"} for n in range(1, 60)]
    (tmp_path / "general.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = read("general", str(tmp_path / "general.jsonl"), "general")
    assert found.documents[4].passage_of == (f"book {5 % names}" if known else "")
    assert (column in found.unread) is not known


def test_a_document_that_is_a_text_is_no_name(tmp_path):
    lines = [{"text": text(n), "document": text(n) * 5} for n in range(1, 9)]
    (tmp_path / "general.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = read("general", str(tmp_path / "general.jsonl"), "general")
    assert {document.passage_of for document in found.documents} == {""}
    assert found.unread == {"document": 8}


def test_a_suite_has_the_documents_of_each_slice_apart():
    documents = [
        Document(str(i), text=text(i), passage_of=name) for i, name in enumerate(["a", "a", "a", ""])
    ]
    suite = Suite("general", documents, [], ("mine", "mine", "prose", "prose"))
    assert suite.passages_of == ("mine/a", "mine/a", "prose/a", "3")
    assert Suite("general", documents[3:], []).passages_of == ()
