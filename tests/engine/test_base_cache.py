"""What the base model says is worked out once for each base, and is then the same as if it had been again."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import pytest
from workers import finish, make_run, small, start

from engine.data.chat import Example
from engine.evals import scores_file
from engine.evals.base_scores import BasePredictions
from engine.evals.score import Scores
from engine.tasks.prepare import Suite
from finetui.log import read_log


def first_look(home, number: int, **changes):
    """The evaluation at step 0 of a run in a home: by suite the examples' scores, and the answers."""
    run = make_run(home / "runs" / f"{number:06d}-x", small(**{"train__max_steps": 1, **changes}))
    assert finish(start(run)) == 0
    events = [e for e in read_log(run.attempt(1).events) if e.get("step") == 0]
    evals = {e["suite"]: e["examples"] for e in events if e["kind"] == "eval"}
    return evals, [e["text"] for e in events if e["kind"] == "sample"]


def files(home) -> set[str]:
    return {path.name for path in (home / "cache" / "base").glob("*")}


@pytest.mark.parametrize("method", ["freeze", "adapter", "qlora"])
def test_a_later_run_reads_what_an_earlier_one_asked(method, tmp_path):
    first = first_look(tmp_path, 1, method=method)
    known = files(tmp_path)
    assert len(known) == 4  # three suites, one set of answers
    for path in (tmp_path / "cache" / "base").glob("*.npz"):  # seen to be read: mark them
        with np.load(path) as file:
            arrays = dict(file)
        arrays["nll"][0] = 123.0
        np.savez(path, **arrays)
    again = first_look(tmp_path, 2, method=method)
    assert files(tmp_path) == known
    for suite, examples in again[0].items():
        assert examples["nll"][0] == 123.0
        assert examples["nll"][1:] == first[0][suite]["nll"][1:]
        assert {**examples, "nll": []} == {**first[0][suite], "nll": []}
    assert again[1] == first[1]
    of_data = [path.name.partition("-")[0] for path in (tmp_path / "cache" / "data").iterdir()]
    assert sorted(of_data) == ["examples", "rows"]  # of the first run, read by the second


def test_methods_that_hold_the_base_alike_share_and_others_do_not(tmp_path):
    lora = first_look(tmp_path, 1, method="lora")
    known = files(tmp_path)
    assert first_look(tmp_path, 2, method="ia3") == lora
    assert files(tmp_path) == known
    # Float32 like the frozen base here, but not on every machine.
    full = first_look(tmp_path, 3, method="full")
    assert full[1] == lora[1]
    more = files(tmp_path)
    first_look(tmp_path, 4, method="qlora")
    assert files(tmp_path) > more


def test_a_damaged_file_costs_an_evaluation(tmp_path):
    first = first_look(tmp_path, 1, method="lora")
    for path in (tmp_path / "cache" / "base").glob("*"):
        path.write_bytes(path.read_bytes()[:40])
    assert first_look(tmp_path, 2, method="lora") == first


def test_no_damage_passes_for_scores():
    """Zeros in the midst of a file are seen by zipfile or by zlib, as it happens."""
    suite = Suite("heldout", [], [Example(str(i), np.arange(2, 40), np.ones(38, bool)) for i in range(30)])
    rng, counts = np.random.default_rng(0), np.array([example.targets for example in suite.examples])
    base = BasePredictions(
        rng.random(counts.sum()) < 0.5, np.zeros((0, 64), np.int32), np.zeros((0, 64), np.float32)
    )
    scores = Scores([str(i) for i in range(30)], rng.random(30), counts, counts, base=base)
    whole = scores_file.to_bytes(scores)
    assert (scores_file.from_bytes(whole, suite).nll == scores.nll).all()
    for at in range(0, len(whole) - 64, 16):
        with suppress(ValueError):
            scores_file.from_bytes(whole[:at] + bytes(64) + whole[at + 64 :], suite)


def test_a_method_that_does_not_start_as_the_base_is_asked_itself(tmp_path):
    first_look(tmp_path, 1, method="prompt")
    assert not files(tmp_path)
