"""What other programs call their measures, in our words: `train/loss`, `train/lr`, `heldout/loss`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

# transformers writes `eval_loss` to trainer_state.json and `eval/loss` to TensorBoard (rewrite_logs of its
# integrations); Lightning and others say val, valid or validation.
_HELDOUT = re.compile(r"(?:eval|val|valid|validation)[_/](?=.)")
_HELDOUT_FOLDERS = ("eval", "val", "valid", "validation")
_OURS = {
    "train/learning_rate": "train/lr",
    "train/num_tokens": "train/tokens",
    "train/num_input_tokens_seen": "train/tokens",
}
STEPS = ("train/global_step", "global_step", "trainer/global_step")  # the step itself, logged as a measure
LONGEST = 200


def directions_of(said: str | Iterable[str] | Mapping[str, bool]) -> dict[str, bool]:
    """Return by our name whether higher is better; names alone are of metrics of which it is."""
    if not isinstance(said, Mapping):
        said = dict.fromkeys([said] if isinstance(said, str) else said, True)
    return {our_name(str(name)): bool(higher) for name, higher in said.items()}


def our_name(name: str, folder: str = "") -> str:
    """Return what a measure is called here; one that names no set of examples is of the one that its folder is named
    after (`logs/validation`, as Keras has it), else of training.
    """
    name = name[:LONGEST]
    if folder in _HELDOUT_FOLDERS and not name.startswith("train"):
        name = f"eval/{_HELDOUT.sub('', name, count=1)}"
    if _HELDOUT.match(name):
        return "heldout/" + _HELDOUT.sub("", name, count=1)
    if "/" not in name:
        name = f"train/{name}"
    return _OURS.get(name, name)
