"""From a run with flags to a recipe that answers them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from with_daemon import a_home, directory, row, wait_state
from workers import small

from engine.basics.errors import FixError
from engine.client import fix
from engine.recipe import recipe_file
from engine.recipe.sections import Recipe
from engine.runs.home import RunDir
from finetui.daemon import connect
from finetui.log import LogWriter

LOWER = {"text": "Lower the learning rate.", "change": {"train.lr": 1e-3}, "source": "lin2025"}
REPLAY = {
    "text": "Mix in general text.",
    "change": {"data.replay.source": "bundled:stdlib-prose", "data.replay.ratio": 0.01},
    "source": "bethune2025",
}
ADAPT = {"text": "Train adapters.", "change": {"method": "lora"}, "source": "biderman2024"}
LOOK = {"text": "Look at the loss mask.", "change": {}, "source": ""}


def a_run(
    path: Path,
    flags: list[dict[str, Any]],
    name: str = "mine",
    number: int = 7,
    parent: int | str | None = None,
    **changes: Any,
) -> RunDir:
    """A run directory with the flags in its log."""
    recipe = Recipe.model_validate(small(**{"method": "full", "train__lr": 3e-3, **changes}) | {"name": name})
    run = RunDir(path / f"{number:06d}-{name}")
    run.path.mkdir(parents=True)
    meta = {"name": name, "recipe": recipe.model_dump(mode="json"), "recipe_path": str(path / "mine.yaml")}
    meta |= {"parent": parent, "uuid": f"uuid-{number}"}
    run.meta.write_text(json.dumps(meta))
    log = LogWriter(run.attempt(1).events, "worker", number, 1)
    for flag in flags:
        log.write("flag", **flag)
    log.close()
    return run


def flag(
    name: str, level: str, *actions: dict[str, Any], suite: str = "general", step: int = 4
) -> dict[str, Any]:
    return {
        "step": step, "flag": name, "level": level, "since_step": 2, "suite": suite, "effect": None, "lo": None,
        "hi": None, "n": 8, "looks": 2, "message": "It is so.", "worst": [], "advice": [], "actions": list(actions),
    }  # fmt: skip


def test_the_recipe_has_the_first_actions_that_apply_and_says_why(tmp_path):
    run = a_run(
        tmp_path, [flag("instability", "critical", LOWER), flag("forgetting", "warn", LOWER, REPLAY, LOOK)]
    )
    found = fix.propose(run)
    assert [(c.key, c.old, c.new, c.flag, c.source) for c in found.changes] == [
        ("train.lr", "0.003", "0.001", "instability", "lin2025"),
        ("data.replay.source", None, "bundled:stdlib-prose", "forgetting", "bethune2025"),
        ("data.replay.ratio", None, "0.01", "forgetting", "bethune2025"),
    ]
    old = Recipe.model_validate(json.loads(run.meta.read_text())["recipe"])
    differs = {key for key, value in found.recipe.flat().items() if old.flat().get(key) != value}
    assert differs == {"name", *(change.key for change in found.changes)}
    assert found.advice == []


def test_the_recipe_is_written_so_that_reading_it_gives_the_same(tmp_path):
    found = fix.propose(a_run(tmp_path, [flag("forgetting", "warn", LOWER)]))
    fix.check(found)
    path = fix.save(found, tmp_path / "out.yaml")
    assert recipe_file.read(path).recipes[0] == found.recipe
    assert path.read_text().startswith(
        "# Made by `finetui fix 7` from run #7 mine:\n# - train.lr 0.003 → 0.001"
    )


def test_it_is_saved_beside_the_recipe_of_the_run_and_replaces_nothing(tmp_path):
    run = a_run(tmp_path, [flag("forgetting", "warn", LOWER)])
    (tmp_path / "mine.yaml").write_text("")
    found = fix.propose(run)
    assert found.file.path == tmp_path / "mine.yaml"
    assert [fix.save(found, None).name for _ in range(2)] == ["mine-fix.yaml", "mine-fix-2.yaml"]
    with pytest.raises(FixError, match="exists; name another file with -o"):
        fix.save(found, tmp_path / "mine-fix.yaml")
    with pytest.raises(FixError, match="cannot be written"):
        fix.save(found, tmp_path / "nowhere" / "mine.yaml")


def test_another_method_brings_its_own_rate(tmp_path):
    run = a_run(tmp_path, [flag("forgetting", "warn", ADAPT)])
    found = fix.propose(run)
    assert (found.recipe.method.name, found.recipe.train.lr) == ("lora", 2e-4)
    told = {change.key: (change.old, change.new) for change in found.changes}
    assert told["method.name"] == ("full", "lora")
    assert told["train.lr"] == ("0.003", "0.0002")
    assert told["method.r"] == (None, "16")


def test_only_the_last_word_on_a_flag_counts_and_what_a_resume_took_back_does_not(tmp_path):
    run = a_run(tmp_path, [flag("forgetting", "watch", LOWER), flag("forgetting", "warn", REPLAY, step=6)])
    assert {change.key for change in fix.propose(run).changes} == {"data.replay.source", "data.replay.ratio"}
    again = LogWriter(run.attempt(2).events, "worker", 7, 2)
    again.write("resume", from_step=5)
    again.close()
    with pytest.raises(FixError, match=r"run #7 has no flag that warns \(only watch: forgetting\)"):
        fix.propose(run)


def test_a_flag_that_no_key_answers_leaves_advice(tmp_path):
    found = fix.propose(a_run(tmp_path, [flag("endless", "warn", LOOK), flag("converged", "info", LOWER)]))
    assert found.changes == []
    assert [(advice.flag, advice.text) for advice in found.advice] == [("endless", "Look at the loss mask.")]


def test_a_run_without_flags_is_told(tmp_path):
    with pytest.raises(FixError, match="run #7 has no flag that warns, so there is nothing to fix"):
        fix.propose(a_run(tmp_path, []))


@pytest.mark.parametrize(
    ("name", "following"), [("mine", "mine-fix"), ("mine-fix", "mine-fix-2"), ("a-fix-9", "a-fix-10")]
)
def test_names_go_on(tmp_path, name, following):
    assert fix.propose(a_run(tmp_path, [flag("forgetting", "warn", LOWER)], name)).recipe.name == following


def test_what_an_earlier_fix_changed_comes_last_but_replay_climbs(tmp_path):
    a_run(tmp_path, [], name="first", train__lr=9e-3)
    climb = {"text": "More.", "change": {"data.replay.ratio": 0.05}, "source": ""}
    replay = {"source": "bundled:stdlib-prose", "ratio": 0.01}
    flags = [flag("forgetting", "warn", LOWER, climb, ADAPT)]
    run = a_run(tmp_path, flags, name="second", number=8, parent=7, train__lr=3e-3, data__replay=replay)
    assert [change.key for change in fix.propose(run).changes] == ["data.replay.ratio"]
    flags = [flag("forgetting", "warn", LOWER, ADAPT)]
    run = a_run(tmp_path, flags, name="third", number=9, parent="uuid-8", train__lr=3e-3, data__replay=replay)
    assert fix.propose(run).recipe.method.name == "lora"
    shutil.rmtree(tmp_path / "000007-first")  # deleted since: what is left of the line counts
    assert fix.propose(run).recipe.train.lr == 1e-3


def test_a_recipe_made_from_a_run_says_which_of_its_suggestions_it_has_taken(tmp_path):
    run = a_run(tmp_path, [flag("instability", "warn", LOWER), flag("forgetting", "warn", REPLAY)])
    old = fix.propose(run).recipe
    changed = old.model_copy(update={"data": old.data.model_copy(update={"replay": None})})
    (taken,) = fix.followed(run, changed)
    assert (taken["key"], taken["new"], taken["flag"]) == ("train.lr", "0.001", "instability")
    assert len(fix.followed(run, old)) == 3
    assert fix.followed(a_run(tmp_path, [], number=8), changed) == []


def test_no_general_text_stays_none(tmp_path):
    found = fix.propose(a_run(tmp_path, [flag("instability", "warn", LOWER)], evals__general=None))
    assert found.recipe.evals.general is None


def test_a_queued_fix_says_which_run_it_was_made_from(tmp_path):
    with a_home(tmp_path / "h") as home, connect(home) as client:
        recipe = Recipe.model_validate(small(method="full", train__lr=3e-3))
        first = client.action("submit", recipe=recipe.model_dump(mode="json"), name="mine")["run"]
        wait_state(client, first, "finished")
        log = LogWriter(directory(home, first).attempt(1).events, "worker", first, 1)
        log.write("flag", **flag("forgetting", "warn", LOWER))
        log.close()
        found = fix.propose(directory(home, first))
        second = row(client, fix.queue(client, found, fix.check(found)))
        meta = json.loads(directory(home, second["run"]).meta.read_text())
        assert meta["parent"] == row(client, first)["uuid"]
        because = client.query("SELECT flag, level, key, old, new, action FROM fixes").to_pylist()
        assert because == [
            {"flag": "forgetting", "level": "warn", "key": "train.lr", "old": "0.003", "new": "0.001",
             "action": LOWER["text"]}
        ]  # fmt: skip
        assert (second["parent"], second["name"]) == (meta["parent"], "mine-fix")
        assert json.loads(second["recipe_json"])["train"]["lr"] == 1e-3


@pytest.mark.parametrize("end", ["\n", "\r", "\x85", "\u2028"])
def test_a_name_cannot_write_keys_into_the_new_recipe(tmp_path: Path, end: str) -> None:
    run = a_run(tmp_path, [flag("forgetting", "warn", LOWER)])
    meta = json.loads(run.meta.read_text())
    run.meta.write_text(json.dumps(meta | {"name": f"mine{end}seed: 99{end}#"}))
    proposal = fix.propose(run)
    assert proposal.recipe.seed == meta["recipe"]["seed"] != 99
    assert proposal.file.text.startswith("# Made by `finetui fix 7` from run #7 mine seed: 99 #:\n")


SCALE = {"text": "Scale it.", "change": {}, "source": "wortsman2022", "command": "fix --scale"}


def similar(*rows: tuple[int, float, float, float]) -> list[dict[str, Any]]:
    """Rows of the named query: (run, rate, held-out loss, general loss), all else as the run's own recipe."""
    flat = Recipe.model_validate(small(method="full", train__lr=3e-3) | {"name": "mine"}).flat()
    return [
        {
            "run": run, "heldout_base": 4.0, "heldout": heldout, "general_base": 2.0, "general": general,
            "params": [{"key": k, "value": v} for k, v in {**flat, "train.lr": str(rate)}.items()],
            "scaling": None, "scaling_factor": None, "scaling_helps": None, "scaling_kept": None,
        }
        for run, rate, heldout, general in rows
    ]  # fmt: skip


