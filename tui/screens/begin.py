"""What a new run begins from: the question, and the form that the answer opens.

Recipe and form are imported when they are wanted, so that the question is there at once.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from engine.basics.safe_text import one_line
from tui.host import Answer, Host, path_or_say
from tui.lines.text import cut
from tui.rows import Run
from tui.screens.base import BaseScreen

if TYPE_CHECKING:
    from tui.lines.recipe_draft import Draft


def offer(host: Host, screen: BaseScreen) -> None:
    """Ask what it begins from: nothing, the run under the cursor, a file, or the one that was not queued last time."""

    def show(draft: Draft, changed: bool = False) -> None:
        from tui.screens.new_run import NewRunScreen

        host.open_screen(NewRunScreen(draft, changed=changed))

    def from_nothing() -> None:
        from tui.lines.recipe_draft import from_nothing

        show(from_nothing(Path.cwd()))

    def from_file() -> None:
        from tui.screens.recipe_files import ask_for_file

        ask_for_file(screen, show)

    def from_kept() -> None:
        from tui.lines.recipe_draft import Draft

        assert last is not None
        show(Draft(last["text"], Path(last["path"]), last["parent"]), True)

    run, last = screen.target(), host.remembered.draft()
    answers = [Answer("n", "from nothing", from_nothing), Answer("f", "from a file", from_file)]
    if run is not None:
        answers.append(Answer("r", f"like #{run.number}", lambda: _like(host, run, show)))
        if run.sweep:
            answers.append(Answer("s", "like its sweep", lambda: _like_sweep(host, run, show)))
    if last is not None:
        answers.append(Answer("k", f"{cut(one_line(last['name']), 20)}, kept", from_kept))
    host.choose("a new run:", answers)


def _like(host: Host, run: Run, show: Callable[[Draft], None]) -> None:
    """Show the recipe of a run, whose paths start where it was queued. Of a sweep it takes the name, not that of its
    run, which has values that will be changed.
    """
    from engine.basics.errors import QueueError, RecipeError
    from engine.client.clone import recipe_of
    from engine.runs.home import RunDir
    from engine.runs.sweep_plan import read_plan
    from tui.lines.recipe_draft import NO_COMMAND, Draft

    path = path_or_say(host, run.number)
    if path is None:
        return
    try:
        file, _ = recipe_of(RunDir(path), [])
        plan = read_plan(host.home, run.sweep) if run.sweep else None
    except (QueueError, RecipeError) as error:
        host.say(one_line(str(error)), "bad")
        return
    except (OSError, ValueError):  # without its plan, the name of the run has to do
        plan = None
    if file.command:
        host.say(f"run #{run.number}: {NO_COMMAND}", "warn")
        return
    draft = Draft(file.text, file.path.absolute(), run.number).plain()
    show(draft.with_value("name", plan.recipe["name"]) if plan and "name" in plan.recipe else draft)


def _like_sweep(host: Host, run: Run, show: Callable[[Draft], None]) -> None:
    """Show the recipe of the sweep that a run belongs to, as it was queued."""
    from engine.runs.sweep_plan import plan_path, read_plan
    from tui.lines.recipe_draft import SWEEP, from_tree

    try:
        plan = read_plan(host.home, run.sweep)
    except (OSError, ValueError) as error:
        host.say(f"{plan_path(host.home, run.sweep)} cannot be read: {one_line(str(error))}", "bad")
        return
    if plan is None:
        host.say(f"the recipe of the sweep of #{run.number} is gone; r takes that of the run", "warn")
    else:
        show(from_tree({**plan.recipe, SWEEP: plan.section}, Path(plan.path), run.number))
