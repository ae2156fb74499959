"""What to do about a flag, in order: cheap and certain first. The literature is listed in docs/flags.md.

`fix` chooses those that change a recipe; engine/client/fix.py makes the new recipe from them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from typing import Any

from engine.flags.flag import LEVELS, WARNS, Action, Flag
from engine.flags.history import Context
from engine.recipe.tasks import RATE

SCALE = "fix --scale"  # the command of an action
# Methods whose weights have a scale (engine/export/factors.py): half of a virtual token is another token.
SCALED = ("full", "freeze", "lora", "qlora", "shira", "oft", "osf", "adapter", "ia3")
REPLAY = (0.01, 0.05, 0.25)  # shares, in the order in which to try them
# Below it a rate learns nothing that is worth a run; times the task's RATE.
LOWEST_LR = {"full": 2e-6, "freeze": 2e-6}
LOWEST_LR_OF_OTHERS = 1e-5
CUT = 3.0  # of the learning rate
LONGER_WARMUP = "20%"
OF_METHOD = ("train.lr", "train.warmup")  # what is right for one method is wrong for another

# What makes each method change the model less: sentence, change, source.
CHANGE_LESS: dict[str, Action] = {
    "full": Action(
        "Train adapters instead of every weight: method.name=lora.", {"method": "lora"}, "biderman2024"
    ),
    "freeze": Action("Train a smaller part of the model: lower method.layers, or list fewer method.modules."),
    "lora": Action("Adapt fewer layers: list some in method.targets, or lower method.r.", {}, "biderman2024"),
    "qlora": Action(
        "Adapt fewer layers: list some in method.targets, or lower method.r.", {}, "biderman2024"
    ),
    "shira": Action("Train fewer weights: lower method.r, or set method.targets=mlp."),
    "oft": Action("Rotate less: lower method.block, or set method.targets=mlp."),
    "osf": Action("Keep more of the model as it is: raise method.keep, or set method.targets=mlp."),
    "adapter": Action(
        "Make the adapters smaller: raise method.reduction, or set method.placement=pfeiffer.",
        {},
        "houlsby2019",
    ),
    "ia3": Action("Train for fewer steps: IA3 cannot be made smaller."),
    "prefix": Action("Train fewer virtual tokens: lower method.tokens."),
    "prompt": Action("Train fewer virtual tokens: lower method.tokens."),
}


def forgetting(context: Context) -> tuple[Action, ...]:
    return (
        *_scale(context, "it often keeps most of the gain and gives back half of what was forgotten"),
        *_lower_rate(context, "lin2025"),
        *_replay(context),
        CHANGE_LESS[context.method],
        *_freeze_lower(context),
        *_fewer_epochs(context, "most of the damage is done early and stays", "zheng2025"),
    )


def in_proportion() -> tuple[Action, ...]:
    """Advise about a price that the task's gain is worth."""
    return (
        Action(
            "Nothing has to be done: what is in proportion is for you to say, with flags.forgetting.per_gain, warn and "
            "critical."
        ),
    )


def overfitting(context: Context, best_step: int) -> tuple[Action, ...]:
    fewer = _fewer_epochs(context, "data repeated more than four times teach little", "muennighoff2023")
    others = (
        Action("Remove duplicate rows: finetui data lists them.", {}, "lee2022"),
        Action("Add training data, or look for wrong answers in it."),
    )
    slower = _lower_rate(context, "lin2025")
    scale = _scale(context, "less of what was learned by heart is often better on other rows")
    if not best_step:  # stopping earlier would leave the base model
        ask = Action(
            "No step was better than the base model: check that the held-out rows ask for what is trained."
        )
        return (ask, *scale, *slower, *fewer, *others, CHANGE_LESS[context.method])
    if context.stops:
        stop = Action(
            "Use the weights of the best step, which this run keeps because flags.overfitting is stop.",
            {},
            "prechelt1998",
        )
    else:
        stop = Action(
            f"Use the weights from around step {best_step}: set train.max_steps={best_step}, or "
            "flags.overfitting=stop.",
            {"train.max_steps": best_step},
            "prechelt1998",
        )
    first = (stop, *scale) if context.stops else (*scale, stop)
    return (*first, *fewer, *others, *slower, CHANGE_LESS[context.method])


