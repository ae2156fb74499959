"""Questions for the file that a recipe is read from or saved in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from engine.basics.errors import RecipeError
from engine.basics.safe_text import one_line
from tui.lines.recipe_draft import Draft, from_file
from tui.screens.base import BaseScreen


def ask_for_file(screen: BaseScreen, then: Callable[[Draft], None]) -> None:
    """Ask for the path of a recipe, and read it."""

    def read(text: str) -> None:
        try:
            draft = from_file(Path(text).expanduser())
        except RecipeError as error:
            screen.host.say(one_line(str(error)), "bad")
        else:
            then(draft)

    screen.ask("recipe file", "", "path of a .yaml file", lambda text: read(text) if text else None)


def ask_where_to_save(screen: BaseScreen, draft: Callable[[], Draft], saved: Callable[[Path], None]) -> None:
    """Ask for a path, and write the draft there; a file that is there is replaced only after a question."""

    def save(path: Path) -> None:
        if screen.write_file(path, draft().text):
            saved(path)
            screen.host.say(f"saved {path}; queue it with a, or finetui run {path}", "good")

    now = draft()
    path = now.path if now.path.is_file() else now.path.with_name(f"{now.name}.yaml")
    folder = now.path.parent
    screen.ask_path(
        "save as", str(path), "a .yaml file", lambda text: (folder / Path(text).expanduser()).absolute(), save
    )
