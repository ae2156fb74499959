"""`finetui snapshot`, `export-store` and `export-curves`: the store for other programs, read by their own libraries."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import made_home
import pyarrow as pa
import pytest
from made_home import NOW, Served
from test_cli_ls import finetui

from engine.curves.event_file import EventFile
from engine.curves.wandb_file import WandbFile
from engine.queue.snapshots import Snapshots
from engine.runs.home import RunDir
from finetui.errors import ExitCode, StoreError
from finetui.home import Home
from finetui.lock import Lock
from finetui.log import LogWriter
from finetui.start import ROOT
from store import export_list
from store.batch import forget_run


@pytest.fixture
def doors(tmp_path: Path) -> Any:
    """A home of its own, whose daemon answers as far as copies go."""
    home = Home(tmp_path / "h")
    made_home.fill(home)
    with made_home.served(home) as running:
        snapshots = Snapshots(running.projection)
        running.actions.answer = lambda name, body: snapshots.ask(body) if name == "snapshot" else {}
        yield running


def test_a_snapshot_is_whole_and_replaces_nothing_unasked(
    doors: Served, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "out.duckdb"
    assert finetui(doors, monkeypatch, "snapshot", str(file)) == 0
    said = capsys.readouterr()
    assert said.out == f"{file}\n"
    assert "MiB, as of 20" in said.err
    before = file.read_bytes()
    with duckdb.connect() as other:  # as `duckdb` does it: attached to a session with another file
        other.execute(f"ATTACH '{file}' AS finetui (READ_ONLY); USE finetui")
        assert other.execute("SELECT count(*) FROM runs").fetchone() == (5,)
        assert other.execute("SELECT count(*) FROM curve(1, 'train/loss')").fetchone() == (200,)
        assert other.execute("SELECT count(*) FROM leaderboard").fetchone() == (3,)
    assert finetui(doors, monkeypatch, "snapshot", str(file)) == ExitCode.REFUSED
    assert f"{file} is there already, written " in capsys.readouterr().err
    assert file.read_bytes() == before
    assert finetui(doors, monkeypatch, "snapshot", str(file), "--force", "--json") == 0
    made = json.loads(capsys.readouterr().out)
    assert made["bytes"] == file.stat().st_size
    assert datetime.fromisoformat(made["taken_at"]).timestamp() == int(made["taken"])
    store = str(doors.home.store)
    assert finetui(doors, monkeypatch, "snapshot", store, "--force") == ExitCode.REFUSED
    assert "is the database itself" in capsys.readouterr().err
    assert not list(tmp_path.glob(".*")), "nothing is left beside it"


def test_a_snapshot_that_nobody_waits_for_is_given_up(
    doors: Served, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stopping = Snapshots(doors.projection)  # of a daemon that ends
    stopping.halt()
    body = {"path": str(tmp_path / "out.duckdb"), "id": "a", "wait_s": 10.0}
    with pytest.raises(StoreError, match=r"out\.duckdb was not written: the daemon stops"):
        stopping.ask(body)
    monkeypatch.setattr("engine.queue.snapshots.LEFT_S", -1.0)
    with pytest.raises(StoreError, match=r"out\.duckdb was not written: nobody waited for it"):
        doors.actions("snapshot", body)
    assert not (tmp_path / "out.duckdb").exists()
    with pytest.raises(StoreError, match=r"`path` has to be an absolute path, not 'out.duckdb'"):
        doors.actions("snapshot", {**body, "path": "out.duckdb"})


def test_the_store_as_parquet_is_read_by_duckdb_and_arrow(
    doors: Served, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder = tmp_path / "lake"
    assert finetui(doors, monkeypatch, "export-store", str(folder)) == 0
    assert capsys.readouterr().out == f"{folder}\n"
    with doors.connect() as client:
        in_store = client.query(
            "SELECT run, count(*) AS n, sum(value) AS total FROM metrics GROUP BY ALL ORDER BY ALL"
        )
    with duckdb.connect() as other:
        metrics = f"read_parquet('{folder}/metrics/*/*.parquet', hive_partitioning = true)"
        sql = f"SELECT run::INTEGER AS run, count(*) AS n, sum(value) AS total FROM {metrics} GROUP BY ALL ORDER BY ALL"
        rows = other.execute(sql).fetchall()
        assert [row[:2] for row in rows] == [(row["run"], row["n"]) for row in in_store.to_pylist()]
        assert [row[2] for row in rows] == pytest.approx(in_store["total"].to_pylist())
        sql = f"SELECT typeof(created), epoch(created) FROM '{folder}/runs.parquet' WHERE run = 1"
        assert other.execute(sql).fetchone() == ("TIMESTAMP WITH TIME ZONE", NOW - 4000)
    import pyarrow.dataset  # with pandas: not in every process that collects tests

    arrow = pyarrow.dataset.dataset(folder / "metrics", partitioning="hive")
    assert arrow.schema.field("t").type == pa.timestamp("us", "UTC")
    assert arrow.schema.field("run").type == pa.int32()
    loss = (pyarrow.dataset.field("run") == 2) & (pyarrow.dataset.field("key") == "train/loss")
    assert arrow.to_table(filter=loss).num_rows == 200
    days = pyarrow.dataset.dataset(folder / "system_metrics", partitioning="hive").to_table().to_pylist()
    assert {row["day"] for row in days} == {f"{datetime.fromtimestamp(NOW, UTC):%Y-%m-%d}"}


def test_an_export_again_writes_what_has_changed_alone(
    doors: Served, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder = tmp_path / "lake"
    before: dict[Path, tuple[int, int]] = {}

    def changed() -> set[str]:
        """The files that another export has written or removed."""
        assert finetui(doors, monkeypatch, "export-store", str(folder), "--json") == 0
        said = json.loads(capsys.readouterr().out)
        stats = {path: path.stat() for path in folder.rglob("*.parquet")}
        now = {
            path: (stat.st_ino, stat.st_ctime_ns) for path, stat in stats.items()
        }  # numbers are used again
        assert said["written"] + said["unchanged"] == len(now)
        paths = {str(path.relative_to(folder)) for path, _ in now.items() ^ before.items()}
        before.clear()
        before.update(now)
        return paths

    assert {"runs.parquet", "metrics/run=1/data.parquet", "evals/run=3/data.parquet"} < changed()
    assert changed() == set()
    log = LogWriter(RunDir(doors.home.runs / "000003-docstrings-qlora").attempt(1).events, "worker", 3, 1)
    log.write("metrics", step=238, values={"train/loss": 1.25}, t=NOW)
    log.close()
    doors.look()
    assert changed() == {
        "metrics/run=3/data.parquet", "run_summary.parquet", "attempts.parquet", "runs.parquet",
    }  # fmt: skip
    with doors.projection.write() as cursor:
        forget_run(cursor, 2)
    (folder / "metrics" / "run=1" / "data.parquet").unlink()
    again = changed()
    assert "metrics/run=1/data.parquet" in again, "one that somebody has removed is written again"
    assert {path for path in again if "run=2" in path} == {
        f"{table}/run=2/data.parquet" for table in ("metrics", "evals", "eval_examples", "events", "samples")
    }
    assert not list(folder.rglob("run=2")), "nothing stays of a run that is removed"
    assert {path.name for path in folder.glob("*") if path.name[0] in "._"} == {
        ".finetui.lock",
        "_finetui.json",
    }


def test_a_folder_that_is_no_export_of_this_home_is_left_alone(
    doors: Served, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (mine := tmp_path / "mine").mkdir()
    (mine / ".runs.parquet.1.tmp").touch()
    assert finetui(doors, monkeypatch, "export-store", str(mine)) == ExitCode.REFUSED
    assert f"{mine} is not empty, and no export of finetui" in capsys.readouterr().err
    assert [path.name for path in mine.iterdir()] == [".runs.parquet.1.tmp"]
    (other := tmp_path / "other").mkdir()
    export_list.take(other, "/another/home")
    assert finetui(doors, monkeypatch, "export-store", str(other)) == ExitCode.REFUSED
    assert "is the export of another home, /another/home" in capsys.readouterr().err
    ours = tmp_path / "ours"
    ours.mkdir()
    export_list.take(ours, str(doors.home.path))
    holder = Lock(ours / export_list.LOCK)
    assert holder.acquire()
    assert finetui(doors, monkeypatch, "export-store", str(ours)) == ExitCode.REFUSED
    assert f"another export is writing {ours}" in capsys.readouterr().err
    holder.release()


@pytest.mark.parametrize(
    ("form", "reader", "pattern"),
    [
        ("tensorboard", EventFile, "000001-docstrings-full/events.out.tfevents.*"),
        ("wandb", WandbFile, "wandb/offline-run-*/run-00000000-0000-0000-0000-000000000001.wandb"),
    ],
)
def test_curves_are_read_back_from_what_other_libraries_write(
    served: Served,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    form: str,
    reader: Any,
    pattern: str,
) -> None:
    words = ("export-curves", "1", f"--{form}", str(tmp_path))
    assert finetui(served, monkeypatch, *words, "--json") == 0
    (made,) = json.loads(capsys.readouterr().out)
    (path,) = tmp_path.glob(pattern)
    assert Path(made["path"]) == path.parent
    with served.connect() as client:
        rows = client.query("SELECT step, key, value FROM metrics WHERE run = 1").to_pylist()
    read = {(point.step, point.name): point.value for point in reader(path).read().points}
    assert len(rows) == len(read) == made["points"] > 1000
    assert [read[row["step"], row["key"]] for row in rows] == pytest.approx(
        [row["value"] for row in rows], rel=1e-6, nan_ok=True
    )
    assert finetui(served, monkeypatch, *words) == ExitCode.REFUSED
    assert f"{path.parent} is there already; --force replaces it" in capsys.readouterr().err
    assert len([*tmp_path.rglob("*.wandb"), *tmp_path.rglob("*tfevents*")]) == 1, "nothing is left beside it"


def test_curves_of_a_run_without_any_or_without_a_form_are_refused(
    served: Served, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert (
        finetui(served, monkeypatch, "export-curves", "4", "--tensorboard", str(tmp_path)) == ExitCode.REFUSED
    )
    assert "run #4 has logged nothing yet" in capsys.readouterr().err
    assert (
        finetui(served, monkeypatch, "export-curves", "99", "--tensorboard", str(tmp_path))
        == ExitCode.REFUSED
    )
    assert "there is no run #99" in capsys.readouterr().err
    assert finetui(served, monkeypatch, "export-curves", "1") == ExitCode.USAGE
    monkeypatch.setitem(sys.modules, "tensorboard.summary.writer.event_file_writer", None)
    assert (
        finetui(served, monkeypatch, "export-curves", "1", "--tensorboard", str(tmp_path)) == ExitCode.REFUSED
    )
    assert "TensorBoard is not installed: pip install tensorboard" in capsys.readouterr().err


def test_the_notebook_of_the_docs_runs(
    doors: Served, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """By the script that made its outputs; Jupyter itself would be forty packages more."""
    monkeypatch.setenv("FINETUI_HOME", str(doors.home.path))
    source, target = ROOT / "docs" / "notebook.ipynb", tmp_path / "notebook.ipynb"
    command = [sys.executable, str(ROOT / "scripts" / "notebook.py"), str(source), str(target)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    before, after = (json.loads(path.read_text())["cells"] for path in (source, target))
    kinds = [
        [[one["output_type"] for one in cell.get("outputs", [])] for cell in cells]
        for cells in (before, after)
    ]
    assert kinds[0] == kinds[1], "its outputs are those of its cells"
    printed = target.read_text()
    for words in ("docstrings-qlora", "datetime64[us, UTC]", "JST", "only the first 2 of", "heldout_best"):
        assert words in printed
    with duckdb.connect(str(tmp_path / "out.duckdb"), read_only=True) as other:
        assert other.execute("SELECT count(*) FROM runs").fetchone() == (5,)