def instability(context: Context) -> tuple[Action, ...]:
    return (
        *_lower_rate(context, "mosbach2021"),
        *_warm_up(context),
        Action("Clip gradients harder: lower train.grad_clip.", {}, "pascanu2013"),
        Action("Make steps less noisy: raise train.tokens_per_step."),
    )


def displacement(context: Context) -> tuple[Action, ...]:
    return (
        *_lower_rate(context, "razin2024"),
        _higher_beta(context),
        Action("Train on the chosen answers first (task: sft), then on the pairs.", {}, "pal2024"),
        Action("Look for pairs whose two answers are nearly the same.", {}, "razin2024"),
    )


def not_a_number(context: Context) -> tuple[Action, ...]:
    return (
        *_lower_rate(context, "mosbach2021"),
        *_warm_up(context),
        Action("Use a wider number format: train.precision=fp32.", {"train.precision": "fp32"}),
    )


def overconfident(context: Context) -> tuple[Action, ...]:
    if context.task == "dpo":
        return (
            Action("Continue: as many pairs are told apart as at the best step, by larger margins."),
            _higher_beta(context),
        )
    return (
        Action("Continue: judge the run by its answers and the task's own measure.", {}, "ouyang2022"),
        Action("Where probabilities matter, sample at the temperature named here.", {}, "guo2017"),
        *_fewer_epochs(context, "memorisation grows with every repetition", "carlini2023"),
    )


def memorised(context: Context) -> tuple[Action, ...]:
    return (
        *_fewer_epochs(context, "there is nothing left to learn from these examples", "muennighoff2023"),
        Action("Remove duplicate rows: finetui data lists them.", {}, "lee2022"),
        Action("Add training data."),
    )


def converged(since: int) -> tuple[Action, ...]:
    return (
        Action(
            f"Next time stop earlier: train.max_steps={since}.", {"train.max_steps": since}, "prechelt1998"
        ),
    )


def dead(context: Context, no_gradient: bool) -> tuple[Action, ...]:
    look = Action("Look at the loss mask: finetui data shows which tokens are trained on.")
    if no_gradient:
        return (look, Action("Check that the method trains something: method.targets, method.modules."))
    rate = context.lr * 10
    return (
        Action(
            f"Raise the learning rate: try train.lr={rate:.1e}, ten times the current one.",
            {"train.lr": rate},
        ),
        look,
    )


def template(never_ends: bool) -> tuple[Action, ...]:
    ends = Action("Check that the end of sequence is trained on: finetui data says so.")
    form = Action(
        "Check that the chat template is the one that the model knows: finetui data shows an example."
    )
    return (
        (ends, form)
        if never_ends
        else (form, ends, Action("Lower the learning rate, or train for less long."))
    )


def leak(suite: str, scored: bool) -> tuple[Action, ...]:
    """`scored`: whether any of the rows is still in the scores."""
    own = "" if suite == "heldout" else ", or use other text as evals.general"
    take_out = f"Remove the overlapping rows from the training data{own}: finetui data lists them."
    return (
        Action(take_out, {}, "lee2022"),
        *([Action("Until then, use the loss without them.", {}, "brown2020")] if scored else []),
    )


def fix(
    recipe: Mapping[str, Any],
    flags: Sequence[Flag],
    tried: Set[str] = frozenset(),
    worth: Callable[[Flag, Action], bool] = lambda *_: True,
) -> list[tuple[Flag, Action]]:
    """Choose what to change in a recipe: for each flag, the gravest first, its first action that applies.

    An action applies if it stands for a change that the recipe does not have already and that touches no key
    that a graver flag has changed, and if it is `worth` it. Actions on keys that were `tried` come last. Flags below
    `warn` change nothing.
    Empty if nothing applies.
    """
    chosen: list[tuple[Flag, Action]] = []
    changed: set[str] = set()
    grave = [flag for flag in flags if flag.level in WARNS]
    for flag in sorted(grave, key=lambda flag: -LEVELS.index(flag.level)):
        applying = [a for a in flag.actions if a.change and _applies(recipe, a.change, changed)]
        fitting = [a for a in applying if worth(flag, a)]
        if fitting:
            action = next((a for a in fitting if not tried & a.change.keys()), fitting[0])
            chosen.append((flag, action))
            changed |= set(action.change)
    return chosen


