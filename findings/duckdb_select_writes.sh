#!/usr/bin/env bash
# Library:  DuckDB 2.0.1
# Expected: a statement of the kind SELECT reads, and writes no file in a transaction that is READ ONLY.
# Really:   the body of a WITH may be COPY … TO, INSERT, UPDATE or DELETE, and the statement is a SELECT all the same for
#           `extract_statements` and for `json_serialize_sql`, which takes SELECT alone. READ ONLY is about tables: the
#           file is written. (1.5.6 does not parse it: "A CTE needs a SELECT".)
# Seen on 30 November 2026:
#   2.0.1 kind SELECT, serialised with COPY_QUERY_NODE, INSERT refused, file written: a,b
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
cd "$work"
venv/bin/pip install --quiet --no-compile --disable-pip-version-check duckdb==2.0.1

venv/bin/python -I - <<'EOF'
import os
import sys

import duckdb

sql = "WITH w AS (COPY (SELECT 1 AS a, 2 AS b) TO 'written.csv') SELECT 3"
with duckdb.connect("file.duckdb") as connection:
    connection.execute("CREATE TABLE t (a INT)")
    kind = connection.extract_statements(sql)[0].type.name
    tree = connection.execute("SELECT json_serialize_sql($sql)", {"sql": sql}).fetchall()[0][0]
    node = next((word for word in tree.split('"') if word.startswith("COPY_")), "nothing")
    connection.execute("BEGIN TRANSACTION READ ONLY")
    connection.execute(sql).fetchall()
    try:
        connection.execute("WITH w AS (INSERT INTO t VALUES (1) RETURNING a) FROM w").fetchall()
        inserted = "done"
    except duckdb.TransactionException:
        inserted = "refused"
written = open("written.csv").readline().strip() if os.path.exists("written.csv") else "none"
print(f"{duckdb.__version__} kind {kind}, serialised with {node}, INSERT {inserted}, file written: {written}")
if (kind, inserted, written) != ("SELECT", "refused", "a,b"):
    sys.exit("CHANGED: a SELECT in a READ ONLY transaction writes no file any more.")
EOF
