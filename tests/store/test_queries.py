"""The named queries over runs whose numbers are known."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest
from fake_home import T0, FakeHome, FakeRun

from engine.basics.statistics import change
from store import queries, rollups, settling
from store.ingest import Ingest
from store.projection import Projection
from store.queried import Planned, resolved


def ask(projection: Projection, query: queries.Query | Planned) -> list[dict[str, Any]]:
    with projection.read() as cursor:
        sql, parameters = resolved(query, cursor)
        return cursor.sql(sql, params=parameters).to_arrow_table().to_pylist()


def trained(home: FakeHome, number: int, losses: list[float], **changes: Any) -> FakeRun:
    run = home.run(number, **changes)
    run.start()
    run.write("plan", total_steps=100, parameters=1000, trainable=10)
    run.eval(0, "heldout", [30.0, 20.0, 10.0])
    run.eval(0, "general", [10.0, 10.0])
    for step, loss in enumerate(losses, 1):
        run.metrics(step, loss=loss, tokens_per_s=1000.0 + step)
    return run


@pytest.fixture
def two(home: FakeHome, projection: Projection) -> Projection:
    first = trained(home, 1, [3.0, 2.0, 1.0])
    first.eval(3, "heldout", [20.0, 10.0, 6.0])
    first.eval(3, "general", [12.0, 10.0])
    for step in (2, 3):  # written again, it is still one flag
        first.write("flag", step=step, flag="forgetting", level="warn", message="m")
    first.write("flag", step=3, flag="overfitting", level="critical", message="m")
    first.write("flag", step=3, flag="note", level="info", message="m")
    first.end()
    second = trained(home, 2, [3.0, 2.5], method={"name": "qlora", "r": 16, "targets": "all-linear"}, seed=8)
    second.eval(2, "heldout", [21.0, 13.0, 8.0])
    home.run(3)
    Ingest(projection, home.path).poll()
    projection.set_waiting({3: "run #2 is running; 1 at a time"})
    return projection


def test_the_run_table(two: Projection, monkeypatch: pytest.MonkeyPatch) -> None:
    last = ask(two, ("SELECT last_t, first_t FROM attempts WHERE run = 2", {}))[0]
    monkeypatch.setattr(queries.time, "time", lambda: last["last_t"] + 2.0)
    done, going, queued = ask(two, queries.runs())
    assert (done["state"], done["progress"], done["eta_s"], done["elapsed_s"] > 0) == (
        "finished",
        1.0,
        None,
        True,
    )
    assert (done["loss"], done["heldout"], done["general"]) == pytest.approx((1.0, 1.2, 1.1))
    assert (done["flags"], done["flag_level"], done["tokens_per_s"]) == (2, "critical", 1003.0)
    assert (going["step"], going["total_steps"], going["progress"]) == (2, 100, 0.02)
    assert going["eta_s"] == pytest.approx(98 * (last["last_t"] - last["first_t"]) / 1 - 2.0)
    assert (going["flags"], going["flag_level"], going["ended"]) == (0, None, None)
    assert (queued["state"], queued["waiting_for"]) == ("queued", "run #2 is running; 1 at a time")
    assert (queued["loss"], queued["progress"], queued["eta_s"], queued["elapsed_s"]) == (
        None,
        None,
        None,
        None,
    )
    assert queued["created"] == T0


def test_one_run(two: Projection) -> None:
    (row,) = ask(two, queries.run(1))
    assert row["dir"].endswith("000001-demo")
    assert (row["run"], row["heldout_best"], row["trainable"]) == (1, pytest.approx(1.2), 10)
    assert ask(two, queries.run(99)) == []


def test_a_curve_is_whole_when_it_fits_and_bucketed_when_not(home: FakeHome, projection: Projection) -> None:
    run = home.run(1)
    run.start()
    values = [math.sin(step) for step in range(1000)]
    values[500] = math.nan
    for step, value in enumerate(values):
        run.metrics(step, loss=value)
    Ingest(projection, home.path).poll()
    whole = ask(projection, queries.curves([1], "train/loss", buckets=1000))
    assert [row["step"] for row in whole] == list(range(1000))
    assert math.isnan(whole[500]["last"])
    assert all(
        row["min"] == row["max"] == row["last"] == values[row["step"]] for row in whole if row["step"] != 500
    )
    cut = ask(projection, queries.curves([1], "train/loss", buckets=10))
    assert [row["n"] for row in cut] == [128] * 7 + [104], "of a power of two steps each"
    for i, row in enumerate(cut):
        inside = [value for value in values[i * 128 : i * 128 + 128] if not math.isnan(value)]
        assert (row["step"], row["min"], row["max"]) == (min(i * 128 + 127, 999), min(inside), max(inside))
        assert row["last"] == values[row["step"]]
    assert ask(projection, queries.curves([1], "no/such")) == []


def test_curves_of_several_runs_are_each_as_alone(home: FakeHome, projection: Projection) -> None:
    for number, steps in ((1, 5), (2, 1000), (3, 70)):
        run = home.run(number)
        run.start()
        for step in range(steps):
            run.metrics(step, loss=number + step)
    Ingest(projection, home.path).poll()
    together = ask(projection, queries.curves([3, 1, 2, 9], "train/loss", buckets=50))
    alone = [ask(projection, queries.curves([number], "train/loss", buckets=50)) for number in (1, 2, 3)]
    assert together == [row for rows in alone for row in rows]
    assert [len(rows) for rows in alone] == [5, 32, 35]
    assert ask(projection, queries.curves([], "train/loss")) == []


def test_the_buckets_of_a_live_curve_stay_as_they_are(home: FakeHome, projection: Projection) -> None:
    run, ingest = home.run(1), Ingest(projection, home.path)
    run.start()
    seen = []
    for first in (0, 100, 107):
        for step in range(first, {0: 100, 100: 107, 107: 120}[first]):
            run.metrics(step, loss=math.cos(step))
        ingest.poll()
        seen.append(ask(projection, queries.curves([1], "train/loss", buckets=40)))
    before, between, after = seen
    assert len(before) == 25
    assert before == between[:25] == after[:25], "what a screen has drawn holds"


def test_what_runs_differ_in(two: Projection) -> None:
    found = {(row["key"], row["run"]): row["value"] for row in ask(two, queries.params_diff([1, 2]))}
    assert found == {
        ("method.name", 1): "lora",
        ("method.name", 2): "qlora",
        ("seed", 1): "7",
        ("seed", 2): "8",
    }
    assert ask(two, queries.params_diff([1])) == []


def test_a_key_that_only_one_run_has_is_a_difference(home: FakeHome, projection: Projection) -> None:
    home.run(1)
    home.run(2, extra={"only": 1})
    Ingest(projection, home.path).poll()
    assert ask(projection, queries.params_diff([1, 2])) == [
        {"key": "extra.only", "run": 1, "value": None},
        {"key": "extra.only", "run": 2, "value": "1"},
    ]


def test_paired_differences(two: Projection) -> None:
    (row,) = ask(two, queries.paired(1, 2, "heldout"))
    sql = "SELECT nll FROM eval_examples WHERE run = 1 AND suite = 'heldout' AND step = 3 ORDER BY example"
    before = np.array([point["nll"] for point in ask(two, (sql, {}))])
    expected = change(before, np.array([21.0, 13.0, 8.0]), np.full(3, 10))
    assert row["difference"] == pytest.approx(0.2) == pytest.approx(expected.value)
    assert (row["lo"], row["hi"]) == pytest.approx(expected.interval(), abs=0.02)  # of three examples
    assert (row["n"], row["step_a"], row["step_b"]) == (3, 3, 2)
    (nothing,) = ask(two, queries.paired(1, 3))
    assert (nothing["n"], nothing["difference"], nothing["lo"]) == (0, None, None)


def test_a_paired_difference_is_that_of_the_losses(home: FakeHome, projection: Projection) -> None:
    """Short answers got worse and long ones better: by token the second run is the better one."""
    short = np.arange(40) % 2 == 0
    tokens = np.where(short, 3, 97)
    before = tokens * np.random.default_rng(0).normal(3.0, 0.1, 40)
    after = before + tokens * np.where(short, 1.0, -0.1)
    for number, nll in ((1, before), (2, after)):
        run = home.run(number)
        run.start()
        kept = {"id": [f"e{at}" for at in range(40)], "nll": nll.tolist(), "tokens": tokens.tolist()}
        if number == 2:
            kept["tokens"][0] += 1  # read by another tokenizer
        examples = kept | {"right": tokens.tolist()}
        run.write("eval", step=4, suite="heldout", values={"loss": {"value": 1.0}}, examples=examples)
    Ingest(projection, home.path).poll()
    (row,) = ask(projection, queries.paired(1, 2))
    expected = change(before[1:], after[1:], tokens[1:])
    assert row["n"] == 39
    assert row["difference"] == pytest.approx(expected.value)
    assert expected.value < 0
    assert (row["lo"], row["hi"]) == pytest.approx(expected.interval(), abs=1e-4)


def test_runs_disagree_most_on_the_examples_whose_losses_are_farthest_apart(two: Projection) -> None:
    rows = ask(two, queries.disagreements([1, 2, 3]))
    # Held-out nats over ten tokens: [20, 10, 6] at step 3 of run 1, [21, 13, 8] at step 2 of run 2. General text: run 2
    # has only been scored at step 0.
    assert [(row["example"], row["run"], row["loss"]) for row in rows] == [
        ("heldout-1", 1, 1.0), ("heldout-1", 2, 1.3), ("heldout-2", 1, 0.6), ("heldout-2", 2, 0.8),
        ("general-0", 1, 1.2), ("general-0", 2, 1.0), ("heldout-0", 1, 2.0), ("heldout-0", 2, 2.1),
        ("general-1", 1, 1.0), ("general-1", 2, 1.0),
    ]  # fmt: skip
    assert [round(row["spread"], 6) for row in rows[::2]] == [0.3, 0.2, 0.2, 0.1, 0.0]
    assert {(row["run"], row["suite"], row["step"]) for row in rows} == {
        (1, "heldout", 3), (2, "heldout", 2), (1, "general", 3), (2, "general", 0)
    }  # fmt: skip
    assert len(ask(two, queries.disagreements([1, 2], limit=1))) == 4
    assert ask(two, queries.disagreements([1])) == []


def test_examples_are_only_compared_where_they_were_read_alike(
    home: FakeHome, projection: Projection
) -> None:
    for number, tokens in ((1, 10), (2, 10), (3, 12)):
        run = home.run(number)
        run.start()
        run.eval(4, "heldout", [10.0 + number, 5.0], tokens=tokens)
        if number == 2:
            run.eval(5, "heldout", [12.0, 5.0, 7.0])
    Ingest(projection, home.path).poll()
    rows = ask(projection, queries.disagreements([1, 2, 3]))
    assert {row["run"] for row in rows} == {1, 2}
    assert rows[0]["spread"] == pytest.approx(0.1)
    assert ask(projection, queries.shared_examples(1, [2, 3])) == [
        {"run": 2, "suite": "heldout", "n": 3, "n_a": 2, "shared": 2, "alike": 2},
        {"run": 3, "suite": "heldout", "n": 2, "n_a": 2, "shared": 2, "alike": 0},
    ]


def test_baselines_are_paired_with_the_last_evaluation(home: FakeHome, projection: Projection) -> None:
    noise = np.random.default_rng(0)
    tokens, ids = noise.integers(5, 60, 40), [f"e{at}" for at in range(40)]
    base = tokens * noise.normal(3.0, 0.4, 40)
    after = {
        "few": base - 0.3 * tokens - noise.normal(0, 2, 40),
        "now": base - tokens * noise.normal(1.0, 0.2, 40),
    }
    run = home.run(1, task={"name": "sft"})
    run.start()

    def evaluate(step: int, suite: str, nll: np.ndarray, chosen: slice, **values: Any) -> None:
        kept = {"id": ids, "nll": nll, "tokens": tokens, "right": tokens}
        examples = {
            key: list(map(float if key == "nll" else str if key == "id" else int, v[chosen]))
            for key, v in kept.items()
        }
        run.write(
            "eval", step=step, suite=suite, values={"loss": {"value": 1.0}, **values}, examples=examples
        )

    evaluate(0, "heldout", base, slice(None))
    evaluate(0, "heldout_few_shot", after["few"], slice(0, 30), shots={"value": 3.5})
    Ingest(projection, home.path).poll()
    assert ask(projection, queries.baselines(1)) == []
    evaluate(4, "heldout", after["now"], slice(None))
    Ingest(projection, home.path).poll()
    zero, few = ask(projection, queries.baselines(1))
    assert (zero["baseline"], zero["shots"], zero["n"], zero["step"]) == ("zero-shot", 0, 40, 4)
    assert (few["baseline"], few["shots"], few["n"], few["step"]) == ("few-shot", 3.5, 30, 4)
    for row, before, n in ((zero, base, 40), (few, after["few"], 30)):
        expected = change(before[:n], after["now"][:n], tokens[:n])
        assert (row["base_loss"], row["loss"]) == pytest.approx(
            (before[:n].sum() / tokens[:n].sum(), after["now"][:n].sum() / tokens[:n].sum())
        )
        assert row["change"] == pytest.approx(expected.value)
        assert (row["lo"], row["hi"]) == pytest.approx(expected.interval(), rel=1e-4)


def test_slices_are_paired_with_step_0_whole_and_one_by_one(home: FakeHome, projection: Projection) -> None:
    noise = np.random.default_rng(1)
    tokens, names = noise.integers(5, 60, 30), ["prose", "code", "samples"] * 10
    base = tokens * noise.normal(3.0, 0.4, 30)
    now = base + tokens * noise.normal(0.1, 0.2, 30)
    run = home.run(1)
    run.start()

    def evaluate(step: int, nll: np.ndarray, chosen: slice) -> None:
        examples = {
            "id": [f"g{at}" for at in range(30)],
            "nll": nll.tolist(),
            "tokens": tokens.tolist(),
            "right": tokens.tolist(),
            "slice": names,
            "lost": [2] * 30,
            "gained": [1] * 30,
        }
        kept = {key: values[chosen] for key, values in examples.items()}
        run.write("eval", step=step, suite="general", values={"loss": {"value": 1.0}}, examples=kept)

    evaluate(0, base, slice(None))
    Ingest(projection, home.path).poll()
    assert ask(projection, queries.slices(1)) == []
    evaluate(4, now, slice(0, 20))  # a look at a part
    Ingest(projection, home.path).poll()
    rows = ask(projection, queries.slices(1))
    assert [row["slice"] for row in rows] == [None, "code", "prose"]
    for row in rows:
        of = np.array(
            [
                at
                for at in range(20)
                if row["slice"] == names[at] or (not row["slice"] and names[at] != "samples")
            ]
        )
        expected = change(base[of], now[of], tokens[of])
        assert (row["n"], row["step"], row["lost"], row["gained"]) == (len(of), 4, 2 * len(of), len(of))
        assert (row["base_loss"], row["loss"]) == pytest.approx(
            (base[of].sum() / tokens[of].sum(), now[of].sum() / tokens[of].sum())
        )
        assert (row["change"], row["lo"], row["hi"]) == pytest.approx(
            (expected.value, *expected.interval()), abs=1e-3
        )
        assert (row["gain"], row["per_gain"]) == (None, None)
    # An older finetui kept what the base model wrote as a slice of general text.
    (row,) = ask(projection, queries.distance(1))
    of = np.array([at for at in range(20) if names[at] == "samples"])
    expected = change(base[of], now[of], tokens[of])
    assert (row["suite"], row["step"], row["n"], row["kl"]) == ("samples", 4, len(of), None)
    assert (row["distance"], row["lo"], row["hi"]) == pytest.approx(
        (expected.value, *expected.interval()), abs=1e-2
    )


def test_the_price_stands_beside_the_gain_and_the_distance_by_suite(
    home: FakeHome, projection: Projection
) -> None:
    run = home.run(1)
    run.start()

    def evaluate(step: int, suite: str, nll: list[float], kl: list[float | None] | None = None) -> None:
        examples = {"id": [f"{suite}{at}" for at in range(len(nll))], "nll": nll, "tokens": [10] * len(nll)}
        examples |= {"right": [5] * len(nll)} | ({"kl": kl} if kl else {})
        run.write("eval", step=step, suite=suite, values={"loss": {"value": 1.0}}, examples=examples)

    for step, fall, rise in ((0, 0.0, 0.0), (7, 10.0, 2.0)):
        evaluate(step, "heldout", [30 - fall, 40 - fall, 50 - 0.7 * fall], [0.3, None, 0.5] if step else None)
        evaluate(step, "general", [20 + rise, 30 + rise, 25 + 2 * rise])
        evaluate(step, "samples", [20 + rise, 21 + rise], [0.1, 0.2] if step else None)
    Ingest(projection, home.path).poll()
    (row,) = ask(projection, queries.slices(1))
    gain, price = 0.9, 8 / 30
    assert (row["gain"], row["change"], row["per_gain"]) == pytest.approx((gain, price, price / gain))
    assert row["gain_lo"] < gain < row["gain_hi"]
    found = [(row["suite"], row["distance"], row["kl"]) for row in ask(projection, queries.distance(1))]
    assert found == [
        ("samples", pytest.approx(0.2), pytest.approx(0.15)),
        ("heldout", None, pytest.approx(0.4)),
    ]


def test_what_is_measured_at_both_ends_is_paired(home: FakeHome, projection: Projection) -> None:
    noise = np.random.default_rng(2)
    run = home.run(1)
    run.start()
    entropy = {step: noise.normal(2.0, 0.5, 24) for step in (0, 9)}
    refused = {0: [False] * 24, 9: [True] * 3 + [False] * 21}
    chosen = {0: [0] * 30, 9: [1] * 4 + [0] * 26}
    for step in (0, 9):
        for at in range(24):
            switched = None if at else False
            values = {
                "tokens": 5,
                "entropy": entropy[step][at],
                "refused": refused[step][at],
                "switched": switched,
            }
            run.write("drift", step=step, index=at, prompt=f"p{at}", text="t", finished=True, **values)
        ids = [f"q{at}" for at in range(30)]
        asked = {"id": ids, "answer": [0] * 29 + [1], "chosen": chosen[step], "chosen_norm": [0] * 30}
        run.write("choices", step=step, slice="arc", values={"accuracy": {"value": 0.5}}, questions=asked)
    Ingest(projection, home.path).poll()

    rows = {row["measure"]: row for row in ask(projection, queries.drift(1))}
    assert list(rows) == ["tokens", "entropy", "finished", "refused", "switched"]  # as far as measured
    expected = change(entropy[0], entropy[9], np.ones(24))
    found = rows["entropy"]["change"], rows["entropy"]["lo"], rows["entropy"]["hi"]
    assert found == pytest.approx((expected.value, *expected.interval()), abs=1e-3)
    # Agresti and Min 2005: half a case more in each cell of 0 lost and 3 gained of 24.
    half = 1.959964 * np.sqrt(4 - 9 / 26) / 26
    found = [rows["refused"][key] for key in ("base", "now", "change", "lo", "hi", "n")]
    assert found == pytest.approx([0.0, 0.125, 0.125, 3 / 26 - half, 3 / 26 + half, 24])
    assert rows["finished"]["lo"] < 0 < rows["finished"]["hi"]  # no change in 24 prompts is no proof of none
    assert (rows["switched"]["n"], rows["tokens"]["step"]) == (1, 9)

    by_sum, by_length = ask(projection, queries.choices(1))
    assert (by_sum["measure"], by_sum["lost"], by_sum["gained"], by_sum["n"]) == ("accuracy", 4, 0, 30)
    assert (by_sum["base"], by_sum["now"]) == pytest.approx((29 / 30, 25 / 30))
    assert by_sum["p"] == pytest.approx(2 * 0.5**4)  # four of four discordant pairs on one side, twice
    assert (by_length["change"], by_length["p"]) == (0.0, 1.0)
    metrics = ask(projection, queries.curves([1], "choices.arc/accuracy"))
    assert [row["last"] for row in metrics] == [0.5, 0.5]


def test_passages_of_one_document_count_as_one(home: FakeHome, projection: Projection) -> None:
    noise = np.random.default_rng(2)
    tokens, of = noise.integers(5, 60, 40), np.arange(40) % 8
    base = tokens * noise.normal(3.0, 0.4, 40)
    now = base + tokens * (noise.exponential(0.3, 8)[of] + noise.normal(0, 0.05, 40))
    run = home.run(1)
    run.start()
    for step, nll in ((0, base), (4, now)):
        examples = {"id": [f"g{at}" for at in range(40)], "nll": nll.tolist(), "tokens": tokens.tolist()}
        examples["document"] = [f"book {at}" for at in of]
        run.write("eval", step=step, suite="general", values={"loss": {"value": 1.0}}, examples=examples)
    Ingest(projection, home.path).poll()
    (row,) = ask(projection, queries.slices(1))
    expected = change(base, now, tokens, of)
    assert row["n"] == 40
    assert (row["change"], row["lo"], row["hi"]) == pytest.approx(
        (expected.value, *expected.interval()), rel=0.01
    )
    narrow = change(base, now, tokens).interval()
    assert row["hi"] - row["lo"] > 1.5 * (narrow[1] - narrow[0])


def test_general_text_that_is_not_divided_has_one_row(home: FakeHome, projection: Projection) -> None:
    run = trained(home, 1, [3.0])
    run.eval(3, "general", [12.0, 12.0])
    Ingest(projection, home.path).poll()
    (row,) = ask(projection, queries.slices(1))
    assert (row["slice"], row["n"], row["change"]) == (None, 2, pytest.approx(0.2))


def test_a_class_has_no_baseline_in_nats_per_token(home: FakeHome, projection: Projection) -> None:
    run = trained(home, 1, [3.0], task={"name": "classification"})
    run.eval(3, "heldout", [20.0, 10.0, 6.0])
    Ingest(projection, home.path).poll()
    assert ask(projection, queries.baselines(1)) == []


def test_the_compare_table_and_the_sql_that_is_shown(two: Projection) -> None:
    first, second = ask(two, queries.compare_table([1, 2]))
    assert (first["method"], first["trainable"], first["flags"]) == ("lora", 10, 2)
    shown = (first["heldout_base"], first["heldout_last"], first["general_base"], first["general_delta"])
    assert shown == pytest.approx((2.0, 1.2, 1.0, 0.1))
    assert (second["method"], second["heldout_last"]) == ("qlora", pytest.approx(1.4))
    assert ask(two, (queries.compare_table_sql([1, 2]), {})) == [first, second]
    assert ask(two, queries.compare_table([])) == []


def test_leaderboard_has_the_best_first(two: Projection) -> None:
    board = ask(two, queries.leaderboard())
    assert [(row["place"], row["run"]) for row in board] == [(1, 1), (2, 2)]
    assert board[0]["general_delta"] == pytest.approx(0.1)


def test_events_are_the_latest_and_in_order(two: Projection) -> None:
    log = ask(two, queries.events(1, limit=3))
    assert len(log) == 3
    assert [row["t"] for row in log] == sorted(row["t"] for row in log)
    assert log[-1]["kind"] == "ended"
    assert ask(two, queries.events(1, after=log[1]["t"])) == log[2:]
    assert {row["run"] for row in ask(two, queries.events())} == {1, 2, 3}


def test_every_query_runs_on_an_empty_store(projection: Projection) -> None:
    arguments: dict[str, dict[str, Any]] = {
        "curves": {"runs": [1], "key": "k"},
        "eval_examples": {"run": 1, "suite": "heldout"},
        "params_diff": {"runs": [1, 2]},
        "compare_metrics": {"runs": []},
        "compare_table": {"runs": [1]},
        "paired": {"a": 1, "b": 2},
        "changes": {"run": 1, "suite": "heldout", "step_before": 0, "step_after": 1},
        "example_text": {"example": "e"},
        "example_losses": {"run": 1, "suite": "heldout", "example": "e"},
        "answers": {"run": 1, "example": "e"},
        "disagreements": {"runs": [1, 2]},
        "shared_examples": {"a": 1, "runs": [2]},
        "hardware_history": {"seconds": 60, "step": 10},
        **{name: {} for name in ("runs", "leaderboard", "hardware", "flags", "events")},
    }
    for name, query in queries.NAMED.items():
        found = ask(projection, query(**arguments.get(name, {"run": 1})))
        assert found == [] or name == "paired", name


def test_details_of_a_run(two: Projection) -> None:
    assert [row["key"] for row in ask(two, queries.keys(1))][:2] == ["general/loss", "general/token_accuracy"]
    worst, *_ = ask(two, queries.eval_examples(1, "heldout"))
    assert (worst["step"], worst["example"], worst["loss"]) == (3, "heldout-0", 2.0)
    assert len(ask(two, queries.evals(1, "general"))) == 4
    assert {row["flag"] for row in ask(two, queries.flags(1))} == {"forgetting", "overfitting", "note"}
    assert [row["attempt"] for row in ask(two, queries.attempts(1))] == [1]
    assert ask(two, queries.datasets(1))[0]["role"] == "train"


def test_hardware_latest_and_since(home: FakeHome, projection: Projection) -> None:
    (home.path / "hardware.jsonl").write_text(
        '{"kind":"header","log":"hw","t":1}\n{"kind":"device","t":2,"name":"gpu0","label":"NVIDIA H100"}\n'
        + "".join(
            f'{{"kind":"sample","t":{t},"values":{{"cpu/percent":{t},"gpu0/util":{t * 2}}}}}\n'
            for t in range(3, 9)
        )
    )
    Ingest(projection, home.path).poll()
    assert ask(projection, queries.hardware()) == [
        {"t": 8.0, "key": "cpu/percent", "value": 8.0, "label": None},
        {"t": 8.0, "key": "gpu0/util", "value": 16.0, "label": "NVIDIA H100"},
    ]
    assert len(ask(projection, queries.hardware(since=5.0))) == 6
    history = ask(projection, queries.hardware_history(seconds=5.0, step=2.0))
    assert [(row["slot"], row["value"]) for row in history if row["key"] == "gpu0/util"] == [
        (0, 16.0),
        (1, 13.0),
        (2, 9.0),
    ]


def test_a_busy_minute_with_many_samples_weighs_no_more(home: FakeHome, projection: Projection) -> None:
    """Samples come each second while something runs, and each half minute else."""
    home.path.mkdir(exist_ok=True)
    times = [0, 30, *range(31, 41), 60, 90, 119]
    lines = [
        f'{{"kind":"sample","t":{t},"values":{{"cpu/percent":{100 if 30 < t <= 40 else 0}}}}}' for t in times
    ]
    header = '{"kind":"header","log":"hw","t":1}'
    (home.path / "hardware.jsonl").write_text("\n".join([header, *lines, ""]))
    Ingest(projection, home.path).poll()
    slots = {row["slot"]: row["value"] for row in ask(projection, queries.hardware_history(120.0, 60.0))}
    assert slots[1] == pytest.approx(100 * 10 / 70), (
        "ten of the seconds up to the 40th; the first has the next gap"
    )
    assert slots[0] == 0.0


def test_a_long_curve_is_read_from_rollups_and_loses_no_spike(home: FakeHome, projection: Projection) -> None:
    """Live, moved in parts, and settled: the same curve as from its points."""
    steps, buckets = 60_000, 400
    values = {step: float(np.sin(step / 900)) for step in range(0, steps, 2)}
    values |= {30_002: 50.0, 44_444: -50.0, 20_000: math.nan}
    run, ingest = home.run(1), Ingest(projection, home.path)
    run.start()
    for first in (0, 20_000, 41_000):
        for step in range(first, {0: 20_000, 20_000: 41_000, 41_000: steps}[first], 2):
            run.metrics(step, loss=values[step])
        ingest.poll()
        if first:  # as the writer does when there are many
            with projection.write() as cursor:
                settling.move(cursor, [1])
            seen = ask(projection, queries.curves([1], "train/loss", buckets))
            assert seen == ask(projection, plain_curve("train/loss", buckets))
    assert len(ask(projection, queries.curves([1], "train/loss", buckets))) == 235
    assert max(row["max"] for row in seen) == 50.0
    assert min(row["min"] for row in seen) == -50.0
    with projection.read() as cursor:
        parts = cursor.execute("SELECT count(*) FROM rollups").fetchone()
    run.end("finished")
    ingest.poll()
    with projection.write() as cursor:
        settling.settle(cursor, [1])
        assert cursor.execute("SELECT count(*) FROM metrics_live").fetchone() == (0,)
        whole = cursor.execute("SELECT count(*) FROM rollups").fetchone()
    assert 1000 < whole[0] < parts[0], "one row for a bucket"
    assert ask(projection, queries.curves([1], "train/loss", buckets)) == seen
    assert rows_read(projection, buckets) < 2 * buckets


def test_no_level_loses_a_spike(home: FakeHome, projection: Projection) -> None:
    """Whatever level a curve is read from, its least and greatest values are there, at their places: while the run goes
    on, in parts, and once it has ended.
    """
    apart, count = 40, 30_000  # steps between two points, so that few points have all levels
    spikes = {0: 9.0, 7_777: 50.0, 24_001: -50.0, count - 1: -9.0}
    run, ingest = home.run(1), Ingest(projection, home.path)
    run.start()
    for first in (0, 12_000, 24_000):
        for place in range(first, min(count, first + 12_000)):
            run.metrics(place * apart, loss=spikes.get(place, float(np.sin(place / 900))))
        ingest.poll()
        if first < 24_000:  # the rest waits in metrics_live
            with projection.write() as cursor:
                settling.move(cursor, [1])
    live = levels_read(projection)
    run.end("finished")
    ingest.poll()
    assert levels_read(projection) == live == set(rollups.LEVELS)


def levels_read(projection: Projection) -> set[int]:
    """The levels of rollups that curves of any number of buckets are read from, each compared with its points."""
    levels = set()
    for buckets in (1, 4, 20, 80, 300, 1200, 5000, 10_000):
        seen = ask(projection, queries.curves([1], "train/loss", buckets))
        assert seen == ask(projection, plain_curve("train/loss", buckets))
        assert max(row["max"] for row in seen) == 50.0
        assert min(row["min"] for row in seen) == -50.0
        levels |= {int(width) for width in re.findall(r"width = (\d+)", sql_of_curve(projection, buckets))}
    return levels


def sql_of_curve(projection: Projection, buckets: int) -> str:
    with projection.read() as cursor:
        return resolved(queries.curves([1], "train/loss", buckets), cursor)[0]


def test_a_long_series_of_few_points_is_drawn_point_by_point(home: FakeHome, projection: Projection) -> None:
    run = home.run(1)
    run.start()
    for step in (*range(0, 100_000, 1000), 50_001, 50_002):
        run.metrics(step, loss=step)
    run.end("finished")
    Ingest(projection, home.path).poll()
    assert len(ask(projection, queries.curves([1], "train/loss", 400))) == 102


def plain_curve(key: str, buckets: int) -> queries.Query:
    """The same from the points alone."""
    return (
        """
