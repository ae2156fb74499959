"""Reading data sets: every broken file is told in one sentence that says where."""

from __future__ import annotations

import json
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.basics.errors import DataError
from engine.data.columns import rename
from engine.data.formats import to_document
from engine.data.sources import RawRow, fingerprint, location, read_rows
from engine.data.split import choose_replay, first_by_hash, rank, split_heldout
from engine.recipe.fields import parse_share

ROWS = [{"prompt": "1 + 1?", "completion": "2"}, {"prompt": 'naïve, "quoted"\nline', "completion": "é\u2028"}]


@pytest.fixture
def write(tmp_path):
    def write(name, content):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return write


def test_every_format_gives_the_same_rows(write, tmp_path):
    jsonl = write("a.jsonl", "\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS) + "\n\n")
    csv = write("a.csv", 'prompt,completion\r\n1 + 1?,2\r\n"naïve, ""quoted""\nline",é\u2028\r\n')
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "a.parquet")
    for source in (jsonl, write("a.json", json.dumps(ROWS)), csv, str(tmp_path / "a.parquet")):
        assert [raw.row for raw in read_rows(source)] == ROWS, source


def test_a_byte_order_mark_is_no_part_of_the_first_column(write):
    (raw,) = read_rows(write("a.csv", b"\xef\xbb\xbfprompt,completion\na,b\n"))
    (long,) = read_rows(write("long.csv", "text\n" + "x" * 200_000 + "\n"))
    assert len(long.row["text"]) == 200_000
    assert raw.row == {"prompt": "a", "completion": "b"}


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.jsonl", "", "has no rows"),
        ("a.jsonl", '{"a": 1}\n\n{"a": \n', "line 3: is not valid JSON"),
        ("a.jsonl", b'{"a": 1}\n{"a": "\xff"}\n', "line 2: is not UTF-8"),
        ("a.json", '{"a": 1}', "must hold a list of objects, not an object"),
        ("a.json", '{"a": 1}\n{"a": 2}', "rename it"),
        ("a.json", "[" * 100_000, "is not valid JSON"),
        ("a.csv", 'a,b\n1,"2\n', "is not valid CSV"),
        ("a.csv", "a,b\n", "has no rows"),
        ("a.parquet", b"PAR1", "is not a readable Parquet file"),
        ("a.txt", "text", "cannot tell the format"),
    ],
)
def test_a_broken_file_is_told(write, name, content, sentence):
    source = write(name, content)
    with pytest.raises(DataError) as error:
        read_rows(source)
    assert str(error.value).startswith(source)
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "content", "number", "wrong"),
    [
        ("a.jsonl", '{"a": 1}\n\n[1]\n{"a": 1}', 3, "must be an object"),
        ("a.json", '[{"a": 1}, 3, {"a": 1}]', 2, "must be an object such as"),
        ("a.csv", "a,b\n1,2\n1,2,3\n1,2\n", 3, "has more fields than the header"),
        ("a.csv", 'a,b\n"1\n1",2\n1\n1,2\n', 4, "has fewer fields than the header"),
    ],
)
def test_a_row_that_is_none_is_told_with_its_place_and_the_others_are_read(
    write, name, content, number, wrong
):
    first, bad, last = read_rows(write(name, content))
    assert (first.error, last.error) == ("", "")
    assert bad.number == number
    assert wrong in bad.error


def test_a_directory_is_read_file_by_file(write, tmp_path):
    (tmp_path / "d").mkdir()
    write("d/b.jsonl", '\n{"a": 2}\n')
    write("d/a.csv", "a\n1\n")
    pq.write_table(pa.Table.from_pylist([{"a": 3}, {"a": 4}]), tmp_path / "d" / "c.parquet")
    write("d/README.md", "not data")
    source = str(tmp_path / "d")
    rows = read_rows(source)
    assert [raw.number for raw in rows] == ["a.csv:2", "b.jsonl:2", "c.parquet:1", "c.parquet:2"]
    assert [int(raw.row["a"]) for raw in rows] == [1, 2, 3, 4]
    assert location(source, "b.jsonl:2") == f"{source}/b.jsonl, line 2"
    assert location(source, "c.parquet:1") == f"{source}/c.parquet, row 1"

    before = fingerprint(source)
    assert (before.rows, before == fingerprint(source)) == (4, True)
    (tmp_path / "d" / "b.jsonl").rename(tmp_path / "d" / "z.jsonl")
    assert fingerprint(source).digest != before.digest
    write("d/z.jsonl", '{"a": \n')
    with pytest.raises(DataError, match=r"d/z\.jsonl, line 1: is not valid JSON"):
        read_rows(source)


