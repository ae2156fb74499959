"""The hardware pane: with and without a run that goes on, and on machines with GPUs as others recorded them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import made_home
import pynvml
import pytest
from made_home import NOW, Served
from pilot import ready, text_of
from recorded_gpus import DESKTOP, DIVIDED, SHARED_BOX, TWO_ON_ONE, Card, machine_of
from test_cli_ls import finetui

from engine.queue.machine_use import ActiveRun
from finetui.home import Home
from finetui.log import LogWriter
from tui.app import Arrived, FinetuiApp
from tui.lines.sparkline import sparkline
from tui.lines.text import Line, line_width
from tui.widgets import hardware
from tui.widgets.hardware import Hardware, stands_still
from tui.widgets.hardware_asked import HISTORY, LATEST

SMALL, LARGE = (80, 24), (200, 50)
OURS = ActiveRun(3, "gpu5", (2212155,))  # a process of SHARED_BOX


def rows(**values: float) -> list[dict[str, Any]]:
    return [{"key": key.replace("__", "/"), "value": value, "label": None} for key, value in values.items()]


CARD = {
    "gpu0__util": 93.0,
    "gpu0__memory_used_gb": 61.2,
    "gpu0__memory_total_gb": 80.0,
    "gpu0__power_w": 602.0,
}
MACHINE = {"cpu__percent": 37.0, "ram__used_gb": 7.4, "ram__total_gb": 16.0}


def known(busy: bool, past: dict[str, list[float]] | None = None, **values: float) -> Hardware:
    """`past`: earlier values by key, the newest first."""
    history = [
        {"key": key.replace("__", "/"), "slot": slot, "value": value}
        for key, several in (past or {}).items()
        for slot, value in enumerate(several)
    ]
    return Hardware.of(rows(**values), history, {}, busy=busy)


def text(lines: list[Line]) -> str:
    return "\n".join("".join(part for part, _ in line) for line in lines)


def shown(machine: Hardware, width: int = 60, height: int = 20) -> str:
    return text(hardware.lines(machine, width, height))


def recorded(
    monkeypatch: pytest.MonkeyPatch,
    cards: tuple[Card, ...],
    *active: ActiveRun,
    busy: bool = True,
    errors: dict[tuple[str, int], int] | None = None,
) -> Hardware:
    player, nvml, use = machine_of(monkeypatch, cards, *active)
    player.errors = errors or {}
    latest = [{"key": key, "value": value, "label": None} for key, value in nvml.values().items()]
    return Hardware.of(latest, [], use.look(), busy=busy)


# ---- values ----------------------------------------------------------------------------------------------


def test_while_a_run_goes_on_values_are_exact_and_power_stands_against_its_cap() -> None:
    found = shown(known(True, **CARD, **MACHINE, gpu0__power_cap_w=700.0))
    assert "602/700 W" in found
    assert " 93%" in found
    assert "61.2/80 GB" in found
    assert " 37%" in found


def test_what_others_do_is_shown_coarsely_while_no_run_of_ours_goes_on() -> None:
    found = shown(known(False, **CARD, **MACHINE))
    assert "about 90%" in found
    assert "about 40%" in found
    assert "7/16 GB" in found
    assert "idle" not in found
    line = text([hardware.line(known(False, **CARD, **MACHINE))])
    assert line == "gpu0 about 90% 61/80 GB · cpu about 40% · ram 7/16 GB"


def test_idle_is_said_only_of_what_is_idle_and_has_been_for_a_minute() -> None:
    assert shown(known(False, **{**CARD, "gpu0__util": 0.0}, **MACHINE)).count("idle") == 1
    assert "under 5%" in shown(known(False, cpu__percent=3.0))
    assert "idle" in shown(known(False, {"cpu__percent": [0.2, 0.1, 0.0]}, cpu__percent=0.3))
    assert "under 5%" in shown(known(False, {"cpu__percent": [0.0, 0.0, 60.0]}, cpu__percent=0.0))
    assert "idle" in shown(known(False, {"cpu__percent": [*[0.0] * 6, 60.0]}, cpu__percent=0.0))
    assert "idle" not in shown(known(True, cpu__percent=0.0)), "a run goes on"


def test_small_changes_of_an_idle_machine_change_nothing_on_the_screen() -> None:
    quiet = {**MACHINE, "cpu__percent": 3.0}
    before = known(False, {"cpu__percent": [3.0, 1.0]}, **quiet)
    after = known(
        False, {"cpu__percent": [2.0, 3.0, 1.0]}, **{**quiet, "cpu__percent": 2.0, "ram__used_gb": 7.1}
    )
    assert shown(before) == shown(after)
    assert shown(known(False, **MACHINE)) == shown(known(False, **{**MACHINE, "cpu__percent": 41.0}))


def test_an_idle_machine_stands_still_but_for_noise_and_a_history_that_grows() -> None:
    quiet = {**CARD, **MACHINE, "gpu0__util": 0.0, "gpu0__power_w": 70.0, "cpu__percent": 3.0}
    before = known(False, {"cpu__percent": [3.0, 1.0]}, **quiet)

    def still(past: list[float], busy: bool = False, **values: float) -> bool:
        return stands_still(before, known(busy, {"cpu__percent": past}, **{**quiet, **values}))

    assert still([2.0, 3.0, 1.0], cpu__percent=2.0, gpu0__power_w=73.0, ram__used_gb=7.6)
    assert not still([2.0, 3.0, 1.0], gpu0__power_w=90.0)
    assert not still([2.0, 3.0, 1.0], ram__used_gb=9.0)
    assert not still([2.0, 3.0, 40.0, 1.0]), "something went on meanwhile"
    assert not still([3.0, 1.0], busy=True)
    assert not still([0.0] * 6, cpu__percent=0.0), "it is idle by now"
    idle = known(False, {"cpu__percent": [0.0] * 6}, **{**quiet, "cpu__percent": 0.0})
    assert stands_still(idle, before), "noise begins that"
    assert not stands_still(before, known(False, {}, **quiet)), "there is no history any more"


async def test_noise_is_not_painted_until_a_key_is_pressed(box: Served) -> None:
    app = FinetuiApp(box.home, [3], connect=box.connect, unicode=False)
    async with app.run_test(size=LARGE) as pilot:
        await ready(pilot)
        app._poller.stop()
        snapshot = app.state.snapshot
        idle = tuple(run._replace(state="finished") for run in snapshot.runs)

        def arrive(load: float) -> str:
            rows_now = [row for row in snapshot.rows(LATEST) if row["key"] != "cpu/percent"]
            answers = {**snapshot.answers, LATEST: [*rows_now, *rows(cpu__percent=load)], HISTORY: []}
            app.on_arrived(Arrived(replace(snapshot, runs=idle, answers=answers, made=None)))
            return text_of(app, "#pane3")

        first = arrive(44.0)
        assert "about 40%" in first
        assert arrive(46.0) == first
        app.refresh_screen()
        assert "about 50%" in text_of(app, "#pane3"), "the same snapshot, painted by a key"
        assert "about 80%" in arrive(80.0)


def test_the_last_minutes_are_a_curve_with_gaps_where_nobody_looked() -> None:
    past = hardware.series(
        [
            {"key": "cpu/percent", "slot": slot, "value": value}
            for slot, value in ((0, 80.0), (2, 40.0), (9, 20.0))
        ]
    )["cpu/percent"]
    assert len(past) == hardware.STEPS
    assert past[-3:] == [40.0, 40.0, 80.0], "a sample that was a little late is no gap"
    assert [value == value for value in past[-10:]] == [True, True, True, *[False] * 4, True, True, True]
    assert sparkline(past, len(past), (0.0, 100.0)).endswith(" ▂▂▂    ▄▄▇")


# ---- recorded machines -------------------------------------------------------------------------------------


@pytest.mark.parametrize("busy", [True, False])
@pytest.mark.parametrize("cards", [SHARED_BOX, TWO_ON_ONE, DIVIDED, DESKTOP])
@pytest.mark.parametrize(("width", "height"), [(36, 8), (62, 10), (80, 12), (80, 3), (198, 46)])
def test_a_machine_fits_its_pane(
    monkeypatch: pytest.MonkeyPatch, cards: tuple[Card, ...], busy: bool, width: int, height: int
) -> None:
    machine = recorded(monkeypatch, cards, OURS, busy=busy)
    lines = hardware.lines(machine, width, height)
    assert len(lines) <= height
    assert all(line_width(line) <= width for line in lines)
    found = text(lines)
    least = min(len(cards), max(1, height - 1))
    assert all(f"gpu{index}" in found for index in range(least)), "each card has a line"


def test_eight_cards_have_a_line_each_with_ours_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    found = shown(recorded(monkeypatch, SHARED_BOX, OURS), 80, 12).splitlines()
    ours, theirs, free = (
        next(line for line in found if line.startswith(f"gpu{index}")) for index in (5, 4, 3)
    )
    assert ours.split()[1] == "76%"
    assert all(part in ours for part in ("━", "36.7/86 GB", "216/400 W", "44 °C", "#3"))
    assert "╍" not in ours
    assert "╍" in theirs
    assert "━" not in theirs
    assert not {"╍", "━"} & set(free)


def test_each_process_stands_with_its_user_ours_first(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = recorded(monkeypatch, SHARED_BOX, OURS)
    lines = text(hardware.lines(machine, 120, 6, whole=True)).splitlines()
    table = lines[next(at for at, line in enumerate(lines) if line.startswith("run ")) + 1 :]
    assert table[0].split()[:6] == ["#3", "2212155", "ada", "gpu5", "36.7", "GB"]
    assert [line.split()[1] for line in table[1:]] == ["ben", "eve", "ben", "eve"]
    assert table[1].endswith("python3.12 train.py" + " " * (120 - len(table[1].rstrip())))
    cut = shown(machine, 80, 12).splitlines()
    assert len(cut) == 12
    assert cut[-1].endswith("more: z shows all")


def test_what_is_ours_of_one_card_is_told_in_gigabytes(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = recorded(monkeypatch, TWO_ON_ONE, ActiveRun(3, "gpu0", (2620449,)))
    found = shown(machine, 100, 40)
    assert "10.6/12 GB, 10.4 ours" in found
    meter = next(line for line in found.splitlines() if "10.4 ours" in line)
    assert meter.count("━") > 10 * meter.count("╍") > 0


def test_what_is_not_known_is_said_and_empties_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    errors = {
        ("all", 2): pynvml.NVML_ERROR_GPU_IS_LOST,
        ("MemoryInfo", 4): pynvml.NVML_ERROR_UNKNOWN,
        ("ComputeRunningProcesses_v3", 1): pynvml.NVML_ERROR_NO_PERMISSION,
    }
    machine = recorded(monkeypatch, SHARED_BOX, OURS, errors=errors)
    found = text(hardware.lines(machine, 80, 12, whole=True))
    assert "gpu2  does not answer: GPU is lost" in found
    assert "gpu1: its processes are not known: Insufficient Permissions" in found
    assert "? GB" in next(line for line in found.splitlines() if line.startswith("gpu4"))
    assert "━" in next(line for line in found.splitlines() if line.startswith("gpu1")), (
        "whose it is nobody knows"
    )
    assert "load    not known: the card does not say" in shown(recorded(monkeypatch, DIVIDED))
    desktop = shown(recorded(monkeypatch, DESKTOP), 80)
    assert "?/30 W" in desktop
    assert "1264" in desktop


# ---- the screen --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The made runs on the recorded box of eight cards, of which run #3 has one; it began five minutes ago."""
    home = Home(tmp_path_factory.mktemp("box") / "h")
    made_home.fill(home)
    with pytest.MonkeyPatch.context() as monkeypatch:
        _, nvml, use = machine_of(monkeypatch, SHARED_BOX, OURS)
        rest = {"cpu/percent": 37.0, "ram/used_gb": 207.4, "ram/total_gb": 1082.0, "disk/free_gb": 120.0}
        values = {**rest, **nvml.values(), "disk/total_gb": 250.0}
        before = {**values, "gpu5/util": 0.0, "gpu5/memory_used_gb": 0.0}
        home.hardware_log.unlink()
        log = LogWriter(home.hardware_log, "hardware")
        for ago in range(600, -1, -10):
            log.write("sample", t=NOW - ago, values=before if ago > 300 else values)
        log.close()
        answer = {**use.look(), "problem": None}
    with made_home.served(home) as running:
        running.actions.answer = lambda name, body: answer if name == "machine" else {}
        yield running


