"""docs/architectures.md has every architecture of transformers, and says what `check` says today."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM
from transformers.utils import logging

from engine.basics.errors import ModelError
from engine.models import skeleton
from engine.recipe.methods import Full
from engine.recipe.sections import ModelSpec
from scripts import architectures

PAGE = Path(__file__).parents[2] / "docs" / "architectures.md"
ROWS = {
    kind: [cell.strip() for cell in cells.split("|")]
    for kind, cells in re.findall(r"(?m)^\| `([\w-]+)` \|(.*)\|$", PAGE.read_text())
}


def test_every_architecture_was_tried() -> None:
    assert sorted(ROWS) == architectures.kinds()


def test_what_check_calls_good_the_worker_can_train() -> None:
    assert not [kind for kind, cells in ROWS.items() if "fails" in cells]
    assert sum(cells[:4] == ["good", "yes", "yes", "yes"] for cells in ROWS.values()) > 80


@pytest.mark.parametrize("part", range(4))
def test_the_page_says_what_is_refused(part: int) -> None:
    """Of models without weights: whether the rest of the page is true, the script alone can tell."""
    logging.set_verbosity_error()
    spec, wrong = ModelSpec(path="it"), []
    for kind in sorted(ROWS)[part::4]:
        if ROWS[kind][0] == "not tried":
            continue
        try:
            config = architectures.tiny_config(kind)
            skeleton.check_config(config, spec, "sft", "full")
            with torch.device("meta"):
                model = AutoModelForCausalLM.from_config(config)
            skeleton.check_config(model.config, spec, "sft", "full")  # of some, that of a part
            skeleton.check_parts(model, spec, Full(name="full"))
            says = "good"
        except ModelError:
            says = "refused"
        if says != ROWS[kind][0]:
            wrong.append((kind, says))
    assert not wrong
