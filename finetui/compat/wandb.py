"""`import finetui.compat.wandb as wandb`: what a usual training script calls of W&B, as a run of finetui.

Numbers, the config and the summary are logged. What only decorates (images, tables, `watch`) is left out with a
warning; what finetui has not at all raises one sentence. Nothing is sent anywhere.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NoReturn

from finetui import logged
from finetui.config import Config, Summary
from finetui.logged import log as _logger
from finetui.measures import as_step

_MEDIA = (
    "Image", "Video", "Audio", "Table", "Histogram", "Html", "Molecule", "Object3D", "Plotly", "Artifact", "Graph",
)  # fmt: skip
_said: set[str] = set()


class Run:
    """A run by W&B's names. Attributes that it does not have are refused in a sentence."""

    def __init__(self, own: logged.Run, project: str | None) -> None:
        self._own = own
        self._step = 0  # W&B counts from 0, and goes on with each call that commits
        self._project = project
        self._patterns: dict[str, bool] = {}  # without their `*` → whether higher is better
        self._judged: set[str] = set()  # metrics of which it is known

    @property
    def id(self) -> str:
        return str(self._own.number or "")

    @property
    def name(self) -> str:
        return self._own.name or ""

    @name.setter
    def name(self, name: str) -> None:
        self._own.rename(name)

    @property
    def dir(self) -> str:
        return str(self._own.path or "")

    @property
    def step(self) -> int:
        return self._step

    @property
    def project(self) -> str:
        return self._project or ""

    @property
    def url(self) -> None:
        """None: nothing is sent anywhere."""

    @property
    def disabled(self) -> bool:
        return not self._own.active

    @property
    def config(self) -> Config:
        return self._own.config

    @property
    def summary(self) -> Summary:
        return self._own.summary

    def log(
        self,
        data: Mapping[str, Any],
        step: int | None = None,
        commit: bool | None = None,
        sync: bool | None = None,
    ) -> None:
        """Log values. As with W&B, those of a call without `step` are of the next one, unless `commit` is False; each
        call is a line of its own all the same, so that none is lost.
        """
        given = None if step is None else as_step(step)
        self._step = self._step if given is None else given
        values = {key: value for key, value in data.items() if not _is_medium(key, value)}
        if self._patterns:
            self._judge(values)
        self._own.log(values, step=self._step)
        if commit or (commit is None and given is None):
            self._step += 1

    def finish(self, exit_code: int | None = None, quiet: bool | None = None) -> None:
        if exit_code:
            self._own.finish("failed", f"it ended with exit code {exit_code}")
        else:
            self._own.finish()
        _forget(self)

    def define_metric(
        self, name: str, *_: Any, summary: str | None = None, goal: str | None = None, **__: Any
    ) -> None:
        """Take from `goal` or `summary` whether the greatest value is the best. The rest is nothing to finetui: every
        metric is shown over the steps, with its best and its last value.
        """
        higher = _is_higher_better(summary, goal)
        if higher is None:
            return
        if name.endswith("*"):
            self._patterns[name[:-1]] = higher
        else:
            self._judged.add(name)
            self._own.judge(name, higher_is_better=higher)

    def _judge(self, values: Mapping[str, Any]) -> None:
        """Take for a new metric what was said of all that begin like it; of several patterns the longest."""
        for name in values.keys() - self._judged:
            if said := [pattern for pattern in self._patterns if str(name).startswith(pattern)]:
                self._judged.add(name)
                self._own.judge(name, higher_is_better=self._patterns[max(said, key=len)])

    def watch(self, *_: Any, **__: Any) -> None:
        _leave_out("watch", "gradients and weights are not logged")

    def unwatch(self, *_: Any, **__: Any) -> None:
        return

    def save(self, *_: Any, **__: Any) -> None:
        _leave_out("save", "files stay where they are")

    def log_code(self, *_: Any, **__: Any) -> None:
        _leave_out("log_code", "the git commit is noted")

    def log_artifact(self, *_: Any, **__: Any) -> None:
        _leave_out("log_artifact", "files stay where they are")

    def alert(self, title: str = "", text: str = "", *_: Any, **__: Any) -> None:
        self._own.say(f"{title}: {text}" if text else title, "warning")

    def mark_preempting(self) -> None:
        return

    def __enter__(self) -> Run:
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self._own.__exit__(kind, error, trace)
        _forget(self)

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(_unknown(f"Run.{name}"))


class Settings:
    """Accepted, whatever it says."""

    def __init__(self, *_: Any, **values: Any) -> None:
        self.__dict__.update(values)


