"""What a new run begins from where the cursor is on a sweep: its recipe, or that of one of its runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import made_home
import pytest

from engine.runs.sweep_plan import Plan, plan_path, write_plan
from finetui.home import Home
from tui.host import Answer, Host
from tui.lines.recipe_draft import Draft
from tui.lines.recipe_fields import fields_of
from tui.rows import Run
from tui.screens import begin
from tui.screens.base import BaseScreen
from tui.widgets import recipe_form

RUN = Run(3, "mine r=4", "finished", sweep="11111111-1111-1111-1111-111111111111")


class Asked:
    """A host that keeps what is asked and said; `remembered` has no draft."""

    def __init__(self, home: Home) -> None:
        self.home, self.remembered = home, self
        self.answers: dict[str, Answer] = {}
        self.said: list[str] = []
        self.shown: list[Draft] = []

    def draft(self) -> None:
        return None

    def choose(self, question: str, answers: list[Answer]) -> None:
        self.answers = {answer.key: answer for answer in answers}

    def say(self, text: str, style: str = "text") -> None:
        self.said.append(text)

    def open_screen(self, screen: Any) -> None:
        self.shown.append(screen.draft)

    def target(self) -> Run:
        return RUN


@pytest.fixture
def host(tmp_path: Path) -> Asked:
    home = Home(tmp_path / "h")
    home.create()
    made_home.make_run(home, 3, "mine-r-4", r=4)
    recipe = {"name": "mine", "model": "bundled:stdlib-2m", "method": {"name": "lora", "r": 16},
              "data": {"train": "bundled:docstrings"}}  # fmt: skip
    write_plan(home, Plan(uuid=RUN.sweep, recipe=recipe, section={"method.r": [4, 8]}, path="/work/my.yaml",
                          folder="/work", runs=2))  # fmt: skip
    asked = Asked(home)
    begin.offer(cast(Host, asked), cast(BaseScreen, asked))
    return asked


def test_the_sweep_is_taken_whole_or_one_run_without_its_name(host: Asked) -> None:
    assert [host.answers[key].label for key in "rs"] == ["like #3", "like its sweep"]
    host.answers["s"].then()
    host.answers["r"].then()
    whole, one = host.shown
    assert (whole.sweep, whole.count, whole.name, whole.parent) == ({"method.r": [4, 8]}, 2, "mine", 3)
    assert (one.sweep, one.value("method.r"), one.name) == ({}, 4, "mine")
    fields = fields_of(whole)
    row = next(row for row in recipe_form.rows_of(fields, (), "method.r") if row.key == "method.r")
    help_text = "".join(text for line in recipe_form.about(whole, row, fields, 80) for text, _ in line)
    assert "varied by the sweep: [4, 8]" in help_text
    assert "set to" not in help_text


def test_a_sweep_whose_plan_is_gone_says_so(host: Asked) -> None:
    plan_path(host.home, RUN.sweep).unlink()
    host.answers["s"].then()
    host.answers["r"].then()
    assert host.said == ["the recipe of the sweep of #3 is gone; r takes that of the run"]
    assert [draft.parent for draft in host.shown] == [3]
