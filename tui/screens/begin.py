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
        number = run.number
        answers.append(Answer("r", f"like #{number}", lambda: _like(host, number, show)))
    if last is not None:
        answers.append(Answer("k", f"{cut(one_line(last['name']), 20)}, kept", from_kept))
    host.choose("a new run:", answers)


def _like(host: Host, number: int, show: Callable[[Draft], None]) -> None:
    """Show the recipe of a run, whose paths start where it was queued."""
    from engine.basics.errors import QueueError, RecipeError
    from engine.client.clone import recipe_of
    from engine.runs.home import RunDir
    from tui.lines.recipe_draft import NO_COMMAND, Draft

    path = path_or_say(host, number)
    if path is None:
        return
    try:
        file, _ = recipe_of(RunDir(path), [])
    except (QueueError, RecipeError) as error:
        host.say(one_line(str(error)), "bad")
        return
    if file.command:
        host.say(f"run #{number}: {NO_COMMAND}", "warn")
    else:
        show(Draft(file.text, file.path.absolute(), number).plain())
