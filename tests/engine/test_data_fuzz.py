"""Whatever stands in a file or a row: it is read, or one sentence says why not."""

from __future__ import annotations

import csv
import gzip
import io
import json
import random
from typing import Any

from engine.basics.errors import DataError
from engine.data.fields import Fields
from engine.data.formats import Form, to_document
from engine.data.json_text import parse_json_text
from engine.data.readers import parse

FILES, ROWS = 600, 3000
FORMS: tuple[Form, ...] = ("chat", "pair", "label", "text", "general")
QUESTION, ANSWER = {"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}
OTHER = {"from": "gpt", "value": "No."}
GOOD: list[dict[str, Any]] = [
    {"messages": [QUESTION, ANSWER], "system": "Be brief.", "label": True},
    {"prompt": "Why?", "completion": "So.", "history": [["Well?", "Ask."]]},
    {"instruction": "Why?", "input": "Now", "output": "So."},
    {"conversations": [QUESTION, OTHER], "kto_tag": "true"},
    {"prompt": "Why?", "chosen": "So.", "rejected": "No."},
    {"chosen": [QUESTION, ANSWER], "rejected": [QUESTION, OTHER]},
    {"input": {"messages": [QUESTION]}, "preferred_output": [ANSWER], "non_preferred_output": [OTHER]},
    {"text": "Fine.", "label": "good"},
]
ODD = [
    None,
    "",
    0,
    1.5,
    True,
    [],
    {},
    [[]],
    [{}],
    "[",
    '[{"role"',
    [1],
    {"a": 1},
    "false",
    [["a"]],
    [[1, 2]],
    OTHER,
]
ODD += [
    [QUESTION],
    json.dumps([QUESTION, ANSWER]),
    repr([QUESTION, ANSWER]),
    float("nan"),
    "\ud800",
    ["\udfff"],
]
PIECES = [b'"', b"\n", b";", b",", b"{", b"[", b"]", b"\\ud800", b"null", b"\0", b"\t", b"1e999", b"\xff"]


def files() -> dict[str, bytes]:
    table = io.StringIO()
    csv.writer(table, delimiter=";").writerows(
        [["messages", "label"], *[[json.dumps([QUESTION, ANSWER]), "x"]] * 3]
    )
    lines = "\n".join(map(json.dumps, GOOD)).encode()
    wrapped = json.dumps({"version": 1, "data": GOOD}).encode()
    text = table.getvalue().encode()
    return {
        "a.jsonl": lines,
        "a.json": wrapped,
        "a.csv": text,
        "a.tsv": text.replace(b";", b"\t"),
        "a.jsonl.gz": gzip.compress(lines),
    }


def documents(row: Any, columnar: bool, refusals: list[str]) -> int:
    """In how many forms a row is read; the reasons why it is not are added to `refusals`."""
    read = 0
    for form in FORMS:
        try:
            read += bool(to_document(Fields(parse_json_text(row, columnar)), form))
        except DataError as error:
            refusals.append(str(error))
    return read


def test_files_with_bytes_changed() -> None:
    chance, given, read = random.Random(0), files(), 0
    refused_files, refused_rows = list[str](), list[str]()
    for _ in range(FILES):
        name = chance.choice(list(given))
        content = bytearray(given[name])
        for _ in range(chance.randint(1, 4)):
            at = chance.randrange(len(content))
            content[at : at + chance.choice([0, 1, 20])] = chance.choice(PIECES)
        try:
            found = parse(bytes(content), name).rows
        except DataError as error:
            refused_files.append(str(error))
        else:
            read += sum(documents(raw.row, raw.columnar, refused_rows) for raw in found)
    assert all(sentence.startswith("a.") for sentence in refused_files)
    assert not [sentence for sentence in refused_files + refused_rows if "\n" in sentence]
    assert len(refused_files) > FILES / 10
    assert read > FILES


def test_rows_with_values_changed() -> None:
    chance, read, refusals = random.Random(1), 0, list[str]()
    keys = sorted({key for row in GOOD for key in row} | {"images"})
    for _ in range(ROWS):
        row = chance.choice(GOOD) | {
            chance.choice(keys): chance.choice(ODD) for _ in range(chance.randint(1, 3))
        }
        read += documents(row, chance.random() < 0.5, refusals)
    assert not [sentence for sentence in refusals if "\n" in sentence]
    assert read > ROWS / 10
