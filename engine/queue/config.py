"""`config.toml` in the home: how the queue behaves, and what the screen reads of it (tui/preferences.py). Every key
has a default; the file may be missing.
"""

from __future__ import annotations

import difflib
import logging
import tomllib
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from engine.basics.errors import ConfigError
from engine.queue import quiet
from engine.queue.agents import Agents, Right
from engine.queue.budget import Budget
from engine.queue.idle import WhenIdle
from engine.queue.notices import EVENTS, Channels, Event
from engine.queue.quiet import QuietHours
from finetui.files import open_regular
from store.limits import Limits

log = logging.getLogger("finetui.daemon")

LARGEST = 1 << 20  # bytes
LIMITS = Limits()


class Config(BaseModel):
    """The settings of `config.toml`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    concurrency: int | None = Field(
        None, ge=1, description="Runs at a time; default: the number of GPUs, or 1 without a GPU."
    )
    grace_s: float = Field(
        60.0,
        ge=0,
        description="Seconds that a run has to save and stop after cancel or pause before it is killed.",
    )
    sample_every_s: float = Field(2.0, ge=0.1, description="Seconds between hardware samples during a run.")
    retry_wait_seconds: float = Field(
        60.0,
        ge=0,
        description="How long a run waits to be tried again after a lost GPU or a shortage of memory, or after losing "
        "its process twice without a new checkpoint; five times as long the next time. Then it has failed.",
    )
    groups: dict[str, Annotated[int, Field(ge=1)]] = Field(
        {},
        description="How many runs of a group go at a time: `groups = {night = 1}`. `finetui run --group night`.",
    )
    gpus: list[int | str] = Field(
        [],
        description="The GPUs that runs may have, by number or UUID (`nvidia-smi -L`): `gpus = [0, 2]`. Default: all "
        "that CUDA_VISIBLE_DEVICES lets the daemon see.",
    )
    share_gpus: bool = Field(
        False,
        description="Let runs share a GPU where the memory that they need, by their estimate or `--gpu-memory`, is "
        "free on it; `concurrency` is then twice the number of GPUs unless it says otherwise. `finetui run "
        "--exclusive` shares with nobody.",
    )
    gaps_minutes: float = Field(
        60.0,
        ge=0,
        description="Minutes after it was queued during which a run that waits for more GPUs or memory than are free "
        "lets later runs overtake it; after that they wait for it.",
    )
    quiet_hours: str = Field(
        "",
        description='Hours in which no run starts by itself: `quiet_hours = "09:00-18:00"`, in the time of the '
        "machine. Active runs continue.",
    )
    notify_on: list[Event] = Field(
        list(EVENTS),
        description="Events that send a notice: finished, failed, paused (full disk), flagged (a flag warns), stalled "
        "(no step for long), queue_empty, disk_full, budget. Default: all.",
    )
    notify_command: str = Field(
        "",
        repr=False,  # it may hold a password, and a changed configuration is logged
        description="A command for `sh` that sends a notice: FINETUI_EVENT, FINETUI_RUN, FINETUI_NAME, FINETUI_TITLE "
        "and FINETUI_MESSAGE are in its environment.",
    )
    notify_urls_file: str = Field(
        "",
        description="A file of Apprise addresses (mail, ntfy, Telegram, Slack, webhooks, …), one a line, of mode 0600. "
        "Or set FINETUI_NOTIFY_URLS before the daemon starts. Needs the extra `notices`.",
    )
    stalled_after: float = Field(
        20.0,
        gt=0,
        description="A run is stalled after so many times the time of a step without one, and five minutes at least.",
    )
    when_idle_command: str = Field(
        "",
        repr=False,
        description="A command for `sh`, such as one that stops a rented machine, once nothing runs, waits or is held, "
        "and no screen or command has asked for anything, for `when_idle_minutes`.",
    )
    when_idle_minutes: float = Field(30.0, gt=0, description="How long that has to be so.")
    price_per_hour: float | None = Field(
        None,
        ge=0,
        description="What an hour of one GPU costs, or of the machine if it has none, in any currency. Each attempt "
        "records the price at its start; `ls`, `show` and SQL have the cost of a run.",
    )
    budget: float | None = Field(
        None,
        ge=0,
        description="Once the runs of this home have cost this much, no more are started; a notice is sent at 80%.",
    )
    budget_pauses: bool = Field(False, description="Also pause active runs when the budget is spent.")
    agents_may: list[Right] = Field(
        [],
        description="What assistants (`finetui mcp`, or a shell with FINETUI_AGENT set) may do besides reading: queue "
        "runs, queue only what is made from a run (fix), stop runs, and queue programs of their own (programs): "
        '`agents_may = ["queue", "stop"]`. Default: nothing.',
    )
    agent_runs_per_day: int = Field(
        10, ge=0, description="How many runs assistants may queue in 24 hours, all of them together."
    )
    agent_hours_per_day: float = Field(
        10.0,
        ge=0,
        description="Hours that these runs may take, times the processes of each: as they ran, or as predicted from an "
        "earlier run. Beyond that nothing is queued, and active runs are paused; one that you resume counts as yours.",
    )
    keep_removed_days: float = Field(
        7.0,
        ge=0,
        description="Days that a removed run is kept, for `finetui restore`, before it is deleted for good.",
    )
    clean_after_days: float | None = Field(
        None,
        ge=0,
        description="Days after its end that a finished run's optimiser states are deleted, which nothing reads again; "
        "its weights stay. Default: never; `finetui clean` does it at once.",
    )
    mirror: str = Field(
        "",
        description="Where run directories are copied as they grow, so that a lost box loses minutes: `host:folder` by "
        "rsync over ssh (without a password), or `rclone:remote:folder`. `finetui pull` brings them back.",
    )
    mirror_minutes: float = Field(
        5.0, gt=0, description="Minutes between two copies; one is also made after each run."
    )
    sql_memory_mb: int = Field(
        LIMITS.memory_mb,
        ge=128,
        description="Memory of the database in MB, for all queries together. This, `sql_threads` and `sql_temp_mb` are "
        "read when the daemon starts.",
    )
    sql_threads: int = Field(LIMITS.threads, ge=1, description="Threads of the database.")
    sql_temp_mb: int = Field(
        LIMITS.temp_mb,
        ge=0,
        description="What queries may write to the disk in MB where memory is too small.",
    )
    sql_answer_mb: int = Field(
        LIMITS.answer_mb,
        ge=1,
        description="MiB of an answer; of a larger one there are the first rows, and a note.",
    )
    sql_at_once: int = Field(LIMITS.at_once, ge=1, description="SQL queries at a time; more are refused.")
    sql_seconds: float = Field(
        LIMITS.seconds,
        gt=0,
        le=600,
        description="Seconds after which a SQL query is stopped, unless it says otherwise.",
    )
    theme: str = Field(
        "dark",
        description="Colours of the screen: dark, colour-blind or light. A key of the screen changes it, too.",
    )
    keys: dict[str, Any] = Field(
        {},
        description="Keys of your own, for an action wherever it is or on one screen: `[keys]`, then "
        '`cancel = "ctrl+x"`, `quit = ["q", "Q"]` or `run.search = "f7"`. `finetui keys` lists actions and the keys in '
        "force. Mistakes there are reported when the screen opens, and ignored.",
    )
    pool: bool = Field(
        True,
        description="Fork workers from a process that has torch, transformers and PEFT imported, so that runs start "
        "sooner. It takes about 0.5 GB while runs are started, and ends after ten minutes without a run or a command.",
    )

    @field_validator("quiet_hours")
    @classmethod
    def _check_hours(cls, text: str) -> str:
        quiet.parse(text)
        return text

    @property
    def quiet(self) -> QuietHours:
        return quiet.parse(self.quiet_hours)

    @property
    def when_idle(self) -> WhenIdle:
        return WhenIdle(self.when_idle_command, self.when_idle_minutes)

    @property
    def sql(self) -> Limits:
        return Limits(
            self.sql_memory_mb,
            self.sql_threads,
            self.sql_temp_mb,
            self.sql_answer_mb,
            self.sql_at_once,
            self.sql_seconds,
        )

    @property
    def spending(self) -> Budget:
        return Budget(self.price_per_hour, self.budget, self.budget_pauses)

    @property
    def agents(self) -> Agents:
        return Agents(frozenset(self.agents_may), self.agent_runs_per_day, self.agent_hours_per_day)

    @property
    def channels(self) -> Channels:
        return Channels(frozenset(self.notify_on), self.notify_command, self.notify_urls_file)


class ConfigFile:
    """The configuration in force, for a process that goes on while the file is changed. Raises ConfigError at first."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._mtime_ns = self._look()
        self.config = read(path)
        self.problem: str | None = None  # why the file, as it is now, is not used

    def reread(self) -> bool:
        """Read the file if it has changed; return whether `config` is new. A bad file changes nothing but `problem`."""
        mtime_ns = self._look()
        if mtime_ns == self._mtime_ns:
            return False
        self._mtime_ns = mtime_ns
        try:
            self.config = read(self._path)
        except ConfigError as error:
            log.warning("config.toml has changed but is not used: %s", error)
            self.problem = str(error)
            return False
        self.problem = None
        log.info("config.toml has changed: %s", self.config)
        return True

    def _look(self) -> int | None:
        try:
            return self._path.stat().st_mtime_ns
        except OSError:
            return None


def read(path: Path) -> Config:
    """Read and check the file; the defaults if there is none. Raises ConfigError."""
    try:
        with open_regular(path) as file:
            body = tomllib.loads(file.read(LARGEST).decode())
    except (FileNotFoundError, NotADirectoryError):  # a home that is no directory is reported elsewhere
        return Config()
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:  # not UTF-8, or too long
        raise ConfigError(f"{path}: cannot be read ({error})") from None
    try:
        return Config.model_validate(body)
    except ValidationError as error:
        raise ConfigError("; ".join(_sentence(problem, path) for problem in error.errors())) from None


def _sentence(problem: object, path: Path) -> str:
    assert isinstance(problem, dict)
    key = ".".join(map(str, problem["loc"]))
    if problem["type"] != "extra_forbidden":
        message = str(problem["msg"]).removeprefix("Value error, ")
        return f"{path}, key {key}: {message[0].lower()}{message[1:]} (got {problem['input']!r})"
    matches = difflib.get_close_matches(key, Config.model_fields, n=1)
    hint = f"did you mean `{matches[0]}`?" if matches else f"known keys: {', '.join(Config.model_fields)}"
    return f"{path}, key {key}: unknown key; {hint}"
