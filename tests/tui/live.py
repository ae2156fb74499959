"""The command line in this process, and a home with a real daemon whose workers are tests/engine/fake_worker.py."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from with_daemon import FOREVER, submit, wait_state

from engine.client import preflight
from engine.client.submit import submit as submit_recipes
from engine.recipe import recipe_file
from finetui.client import Client
from finetui.home import Home
from tui import cli

RECIPE = """\
model: bundled:stdlib-2m
method: lora
data: {train: bundled:docstrings, limit: 48, heldout: 8}
train: {max_steps: 4, max_length: 48}
"""


class Ended(NamedTuple):
    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Line:
    """The command line of a test."""

    patch: pytest.MonkeyPatch
    captured: pytest.CaptureFixture[str]

    def __call__(self, *words: str | int) -> Ended:
        self.captured.readouterr()
        self.patch.setattr("sys.argv", ["finetui", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            cli.command()
        return Ended(int(ended.value.code or 0), *self.captured.readouterr())


@dataclass(frozen=True)
class Live:
    """A home with its daemon, one run at a time, and runs to try commands on."""

    home: Home
    client: Client
    folder: Path
    finished: int  # a run

    def ended(self, **script: Any) -> int:
        number = submit(self.client, **script)
        wait_state(self.client, number, "finished", "failed")
        return number

    def going(self) -> int:
        """A run that trains until it is told to stop."""
        number = submit(self.client, steps=FOREVER)
        wait_state(self.client, number, "running")
        return number

    def waiting(self) -> int:
        """A run that waits for another one."""
        if not self.client.action("status")["running"]:
            self.going()
        return submit(self.client, steps=3)

    def held(self) -> int:
        number = self.waiting()
        self.client.action("hold", run=number)
        return number

    def removed(self) -> int:
        number = self.ended(steps=3)
        self.client.action("remove", run=number)
        return number

    def cancelled(self) -> int:
        number = self.waiting()
        self.client.action("cancel", run=number)
        return number

    def queued(self) -> int:
        """A run with a recipe that can be checked again, queued as `finetui run` does."""
        self.recipe()
        file = recipe_file.read(self.folder / "my.yaml")
        (number,) = submit_recipes(self.client, file, [preflight.check(file.recipes[0], self.folder)])
        return number

    def queued_and_held(self) -> int:
        """The same, and it does not begin."""
        self.waiting()
        number = self.queued()
        self.client.action("hold", run=number)
        return number

    def recipe(self, text: str = RECIPE, script: str = "{}") -> str:
        """The path of a recipe; `script` tells the fake worker what to do."""
        path = self.folder / "my.yaml"
        path.write_text(f"# {script}\n{text}")
        return str(path)
