"""`SHOW TABLES` and `DESCRIBE x`, answered with the comments, and with macros, which DuckDB leaves out."""

from __future__ import annotations

import re

from store.macros import MACROS
from store.schema import TABLES, VIEWS

_SHOW_TABLES = re.compile(r"(?i)\s*show\s+tables\s*;?\s*")
_DESCRIBE = re.compile(r'(?i)\s*(?:describe|desc|show)\s+"?(\w+)"?\s*;?\s*')

_ALL = """
SELECT * FROM (
SELECT table_name AS name, 'table' AS kind, comment FROM duckdb_tables() WHERE NOT internal
UNION ALL SELECT view_name, 'view', comment FROM duckdb_views() WHERE NOT internal
UNION ALL SELECT DISTINCT function_name || '(' || array_to_string(parameters, ', ') || ')', 'macro', comment
  FROM duckdb_functions() WHERE NOT internal)
ORDER BY kind <> 'table', kind, name"""
_COLUMNS = """
SELECT column_name, data_type AS column_type, comment FROM duckdb_columns() WHERE table_name = '{name}'
ORDER BY column_index"""
_MACRO = """
SELECT DISTINCT function_name AS macro, array_to_string(parameters, ', ') AS parameters, comment
FROM duckdb_functions() WHERE NOT internal AND function_name = '{name}'"""


def spelled_out(sql: str) -> str:
    """Return a statement that shows the same and more; any other one as it is."""
    if _SHOW_TABLES.fullmatch(sql):
        return _ALL
    match = _DESCRIBE.fullmatch(sql)
    name = match[1].lower() if match else ""
    if name in TABLES or name in VIEWS:
        return _COLUMNS.format(name=name)
    return _MACRO.format(name=name) if name in MACROS else sql
