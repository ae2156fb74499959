"""The hardware pane, with and without a run that goes on."""

from __future__ import annotations

from typing import Any

from tui.widgets import panes


def rows(**values: float) -> list[dict[str, Any]]:
    return [{"key": key.replace("__", "/"), "value": value, "label": None} for key, value in values.items()]


CARD = {
    "gpu0__util": 93.0,
    "gpu0__memory_used_gb": 61.2,
    "gpu0__memory_total_gb": 80.0,
    "gpu0__power_w": 602.0,
}
MACHINE = {"cpu__percent": 37.0, "ram__used_gb": 7.4, "ram__total_gb": 16.0}


def text(busy: bool, **values: float) -> str:
    lines = panes.hardware(rows(**values), busy, 60, 20)
    return "\n".join("".join(part for part, _ in line) for line in lines)


def test_while_a_run_goes_on_values_are_exact_and_power_stands_against_its_cap() -> None:
    shown = text(True, **CARD, **MACHINE, gpu0__power_cap_w=700.0)
    assert "602/700 W" in shown
    assert " 93%" in shown
    assert "61.2/80 GB" in shown
    assert " 37%" in shown


def test_what_others_do_is_shown_coarsely_while_no_run_of_ours_goes_on() -> None:
    shown = text(False, **CARD, **MACHINE)
    assert "about 90%" in shown
    assert "about 40%" in shown
    assert "7/16 GB" in shown
    assert "idle" not in shown
    line = "".join(part for part, _ in panes.hardware_line(rows(**CARD, **MACHINE), False))
    assert line == "gpu0 about 90% 61/80 GB · cpu about 40% · ram 7/16 GB"


def test_idle_is_said_only_of_what_is_idle() -> None:
    shown = text(False, **{**CARD, "gpu0__util": 3.0}, **MACHINE)
    assert shown.count("idle") == 1
    assert text(False, cpu__percent=4.9).split() == ["CPU", *text(False, cpu__percent=0.0).split()[1:]]


def test_small_changes_of_an_idle_machine_change_nothing_on_the_screen() -> None:
    assert text(False, **MACHINE) == text(False, **{**MACHINE, "cpu__percent": 41.0, "ram__used_gb": 7.1})
