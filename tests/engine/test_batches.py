"""The order of training: complete, within its budgets, and the same again from any step."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from engine.data.chat import Example
from engine.losses.batches import Plan, collate, micro_batches
from engine.recipe.sections import Train

LENGTHS = tuple(int(n) for n in np.random.default_rng(0).integers(5, 120, 300))


def plan(**changes) -> Plan:
    settings = {
        "lengths": LENGTHS,
        "seed": 0,
        "epochs": 2.0,
        "max_steps": None,
        "tokens_per_step": 1000,
    }
    return Plan(**{**settings, **changes})


def order(plan: Plan, start: int = 0) -> list[list[list[int]]]:
    """The forward passes of every step."""
    return [[group.tolist() for group in plan.split(chosen, 300)] for _, chosen in plan.steps(start)]


def test_an_epoch_has_every_example_once_in_a_new_order():
    one, two = (np.concatenate(plan().epoch(epoch)) for epoch in (0, 1))
    assert sorted(one) == sorted(two) == list(range(300))
    assert one.tolist() != two.tolist()


def test_steps_have_about_the_tokens_asked_for():
    tokens = [sum(LENGTHS[i] for i in step) for step in plan().epoch(0)]
    assert all(1000 - 120 <= n <= 1000 + 120 for n in tokens)


def test_forward_passes_keep_to_their_budget_with_padding():
    for _, chosen in plan().steps(0):
        for group in plan().split(chosen, 300):
            longest = max(LENGTHS[i] for i in group)
            assert len(group) * longest <= 300


def test_an_example_over_the_budget_is_alone():
    groups = micro_batches(np.array([10, 500, 10]), np.arange(3), 100)
    assert [group.tolist() for group in groups] == [[0, 2], [1]]


@pytest.mark.parametrize("start", [0, 1, 17, 18, 19, 30])
def test_resuming_at_a_step_gives_the_steps_that_were_left(start):
    assert order(plan(), start) == order(plan())[start:]


def test_the_seed_decides_the_order():
    assert order(plan()) == order(plan())
    assert order(plan()) != order(plan(seed=1))


@pytest.mark.parametrize("epochs", [0.3, 1.0, 1.5, 2.0])
def test_epochs_are_counted_in_examples(epochs):
    steps = list(plan(epochs=epochs).steps(0))
    assert len(steps) == plan(epochs=epochs).total_steps
    assert steps[-1][0] == pytest.approx(epochs, abs=0.06)
    seen = sum(len(chosen) for _, chosen in steps)
    assert seen == pytest.approx(epochs * 300, rel=0.15)


@pytest.mark.parametrize("epochs", [0.3, 1.0, 1.5, 3.0])
@pytest.mark.parametrize("tokens_per_step", [700, 1000, 8192, 10**6])
def test_steps_that_are_foretold_from_the_tokens_are_those_of_the_plan(epochs, tokens_per_step):
    train = Train(epochs=epochs, tokens_per_step=tokens_per_step)
    ran = plan(epochs=epochs, tokens_per_step=tokens_per_step)
    assert train.steps_of_run(sum(LENGTHS)) == ran.total_steps
    assert train.steps_of_epoch(sum(LENGTHS)) == len(ran.epoch(0))


@pytest.mark.parametrize("max_steps", [1, 7, 100])
def test_max_steps_wins_over_epochs(max_steps):
    assert len(order(plan(max_steps=max_steps))) == plan(max_steps=max_steps).total_steps == max_steps


@pytest.mark.parametrize(
    ("changes", "all_of_them"), [({"max_steps": 7}, False), ({"epochs": 0.3}, False), ({}, True)]
)
def test_the_examples_of_a_run_are_those_of_its_steps(changes, all_of_them):
    short = plan(**changes)
    visited = short.visited().tolist()
    assert visited == sorted({int(i) for _, chosen in short.steps(0) for i in chosen})
    assert (visited == list(range(300))) is all_of_them


@pytest.mark.parametrize("lengths", [(7,), (1000, 1, 1), (1, 1, 1000), (5,) * 3])
def test_odd_data_sets_give_steps_that_are_not_empty(lengths):
    steps = order(plan(lengths=lengths, tokens_per_step=10, epochs=1.0))
    assert sorted(i for groups in steps for group in groups for i in group) == list(range(len(lengths)))
    assert all(groups for groups in steps)


def test_collate_points_at_the_places_that_predict_the_targets():
    def example(*tokens, targets):
        return Example("x", np.array(tokens, dtype=np.int32), np.isin(np.arange(len(tokens)), targets))

    batch = collate(
        [example(5, 6, 7, targets=[1, 2]), example(8, 9, 10, 11, targets=[3])], torch.device("cpu")
    )
    assert batch.input_ids.tolist() == [[5, 6, 7, 0], [8, 9, 10, 11]]
    assert batch.targets.tolist() == [6, 7, 11]
    assert batch.positions.tolist() == [0, 1, 6]
    assert batch.rows.tolist() == [0, 0, 1]
