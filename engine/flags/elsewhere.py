"""What to do about a flag of a program that is not ours: advice that names no keys of our recipes."""

from __future__ import annotations

from dataclasses import replace

from engine.flags.flag import Action, Flag

CALMER = (
    Action("Lower the learning rate.", {}, "mosbach2021"),
    Action("Warm it up for longer.", {}, "mosbach2021"),
    Action("Clip gradients harder.", {}, "pascanu2013"),
)
EARLIER = (
    Action("Keep the checkpoint of the best step, and train for fewer epochs.", {}, "prechelt1998"),
    Action("Lower the learning rate."),
)
_BY_FLAG = {
    "overfitting": EARLIER,
    "instability": CALMER,
    "nan": CALMER,
    "forgetting": (
        Action("Lower the learning rate.", {}, "lin2025"),
        Action("Mix general text into the training data."),
        Action("Train fewer weights: a smaller adapter, or fewer layers.", {}, "biderman2024"),
    ),
    "dead": (
        Action("Check that weights are trained at all, and that the loss is taken over tokens."),
        Action("Raise the learning rate."),
    ),
    "converged": (Action("Stop here: more steps change little."),),
}


def with_advice(flag: Flag) -> Flag:
    """Return a flag with what can be done about it wherever it was trained."""
    advised = flag.level != "info" or flag.flag == "converged"
    return replace(flag, actions=_BY_FLAG.get(flag.flag, ()) if advised else ())
