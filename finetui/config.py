"""What a program decided before it trained, and the last values that it logged: two dictionaries of a logged run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any


class Config(MutableMapping[str, Any]):
    """A dictionary whose keys are attributes, too: `config["lr"]`, `config.lr`. `changed` is called after a change."""

    def __init__(self, values: Mapping[str, Any], changed: Callable[[], object]) -> None:
        self.__dict__["_values"] = dict(values)
        self.__dict__["_changed"] = changed

    def __getitem__(self, key: str) -> Any:
        return self.__dict__["_values"][key]

    def __setitem__(self, key: str, value: Any) -> None:
        self.__dict__["_values"][str(key)] = value
        self.__dict__["_changed"]()

    def __delitem__(self, key: str) -> None:
        del self.__dict__["_values"][key]
        self.__dict__["_changed"]()

    def __iter__(self) -> Iterator[str]:
        return iter(dict(self.__dict__["_values"]))

    def __len__(self) -> int:
        return len(self.__dict__["_values"])

    def __getattr__(self, key: str) -> Any:
        try:
            return self.__dict__["_values"][key]
        except KeyError:
            raise AttributeError(f"the config has no {key!r}") from None

    def __setattr__(self, key: str, value: Any) -> None:
        self[key] = value

    def update(self, *values: Any, **more: Any) -> None:
        """Take several at once: the run's file is written once."""
        given: dict[str, Any] = {}
        for one in values:
            given |= dict(one if isinstance(one, Mapping) or not hasattr(one, "__dict__") else vars(one))
        self.__dict__["_values"].update(given, **more)
        self.__dict__["_changed"]()

    def setdefaults(self, values: Mapping[str, Any]) -> None:
        """Take those keys that are not there yet."""
        self.update({key: value for key, value in values.items() if key not in self})

    def __repr__(self) -> str:
        return repr(self.__dict__["_values"])


class Summary(MutableMapping[str, Any]):
    """The last value that was logged by each name; one that is set here becomes the metric `summary/NAME`."""

    def __init__(self, last: dict[str, Any], log: Callable[[Mapping[str, Any]], object]) -> None:
        self._last, self._log = last, log

    def __getitem__(self, key: str) -> Any:
        return self._last[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self.update({key: value})

    def __delitem__(self, key: str) -> None:
        del self._last[key]

    def __iter__(self) -> Iterator[str]:
        return iter(dict(self._last))

    def __len__(self) -> int:
        return len(self._last)

    def update(self, *values: Any, **more: Any) -> None:
        given = {**{key: value for one in values for key, value in dict(one).items()}, **more}
        self._log({f"summary/{key}": value for key, value in given.items()})
        self._last.update(given)
