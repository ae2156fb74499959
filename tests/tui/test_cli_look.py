"""`finetui watch`, `top` and `plot`: what they show of a home, on a terminal, in a pipe and as files."""

from __future__ import annotations

import json
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable
from datetime import datetime
from fcntl import ioctl
from importlib.metadata import version
from pathlib import Path

import pytest
from made_home import STEPS, Served
from test_cli_ls import finetui

from finetui.errors import ExitCode
from tui.lines import theme
from tui.lines.sparkline import LEVELS, sparkline
from tui.lines.text import width_of

Say = Callable[..., tuple[int, str, str]]
SIZES = [(80, 24), (200, 50)]


@pytest.fixture
def say(served: Served, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Say:
    """Run a command in the made home: exit code, stdout, stderr."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LINES", "24")

    def run(*words: str) -> tuple[int, str, str]:
        code = finetui(served, monkeypatch, *words)
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


class Terminal:
    """A command on a pseudo-terminal: what it writes, and keys for it."""

    def __init__(self, home: Path, words: list[str], columns: int, rows: int) -> None:
        self.master, inner = pty.openpty()
        ioctl(inner, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))
        self.written = ""
        environment = {**os.environ, "FINETUI_HOME": str(home), "TERM": "xterm-256color"}
        for name in ("COLUMNS", "LINES"):
            environment.pop(name, None)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tui.cli", *words], stdin=inner, stdout=inner, stderr=inner,
            env=environment, start_new_session=True, preexec_fn=lambda: ioctl(0, termios.TIOCSCTTY, 0),
        )  # fmt: skip
        self.before = termios.tcgetattr(inner)
        self.inner = inner

    def until(self, *texts: str) -> None:
        deadline = time.monotonic() + 30
        while not all(text in self.written for text in texts):
            assert time.monotonic() < deadline, self.written
            if select.select([self.master], [], [], 0.1)[0]:
                self.written += os.read(self.master, 65536).decode(errors="replace")

    def press(self, key: bytes) -> int:
        """Press a key that ends it; the exit code."""
        os.write(self.master, key)
        code = self.process.wait(timeout=60)
        while select.select([self.master], [], [], 0.1)[0]:
            self.written += os.read(self.master, 65536).decode(errors="replace")
        assert termios.tcgetattr(self.inner)[3] == self.before[3], "the terminal is as it was"
        os.close(self.master)
        os.close(self.inner)
        return code


# ---- the version ---------------------------------------------------------------------------------------


def test_the_version_is_printed_without_a_daemon(
    tmp_path: Path, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, error = say("--readonly", "ls")
    assert code == 2
    assert "open the screen" in " ".join(error.split())
    assert say("--version") == (0, f"finetui {version('finetui')}\n", "")


# ---- watch ---------------------------------------------------------------------------------------------


def test_watch_shows_a_run_with_its_losses_and_how_long_it_takes_yet(say: Say) -> None:
    code, out, _ = say("watch", "3", "--once")
    assert code == ExitCode.OK
    lines = out.splitlines()
    assert lines[0].startswith("#3 docstrings-qlora  ● running")
    assert lines[1].startswith(f"step 236/{STEPS}  59%  ━")
    assert "left" in lines[1]
    assert [line.split()[0] for line in lines[2:5]] == ["train/loss", "heldout/loss", "general/loss"]
    assert set("▁█") <= set(lines[2])
    assert all(width_of(line) < 80 for line in lines)


def test_watch_shows_what_flags_say_whole(say: Say) -> None:
    _, out, _ = say("watch", "1", "--once")
    text = " ".join(out.split())
    assert "⚑ forgetting critical, since step 280: general loss has risen by 0.11 nats per token" in text
    assert "⚑ overfitting warn, since step 200: heldout loss has risen" in text


def test_watch_says_why_a_run_waits_or_has_failed(say: Say) -> None:
    assert "run #3 is running; 1 at a time" in say("watch", "4", "--once")[1]
    code, out, _ = say("watch", "5")
    assert code == ExitCode.FAILED
    assert "train.max_length 4096 is longer than the model's 512" in out


def test_watch_prints_lines_where_there_is_no_terminal_and_ends_with_the_run(say: Say) -> None:
    code, out, err = say("watch", "2")
    assert (code, err) == (ExitCode.OK, "")
    assert out.startswith("#2   docstrings-lora finished  400/400  loss ")
    code, _, err = say("watch", "77")
    assert (code, "there is no run #77" in err) == (ExitCode.REFUSED, True)


def test_watch_for_scripts_is_a_line_a_time(say: Say) -> None:
    code, out, _ = say("watch", "2", "--json")
    assert code == ExitCode.OK
    assert [json.loads(line) for line in out.splitlines()] == [json.loads(say("ls", "--json")[1])[1]]
    waited = say("wait", "2", "5", "--json")
    assert waited[0] == ExitCode.FAILED, "one of them has failed"
    assert [(run["run"], run["state"]) for run in map(json.loads, waited[1].splitlines())] == [
        (2, "finished"),
        (5, "failed"),
    ]


@pytest.mark.parametrize(("columns", "rows"), SIZES)
def test_watch_stays_in_its_place_and_leaves_the_run_alone(served: Served, columns: int, rows: int) -> None:
    served.actions.asked.clear()
    screen = Terminal(served.home.path, ["watch", "3", "--every", "0.1"], columns, rows)
    screen.until("docstrings-qlora", "heldout/loss", "A\x1b[J")
    assert "\x1b[?1049h" not in screen.written, "no alternate screen"
    assert screen.press(b"\x03") == ExitCode.FAILED
    assert "run #3 is left alone; finetui watch 3 shows it again" in screen.written
    assert {name for name, _ in served.actions.asked} <= {"drain", "ping"}


def test_watch_is_ascii_where_the_terminal_is(say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_UNICODE", "1")
    assert say("watch", "1", "--once")[1].isascii()
    assert say("top", "--once")[1].isascii()
    assert say("plot", "1", "2")[1].isascii()
    assert say("ls")[1].isascii()
    assert "|" not in say("ls")[1]
    assert say("examples", "1")[1].isascii()
    assert "-1.652" in say("examples", "1")[1], "a minus is a minus"
    monkeypatch.delenv("NO_UNICODE")
    assert "−1.652" in say("examples", "1")[1], "a pipe has what is written"


# ---- top -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("columns", "rows"), SIZES)
def test_top_shows_hardware_and_what_runs(
    say: Say, monkeypatch: pytest.MonkeyPatch, columns: int, rows: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    code, out, _ = say("top", "--once")
    assert code == ExitCode.OK
    assert "1 running, 1 waiting" in out
    assert "NVIDIA H100" in out
    assert "61.2/80 GB" in out
    assert [line.split()[0] for line in out.splitlines()[-2:]] == ["#3", "#4"], "what runs comes first"
    assert all(width_of(line) < columns for line in out.splitlines())


@pytest.mark.parametrize("key", [b"q", b"\x03"])
def test_top_is_live_until_somebody_leaves(served: Served, key: bytes) -> None:
    screen = Terminal(served.home.path, ["top", "--every", "0.1"], 80, 24)
    screen.until("NVIDIA H100", "s-qlora", "A\x1b[J")
    assert screen.press(key) == ExitCode.OK


def test_top_as_json_has_values_and_runs(say: Say) -> None:
    found = json.loads(say("top", "--json")[1])
    assert found["hardware"]["gpu0/util"] == 93.0
    assert found["devices"] == {"gpu0": "NVIDIA H100"}
    assert [run["run"] for run in found["runs"]] == [3, 4]
    listed = [run for run in json.loads(say("ls", "--json")[1]) if run["run"] in (3, 4)]
    shown = json.loads(say("show", "3", "--json")[1])
    for run, same in zip(found["runs"], listed, strict=True):
        assert run.keys() == same.keys() <= shown.keys(), "a run has one shape"
    compared = json.loads(say("compare", "3", "1", "--json")[1])["results"]
    assert all(listed[0].keys() <= run.keys() for run in compared)
    created = datetime.fromisoformat(shown["created_at"])
    assert created.utcoffset() is not None
    assert created.timestamp() == shown["created"]


# ---- plot ----------------------------------------------------------------------------------------------


def test_plot_draws_runs_in_the_order_they_are_named(say: Say) -> None:
    code, out, _ = say("plot", "2", "1", "--key", "heldout/loss")
    lines = out.splitlines()
    assert code == ExitCode.OK
    assert lines[0] == "heldout/loss"
    assert lines[1].split()[:5:3] == ["●", "■"]
    assert lines[1].split()[1:5:3] == ["#2", "#1"]
    assert lines[-2:] == ["#2 docstrings-lora", "#1 docstrings-full"]
    assert all(width_of(line) < 80 for line in lines)
    assert len(say("plot", "2", "--height", "8", "--width", "40")[1].splitlines()) == 1 + 8 + 1


def test_plot_as_svg_has_the_points_of_the_store(say: Say, tmp_path: Path) -> None:
    path = tmp_path / "loss.svg"
    assert say("plot", "1", "2", "-k", "general/loss", "--svg", str(path)) == (
        0,
        "",
        f"the chart is in {path}\n",
    )
    root = ET.fromstring(path.read_text())
    texts = [one.text or "" for one in root.iter("{http://www.w3.org/2000/svg}text")]
    assert texts[0] == "general/loss"
    assert {"#1 docstrings-full", "#2 docstrings-lora"} <= {text.split("  ")[0] for text in texts}
    assert texts.count("flag") == 1, "general text was forgotten by one of them"
    lines = [one.get("points", "").split() for one in root.iter("{http://www.w3.org/2000/svg}polyline")]
    curves = [[tuple(map(float, point.split(","))) for point in line] for line in lines if len(line) == 11]
    assert len(curves) == 2, "an evaluation each 40 of 400 steps, for both"
    for curve in curves:
        assert [x for x, _ in curve] == pytest.approx([70 + at * 87 for at in range(11)], abs=0.1)
        heights = [y for _, y in curve]
        assert heights == sorted(heights, reverse=True), "the loss rises, as SVG counts from the top"


def test_plot_as_png_is_a_picture_with_both_colours(say: Say, tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    path = tmp_path / "loss.png"
    assert say("plot", "1", "2", "--png", str(path))[0] == 0
    with image.open(path) as picture:
        assert picture.size == (1920, 1080)
        colours = {colour for _, colour in picture.convert("RGB").getcolors(1 << 24)}
    assert {(0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00)} <= colours


def test_plot_as_png_needs_pillow_and_says_so(
    say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tui.widgets.picture.find_spec", lambda name: None)
    code, _, err = say("plot", "1", "--png", str(tmp_path / "loss.png"))
    assert code == ExitCode.REFUSED
    assert "pip install 'finetui[png]'" in err
    assert not list(tmp_path.iterdir())


def test_plot_as_json_has_points(say: Say) -> None:
    found = json.loads(say("plot", "1", "-k", "heldout/loss", "--json")[1])
    (points,) = found["series"]
    assert (found["key"], points["run"]) == ("heldout/loss", 1)
    assert found["runs"] == json.loads(say("ls", "--json")[1])[:1]
    assert points["step"] == list(range(0, STEPS + 1, 40))
    assert all(
        low < value < high
        for low, value, high in zip(points["low"], points["value"], points["high"], strict=True)
    )


def test_plot_says_what_is_not_there(say: Say) -> None:
    code, _, err = say("plot", "1", "-k", "heldout/los")
    assert (code, "#1 has no heldout/los; there is heldout/loss" in err) == (ExitCode.REFUSED, True)
    code, out, err = say("plot", "1", "4")
    assert (code, err) == (ExitCode.OK, "#4 has no train/loss\n")
    assert "#1" in out


# ---- a curve in one line ---------------------------------------------------------------------------------


def test_a_sparkline_is_as_high_as_its_values() -> None:
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7], 8) == "▁▂▃▄▅▆▇█"
    assert len(set(theme.to_ascii(LEVELS))) == len(LEVELS), "each level is another in ASCII, too"
    assert sparkline([0.5, 2.0, -1.0], 3, (0.0, 1.0)) == "▅█▁"
    assert sparkline([1.0, float("nan"), 2.0], 3) == "▁ █"
    assert sparkline([3.0, 3.0], 2) == "▅▅"
    assert sparkline(list(range(1000)), 4) == "▁▃▆█"
    assert sparkline([], 5) == ""
