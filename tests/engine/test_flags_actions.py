"""Actions: their order, what they stand for in a recipe, and what `fix` makes of them."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from engine.flags import actions
from engine.flags.flag import Action, Flag
from engine.flags.history import Context
from engine.recipe.methods import DEFAULT_LR
from engine.recipe.recipe_file import parse
from engine.recipe.tasks import RATE

FULL = Context("full", 3e-4, 0.0, general="bundled:stdlib-prose", epochs=4.0)
RECIPE = {
    "model": "bundled:stdlib-2m",
    "method": {"name": "full"},
    "data": {"train": "bundled:docstrings"},
    "train": {"lr": 3e-4, "epochs": 4.0},
    "evals": {"general": "bundled:stdlib-prose"},
}


def every_action() -> list[Action]:
    contexts = [Context(method, rate, 0.0, "general.jsonl", 4.0) for method, rate in DEFAULT_LR.items()]
    return [
        action
        for context in contexts
        for found in (
            actions.forgetting(context),
            actions.overfitting(context, 40),
            actions.instability(context),
            actions.not_a_number(context),
            actions.overconfident(context),
            actions.overconfident(replace(context, task="dpo")),
            actions.displacement(replace(context, task="dpo")),
            actions.memorised(context),
            actions.converged(40),
            actions.dead(context, no_gradient=False),
            actions.dead(context, no_gradient=True),
            actions.template(never_ends=True),
            actions.template(never_ends=False),
            actions.leak("heldout", scored=True),
            actions.leak("general", scored=False),
        )
        for action in found
    ]


def fix(recipe, flags) -> dict[str, object]:
    """The changes by dotted key."""
    return {key: value for _, action in actions.fix(recipe, flags) for key, value in action.change.items()}


def flag(name, level, found) -> Flag:
    return Flag(name, level, 1, 1, "heldout", 0, 0, 0, 1, 1, "", found)


def test_forgetting_is_answered_in_order():
    texts = [action.text for action in actions.forgetting(FULL)]
    words = (
        "finetui fix --scale",
        "1.0e-04",
        "data.replay.ratio to 0.01",
        "method.name=lora",
        "freeze",
        "train.epochs=2:",
    )
    assert [word in text for word, text in zip(words, texts, strict=True)] == [True] * 6


def test_what_needs_no_training_comes_first_where_the_weights_have_a_scale():
    def commands(context):
        advised = (
            actions.forgetting(context),
            actions.overfitting(context, 40),
            actions.overfitting(context, 0),
        )
        return [[action.command for action in found].index("fix --scale") for found in advised]

    assert commands(FULL) == [0, 0, 1]  # where no step was better than the base, the rows are looked at first
    for other in (replace(FULL, method="prompt"), replace(FULL, task="classification")):
        with pytest.raises(ValueError, match="not in list"):
            commands(other)


def test_tasks_that_cannot_replay_are_not_told_to():
    found = actions.forgetting(replace(FULL, task="dpo"))
    assert found
    assert not any("replay" in action.text or "data.replay.ratio" in action.change for action in found)


@pytest.mark.parametrize(("replay", "ratio"), [(0.0, 0.01), (0.01, 0.05), (0.05, 0.25), (0.25, None)])
def test_replay_climbs_a_ladder(replay, ratio):
    found = actions.forgetting(Context("lora", 1e-4, replay, "general.jsonl"))
    ratios = [action.change.get("data.replay.ratio") for action in found]
    assert [r for r in ratios if r] == ([ratio] if ratio else [])


def test_a_rate_is_not_lowered_for_ever():
    found = actions.forgetting(Context("lora", 2e-5, 0.0, "general.jsonl"))
    assert all("train.lr" not in action.change for action in found)


def test_every_change_is_a_recipe():
    text = json.dumps(RECIPE)  # which is YAML
    for change in {str(action.change): action.change for action in every_action()}.values():
        overrides = [f"{key}={value}" for key, value in change.items()]
        overrides += ["task.name=dpo"] if "task.beta" in change else []
        recipe = parse(text, Path("recipe.yaml"), overrides).recipes[0]
        assert {key: recipe.flat().get(key) for key in change if key != "method"} == {
            key: str(value) for key, value in change.items() if key != "method"
        }


def test_every_source_is_in_the_literature_list():
    page = (Path(__file__).parents[2] / "docs" / "flags.md").read_text()
    listed = set(re.findall(r"^- `(\w+)`", page, re.MULTILINE))
    assert {action.source for action in every_action() if action.source} <= listed


def test_fix_takes_the_first_action_that_applies():
    forgot = flag("forgetting", "warn", actions.forgetting(FULL))
    assert fix(RECIPE, [forgot]) == {"train.lr": 1e-4}
    lowered = RECIPE | {"train": {"lr": 1e-4}}
    assert fix(lowered, [forgot]) == {
        "data.replay.source": "bundled:stdlib-prose",
        "data.replay.ratio": 0.01,
    }


def test_fix_answers_the_gravest_flag_first_and_touches_no_key_twice():
    overfitted = flag("overfitting", "critical", actions.overfitting(FULL, 40))
    unstable = flag(
        "instability", "warn", (Action("", {"train.max_steps": 9}), Action("", {"train.lr": 1e-5}))
    )
    assert fix(RECIPE, [unstable, overfitted]) == {"train.max_steps": 40, "train.lr": 1e-5}


def test_where_no_step_was_better_than_the_base_nothing_is_to_be_stopped_there():
    found = actions.overfitting(FULL, 0)
    assert "No step was better than the base model" in found[0].text
    assert not any("train.max_steps" in action.change for action in found)
    assert fix(RECIPE, [flag("overfitting", "critical", found)]) == {"train.lr": 1e-4}


def test_a_run_that_stops_at_its_best_step_is_not_told_to():
    found = actions.overfitting(replace(FULL, stops=True), 40)
    assert "which this run keeps" in found[0].text
    assert fix(RECIPE, [flag("overfitting", "critical", found)]) == {"train.epochs": 2.0}


def test_preference_pairs_have_a_floor_of_their_own():
    rate = DEFAULT_LR["lora"] * RATE["dpo"]
    (first, *_) = actions.instability(Context("lora", rate, 0.0, task="dpo"))
    assert first.change == {"train.lr": pytest.approx(rate / 3, rel=0.1)}


def test_a_new_method_and_a_rate_for_the_old_one_do_not_go_together():
    unstable = flag("instability", "critical", actions.instability(FULL))
    less = flag("forgetting", "warn", (actions.CHANGE_LESS["full"], Action("", {"data.replay.ratio": 0.05})))
    assert fix(RECIPE, [unstable, less]) == {"train.lr": 1e-4, "data.replay.ratio": 0.05}
    critical = flag("forgetting", "critical", less.actions)
    longer = flag("instability", "warn", unstable.actions)
    assert fix(RECIPE, [longer, critical]) == {"method": "lora"}


def test_what_was_tried_comes_last():
    forgot = flag("forgetting", "warn", actions.forgetting(FULL))
    (chosen,) = actions.fix(RECIPE, [forgot], {"train.lr"})
    assert chosen[1].change == {"data.replay.source": "bundled:stdlib-prose", "data.replay.ratio": 0.01}
    only = flag("forgetting", "warn", actions.forgetting(FULL)[1:2])
    (chosen,) = actions.fix(RECIPE, [only], {"train.lr"})
    assert chosen[1].change == {"train.lr": 1e-4}


def test_fix_leaves_notices_alone():
    leading = flag("forgetting", "watch", actions.forgetting(FULL))
    told = flag("converged", "info", actions.converged(40))
    assert fix(RECIPE, [leading, told]) == {}


def test_a_change_of_method_replaces_the_section():
    less = (actions.CHANGE_LESS["full"],)
    assert fix(RECIPE, [flag("forgetting", "warn", less)]) == {"method": "lora"}
    assert fix(RECIPE | {"method": {"name": "lora", "r": 8}}, [flag("forgetting", "warn", less)]) == {}
    assert fix(RECIPE | {"method": "lora"}, [flag("forgetting", "warn", less)]) == {}
