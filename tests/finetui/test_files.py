"""Files and directories are written whole or not at all, whatever happens in the middle."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from finetui.files import (
    append_regular,
    open_regular,
    read_json,
    whole_file,
    write_directory,
    write_json,
    write_whole_file,
)

KILLED_IN_THE_MIDDLE = """
import os, signal, sys
from pathlib import Path
from finetui import files

def half(path):
    with path.open("w") as file:
        file.write("half")
        file.flush()
    os.kill(os.getpid(), signal.SIGKILL)

path = Path(sys.argv[1])
if path.suffix:
    with files.whole_file(path) as temporary:
        half(temporary)
else:
    files.write_directory(path, lambda directory: half(directory / "weights"))
"""

DISK_FULL = """
import resource, signal, sys
from pathlib import Path
from finetui.files import write_whole_file

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    write_whole_file(Path(sys.argv[1]), "x" * 5000)
except OSError as error:
    print(error.errno)
"""


def child(script: str, path: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=False
    )


def names(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir()]


def test_a_file_is_written_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_whole_file(path, "größer\n")
    assert path.read_text(encoding="utf-8") == "größer\n"
    write_whole_file(path, b"\x00\xff")
    assert path.read_bytes() == b"\x00\xff"
    write_json(path, {"a": [1, None]})
    assert json.loads(path.read_text()) == {"a": [1, None]}
    assert names(tmp_path) == ["a.txt"]


def write_half(path: Path) -> None:
    with whole_file(path) as temporary:
        temporary.write_text("ha")
        raise RuntimeError("half way")


def test_a_failure_in_the_middle_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"old": True})
    with pytest.raises(TypeError):
        write_json(path, {"new": object()})
    with pytest.raises(RuntimeError, match="half way"):
        write_half(path)
    assert child(DISK_FULL, path).stdout.strip() == "27"  # EFBIG: the write itself failed
    assert json.loads(path.read_text()) == {"old": True}
    assert names(tmp_path) == ["a.json"]


def test_a_kill_in_the_middle_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"old": True})
    assert child(KILLED_IN_THE_MIDDLE, path).returncode == -signal.SIGKILL
    assert json.loads(path.read_text()) == {"old": True}
    assert [name[0] for name in names(tmp_path) if name != "a.json"] == ["."], "hidden, and not taken for it"


def test_a_directory_is_made_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "adapter"

    def fill(text: str) -> None:
        def write(directory: Path) -> None:
            (directory / "inner").mkdir()
            (directory / "inner" / "weights").write_text(text)

        write_directory(path, write)

    fill("old")
    fill("new")
    assert (path / "inner" / "weights").read_text() == "new"
    assert names(tmp_path) == ["adapter"]


def test_a_directory_that_cannot_be_filled_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "adapter"
    write_directory(path, lambda directory: (directory / "weights").touch())

    def fail(directory: Path) -> None:
        (directory / "other").touch()
        raise RuntimeError("no room")

    with pytest.raises(RuntimeError, match="no room"):
        write_directory(path, fail)
    assert names(tmp_path) == ["adapter"]
    assert child(KILLED_IN_THE_MIDDLE, path).returncode == -signal.SIGKILL
    assert [file.name for file in path.iterdir()] == ["weights"]


def test_a_pipe_in_place_of_a_file_is_not_waited_for(tmp_path: Path) -> None:
    pipe, directory = tmp_path / "log", tmp_path / "directory"
    os.mkfifo(pipe)
    directory.mkdir()
    for use in (open_regular, append_regular, read_json):
        with pytest.raises(OSError, match="it is a pipe, not a file"):
            use(pipe)
    with pytest.raises(OSError, match="it is a directory, not a file"):
        open_regular(directory)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with pytest.raises(OSError, match="it is a pipe"):
        append_regular(pipe)
    os.close(reader)


def test_what_is_made_is_its_owners_alone(tmp_path: Path) -> None:
    os.close(append_regular(tmp_path / "log"))
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("text", ["", "{", "[1]", "7", "[" * 100_000])
def test_what_is_no_object_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(ValueError, match=r"."):
        read_json(tmp_path / "run.json")
