"""Who is trained on, scored and replayed; nothing that training gives away is scored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from engine.basics.errors import DataError
from engine.data.gather import RunData, gather
from engine.recipe.sections import Recipe

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
    assert found.notes == [
        "8 rows of heldout.jsonl are also in train.jsonl (3 of them nearly) and are not scored"
    ]


def test_held_out_by_share_they_are_not_scored_either(tmp_path: Path) -> None:
    twice = [*rows(*range(200)), *rows(*range(200), ending=" And so.")]
    found = gathered(tmp_path, twice)
    held = found.heldout
    assert held.rows == len(held.documents) + len(held.leaks)
    assert len(held.leaks) > 20
    assert "held-out rows of train.jsonl are nearly the same as rows of the training data" in found.notes[0]
    trained = numbers(found.train)
    assert not trained & numbers(held.documents)


def test_the_general_suite_gives_way_too(tmp_path: Path) -> None:
    general = [{"text": text(n)} for n in range(400, 440)]
    train = [*rows(*range(300)), {"messages": [{"role": "assistant", "content": text(400)}]}]
    found = gathered(tmp_path, train, general=general)
    assert numbers(found.general[0].documents) == {text(n) for n in range(401, 440)}
    assert found.notes == ["1 row of general.jsonl is also in train.jsonl and is not scored"]


def test_the_slices_of_the_general_suite_share_its_limit_and_no_row(tmp_path: Path) -> None:
    mine, prose = ([{"text": text(n)} for n in range(*ends)] for ends in ((400, 440), (430, 480)))
    train = [*rows(*range(300)), {"messages": [{"role": "assistant", "content": text(470)}]}]
    found = gathered(tmp_path, train, 60, ("mine", "prose"), mine=mine, prose=prose)
    assert [suite.label for suite in found.suites] == ["heldout", "general.mine", "general.prose"]
    one, other = found.general
    assert (len(one.documents), len(other.documents)) == (30, 30)
    assert not numbers(one.documents) & numbers(other.documents)
    assert text(470) not in numbers(other.documents)
    assert "1 row of prose.jsonl is also in train.jsonl and is not scored" in found.notes
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
    (note,) = found.notes
    assert "1 of 100 rows cannot be used and is skipped: line 100 has no assistant message" in note
    found = gathered(tmp_path, [*rows(*range(9)), bad], heldout=rows(*range(100, 140)))
    with pytest.raises(
        DataError, match=r"train.jsonl: 1 of 10 rows cannot be used.*line 10 has no assistant"
    ):
        found.checked()