def test_a_directory_without_data_is_told(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(DataError, match=r"is a directory without files that end in .jsonl"):
        read_rows(str(tmp_path))


# ---- columns


def raws(*rows):
    return [RawRow(number, row) for number, row in enumerate(rows, start=1)]


def test_columns_are_renamed_and_those_of_other_formats_set_aside():
    row = {"question": "Why?", "answer": "So.", "messages": "not what is meant", "id": 3}
    (raw,) = rename(raws(row), {"prompt": "question", "completion": "answer"}, "x")
    assert raw.row == {"prompt": "Why?", "completion": "So.", "id": 3}


def test_a_column_of_the_same_format_keeps_its_own_name():
    (raw,) = rename(raws({"text": "Fine.", "sentiment": 1}), {"label": "sentiment"}, "x")
    assert raw.row == {"text": "Fine.", "label": 1}
    (raw,) = rename(raws({"prompt": "theirs", "completion": "b", "q": "mine"}), {"prompt": "q"}, "x")
    assert raw.row == {"prompt": "mine", "completion": "b"}


def test_a_missing_column_is_told_with_the_nearest_name_or_all():
    rows = raws({"question": "a"}, {"question": "a", "answer": "b"})
    with pytest.raises(
        DataError, match=r"no column `questoin` \(key data.columns.prompt\); did you mean `question`"
    ):
        rename(rows, {"prompt": "questoin"}, "x.jsonl")
    with pytest.raises(DataError, match=r"no column `z`.*it has `question`, `answer`"):
        rename(rows, {"prompt": "z"}, "x.jsonl")
    assert [raw.row for raw in rename(rows, {"completion": "answer"}, "x")] == [
        {"question": "a"},
        {"question": "a", "completion": "b"},
    ]


# ---- missing


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("data/nothing.jsonl", "data/nothing.jsonl: there is no such file"),
        ("/no/such/file", "/no/such/file: there is no such file"),
        ("bundled:nothing", "there is: docstrings, stdlib-prose"),
    ],
)
def test_a_missing_source_is_told(source, sentence):
    with pytest.raises(DataError, match=sentence):
        read_rows(source)


def test_a_fingerprint_is_of_the_content(write):
    content = '{"a": 1}\n{"a": 2}\n'
    one, same, other = (
        fingerprint(write(name, text))
        for name, text in [("a.jsonl", content), ("b.jsonl", content), ("c.jsonl", content + '{"a": 3}\n')]
    )
    assert one == same != other
    assert (one.rows, one.bytes, other.rows) == (2, len(content), 3)
    assert fingerprint("bundled:stdlib-prose") == fingerprint("bundled:stdlib-prose")


def test_reading_data_needs_no_torch():
    code = (
        "import sys; from engine.data import chat, formats, rows, split;"
        "rows.read('train', 'bundled:docstrings', 'chat');"
        "print(sorted({'torch', 'transformers', 'datasets'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


# ---- splitting


def documents(*numbers):
    return [to_document({"prompt": f"question {n}", "completion": f"answer {n}"}) for n in numbers]


def test_a_percentage_keeps_every_row_on_its_side_as_the_file_grows():
    before, held_before = split_heldout(documents(*range(200)), parse_share("10%"), "x")
    after, held_after = split_heldout(documents(*reversed(range(400))), parse_share("10%"), "x")
    assert {d.id for d in held_before} < {d.id for d in held_after}
    assert {d.id for d in before} < {d.id for d in after}
    assert 20 <= len(held_after) <= 60


def test_equal_rows_go_to_the_same_side():
    train, heldout = split_heldout(documents(*list(range(50)) * 2), parse_share("20%"), "x")
    assert not {d.id for d in train} & {d.id for d in heldout}
    assert len(train) + len(heldout) == 100


def test_a_count_holds_out_so_many():
    train, heldout = split_heldout(documents(*range(50)), parse_share(7), "x")
    assert (len(train), len(heldout)) == (43, 7)


def test_a_tiny_share_of_a_tiny_file_still_holds_out_one():
    train, heldout = split_heldout(documents(1, 2, 3), parse_share("1%"), "x")
    assert (len(train), len(heldout)) == (2, 1)


def test_holding_out_everything_is_refused():
    with pytest.raises(DataError, match="no row is left to train on"):
        split_heldout(documents(1, 2), parse_share(2), "x")


def test_a_limit_does_not_choose_the_rows_that_are_held_out():
    limited = first_by_hash(documents(*range(300)), 150, "limit")
    _, heldout = split_heldout(limited, parse_share("20%"), "x")
    assert 15 <= len(heldout) <= 45


def test_replay_is_a_share_of_all_training_tokens():
    chosen = choose_replay([10] * 1000, lambda tokens: tokens, ratio=0.2, train_tokens=800)
    assert sum(chosen) == 200


def test_ranks_are_even_and_differ_by_purpose():
    ranks = [rank(str(n), "a") for n in range(2000)]
    assert 0.47 < sum(ranks) / 2000 < 0.53
    assert ranks != [rank(str(n), "b") for n in range(2000)]
