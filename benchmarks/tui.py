"""What the screen costs, beside a bare Textual app and W&B LEET, in one go on one machine.

    python -m benchmarks.tui [--only ls paint bytes keys many] [--hour 60] [--leet VERSION]

Programs run in pseudo-terminals of 160x50. finetui's is the real command, over a home that the real store serves in
another process; LEET comes from the registry, into an environment of this benchmark's own, and reads files that wandb
writes meanwhile. Both watch the same eight runs, each with the same three metrics ten times a second, in a table, three
charts with eight curves, and the details of one run. "Bare" is a Textual app with one line of text.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.tui_terminal import Terminal

ROOT = Path(__file__).parent.parent
FINETUI = str(Path(sys.executable).with_name("finetui"))
LEET = "0.31.0"
LIVE = 8
LINK = 50_000  # bytes a second
POOLED_S = 0.12  # that `ls` takes at the most where the pool runs it
BARE = """
from textual.app import App
from textual.widgets import Static
class Bare(App):
    def compose(self):
        yield Static("painted")
Bare().run()
"""
DOWN, UP = b"\x1b[B", b"\x1b[A"
# The background of the line under the cursor, which nothing else is painted with.
CURSOR = {"finetui": b"48;2;35;42;59", "LEET": b"48;2;252;188;50"}


@contextmanager
def load(python: str, kind: str, folder: Path, **options: int) -> Iterator[None]:
    """Runs that log, in a process of their own, from when they have begun."""
    words = [python, "-m", "benchmarks.tui_load", kind, str(folder)]
    words += [word for name, value in options.items() for word in (f"--{name}", str(value))]
    env = {**os.environ, "WANDB_SILENT": "true", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(words, cwd=ROOT, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        for line in process.stdout:
            if line.strip() == b"ready":
                break
        yield
        process.stdin.close()
        process.wait(60)
    finally:
        process.kill()
        process.wait()


@contextmanager
def shown(words: list[str], env: dict[str, str], rate: int | None = None) -> Iterator[Terminal]:
    terminal = Terminal(words, env, rate=rate)
    try:
        yield terminal
    finally:
        terminal.close()


class Rival:
    """LEET in an environment of its own, with three charts, as many as finetui's first screen has."""

    def __init__(self, scratch: Path, version: str) -> None:
        self.folder = scratch / "wandb-runs"
        self.folder.mkdir()
        environment = scratch / "leet"
        subprocess.run([sys.executable, "-m", "venv", environment], check=True)
        self.python = str(environment / "bin" / "python")
        subprocess.run([self.python, "-m", "pip", "install", "-q", f"wandb=={version}"], check=True)
        settings = scratch / "wandb-settings"
        settings.mkdir()
        grid = {"workspace_metrics_grid": {"rows": 1, "cols": 3}, "metrics_grid": {"rows": 1, "cols": 3}}
        (settings / "wandb-leet.json").write_text(json.dumps(grid))
        self.env = {"WANDB_CONFIG_DIR": str(settings)}
        self.words = [str(environment / "bin" / "wandb"), "leet", str(self.folder / "wandb")]


def ours(home: Path) -> tuple[list[str], dict[str, str]]:
    return [FINETUI], {"FINETUI_HOME": str(home)}


def mark_live(terminal: Terminal) -> None:
    """All runs that log are drawn, and no other; the cursor stands on one that does not."""
    terminal.read(5)
    for key in (b"M", b"g", b" ", b"j", b" ", b"g"):
        terminal.press(key)
        terminal.read(1)


def select_live(terminal: Terminal) -> None:
    """The same in LEET, which has drawn the first."""
    terminal.read(5)
    for _ in range(LIVE - 1):
        for key in (DOWN, b" "):
            terminal.press(key)
            terminal.read(0.5)


# ---- what is measured ----------------------------------------------------------------------------


def measure_ls(scratch: Path, rounds: int) -> None:
    """`finetui ls` of ten runs beside `python -c pass`, in turn: a daemon is up, without and with its pool."""
    home = scratch / "ls"
    with load(sys.executable, "finetui", home):
        compare_ls("no pool", home, rounds)
    env = {**os.environ, "FINETUI_HOME": str(home)}
    try:
        for _ in range(60):  # the daemon starts, and then the pool
            begun = time.perf_counter()
            subprocess.run([FINETUI, "ls"], env=env, check=True, stdout=subprocess.DEVNULL)
            if time.perf_counter() - begun < POOLED_S:
                break
            time.sleep(0.5)
        compare_ls("pool", home, rounds)
    finally:
        subprocess.run([FINETUI, "daemon", "stop"], env=env, check=False, stdout=subprocess.DEVNULL)