def test_a_command_comes_first_and_once_and_the_recipe_has_the_first_change(tmp_path):
    flags = [
        flag("forgetting", "warn", SCALE, LOWER, REPLAY),
        flag("overfitting", "warn", SCALE, suite="heldout"),
    ]
    found = fix.propose(a_run(tmp_path, flags))
    assert [change.key for change in found.changes] == ["train.lr"]
    assert found.changes[0].foretold.startswith("no similar run in the store")
    assert [(one.flag, one.command, one.worth) for one in found.advice] == [
        ("forgetting", "finetui fix --scale 7", None)
    ]


def test_a_change_that_did_not_pay_is_not_made_and_why_is_said(tmp_path):
    run = a_run(tmp_path, [flag("forgetting", "warn", SCALE, LOWER, REPLAY)])
    costs = similar((7, 0.003, 3.0, 2.1), (8, 0.001, 3.4, 2.0))
    found = fix.propose(run, lambda: costs)
    assert [change.key for change in found.changes] == ["data.replay.source", "data.replay.ratio"]
    told = {one.text: one.foretold for one in found.advice}
    assert told["Lower the learning rate."].startswith(
        "not worth it: predicted from 2 similar runs: held-out +0.400"
    )
    pays = similar((7, 0.003, 3.0, 2.5), (8, 0.001, 3.05, 2.1))
    found = fix.propose(run, lambda: pays)
    assert [change.key for change in found.changes] == ["train.lr"]
    assert found.changes[0].foretold.startswith(
        "predicted from 2 similar runs: held-out +0.050, 95% of the gain stays"
    )
