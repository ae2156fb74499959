"""Every error of the engine that is meant for people: `str()` is one sentence, `exit_code` what a command ends with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from finetui.errors import ExitCode, FinetuiError


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and what led to it, the latest first."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


class InputError(FinetuiError):
    """What the user gave cannot be used: a recipe, data, a model, a configuration."""

    exit_code = ExitCode.BAD_INPUT


class RecipeError(InputError):
    """A recipe that cannot run: file, line, key and what to do. `by_key`: the sentences by the dotted key alone."""

    def __init__(self, message: str, by_key: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.by_key = by_key or {}


class ConfigError(InputError):
    """A `config.toml` that cannot be used: file, key and what to do."""


class DataError(InputError):
    """Data that cannot be used: the file, the line and what to do."""


class ModelError(InputError):
    """A model that cannot be used."""


class MetricError(InputError):
    """A metric that cannot be used."""


class ProcessesError(InputError):
    """Why there cannot be so many processes."""


class TrainingError(FinetuiError):
    """Training cannot go on; says what to try."""


class ShortageError(TrainingError):
    """Memory ran out in a run that had enough before: others may have held it."""


class SaveError(FinetuiError):
    """What could not be written and why."""


class RestoreError(FinetuiError):
    """A checkpoint that a run cannot be resumed from, and why."""


class ExportError(FinetuiError):
    """Something that cannot be exported, and what to do."""


class FixError(FinetuiError):
    """A run that has nothing to fix, or whose fix cannot be written, and what to do."""


class QueueError(FinetuiError):
    """A request that the queue cannot follow."""