def compare_ls(name: str, home: Path, rounds: int) -> None:
    env = {**os.environ, "FINETUI_HOME": str(home)}
    times: dict[str, list[float]] = {"pass": [], "ls": []}
    for _ in range(rounds):
        for program, words in (("pass", [sys.executable, "-c", "pass"]), ("ls", [FINETUI, "ls"])):
            begun = time.perf_counter()
            subprocess.run(words, env=env, check=True, stdout=subprocess.DEVNULL)
            times[program].append(time.perf_counter() - begun)
    nothing, listed = (statistics.median(times[program]) for program in ("pass", "ls"))
    say(
        f"finetui ls, {name}", f"{listed:.3f} s, python -c pass {nothing:.3f} s, ratio {listed / nothing:.1f}"
    )


def measure_paint(scratch: Path, rival: Rival | None, rounds: int) -> None:
    """Seconds from the start of a program to its first text, in turn."""
    home = scratch / "paint"
    programs: dict[str, tuple[list[str], dict[str, str], bytes]] = {
        "bare": ([sys.executable, "-c", BARE], {}, b"painted"),
        "finetui": (*ours(home), b"Runs"),
    }
    if rival:
        programs["LEET"] = (rival.words, rival.env, b"Runs")
        with load(rival.python, "wandb", rival.folder, live=LIVE):
            pass
    times: dict[str, list[float]] = {name: [] for name in programs}
    with load(sys.executable, "finetui", home, live=0):
        for _ in range(rounds):
            for name, (words, env, word) in programs.items():
                with shown(words, env) as terminal:
                    terminal.read_until(word, 30)
                    times[name].append(time.perf_counter() - terminal.started)
    medians = {name: statistics.median(values) for name, values in times.items()}
    said = ", ".join(f"{name} {value:.3f} s" for name, value in medians.items())
    say("first paint", f"{said}, finetui / bare {medians['finetui'] / medians['bare']:.2f}")


def measure_bytes(scratch: Path, rival: Rival | None, seconds: int) -> None:
    """Bytes a second to the terminal: eight runs drawn, then nothing going on."""
    means: dict[str, list[float]] = {"finetui": [], "LEET": []}
    for name in ("finetui", "LEET", "finetui", "LEET"):
        if name == "LEET" and not rival:
            continue
        with watched(scratch, name, rival) as terminal:
            counts = terminal.bytes_per_second(seconds)
            say(f"{LIVE} runs at 10 Hz, {name}", f"{spread(counts)} B/s")
            means[name].append(statistics.mean(counts))
    if rival:
        ratio = statistics.mean(means["finetui"]) / statistics.mean(means["LEET"])
        say("bytes, finetui / LEET", f"{ratio:.2f} (of the means)")
    home = scratch / "idle"
    with load(sys.executable, "finetui", home, live=0), shown(*ours(home)) as terminal:
        terminal.read(8)
        say("idle, finetui", f"{sum(terminal.bytes_per_second(seconds))} bytes in {seconds} s")
    if rival:
        with shown(rival.words, rival.env) as terminal:
            terminal.read(20)
            say("idle, LEET", f"{sum(terminal.bytes_per_second(seconds))} bytes in {seconds} s")


def measure_keys(scratch: Path, rival: Rival | None, presses: int) -> None:
    """Milliseconds from a key that moves the cursor until it is seen there, while eight runs log."""
    for rate in (None, LINK):
        for name in ("finetui", "LEET") if rival else ("finetui",):
            with watched(scratch, name, rival, rate=rate) as terminal:
                line = f" at {rate // 1000} KB/s" if rate else ""
                say(f"key to paint{line}, {name}", keys(terminal, presses, CURSOR[name]))


@contextmanager
def watched(scratch: Path, name: str, rival: Rival | None, rate: int | None = None) -> Iterator[Terminal]:
    """A program with eight runs under way drawn in it."""
    folder = Path(tempfile.mkdtemp(prefix="home-", dir=scratch))
    if name == "finetui":
        with load(sys.executable, "finetui", folder, live=LIVE), shown(*ours(folder), rate=rate) as terminal:
            mark_live(terminal)
            yield terminal
        return
    assert rival is not None
    words = [*rival.words[:-1], str(folder / "wandb")]
    with load(rival.python, "wandb", folder, live=LIVE), shown(words, rival.env, rate=rate) as terminal:
        select_live(terminal)
        yield terminal


