"""What similar runs did, as what a suggestion would bring."""

from __future__ import annotations

from typing import Any

import pytest

from engine.client.prediction import predict, predict_scaling

LOWER = {"train.lr": ("0.003", "0.001")}


def a_row(
    run: int,
    heldout: float,
    general: float | None = 2.0,
    scaling: dict[str, Any] | None = None,
    **params: str,
) -> dict[str, Any]:
    values = {
        "train.lr": "0.003",
        "seed": "0",
        "method.name": "full",
        **{k.replace("__", "."): v for k, v in params.items()},
    }
    scaled = {"scaling": None, "scaling_factor": None, "scaling_helps": None, "scaling_kept": None}
    return {
        "run": run, "heldout_base": 4.0, "heldout": heldout, "general_base": None if general is None else 2.0,
        "general": general, "params": [{"key": key, "value": value} for key, value in values.items()],
        **scaled, **(scaling or {}),
    }  # fmt: skip


def test_runs_that_differ_in_the_key_alone_tell_what_it_brings():
    rows = [
        a_row(1, 3.0, 2.2),
        a_row(2, 3.4, 2.1, train__lr="0.001"),
        a_row(3, 2.0, train__lr="0.001", data__limit="9"),
    ]
    found = predict(rows, "forgetting", LOWER)
    assert found.runs == 2
    assert found.heldout is not None
    assert found.general is not None
    assert (found.heldout.value, found.general.value) == pytest.approx((0.4, -0.1))
    assert found.kept == pytest.approx(0.6)
    assert found.worth is False  # 0.4 of the task for 0.1 of the text
    assert found.text.startswith(
        "not worth it: predicted from 2 similar runs: held-out +0.400, 60% of the gain stays"
    )


def test_what_gives_back_more_text_than_it_costs_is_worth_it_but_not_against_overfitting():
    rows = [a_row(1, 3.0, 2.6), a_row(2, 3.1, 2.1, train__lr="0.001")]
    assert predict(rows, "forgetting", LOWER).worth is True
    assert predict(rows, "overfitting", LOWER).worth is False


def test_seeds_are_averaged_and_pairs_at_another_rate_count_with_an_interval():
    rows = [
        a_row(1, 3.0), a_row(2, 3.2, seed="1"), a_row(3, 2.9, train__lr="0.001"),
        a_row(4, 3.3, train__lr="0.01", method__r="8"), a_row(5, 3.0, train__lr="0.003", method__r="8"),
    ]  # fmt: skip
    found = predict(rows, "overfitting", LOWER)
    assert found.runs == 5
    assert found.heldout is not None
    assert found.heldout.value == pytest.approx(-0.25)  # the mean of -0.2 and -0.3
    assert found.heldout.n == 2
    assert found.worth is True


@pytest.mark.parametrize(
    "other",
    [{"train__lr": "0.0025"}, {"train__lr": "0.00001"}, {"train__lr": "0.001", "method__name": "lora"}],
)
def test_another_direction_size_or_key_is_not_the_same_change(other):
    found = predict([a_row(1, 3.0), a_row(2, 2.0, **other)], "forgetting", LOWER)
    assert (found.runs, found.worth) == (0, None)
    assert found.text == "no similar run in the store: what it would bring is unknown"


def test_a_method_comes_with_settings_of_its_own():
    rows = [a_row(1, 3.0), a_row(2, 2.8, train__lr="0.0002", method__name="lora", method__r="16")]
    change = {"method.name": ("full", "lora"), "train.lr": ("0.003", "0.0002"), "method.r": (None, "16")}
    assert predict(rows, "overfitting", change).worth is True


def test_a_run_that_came_to_nothing_tells_nothing():
    rows = [a_row(1, 3.0), a_row(2, float("nan"), train__lr="0.001")]
    assert predict(rows, "forgetting", LOWER).runs == 0
    found = predict([a_row(1, 3.0), a_row(2, 2.9, float("nan"), train__lr="0.001")], "forgetting", LOWER)
    assert (found.general, found.worth) == (None, True)


def test_without_general_text_only_the_task_is_predicted():
    found = predict([a_row(1, 3.0, None), a_row(2, 3.1, None, train__lr="0.001")], "forgetting", LOWER)
    assert found.general is None
    assert found.worth is False


def test_scaling_is_predicted_from_the_run_itself_or_from_others():
    helped = {"scaling": "it did", "scaling_factor": 0.7, "scaling_helps": True, "scaling_kept": 0.93}
    nothing = {"scaling": "it did not", "scaling_helps": False}
    rows = [a_row(1, 3.0), a_row(2, 3.0, scaling=helped), a_row(3, 3.0, scaling=nothing)]
    found = predict_scaling(rows, 1)
    assert (found.runs, found.worth) == (2, True)
    assert (
        found.text == "it helped 1 of 2 similar runs, which kept 93% of their gain at factor 0.7 on average"
    )
    assert predict_scaling(rows, 3).text == "not worth it: scored already: it did not"
    assert predict_scaling(rows[:1], 1).worth is None
    assert predict_scaling([a_row(n, 3.0, scaling=nothing) for n in (2, 3)], 1).worth is None
    assert predict_scaling([a_row(n, 3.0, scaling=nothing) for n in (2, 3, 4)], 1).worth is False
