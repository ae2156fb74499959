"""Reading data sets: every broken file is told in one sentence that says where."""

from __future__ import annotations

import bz2
import csv
import gzip
import json
import lzma
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.basics.errors import DataError
from engine.data import rows
from engine.data.columns import rename
from engine.data.formats import to_document
from engine.data.readers import RawRow
from engine.data.sources import location, read
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
    table = write("a.csv", 'prompt,completion\r\n1 + 1?,2\r\n"naïve, ""quoted""\nline",é\u2028\r\n')
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "a.parquet")
    sources = [jsonl, table, str(tmp_path / "a.parquet")]
    sources += [
        write("a.tsv", 'prompt\tcompletion\n1 + 1?\t2\n"naïve, ""quoted""\nline"\té\u2028\n'),
        write("semicolons.csv", 'prompt;completion\n1 + 1?;2\n"naïve, ""quoted""\nline";é\u2028\n'),
        write("sheet.csv", 'sep=;\nprompt;completion\n1 + 1?;2\n"naïve, ""quoted""\nline";é\u2028\n'),
        write("a.json", json.dumps(ROWS)),
        write("wrapped.json", json.dumps({"data": ROWS})),
        write("lines.json", "\n".join(map(json.dumps, ROWS))),
        write("pretty.json", "\n".join(json.dumps(row, indent=1) for row in ROWS)),
        write("a.ndjson", "\n".join(map(json.dumps, ROWS))),
        write("a.jsonl.gz", gzip.compress("\n".join(map(json.dumps, ROWS)).encode())),
        write("a.json.xz", lzma.compress(json.dumps(ROWS).encode())),
        write("a.csv.bz2", bz2.compress(Path(table).read_bytes())),
        write("a.jsonl.zst", pa.compress(Path(jsonl).read_bytes(), "zstd", asbytes=True)),
    ]
    for source in sources:
        assert [raw.row for raw in read(source).rows] == ROWS, source


@pytest.mark.parametrize(
    ("content", "row"),
    [
        ("id;question, short;answer\n1;2;3\n", {"id": "1", "question, short": "2", "answer": "3"}),
        ('"a, b";c\n1;2\n', {"a, b": "1", "c": "2"}),
        ("a;b,c\n1,2\n", {"a;b": "1", "c": "2"}),
        ("alone\n1;2\n", {"alone": "1;2"}),
    ],
)
def test_what_separates_the_fields_is_seen_from_the_header(write, content, row):
    (raw,) = read(write("a.csv", content)).rows
    assert raw.row == row


def test_no_value_becomes_another_type(write):
    row = {"code": "007", "day": "2024-07-26", "answer": "null", "n": 7}
    assert read(write("a.jsonl", json.dumps(row))).rows[0].row == row
    assert read(write("a.csv", "code,day,answer\n007,2024-07-26,null\n")).rows[0].row == {
        key: row[key] for key in ("code", "day", "answer")
    }


def test_a_byte_order_mark_is_no_part_of_the_first_column(write):
    (raw,) = read(write("a.csv", b"\xef\xbb\xbfprompt,completion\na,b\n")).rows
    (long,) = read(write("long.csv", "text\n" + "x" * 200_000 + "\n")).rows
    assert len(long.row["text"]) == 200_000
    assert raw.row == {"prompt": "a", "completion": "b"}


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.jsonl", "", "has no rows"),
        ("a.jsonl", '{"a": 1}\n\n{"a": \n', "line 3: is not valid JSON"),
        ("a.jsonl", b'{"a": 1}\n{"a": "\xff"}\n', "line 2: is not UTF-8"),
        ("a.json", '{"a": 1}', "must hold a list of objects, not an object"),
        ("a.json", "[" * 100_000, "is not valid JSON"),
        ("a.json", '{"messages": [{"role": "user"}]}', "must hold a list of objects, not an object"),
        ("a.json", '{"train": [{"a": 1}], "test": [{"a": 1}]}', "several lists of rows (`train`, `test`)"),
        ("a.json", '[{"a": 1, "a": 2}]', "an object has the key `a` twice"),
        ("a.csv", "a,b,a\n1,2,3\n", "has two columns `a`; rename one of them"),
        ("a.jsonl.gz", b"no gzip", "cannot be decompressed"),
        ("a.csv", 'a,b\n1,"2\n', "is not valid CSV"),
        ("a.csv", "a,b\n", "has no rows"),
        ("a.parquet", b"PAR1", "is not a readable Parquet file"),
        ("a.txt", "text", "cannot tell the format"),
    ],
)
def test_a_broken_file_is_told(write, name, content, sentence):
    source = write(name, content)
    with pytest.raises(DataError) as error:
        read(source)
    assert str(error.value).startswith(source)
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "content", "number", "wrong"),
    [
        ("a.jsonl", '{"a": 1}\n\n[1]\n{"a": 1}', 3, "must be an object"),
        ("a.json", '[{"a": 1}, 3, {"a": 1}]', 2, "must be an object such as"),
        ("a.jsonl", '{"a": 1}\n{"a": 1, "b": {"c": 1, "c": 2}}\n{"a": 1}', 2, "has the key `c` twice"),
        ("a.csv", "a,b\n1,2\n1,2,3\n1,2\n", 3, "has more fields than the header"),
        ("a.csv", "sep=;\na;b\n1;2\n1;2;3\n1;2\n", 4, "quote fields with semicolons"),
        ("a.csv", 'a,b\n"1\n1",2\n1\n1,2\n', 4, "has fewer fields than the header"),
    ],
)
def test_a_row_that_is_none_is_told_with_its_place_and_the_others_are_read(
    write, name, content, number, wrong
):
    first, bad, last = read(write(name, content)).rows
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
    rows = read(source).rows
    assert [raw.number for raw in rows] == ["a.csv:2", "b.jsonl:2", "c.parquet:1", "c.parquet:2"]
    assert [int(raw.row["a"]) for raw in rows] == [1, 2, 3, 4]
    assert location(source, "b.jsonl:2") == f"{source}/b.jsonl, line 2"
    assert location(source, "c.parquet:1") == f"{source}/c.parquet, row 1"

    before = read(source).fingerprint
    assert (before.rows, before == read(source).fingerprint) == (4, True)
    (tmp_path / "d" / "b.jsonl").rename(tmp_path / "d" / "z.jsonl")
    assert read(source).fingerprint.digest != before.digest
    write("d/z.jsonl", '{"a": \n')
    with pytest.raises(DataError, match=r"d/z\.jsonl, line 1: is not valid JSON"):
        read(source)


