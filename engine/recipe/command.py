"""A program of the user's own as a run: what is decided about it before it starts."""

from __future__ import annotations

from pathlib import PurePath
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from engine.recipe.fields import Section
from engine.recipe.kinds import is_command
from engine.recipe.leaves import hash_of, leaves_of
from engine.recipe.sections import Recipe

LONGEST_GIVEN_NAME = 200
LONGEST_NAME = 60  # of a name that is made of the command

Word = Annotated[str, StringConstraints(max_length=10_000, pattern=r"^[^\x00]*$")]


class Command(Section):
    """A program that finetui queues, starts and watches, and does not look into."""

    name: str | None = Field(
        None, max_length=LONGEST_GIVEN_NAME, description="Shown in lists; default: the command."
    )
    method: Literal["command"] = Field("command", description="That it is one.")
    command: list[Word] = Field(
        min_length=1, max_length=1000, description="The program and its arguments, without a shell."
    )
    on_resume: list[Word] = Field(
        default_factory=list,
        max_length=1000,
        description="Arguments that are added when it is started again, such as `--resume_from_checkpoint=True`.",
    )
    watch: list[Word] = Field(
        default_factory=lambda: ["."],
        min_length=1,
        max_length=100,
        description="Folders in which it writes curves and checkpoints, from where it was queued.",
    )
    processes: int = Field(1, ge=1, description="GPUs that it gets, where there are any.")

    def hash(self) -> str:
        """Return the first 16 hex digits of the SHA-256 of all but the name."""
        return hash_of(self)

    def flat(self) -> dict[str, str]:
        """Return one entry per leaf, as stored in the table `params`."""
        return leaves_of(self)

    @property
    def title(self) -> str:
        """Return what it is called in lists."""
        words = " ".join([PurePath(self.command[0]).name, *self.command[1:]])
        return self.name or (words if len(words) <= LONGEST_NAME else f"{words[: LONGEST_NAME - 1]}…")


def any_recipe(tree: Any) -> Recipe | Command:
    """Return a dumped recipe of either kind. Raises pydantic's ValidationError."""
    return Command.model_validate(tree) if is_command(tree) else Recipe.model_validate(tree)