run: Run | None = None


def init(
    entity: str | None = None,
    project: str | None = None,
    config: Any = None,
    name: str | None = None,
    notes: str | None = None,
    tags: Any = None,
    group: str | None = None,
    job_type: str | None = None,
    mode: str | None = None,
    reinit: Any = None,
    **others: Any,
) -> Run:
    """Begin a run, or return the one that goes on. `mode="disabled"` logs nothing. Of W&B's other arguments, `id` and
    `resume` are not possible, and the rest (`dir`, `settings`, …) is accepted.
    """
    global run
    if run is not None and run._own.active:
        if reinit in (True, "finish_previous"):
            run.finish()
        elif reinit != "create_new":
            return run
    if others.get("resume") not in (None, False, "allow", "auto", "never"):
        raise NotImplementedError(_unknown("init(resume=…)") + "; each start is a run of its own")
    for what in ("sync_tensorboard", "monitor_gym", "save_code"):
        if others.get(what):
            _leave_out(f"init({what}=True)", "only what is logged here is kept")
    project = project or os.environ.get("WANDB_PROJECT")
    name = name or os.environ.get("WANDB_NAME")
    disabled = (mode or os.environ.get("WANDB_MODE")) == "disabled"
    words = [tags] if isinstance(tags, str) else tags or ()
    own = logged.init(
        project,
        name=name,
        config=config,
        tags=[*words, *([job_type] if job_type else [])],
        group=group or os.environ.get("WANDB_RUN_GROUP"),
        note=notes or "",
        rank=1 if disabled else None,
    )
    run = Run(own, project)
    return run


def log(
    data: Mapping[str, Any], step: int | None = None, commit: bool | None = None, sync: bool | None = None
) -> None:
    _current("log").log(data, step, commit, sync)


def finish(exit_code: int | None = None, quiet: bool | None = None) -> None:
    if run is not None:
        run.finish(exit_code, quiet)


def define_metric(name: str, *others: Any, **more: Any) -> None:
    _current("define_metric").define_metric(name, *others, **more)


def watch(*_: Any, **__: Any) -> None:
    _current("watch").watch()


def unwatch(*_: Any, **__: Any) -> None:
    return


def save(*_: Any, **__: Any) -> None:
    _current("save").save()


def log_artifact(*_: Any, **__: Any) -> None:
    _current("log_artifact").log_artifact()


def alert(title: str = "", text: str = "", *_: Any, **__: Any) -> None:
    _current("alert").alert(title, text)


def login(*_: Any, **__: Any) -> bool:
    """Nobody has to log in."""
    return True


def setup(*_: Any, **__: Any) -> None:
    return


def teardown(*_: Any, **__: Any) -> None:
    finish()


def _is_higher_better(summary: str | None, goal: str | None) -> bool | None:
    """Return what W&B is told of a metric; None where it is not told."""
    if goal in ("maximize", "minimize"):
        return goal == "maximize"
    ends = {"max", "min"} & set((summary or "").replace(" ", "").split(","))
    return "max" in ends if len(ends) == 1 else None


class _Medium:
    """Stands for an image, a table and the like, which are not logged."""

    def __init__(self, *_: Any, **__: Any) -> None:
        return

    def __getattr__(self, name: str) -> Any:
        return lambda *_, **__: self


def _is_medium(name: str, value: Any) -> bool:
    several = isinstance(value, list | tuple) and any(isinstance(one, _Medium) for one in value)
    if not (several or isinstance(value, _Medium)):
        return False
    _leave_out(name, "images, tables and the like are not logged")
    return True


def _leave_out(what: str, why: str) -> None:
    if what not in _said:
        _said.add(what)
        _logger.warning("finetui: %s is left out: %s", what, why)


def _current(what: str) -> Run:
    if run is None:
        raise RuntimeError(f"call wandb.init() before wandb.{what}()")
    return run


def _forget(one: Run) -> None:
    global run
    if run is one:
        run = None


def _unknown(what: str) -> str:
    return f"finetui.compat.wandb has no {what}: it stands in for init, log, finish, config and summary"


def __getattr__(name: str) -> Any:
    if name == "config":
        return run.config if run is not None else Config({}, lambda: None)
    if name == "summary":
        return run.summary if run is not None else Summary({}, lambda values: None)
    if name in _MEDIA:
        return _Medium
    if name == "plot":
        return _Medium()
    if name.startswith("__"):
        raise AttributeError(name)
    raise AttributeError(_unknown(name))
