#!/usr/bin/env bash
# Library:  DuckDB 2.0.1
# Expected: `extract_statements` says of every statement that it parses of which kind it is: a StatementType.
# Really:   asked for the `type` of CONNECT, DISCONNECT and UPDATE EXTENSIONS it raises ValueError: the parser knows
#           kinds that the enumeration of the Python package lacks. Code that lets only some kinds through fails there
#           with another error than its own. (UPDATE EXTENSIONS has a kind without a name in 1.5.6, "???".)
# Seen on 30 November 2026:
#   2.0.1 CONNECT 'x': 31 is not a valid StatementType.
#   2.0.1 DISCONNECT: 32 is not a valid StatementType.
#   2.0.1 UPDATE EXTENSIONS: 29 is not a valid StatementType.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
cd "$work"
venv/bin/pip install --quiet --no-compile --disable-pip-version-check duckdb==2.0.1

venv/bin/python -I - <<'EOF'
import sys

import duckdb

connection = duckdb.connect()
assert connection.extract_statements("SELECT 1")[0].type == duckdb.StatementType.SELECT
for sql in ("CONNECT 'x'", "DISCONNECT", "UPDATE EXTENSIONS"):
    (statement,) = connection.extract_statements(sql)  # parsed, not run
    try:
        sys.exit(f"CHANGED: the kind of {sql} is {statement.type}.")
    except ValueError as error:
        print(f"{duckdb.__version__} {sql}: {error}")
EOF