def _applies(recipe: Mapping[str, Any], change: Mapping[str, Any], changed: set[str]) -> bool:
    if any(_overlap(key, other) for key in change for other in changed):
        return False
    return any(_value(recipe, key) != value for key, value in change.items())


def _overlap(key: str, other: str) -> bool:
    if "method" in (key, other):
        return key == other or key in OF_METHOD or other in OF_METHOD
    return key == other


def _value(recipe: Mapping[str, Any], key: str) -> Any:
    """Return the value under a dotted key; a section given by its name alone (`method: lora`) is that name."""
    value: Any = recipe
    for part in key.split("."):
        if not isinstance(value, Mapping):
            return None
        value = value.get(part)
    return value.get("name") if key == "method" and isinstance(value, Mapping) else value


def _scale(context: Context, why: str) -> tuple[Action, ...]:
    """Advise to scale what was trained, which costs minutes and no training."""
    if context.method not in SCALED or context.task == "classification":
        return ()
    text = f"Scale what was trained, without training again: finetui {SCALE}. {why[0].upper()}{why[1:]}."
    return (Action(text, {}, "wortsman2022", SCALE),)


def _lower_rate(context: Context, source: str) -> tuple[Action, ...]:
    rate = float(f"{context.lr / CUT:.1e}")
    if rate < RATE[context.task] * LOWEST_LR.get(context.method, LOWEST_LR_OF_OTHERS):
        return ()
    text = f"Lower the learning rate: try train.lr={rate:.1e}, a third of the current one."
    return (Action(text, {"train.lr": rate}, source),)


def _replay(context: Context) -> tuple[Action, ...]:
    """Advise the next larger share of replayed text; text sampled from the base model where there is no other."""
    if not context.replays:
        return ()
    more = next((share for share in REPLAY if share > 1.5 * context.replay), None)
    if more is None:
        return ()
    if context.replay:
        text = f"Mix in more general text: raise data.replay.ratio to {more:g}."
        return (Action(text, {"data.replay.ratio": more}, "bethune2025"),)
    if context.general is None:
        text = "Mix in general text (data.replay), or text written by the base model itself."
        return (Action(text, {}, "bansal2025"),)
    change = {"data.replay.source": context.general, "data.replay.ratio": more}
    return (Action(f"Mix in general text: set data.replay.ratio to {more:g}.", change, "bethune2025"),)


def _freeze_lower(context: Context) -> tuple[Action, ...]:
    if context.method != "full":
        return ()
    return (Action("Freeze the lower layers: method.name=freeze.", {"method": "freeze"}, "zheng2025"),)


def _fewer_epochs(context: Context, why: str, source: str) -> tuple[Action, ...]:
    if context.epochs <= 1:
        return (Action(f"Train for fewer steps: {why}.", {}, source),)
    fewer = float(max(1, round(context.epochs / 2)))
    return (
        Action(f"Train for fewer epochs, train.epochs={fewer:g}: {why}.", {"train.epochs": fewer}, source),
    )


def _higher_beta(context: Context) -> Action:
    beta = float(f"{2 * context.beta:.1e}")
    return Action(f"Stay closer to the base model: task.beta={beta:g}.", {"task.beta": beta}, "rafailov2023")


def _warm_up(context: Context) -> tuple[Action, ...]:
    text = f"Warm up for longer: train.warmup={LONGER_WARMUP}."
    change = {"train.warmup": LONGER_WARMUP} if context.warmup in ("5%", "6%", "10%", 1) else {}
    return (Action(text if change else "Warm up for longer: raise train.warmup.", change, "goyal2017"),)
