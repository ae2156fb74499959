"""`config.toml` in the home: how the queue behaves. Every key has a default; the file may be missing."""

from __future__ import annotations

import difflib
import tomllib
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from engine.basics.errors import ConfigError
from finetui.files import open_regular

LARGEST = 1 << 20  # bytes


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
    pool: bool = Field(
        True,
        description="Fork workers from a process that has torch, transformers and PEFT imported, so that runs start "
        "sooner. It takes about 0.5 GB while runs are started, and ends after ten minutes without one.",
    )


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
        message = str(problem["msg"])
        return f"{path}, key {key}: {message[0].lower()}{message[1:]} (got {problem['input']!r})"
    matches = difflib.get_close_matches(key, Config.model_fields, n=1)
    hint = f"did you mean `{matches[0]}`?" if matches else f"known keys: {', '.join(Config.model_fields)}"
    return f"{path}, key {key}: unknown key; {hint}"
