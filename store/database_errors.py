"""What an error of the database means for its file."""

from __future__ import annotations

import duckdb


def is_of_another_duckdb(error: duckdb.Error) -> bool:
    """Whether the file, or its log, has a format that this DuckDB does not know."""
    text = str(error)
    return "can only read" in text or "storage version greater than" in text


def is_fatal(error: duckdb.Error) -> bool:
    """Whether the instance is of no more use until it is reopened."""
    return isinstance(error, duckdb.FatalException | duckdb.InternalException) or (
        "database has been invalidated" in str(error)
    )


def is_corruption(error: duckdb.Error) -> bool:
    """Whether the file is damaged. A message alone is not enough: a query can make its own with `error(…)`."""
    ours = (
        duckdb.IOException | duckdb.FatalException | duckdb.InternalException | duckdb.SerializationException
    )
    text = str(error).lower()
    words = ("checksum", "corrupt", "could not read", "not a valid duckdb", "end of file", "deserializ")
    # DuckDB 2 has an error of its own for damage, and Python no class for it.
    return (isinstance(error, ours) or type(error) is duckdb.Error) and any(word in text for word in words)


def interrupted() -> duckdb.InterruptException:
    """What DuckDB raises of a statement that was interrupted."""
    return duckdb.InterruptException("INTERRUPT Error: Interrupted!")