WITH span AS (
  SELECT pow(2, ceil(log2((max(step) - min(step) + 1) / $buckets)))::BIGINT AS width FROM metrics WHERE key = $key
)
SELECT run, max(step) AS step, max(t) AS t, min(value) AS min,
       coalesce(max(CASE WHEN NOT isnan(value) THEN value END), min(value)) AS max,
       arg_max(value, step) AS last, count(*) AS n
FROM metrics, span WHERE run = 1 AND key = $key GROUP BY run, step // width ORDER BY step""",
        {"key": key, "buckets": buckets},
    )


def rows_read(projection: Projection, buckets: int) -> int:
    parts = sql_of_curve(projection, buckets).partition("FROM (")[2].partition(")\nGROUP BY")[0]
    with projection.read() as cursor:
        return int(cursor.execute(f"SELECT count(*) FROM ({parts})", {"key": "train/loss"}).fetchone()[0])


def test_what_a_resume_takes_back_is_gone_from_rollups(home: FakeHome, projection: Projection) -> None:
    run, ingest = home.run(1), Ingest(projection, home.path)
    run.start()
    for step in range(0, 60_000, 4):
        run.metrics(step, loss=step)
    ingest.poll()
    with projection.write() as cursor:
        settling.move(cursor, [1])
    run.start(attempt=2)
    run.write("resume", attempt=2, from_step=40_000)
    run.metrics(40_004, attempt=2, loss=7)
    ingest.poll()
    curve = ask(projection, queries.curves([1], "train/loss", 400))
    assert curve == ask(projection, plain_curve("train/loss", 400))
    assert (curve[-1]["step"], curve[-1]["last"]) == (40_004, 7.0)
    assert max(row["max"] for row in curve) == 40_000