def keys(terminal: Terminal, presses: int, shows: bytes) -> str:
    times = []
    for at in range(presses):
        terminal.read(0.12)
        times.append(terminal.after_key(UP if at % 2 else DOWN, shows))
    seen = sorted(took for took in times if took is not None)
    worst = statistics.quantiles(seen, n=100)[98]
    lost = f", {len(times) - len(seen)} not seen" if len(seen) < len(times) else ""
    return f"median {statistics.median(seen):.0f} ms, p99 {worst:.0f} ms ({len(seen)} keys{lost})"


def measure_many(scratch: Path, presses: int) -> None:
    """The same with many finished runs in the table."""
    for old in (10_000, 100_000):
        home = scratch / f"many-{old}"
        with load(sys.executable, "finetui", home, live=LIVE, old=old), shown(*ours(home)) as terminal:
            terminal.read_until(f"#{old + LIVE + 2}".encode(), 60)
            listed = time.perf_counter() - terminal.started
            terminal.read(5)
            terminal.press(b"g")
            terminal.read(1)
            moved = keys(terminal, presses, CURSOR["finetui"])
            say(
                f"{old:,} runs",
                f"in the table after {listed:.2f} s, {terminal.memory():.0f} MiB; a key: {moved}",
            )


def measure_hour(scratch: Path, rival: Rival | None, minutes: int) -> None:
    """Memory while eight runs log ten times a second, both programs at once."""
    home, folder = scratch / "hour", scratch / "hour-wandb"
    with (
        load(sys.executable, "finetui", home, live=LIVE, steps=minutes * 600),
        shown(*ours(home)) as terminal,
    ):
        mark_live(terminal)
        if not rival:
            return follow_memory({"finetui": terminal}, minutes)
        folder.mkdir()
        words = [*rival.words[:-1], str(folder / "wandb")]
        with load(rival.python, "wandb", folder, live=LIVE), shown(words, rival.env) as other:
            select_live(other)
            follow_memory({"finetui": terminal, "LEET": other}, minutes)


def follow_memory(terminals: dict[str, Terminal], minutes: int) -> None:
    begun = time.monotonic()
    for minute in (1, 5, 10, 20, 30, 45, 60, 90, 120):
        if minute > minutes:
            break
        while time.monotonic() - begun < 60 * minute:
            for terminal in terminals.values():
                terminal.text = b""
                terminal.read(0.2)
        said = ", ".join(f"{name} {terminal.memory():.0f} MiB" for name, terminal in terminals.items())
        say(f"memory after {minute} min", said)


def spread(counts: list[int]) -> str:
    return f"median {statistics.median(counts):.0f}, mean {statistics.mean(counts):.0f}, most {max(counts)}"


def say(what: str, figures: str) -> None:
    print(f"{what:<34} {figures}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parts = ["ls", "paint", "bytes", "keys", "many"]
    parser.add_argument("--only", nargs="+", choices=parts, default=parts)
    parser.add_argument(
        "--hour", type=int, metavar="MINUTES", help="memory over so many minutes, and nothing else"
    )
    parser.add_argument("--leet", default=LEET, metavar="VERSION", help="of wandb; 'none' leaves it out")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=int, default=30)
    parser.add_argument("--presses", type=int, default=250)
    options = parser.parse_args()
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # modules are compiled once, as on any user's machine
    with tempfile.TemporaryDirectory(prefix="finetui-screen-") as directory:
        scratch = Path(directory)
        rival = None if options.leet == "none" else Rival(scratch, options.leet)
        if options.hour:
            return measure_hour(scratch, rival, options.hour)
        measures: dict[str, Callable[[], None]] = {
            "ls": lambda: measure_ls(scratch, options.rounds),
            "paint": lambda: measure_paint(scratch, rival, options.rounds),
            "bytes": lambda: measure_bytes(scratch, rival, options.seconds),
            "keys": lambda: measure_keys(scratch, rival, options.presses),
            "many": lambda: measure_many(scratch, options.presses),
        }
        for part in options.only:
            measures[part]()


if __name__ == "__main__":
    main()
