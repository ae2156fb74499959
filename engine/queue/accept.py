"""Accepting a run: from a client's submission to a durable run directory, whole or absent."""

from __future__ import annotations

import platform
import shutil
import time
import uuid
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from engine.basics.errors import QueueError
from engine.queue.orders import group_of, tags_of
from engine.recipe.command import Command, any_recipe
from engine.recipe.sections import Recipe
from engine.runs.home import RunDir
from engine.runs.imported import refuse_foreign
from engine.runs.journal import LATEST
from engine.runs.submitted import read_submitted, uuid_of
from finetui.files import read_json, sync, write_json
from finetui.home import Home
from finetui.log import LogWriter
from finetui.new_run import slugify
from store.journal_lines import Conditions, Edited, Grouped, JournalLine, Note, Submitted, Tagged
from store.line_fields import write
from store.states import RunState

IN_JOURNAL = {
    "priority",
    "held",
    "after",
    "after_any",
    "not_before",
    "tags",
    "group",
    "note",
    "seconds",
}  # and not in run.json
# What of run.json changes with the recipe.
OF_RECIPE = {"recipe_text", "datasets", "git_commit", "versions", "gpu_memory"}
UNFINISHED = ".accepting-"  # prefix of a run directory that is not acknowledged yet


class Submission(BaseModel):
    """The body of a client's `submit`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    recipe: dict[str, Any]  # resolved: `Recipe.model_dump(mode="json")`
    recipe_text: str = ""
    recipe_path: str | None = None
    name: str | None = None
    cwd: str | None = None
    git_commit: str | None = None
    user: str | None = None
    host: str | None = None
    datasets: list[dict[str, Any]] = []
    versions: dict[str, Any] = {}
    environment: dict[str, str] = {}  # of a command; kept beside run.json
    umask: int | None = None  # of a command
    sweep: str | None = None
    sweep_values: dict[str, Any] | None = None  # what the sweep gave it, by key
    priority: int = 0
    parent: int | None = None  # number of a run here; run.json has its UUID
    fixes: list[dict[str, str | None]] = []  # what was changed in the parent's recipe, and for which flag
    gpu_memory: int | None = None  # bytes that each process needs
    gpu_memory_given: bool = False  # by somebody, not by the estimate
    exclusive: bool = False  # shares its GPUs with no other run
    # What the journal has from the beginning: conditions, tags, a note.
    held: bool = False
    after: list[int] = []
    after_any: bool = False
    not_before: Annotated[float, Field(gt=0, lt=LATEST)] | None = None  # Unix seconds
    tags: list[str] = []
    group: str | None = None
    note: str = ""
    seconds: Annotated[float, Field(ge=0, lt=LATEST)] | None = None  # that it will take, as predicted

    @property
    def first_lines(self) -> list[JournalLine]:
        """Return the lines of the journal after that of the submission. Raises QueueError."""
        lines: list[JournalLine] = []
        if self.held or self.after or self.not_before is not None:
            lines.append(Conditions(self.held, self.after, self.after_any, self.not_before))
        if self.tags:
            lines.append(Tagged(list(dict.fromkeys(tags_of(self.tags)))))
        if group := group_of(self.group):
            lines.append(Grouped(group))
        if self.note:
            lines.append(Note(self.note))
        return lines


def read_submission(body: dict[str, Any]) -> tuple[Submission, Recipe | Command]:
    """Check a submission. Raises QueueError."""
    try:
        submission = Submission.model_validate(body)
        return submission, any_recipe(submission.recipe)
    except ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(map(str, problem["loc"]))
        message = problem["msg"].removeprefix("Value error, ")
        raise QueueError(f"the submitted run is not valid, key {key}: {message}") from None


def repeat_submission(run: RunDir) -> dict[str, Any]:
    """Return the submission that runs the recipe of an earlier run once more. Raises QueueError."""
    if why := refuse_foreign(run, "queued again"):
        raise QueueError(why)
    try:
        body = read_json(run.meta)
    except (OSError, ValueError) as error:
        raise QueueError(f"{run.meta} cannot be read ({error}); the run cannot be repeated") from None
    known = Submission.model_fields.keys() - IN_JOURNAL - {"environment"}
    submission = {key: body[key] for key in known if body.get(key) is not None}
    try:
        environment = read_json(run.environment)
    except (OSError, ValueError):
        environment = {}
    submission.pop("fixes", None)  # nothing is changed
    return {
        **submission,
        "parent": run.number,
        "sweep": None,
        "sweep_values": None,
        "environment": environment,
    }


def edit(run: RunDir, submission: Submission, recipe: Recipe | Command) -> Edited:
    """Put another recipe in place of a run's, durable when this returns; return the line for the journal. Raises
    QueueError, OSError.
    """
    try:
        meta, before = read_submitted(run)
    except ValueError as error:
        raise QueueError(f"{run.meta} cannot be read ({error}); its recipe cannot be changed") from None
    if recipe.processes != before.processes:
        raise QueueError(
            f"run #{run.number} waits for {before.processes} GPUs; clone it to change processes, and cancel this one"
        )
    old, new = before.flat(), recipe.flat()
    keys = [key for key in {**old, **new} if old.get(key) != new.get(key)]
    changed = submission.model_dump(mode="json", include=OF_RECIPE)
    if meta.get("gpu_memory_given"):
        changed.pop("gpu_memory")
    name = meta.get("name")  # which somebody may have given it since
    if recipe.name != before.name or not name:
        name = submission.name or recipe.name or name
    body = {
        **meta,
        **changed,
        "name": name,
        "recipe_hash": recipe.hash(),
        "recipe": recipe.model_dump(mode="json"),
    }
    if values := meta.get("sweep_values"):
        body["sweep_values"] = {key: _value_at(body["recipe"], key) for key in values}
    write_json(run.meta, body)
    changes = [f"{key}: {old.get(key, 'none')} → {new.get(key, 'none')}" for key in keys]
    return Edited(changes, gpu_memory=changed.get("gpu_memory"), name=name)


def rename(run: RunDir, name: str) -> str:
    """Give a run another name, durable when this returns; return the one before. Raises QueueError, OSError."""
    try:
        meta = read_json(run.meta)
    except ValueError as error:
        raise QueueError(f"{run.meta} cannot be read ({error}); the run's name cannot be changed") from None
    write_json(run.meta, {**meta, "name": name})
    return str(meta.get("name") or "")


def _value_at(tree: Any, dotted: str) -> Any:
    for name in dotted.split("."):
        tree = tree.get(name) if isinstance(tree, dict) else None
    return tree


def accept(
    home: Home, number: int, submission: Submission, recipe: Recipe | Command, by: str | None = None
) -> RunDir:
    """Make the run directory; durable when this returns. `by`: the assistant that asked. Raises OSError (disk full),
    leaving nothing, or QueueError.
    """
    first_lines = submission.first_lines
    name = submission.name or recipe.name or "run"
    slug = slugify(name)
    unfinished = RunDir(home.runs / f"{UNFINISHED}{number:06d}-{slug}")
    final = RunDir(home.runs / f"{number:06d}-{slug}")
    parent = None if submission.parent is None else uuid_of(home, submission.parent)
    body = {
        "version": 1,
        "uuid": str(uuid.uuid4()),
        "number": number,
        "name": name,
        "slug": slug,
        "created": time.time(),
        "python": platform.python_version(),
        "recipe_hash": recipe.hash(),
        **submission.model_dump(mode="json", exclude={"name", "recipe", "environment", *IN_JOURNAL}),
        "parent": parent,
        "recipe": recipe.model_dump(mode="json"),  # with every default written out
    }
    try:
        unfinished.path.mkdir(mode=0o700)
        write_json(unfinished.meta, body)
        if submission.environment:
            write_json(unfinished.environment, submission.environment)
        writer = LogWriter(unfinished.journal, "journal", run=number)
        submitted = Submitted(
            RunState.QUEUED,
            submission.priority,
            recipe.processes,
            gpu_memory=submission.gpu_memory,
            exclusive=submission.exclusive,
            by=by,
            seconds=submission.seconds,
        )
        for line in (submitted, *first_lines):
            write(writer, line)
        writer.close()  # syncs
        sync(unfinished.path)
        unfinished.path.rename(final.path)
    except OSError:
        shutil.rmtree(unfinished.path, ignore_errors=True)
        raise
    sync(home.runs)
    return final


def clear_unfinished(home: Home) -> None:
    """Remove the remains of runs that a killed daemon was accepting; none of them was acknowledged."""
    for path in home.runs.glob(f"{UNFINISHED}*"):
        shutil.rmtree(path, ignore_errors=True)
