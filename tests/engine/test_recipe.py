"""Recipes: what is read, and what is said about those that cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.basics.errors import RecipeError
from engine.recipe.fields import Share, parse_share
from engine.recipe.recipe_file import parse, read
from engine.recipe.sections import GENERAL, Recipe

GOOD = """\
model: bundled:stdlib-2m
method: {name: lora, r: 8}
data:
  train: bundled:docstrings
train: {lr: 2e-4}
"""
PATH = Path("some/support.yaml")


def one(text: str, *overrides: str) -> Recipe:
    return parse(text, PATH, list(overrides)).recipes[0]


def complaint(text: str, *overrides: str) -> str:
    with pytest.raises(RecipeError) as caught:
        parse(text, PATH, list(overrides))
    return str(caught.value)


def test_defaults_are_filled_in_and_the_name_is_the_files() -> None:
    recipe = one(GOOD)
    assert recipe.name == "support"
    assert recipe.method.name == "lora"
    assert recipe.train.lr == 2e-4  # YAML 1.2: 2e-4 is a number
    assert recipe.data.heldout == "10%"


def test_the_learning_rate_depends_on_the_method() -> None:
    text = GOOD.replace("train: {lr: 2e-4}\n", "")
    assert one(text).train.lr == 2e-4
    assert one(text, "method=full").train.lr == 2e-5


def test_a_bad_key_of_any_method_is_named_with_its_line_and_the_known_ones() -> None:
    said = complaint(GOOD.replace("{name: lora, r: 8}", "{name: adapter, reductoin: 8}"))
    assert said == "some/support.yaml, line 2, key method.reductoin: unknown key; did you mean `reduction`?"
    said = complaint(GOOD.replace("{name: lora, r: 8}", "adaptor"))
    assert "key method: must be one of" in said
    assert "did you mean `adapter`?" in said


def test_dora_and_pissa_are_refused_together() -> None:
    said = complaint(GOOD.replace("r: 8", "dora: true, init: pissa"))
    assert "line 2, key method: dora and init: pissa do not go together" in said


def test_prefix_and_activation_checkpointing_are_refused_together() -> None:
    said = complaint(GOOD.replace("{name: lora, r: 8}", "prefix"), "train.activation_checkpointing=true")
    assert "method prefix and train.activation_checkpointing do not go together" in said


@pytest.mark.parametrize("change", ["task=dpo", "train.optimiser=adafactor", "train.compile=true"])
def test_what_fsdp_cannot_do_is_refused(change) -> None:
    assert "train.sharding fsdp" in complaint(GOOD, "train.sharding=fsdp", change)


def test_overrides_reach_any_depth_and_shorthands() -> None:
    recipe = one(
        GOOD, "method.r=4", "train.epochs=2", "model.trust_remote_code=true", "data.replay.source=a.jsonl"
    )
    assert recipe.method.name == "lora"
    assert recipe.method.r == 4
    assert recipe.train.epochs == 2
    assert recipe.model.trust_remote_code is True
    assert recipe.data.replay is not None
    assert recipe.data.replay.source == "a.jsonl"


def test_the_general_suite_is_one_source_or_several_by_name() -> None:
    assert one(GOOD).general == GENERAL
    assert one(GOOD, "evals.general=bundled:stdlib-prose").general == {"text": "bundled:stdlib-prose"}
    assert one(GOOD, "evals.general=null").general == {}
    both = {"mine": "my.jsonl", "prose": "bundled:stdlib-prose"}
    several = one(GOOD, "evals.general={mine: my.jsonl, prose: 'bundled:stdlib-prose'}")
    assert several.general == both
    assert several.flat()["evals.general.mine"] == "my.jsonl"
    assert one(GOOD, "evals.general.mine=my.jsonl").general == {"mine": "my.jsonl"}
    assert several.model_copy(update={"task": one(GOOD, "task=classification").task}).general == {}


def test_a_sweep_is_every_combination() -> None:
    file = parse(GOOD + "sweep: {method.r: [4, 16], train.lr: [1e-3, 4e-3]}\n", PATH)
    assert file.sweep is not None
    assert file.sweep.keys == ["method.r", "train.lr"]
    pairs = [(r.flat()["method.r"], r.train.lr) for r in file.recipes]
    assert pairs == [("4", 1e-3), ("4", 4e-3), ("16", 1e-3), ("16", 4e-3)]


def test_a_resolved_recipe_reads_back_as_itself() -> None:
    recipe = one(GOOD)
    again = Recipe.model_validate(recipe.model_dump(mode="json"))
    assert again == recipe
    assert again.hash() == recipe.hash()
    assert one(GOOD, "seed=1").hash() != recipe.hash()
    assert one(GOOD, "name=other").hash() == recipe.hash()


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        ("r: 8", "rr: 8", 2, ["method.rr", "unknown key", "did you mean `r`"]),
        ("train: {lr: 2e-4}", "trian: {lr: 2e-4}", 5, ["trian", "did you mean `train`"]),
        ("lr: 2e-4", "lr: fast", 5, ["train.lr", "valid number", "'fast'"]),
        ("lr: 2e-4", "lr: -1", 5, ["train.lr", "greater than 0"]),
        (
            "name: lora",
            "name: lorra",
            2,
            ["method", "'full', 'freeze', 'lora', 'qlora'", "did you mean `lora`"],
        ),
        ("lr: 2e-4", "max_length: long", 5, ["train.max_length", "'auto'", "integer"]),
        ("lr: 2e-4", "max_length: -1", 5, ["train.max_length", "greater than or equal to 2"]),
        ("lr: 2e-4", "warmup: 200%", 5, ["train.warmup", "share such as 10%"]),
        ("train: {lr: 2e-4}", "evals: {samples: 100000}", 5, ["evals.samples", "1000"]),
        ("lr: 2e-4", "schedule: cosin", 5, ["did you mean `cosine`"]),
        ("train: {lr: 2e-4}", "evals: {general: 3}", 5, ["evals.general", "sources by name", "got 3"]),
        ("train: {lr: 2e-4}", "evals: {general: {}}", 5, ["evals.general", "sources by name"]),
        ("train: {lr: 2e-4}", "evals: {general: {a: 3}}", 5, ["evals.general", "the slice a needs a source"]),
        ("train: {lr: 2e-4}", "evals: {general: {a b: c}}", 5, ["the slice 'a b' needs a name of letters"]),
        (
            "train: {lr: 2e-4}",
            "evals: {general: {samples: mine.jsonl}}",
            5,
            ["evals.general: samples is what the base model writes itself", "choose another name"],
        ),
        ("train: {lr: 2e-4}", "flags: {forgetting: stopp}", 5, ["flags.forgetting", "did you mean `stop`"]),
        (
            "train: {lr: 2e-4}",
            "flags: {forgetting: 3}",
            5,
            ["flags.forgetting", "give warn, stop or off, or a"],
        ),
        (
            "train: {lr: 2e-4}",
            "flags: {forgetting: {crtical: 0.3}}",
            5,
            [
                "flags.forgetting.crtical: unknown key",
                "known keys: do, warn, critical, per_gain, or the name of a",
            ],
        ),
        (
            "train: {lr: 2e-4}",
            "flags: {forgetting: {text: {wran: 0.3}}}",
            5,
            ["flags.forgetting.text.wran: unknown key", "did you mean `warn`"],
        ),
        (
            "train: {lr: 2e-4}",
            "flags: {forgetting: {pose: {warn: 0.05}}}",
            5,
            ["flags.forgetting.pose: no such slice of evals.general: it has "],
        ),
        (
            "train: {lr: 2e-4}",
            "flags: {forgetting: {warn: 0.4}}",
            5,
            ["flags.forgetting: the margin of warn, 0.4, is above that of critical, 0.3"],
        ),
        (
            "train: {lr: 2e-4}",
            "flags: {overfitting: {warn: 0.2}}",
            5,
            ["flags.overfitting: the margin of warn, 0.2, is above that of critical, 0.15"],
        ),
        (
            "train: {lr: 2e-4}",
            "flags: {forgetting: {warn: -1}}",
            5,
            ["flags.forgetting.warn", "or equal to 0"],
        ),
        (
            "train: {lr: 2e-4}",
            "flags: {forgetting: {critical: .inf}}",
            5,
            ["flags.forgetting.critical", "finite"],
        ),
    ],
)
def test_a_wrong_key_or_value_is_one_sentence_with_file_and_line(
    old: str, new: str, line: int, says: list[str]
) -> None:
    message = complaint(GOOD.replace(old, new))
    assert message.startswith(f"{PATH}, line {line}, key ")
    assert "\n" not in message
    for part in says:
        assert part in message


def test_flags_have_margins_beside_what_they_do() -> None:
    general = "evals: {general: {prose: bundled:stdlib-prose, mine: mine.jsonl}}\n"
    forgets = "{do: stop, critical: 0.4, prose: {warn: 0.05}}"
    recipe = one(f"{GOOD}{general}flags: {{forgetting: {forgets}, overfitting: off}}\n")
    flags = recipe.flags
    assert [flags.action(kind) for kind in ("forgetting", "overfitting", "dead")] == ["stop", "off", "warn"]
    assert flags.may_stop
    assert [flags.forgetting.margins(name) for name in ("", "mine", "prose")] == [
        (0.1, 0.4),
        (0.1, 0.4),
        (0.05, 0.4),
    ]
    assert Recipe.model_validate(recipe.model_dump(mode="json")) == recipe
    assert recipe.flat()["flags.forgetting.prose.warn"] == "0.05"
    short = one(f"{GOOD}flags: {{forgetting: stop}}\n", "flags.forgetting.warn=0.2").flags.forgetting
    assert (short.do, short.margins("")) == ("stop", (0.2, 0.3))
    assert not one(f"{GOOD}flags: {{leak: stop}}\n").flags.may_stop


def test_a_missing_section_is_named() -> None:
    assert "key model: is required" in complaint("method: lora\ndata: {train: x.jsonl}\n")


def test_all_problems_are_told_at_once() -> None:
    message = complaint(GOOD.replace("r: 8", "rr: 8").replace("2e-4", "-1"))
    assert len(message.splitlines()) == 2


def test_a_bad_override_points_at_the_command_line() -> None:
    assert complaint(GOOD, "train.lr=x").startswith("command line, key train.lr")
    assert "write key=value" in complaint(GOOD, "train.lr")


@pytest.mark.parametrize("text", ["model: [", "- a\n- b\n", "", "a: 1\na: 2\n", "sweep: 3\n", "\t- x"])
def test_text_that_is_no_recipe_is_refused_by_name(text: str) -> None:
    assert str(PATH) in complaint(text)


def test_a_sweep_without_a_list_is_refused_with_its_line() -> None:
    assert f"{PATH}, line 6, key sweep.method.r: give a list" in complaint(GOOD + "sweep: {method.r: 8}\n")


def test_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"there is no such recipe"):
        read(tmp_path / "nope.yaml")


def test_a_share_beyond_everything_is_no_file() -> None:
    for wrong in ("120%", "0%", " -5 %"):
        assert "data.heldout: give a share such as 10%" in complaint(GOOD, f"data.heldout={wrong}")


def test_shares() -> None:
    assert parse_share("10%") == Share(percent=10)
    assert parse_share("10%").of(205) == 20
    assert parse_share("1%").of(3) == 1
    assert parse_share(7).of(1000) == 7
    for wrong in ("0%", "101%", "x%", "7", 0, -1, True):
        with pytest.raises(ValueError, match="share"):
            parse_share(wrong)


# ---- tasks


def test_a_task_is_a_name_or_a_section_and_dpo_has_a_lower_rate() -> None:
    text = GOOD.replace("train: {lr: 2e-4}\n", "")
    assert one(text).task.name == "sft"
    recipe = one(text, "task=dpo", "task.beta=0.2")
    assert recipe.task.model_dump() == {"name": "dpo", "beta": 0.2, "label_smoothing": 0.0}
    assert recipe.train.lr == pytest.approx(2e-5)


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (
            ["task=clasification"],
            "key task: must be one of 'sft', 'completion', 'classification', 'dpo'; did",
        ),
        (["task=dpo", "data.replay.source=x.jsonl"], "task dpo and data.replay do not go together"),
        (
            ["task=classification", "data.replay.source=x.jsonl"],
            "replayed text has no label; leave replay out",
        ),
        (
            ["task=classification", "method=prefix"],
            "task classification and method prefix do not go together",
        ),
        (["task=classification", "evals.metrics=[bleu]"], "a classifier writes no answers"),
        (["task={name: classification, labels: [a]}"], "give at least two classes, each once"),
        (["evals.metrics=[blue]"], "blue is none of exact_match, rouge, bleu, chrf; did you mean bleu?"),
        (["evals.metrics=[my metric]"], "a function of your own is written module:function"),
        (["evals.metrics=[bleu]", "evals.generate=0"], "metrics are of answers, and generate is 0: raise it"),
    ],
)
def test_tasks_and_metrics_that_cannot_work_are_one_sentence(overrides: list[str], sentence: str) -> None:
    said = complaint(GOOD, *overrides)
    assert sentence in said
    assert "\n" not in said


# ---- recipes from elsewhere


def test_the_runs_of_a_sweep_have_their_values_in_their_names() -> None:
    sweep = "sweep: {method.r: [4, 16], train.lr: [1.2e-3, 1.0e-4]}\n"
    names = [recipe.name for recipe in parse(GOOD + sweep, PATH).recipes]
    assert names == [
        "support r=4 lr=0.0012",
        "support r=4 lr=0.0001",
        "support r=16 lr=0.0012",
        "support r=16 lr=0.0001",
    ]
    replay = (
        "sweep: {data.limit: [9], data.replay: [{source: a.jsonl}], method: [full], train.warmup: [5%]}\n"
    )
    assert one(GOOD + replay).name == 'support limit=9 replay={"source": "a.jsonl"} method=full warmup=5%'
    assert one(GOOD + "sweep: {name: [a, b]}\n").name == "a"
    assert one(GOOD + "sweep: {seed: [1]}\n", "name=mine").name == "mine seed=1"
    assert one(GOOD).name == "support", "without a sweep it is the file's"


def aliases(levels: int) -> str:
    """A few hundred bytes that stand for ten to the power of `levels` values."""
    names = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    return (
        "\n".join([*names, *(f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 10)}]" for k in range(1, levels))])
        + "\n"
    )


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        (aliases(5), 9, "stands for more than 5,000 values, aliases written out"),
        ("a: [" + "1," * 6000 + "]\n", 6, "stands for more than 5,000 values"),
        ("deep: " + "[" * 30 + "]" * 30 + "\n", 6, "nested deeper than 20 levels"),
        ("".join(" " * depth + "a:\n" for depth in range(30)), 26, "nested deeper than 20 levels"),
        ("a: &a [*a]\n", 6, "the alias *a stands inside of what it stands for"),
        ('name: "a\0b"\n', 6, "has the character U+0000, which YAML does not allow"),
        ("\n# a\x1b[0m comment\n", 7, "has the character U+001B"),
        ("name: a\x80b\n", 6, "has the character U+0080"),
        ('name: "a\\0b"\n', 6, "has the character U+0000 in a text"),
        ('name: "a\\ud800b"\n', 6, "has the character U+D800 in a text"),
        ("seed: !!int x\n", 6, "not valid YAML: invalid literal for int()"),
        ("\nseed: " + "9" * 5000 + "\n", 7, "not valid YAML: Exceeds the limit"),
        ("seed: 2001-99-99\n", 6, "not valid YAML: month must be in 1..12"),
        ("seed: 1\n*b : 2\n", 7, "not valid YAML: found undefined alias 'b'"),
        ('"k\\nforged: x": 1\n', 6, "key k forged: x: unknown key"),
        ("'" + "k" * 500 + "': 1\n", 6, "k…: unknown key"),
        ("seed: '" + "x" * 500 + "'\n", 6, "(got 'xxx"),
    ],
    ids=lambda value: repr(value)[:30],
)  # fmt: skip
def test_a_recipe_that_means_harm_is_one_sentence_with_its_line(text: str, line: int, says: str) -> None:
    message = complaint(GOOD + text)
    assert message.startswith(f"{PATH}, line {line}")
    assert says in message
    assert "\n" not in message
    assert len(message) < 400


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("# " + "x" * 100_000 + "\n", "longer than 100,000 characters"),
        ("? {a: 1}\n: 1\n", "unknown key"),
        ("name: " + "x" * 201 + "\n", "key name: longer than 200 characters"),
        (f"sweep: {{seed: {list(range(40))}, method.r: {list(range(1, 41))}}}\n", "these are 1,600 runs; at most"),
    ],
    ids=lambda value: repr(value)[:30],
)  # fmt: skip
def test_what_no_recipe_has_is_one_sentence(text: str, says: str) -> None:
    message = complaint(GOOD + text)
    assert message.startswith(f"{PATH}")
    assert says in message
    assert "\n" not in message
    assert len(message) < 400


def test_the_same_holds_for_an_override() -> None:
    assert "nested deeper than 20 levels" in complaint(GOOD, "seed=" + "[" * 30 + "]" * 30)
    assert "has the character U+0000" in complaint(GOOD, "name=a\0b")
    assert "not valid YAML: invalid literal" in complaint(GOOD, "seed=!!int x")


def test_of_very_many_problems_some_are_told() -> None:
    message = complaint(GOOD + "".join(f"k{number}: 1\n" for number in range(300)))
    assert len(message.splitlines()) == 21
    assert message.endswith(f"{PATH}: and 280 more")


def test_aliases_and_merges_of_a_usual_size_are_read() -> None:
    text = (
        GOOD.replace("train: {lr: 2e-4}", "train: &t {lr: 2e-4}")
        + "sweep: {train: [*t, {<<: *t, epochs: 2}]}\n"
    )
    assert [recipe.train.epochs for recipe in parse(text, PATH).recipes] == [1.0, 2.0]
    assert [recipe.train.lr for recipe in parse(text, PATH).recipes] == [2e-4, 2e-4]
