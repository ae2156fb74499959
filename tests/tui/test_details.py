"""How many examples a look has scored is visible, in the screen and on the command line."""

from __future__ import annotations

from tui.cli.show import _print_baselines, _print_ends, _print_evals
from tui.rows import Run
from tui.widgets import details, panes


def result(step: int, key: str, value: float, n: int, lo: float | None = 1.0) -> dict:
    hi = None if lo is None else value + 0.1
    return {"step": step, "suite": "heldout", "key": key, "value": value, "lo": lo, "hi": hi, "n": n}


# The answers are fewer than the examples, and of a look at a part those are fewer than at step 0.
ROWS = [result(0, "loss", 2.5, 300), result(0, "exact_match", 0.1, 4),
        result(20, "loss", 2.25, 100), result(20, "exact_match", 0.2, 4)]  # fmt: skip


def test_the_evals_of_a_run_have_the_examples_of_each_look():
    lines = ["".join(text for text, _ in line) for line in details.evals(ROWS, [], [], [], [], [], 100)]
    assert [line.split()[0] for line in lines[2:]] == ["0", "20"]
    assert [line.split()[-1] for line in lines[2:]] == ["300", "100"]


def test_the_command_line_has_them_beside_the_loss(capsys):
    _print_evals([*ROWS, result(20, "loss", 3.0, 1, lo=None) | {"suite": "general"}], "sft")
    printed = capsys.readouterr().out
    assert "2.5000 (1.000–2.600), 300" in printed
    assert "2.2500 (1.000–2.350), 100" in printed
    assert "3.0000, 1" in printed  # one example has no interval


def test_what_general_text_has_lost_stands_by_slice_beside_the_gain_and_the_distance(capsys):
    whole = {"slice": None, "step": 20, "base_loss": 2.0, "loss": 2.1, "change": 0.1, "lo": 0.05, "hi": 0.15}
    whole |= {"gain": 0.5, "gain_lo": 0.4, "gain_hi": 0.6, "per_gain": 0.2}
    rows = [whole | {"n": 200, "lost": 30, "gained": 10}]
    rows += [whole | {"slice": "prose", "n": 100, "lost": None, "gained": None, "per_gain": None}]
    distance = [
        {"suite": "samples", "step": 20, "distance": 0.08, "lo": 0.06, "hi": 0.1, "n": 90, "kl": 0.07}
    ]
    distance += [distance[0] | dict.fromkeys(("distance", "lo", "hi", "n")) | {"suite": "heldout", "kl": 0.3}]
    expected = [
        "all 2.000 2.100 +0.100 +0.050 to +0.150 200 30 10 0.20",
        "prose 2.000 2.100 +0.100 +0.050 to +0.150 100",
        "paid +0.100 for a gain of +0.500 (+0.400 to +0.600) nats per held-out token",
        "samples +0.080 +0.060 to +0.100 90 0.070",
        "heldout 0.300",
    ]
    lines = [
        "".join(text for text, _ in line) for line in details.evals(ROWS, [], rows, distance, [], [], 100)
    ]
    _print_baselines([], rows, distance, 10)
    for shown in (lines, capsys.readouterr().out.splitlines()):
        folded = [" ".join(line.split()) for line in shown]
        assert [line for line in folded if line in expected] == expected
    without = [row | dict.fromkeys(("gain", "gain_lo", "gain_hi", "per_gain")) for row in rows]
    _print_baselines([], without, [], 10)
    assert "paid +" not in capsys.readouterr().out


def test_what_is_measured_at_both_ends_stands_beside_the_base(capsys):
    change = {"step": 20, "base": 0.5, "now": 0.6, "change": 0.1, "lo": -0.05, "hi": 0.25, "n": 40}
    drift = [change | {"measure": "refused"}]
    choices = [change | {"slice": "arc", "measure": "accuracy_norm", "lost": 2, "gained": 6, "p": 0.289}]
    shown = ["0.500", "0.600", "+0.100", "−0.050", "to", "+0.250", "40"]
    found = details.evals(ROWS, [], [], [], choices, drift, 100)
    lines = ["".join(text for text, _ in line).split() for line in found]
    _print_ends(choices, drift)
    printed = [line.split() for line in capsys.readouterr().out.splitlines()]
    for at in (lines, printed):
        assert ["begin", "like", "a", "refusal", *shown] in at
        assert ["arc", "accuracy", "norm", *shown, "2", "6", "0.289"] in at


def test_the_pane_of_flags_shows_how_each_stands_now():
    row = {"flag": "overfitting", "suite": "heldout", "since_step": 10, "n": 40, "message": "m", "t": 1.0}
    evidence = {"effect": 0.2, "lo": 0.1, "hi": 0.3, "actions": [{"text": "Do this.", "source": ""}]}
    rows = [
        row | evidence | {"level": "critical", "state": "raised", "step": 20},
        row
        | {
            "level": "info",
            "state": "withdrawn",
            "step": 40,
            "effect": 0.0,
            "lo": -0.1,
            "hi": 0.1,
            "per": "pair",
        },
        row
        | evidence
        | {"flag": "forgetting", "suite": "general", "level": "warn", "state": "fading", "step": 40},
    ]
    lines = panes.flags(rows, [], Run(1, "run", "finished", flags=1), 100)
    text = ["".join(part for part, _ in line) for line in lines]
    assert text[0].startswith("⚑ forgetting warn  since step 10 · general")
    assert "not seen at step 40: the next look withdraws it, or confirms it" in text[1]
    gone = next(at for at, line in enumerate(text) if "overfitting" in line)
    assert text[gone].startswith("⚑ overfitting withdrawn  from step 10 to 40 · heldout")
    assert {style for _, style in lines[gone]} <= {"dim", "text", ""}
    assert "withdrawn at step 40; at its worst critical at step 20" in text[gone + 1]
    assert "+0.000 nats per pair (95% interval -0.100 to +0.100)" in text[gone + 2]
