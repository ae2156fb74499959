"""A run says what its training data give away: before it starts, and at its end with results without these rows."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from test_fix import a_run
from workers import last_error, make_run, measured, of_kind, small, work

from engine.basics.errors import DataError
from engine.bundled.catalogue import load
from engine.client import fix, preflight
from engine.data.gather import Overlap
from engine.data.overlap import Leak
from engine.evals.looks import Looks
from engine.evals.score import Scores
from engine.flags.actions import leak
from engine.flags.flag import Flag
from engine.recipe.sections import Recipe
from engine.training.leaking import raise_leaks
from engine.training.report import Report
from finetui.log import LogWriter, read_log

ROWS = load("docstrings")[::40]
PROSE = [row["text"] for row in load("stdlib-prose")]
COPIES, OTHERS, QUOTES = 4, 12, 3


def tree(path: Path, leaks: bool, **flags: str) -> dict[str, Any]:
    """Of 16 held-out rows 4 are copies; of 8 general texts 3 have two sentences of training rows in them."""
    train, heldout = ROWS[:30], ROWS[40 : 40 + OTHERS]
    general = PROSE[:8]
    if leaks:
        train = [*ROWS[:30], *(answer(PROSE[n][:400]) for n in range(QUOTES))]
        heldout = [*ROWS[:COPIES], *heldout]
        general = [*(PROSE[n][:400] + PROSE[20 + n][:400] for n in range(QUOTES)), *PROSE[3:8]]
    files = {"train": train, "heldout": heldout, "general": [{"text": text} for text in general]}
    for name, rows in files.items():
        (path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = {name: str(path / f"{name}.jsonl") for name in ("train", "heldout")}
    evals = small()["evals"] | {"general": {"own": str(path / "general.jsonl")}, "limit": 20, "generate": 0}
    return small(method="full", data=data, evals=evals, flags=flags)


def answer(text: str) -> dict[str, Any]:
    return {"prompt": "Say it.", "completion": text}


def texts(run, suite: str) -> dict[str, str]:
    """What is scored, by id."""
    (rows,) = [e["rows"] for e in of_kind(run, 1, "examples") if e["suite"] == suite]
    return {row["id"]: row["target"] for row in rows}


def flags(run) -> list[dict[str, Any]]:
    return [e for e in of_kind(run, 1, "flag") if e["flag"] == "leak"]


def test_it_is_told_before_the_first_step_and_with_results_at_the_end(tmp_path):
    run = make_run(tmp_path / "000001-leaks", tree(tmp_path, leaks=True))
    assert work(run) == 0, run.attempt(1).stdout.read_text()
    heldout, general, later = flags(run)
    first_step = of_kind(run, 1, "metrics")[0]
    assert heldout["t"] <= of_kind(run, 1, "eval")[0]["t"] <= first_step["t"]
    assert (heldout["suite"], heldout["level"], heldout["step"], heldout["n"]) == (
        "heldout",
        "critical",
        0,
        16,
    )
    assert heldout["effect"] == COPIES / (COPIES + OTHERS)
    assert heldout["message"] == (
        "4 of 16 held-out rows overlap with training data (25.0%: 4 exact). They are not scored."
    )
    assert not {row["messages"][1]["content"] for row in ROWS[:COPIES]} & set(texts(run, "heldout").values())
    assert (general["suite"], general["level"], general["step"]) == ("general", "info", 0)
    assert "3 of 8 general rows overlap with training data (37.5%: 3 by 13 words)" in general["message"]

    assert (later["suite"], later["step"], later["looks"]) == ("general", 6, 2)
    ids = texts(run, "general")
    last = measured(run)[6, "general"]
    clean = [
        i for i, id in enumerate(last["id"]) if not any(PROSE[n][:400] in ids[id] for n in range(QUOTES))
    ]
    assert len(clean) == 5
    assert set(last["slice"]) == {"own"}
    every = sum(last["nll"]) / sum(last["tokens"])
    without = sum(last["nll"][i] for i in clean) / sum(last["tokens"][i] for i in clean)
    assert f"{every:.3f} with them and {without:.3f} without" in later["message"]


def test_an_attempt_that_goes_on_says_only_what_got_worse_and_results_at_the_end(tmp_path):
    ids = [str(n) for n in range(100)]
    hits = [Leak("13-gram", "heldout", id, (1,), "train.jsonl", (1,), 0.5, "", "") for id in ids[:20]]
    suite = SimpleNamespace(documents=[SimpleNamespace(id=id) for id in ids])
    data = SimpleNamespace(overlaps=[Overlap("heldout", ids, hits)], suite=lambda name: suite, replayable=[])
    looks, path = Looks(), tmp_path / "events.jsonl"
    report = Report(LogWriter(path, "worker", 1, 2))
    job = SimpleNamespace(
        recipe=Recipe.model_validate(small(method="full")), data=data, looks=looks, report=report
    )

    def raise_at(step: int, fall: float, last: bool = False) -> list[tuple[int, str]]:
        nll = 20.0 + np.arange(100) % 7 - fall * (np.arange(100) < 20)
        looks.add(step, "heldout", Scores(ids, nll, np.full(100, 10), np.zeros(100)))
        raise_leaks(job, last)
        return [(e["step"], e["level"]) for e in read_log(path) if e["kind"] == "flag"]

    # As an earlier attempt wrote it.
    looks.add_flag(Flag("leak", "info", 0, 0, "heldout", 0.2, 0.1, 0.3, 100, 0, "m"))
    assert raise_at(0, 0.0) == []
    assert raise_at(10, 5.0) == []
    assert raise_at(20, 5.0) == [(20, "critical")]
    assert raise_at(30, 5.0) == [(20, "critical")]
    assert raise_at(40, 0.0, last=True) == [(20, "critical"), (40, "critical")]


def test_a_clean_run_has_none_and_says_nothing_where_it_is_off(tmp_path):
    clean = make_run(tmp_path / "000001-clean", tree(tmp_path, leaks=False))
    assert work(clean) == 0
    assert flags(clean) == []
    off = make_run(tmp_path / "000002-off", tree(tmp_path, leaks=True, leak="off"))
    assert work(off) == 0
    assert flags(off) == []


def test_stop_refuses_the_run_before_its_first_step(tmp_path):
    recipe = tree(tmp_path, leaks=True, leak="stop")
    said = "4 of 16 held-out rows overlap with training data .* flags.leak is stop: remove them"
    with pytest.raises(DataError, match=said):
        preflight.check(Recipe.model_validate(recipe), tmp_path)
    run = make_run(tmp_path / "000001-stop", recipe)
    assert work(run) == 4
    assert "and flags.leak is stop" in last_error(run)
    assert of_kind(run, 1, "metrics") == []
    preflight.check(Recipe.model_validate(tree(tmp_path, leaks=False, leak="stop")), tmp_path)


def test_what_to_do_about_it_is_said_and_changes_no_recipe(tmp_path):
    actions = [vars(action) for action in leak("heldout", scored=False)]
    flag = {
        "step": 0, "flag": "leak", "level": "warn", "since_step": 0, "suite": "heldout", "effect": 0.1, "lo": None,
        "hi": None, "n": 8, "looks": 0, "message": "So it is.", "worst": [], "advice": [], "actions": actions,
    }  # fmt: skip
    found = fix.propose(a_run(tmp_path, [flag]))
    assert found.changes == []
    assert [(advice.flag, advice.text, advice.source) for advice in found.advice] == [
        ("leak", "Remove the overlapping rows from the training data: finetui data lists them.", "lee2022")
    ]
