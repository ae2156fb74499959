"""The same file is the same data, whether it is read from disk or through a hub id."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.data.sources import location, read

# What the readers of `datasets` make another thing of: digits with a number among them, a date, null as text, a key
# that comes late.
ROWS: list[dict[str, Any]] = [
    {"prompt": "007", "completion": "2024-07-26"},
    {"prompt": "8", "completion": "null", "n": "12"},
    {"prompt": "2024-07-27", "completion": "1e3", "n": 12, "late": {"key": [1, "a"]}},
]
TEXTS = [{key: row[key] for key in ("prompt", "completion")} for row in ROWS]

READS = """
import json, os, sys
from pathlib import Path
import fake_hub

def content(source):
    try:
        content = read(source)
    except DataError as error:
        return str(error)
    rows = [(raw.number, raw.row, raw.columnar) for raw in content.rows]
    return rows, content.fingerprint.digest, content.fingerprint.bytes

with fake_hub.serving(Path(sys.argv[1])) as address:
    os.environ["HF_ENDPOINT"] = address  # before the hub's libraries are imported
    from engine.basics.errors import DataError
    from engine.data.sources import read

    print(json.dumps({name: content(f"org/{name}") for name in sys.argv[2:]}))
"""


def files_of_the_hub(root: Path) -> None:
    def write(name: str, text: str) -> Path:
        path = root / "org" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    lines = "".join(json.dumps(row) + "\n" for row in ROWS)
    write("lines/train.jsonl", lines)
    write("lines/test.jsonl", "not read")
    write("list/data.json", json.dumps({"data": ROWS}))
    write(
        "parts/README.md",
        "---\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n"
        "    path: [b.jsonl, sub/a.jsonl]\n---\n",
    )
    for name in ("b.jsonl", "sub/a.jsonl", "c.jsonl"):
        write(f"parts/{name}", lines)
    with write("table/train.csv", "").open("w", newline="") as file:
        csv.writer(file, delimiter=";").writerows([TEXTS[0], *(row.values() for row in TEXTS)])
    write("parquet/README.md", "Texts.")
    pq.write_table(pa.Table.from_pylist(TEXTS), root / "org" / "parquet" / "train.parquet")
    write(
        "settings/README.md",
        "---\nconfigs:\n- config_name: default\n  data_files: x.csv\n  names: [prompt, completion]\n---\n",
    )
    write("settings/x.csv", "1,2\n")
    write("untrained/test.jsonl", lines)
    write("broken/train.jsonl", lines + "{")


NAMES = ("lines", "list", "parts", "table", "parquet", "settings", "untrained", "broken", "gone")


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The directory of the files, and what is read of them; `offline`: afterwards, without the hub."""
    root = tmp_path_factory.mktemp("hub")
    files_of_the_hub(root / "served")

    def reads(*names: str, offline: bool) -> dict[str, Any]:
        environment = {**os.environ, "HF_HOME": str(root / "home"), "XDG_CACHE_HOME": str(root / "cache")}
        environment |= {
            "PYTHONPATH": os.pathsep.join(["tests/engine", "."]),
            "HF_HUB_OFFLINE": str(int(offline)),
        }
        command = [sys.executable, "-c", READS, str(root / "served"), *names]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            env=environment,
            cwd=Path(__file__).parents[2],
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return root / "served" / "org", reads(*NAMES, offline=False) | {
        "offline": reads("lines", "list", offline=True)
    }


@pytest.mark.parametrize(
    ("name", "file"), [("lines", "train.jsonl"), ("list", "data.json"), ("table", "train.csv")]
)
def test_json_and_csv_of_the_hub_are_what_the_file_is(
    hub: tuple[Path, dict[str, Any]], name: str, file: str
) -> None:
    served, found = hub
    local = read(str(served / name / file))
    rows, digest, size = found[name]
    assert (
        [row for _, row, _ in rows] == [raw.row for raw in local.rows] == (TEXTS if name == "table" else ROWS)
    )
    assert [columnar for _, _, columnar in rows] == [raw.columnar for raw in local.rows]
    assert [number for number, _, _ in rows] == [f"{file}:{raw.number}" for raw in local.rows]
    assert (digest, size) == (local.fingerprint.digest, local.fingerprint.bytes)


def test_the_readme_says_which_files_are_read(hub: tuple[Path, dict[str, Any]]) -> None:
    rows, _, _ = hub[1]["parts"]
    assert [row for _, row, _ in rows] == ROWS * 2
    assert [number for number, _, _ in rows][2:4] == ["b.jsonl:3", "sub/a.jsonl:1"]
    assert location("org/parts", "sub/a.jsonl:1") == "org/parts/sub/a.jsonl, line 1"


def test_parquet_goes_through_datasets(hub: tuple[Path, dict[str, Any]]) -> None:
    rows, digest, size = hub[1]["parquet"]
    assert [(number, row, columnar) for number, row, columnar in rows] == [
        (number, row, True) for number, row in enumerate(TEXTS, start=1)
    ]
    assert digest
    assert size > 0


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        (
            "settings",
            "org/settings: its README sets `names` for its files, which finetui does not read; download",
        ),
        ("untrained", "org/untrained: has no split `train`; it has `test`"),
        ("broken", "org/broken/train.jsonl, line 4: is not valid JSON"),
        ("gone", "org/gone: no such file, and it cannot be loaded from the hub"),
    ],
)
def test_what_cannot_be_read_is_told(hub: tuple[Path, dict[str, Any]], name: str, sentence: str) -> None:
    assert hub[1][name].startswith(sentence)
    assert "\n" not in hub[1][name]


def test_what_was_read_once_is_read_again_without_the_hub(hub: tuple[Path, dict[str, Any]]) -> None:
    assert hub[1]["offline"] == {name: hub[1][name] for name in ("lines", "list")}