@pytest.mark.parametrize(
    ("size", "keys"), [(SMALL, "4"), (LARGE, ""), (LARGE, "4z")], ids=["alone", "beside", "whole"]
)
def test_picture(snap_compare: Any, box: Served, size: tuple[int, int], keys: str) -> None:
    app = FinetuiApp(box.home, [3], connect=box.connect, unicode=True)
    app.home_name = "~/finetui"

    async def press(pilot: Any) -> None:
        await ready(pilot)
        for key in keys:
            await pilot.press(key)
            await ready(pilot)

    assert snap_compare(app, terminal_size=size, run_before=press)


async def test_processes_are_asked_for_only_while_the_pane_is_seen(box: Served) -> None:
    app = FinetuiApp(box.home, [3], connect=box.connect, unicode=False)
    async with app.run_test(size=(80, 16)) as pilot:
        await ready(pilot)
        before = box.actions.looks
        await pilot.press("5")
        await ready(pilot)
        assert box.actions.looks == before
        await pilot.press("4", "z")
        await ready(pilot)
        assert box.actions.looks > before
        assert "1981403" not in text_of(app, "#pane3"), "the last one, below what is in view"
        await pilot.press("G")
        await ready(pilot)
        assert "1981403" in text_of(app, "#pane3")


def test_top_has_it_too(
    box: Served, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    finetui(box, monkeypatch, "top", "--once")
    out = capsys.readouterr().out
    assert "#3     2212155 ada" in out
    assert "36.7/86 GB" in out
    finetui(box, monkeypatch, "top", "--json")
    found = json.loads(capsys.readouterr().out)
    assert [row["run"] for row in found["processes"] if row["gpu"] == "gpu5"] == [3]
    assert found["gpus"]["gpu5"]["runs"] == [3]
    past = found["history"]["values"]["gpu5/util"]
    assert (len(past), past[0], past[-1]) == (60, 0.0, 76.0)