def test_a_directory_without_data_is_told(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(DataError, match=r"is a directory without files that end in .jsonl"):
        read(str(tmp_path))


# ---- conversations as JSON text

MESSAGES = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]
SIDES = {
    "prompt": MESSAGES[:1],
    "chosen": MESSAGES[1:],
    "rejected": [{"role": "assistant", "content": "No."}],
}


@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
def test_conversations_that_are_json_text_in_a_column_are_read(tmp_path, name):
    def documents(row, form):
        row = {key: value if isinstance(value, str) else json.dumps(value) for key, value in row.items()}
        if name == "a.parquet":
            pq.write_table(pa.Table.from_pylist([row] * 2), tmp_path / name)
        else:
            with (tmp_path / name).open("w", newline="") as file:
                csv.writer(file).writerows([row, row.values(), row.values()])
        return rows.read("train", str(tmp_path / name), form).documents

    chat, pair = to_document({"messages": MESSAGES}), to_document(SIDES, "pair")
    assert documents({"messages": MESSAGES}, "chat") == [chat] * 2
    assert documents({"messages": repr(MESSAGES)}, "chat") == [chat] * 2  # as pandas writes it
    assert documents({"prompt": MESSAGES[:1], "completion": MESSAGES[1:]}, "chat") == [chat] * 2
    assert documents(SIDES, "pair") == [pair] * 2
    openai = {
        "input": {"messages": MESSAGES[:1]},
        "preferred_output": SIDES["chosen"],
        "non_preferred_output": SIDES["rejected"],
    }
    assert documents(openai, "pair") == [pair] * 2
    plain = {"prompt": "[1, 2]", "completion": '[{"a": 1}]'}
    assert documents(plain, "chat")[0].target == '[{"a": 1}]'


def test_text_in_place_of_a_conversation_is_told(write):
    source = write("a.csv", 'messages\n"[{""role"": ""user"", "\n')
    with pytest.raises(
        DataError, match=r"line 2: `messages` is text that is not JSON .*; write the list of messages"
    ):
        rows.read("train", source, "chat")


def test_a_key_twice_in_json_text_is_told(write):
    source = write("a.jsonl", json.dumps({"messages": '[{"role": "user", "content": "a", "content": "b"}]'}))
    with pytest.raises(DataError, match="`messages` has an object that has the key `content` twice"):
        rows.read("train", source, "chat")


def test_in_json_a_completion_that_looks_like_messages_is_the_text_that_it_is(write):
    source = write("a.jsonl", json.dumps({"prompt": "Write a chat.", "completion": json.dumps(MESSAGES)}))
    assert rows.read("train", source, "chat").documents[0].target == json.dumps(MESSAGES)


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


def test_a_column_that_says_something_of_the_row_stays_beside_a_renamed_one():
    row = {"q": "Why?", "a": "So.", "label": False, "system": "Be brief.", "text": "theirs"}
    (raw,) = rename(raws(row), {"prompt": "q", "completion": "a"}, "x")
    assert raw.row == {"prompt": "Why?", "completion": "So.", "label": False, "system": "Be brief."}


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
        read(source)


def test_a_fingerprint_is_of_the_content(write):
    content = '{"a": 1}\n{"a": 2}\n'
    one, same, other = (
        read(write(name, text)).fingerprint
        for name, text in [("a.jsonl", content), ("b.jsonl", content), ("c.jsonl", content + '{"a": 3}\n')]
    )
    assert one == same != other
    assert (one.rows, one.bytes, other.rows) == (2, len(content), 3)
    assert read("bundled:stdlib-prose").fingerprint == read("bundled:stdlib-prose").fingerprint


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
