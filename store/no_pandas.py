"""Keep pandas out of the daemon, and of the processes of queries.

DuckDB imports it with the first parameter that it binds, and pyarrow with the first Python list, where it is installed,
as it is for `datasets`: 0.6 s of CPU and 40 MB in a process that hands neither of them a data frame.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import ModuleType


class NoPandas:
    """First in `sys.meta_path`, it makes `import pandas` fail as if it were not installed."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> None:
        if name == "pandas":
            raise ModuleNotFoundError("this process does without pandas", name=name)


def keep_pandas_out() -> None:
    """From now on, in this process."""
    if NoPandas not in sys.meta_path:
        sys.meta_path.insert(0, NoPandas)
