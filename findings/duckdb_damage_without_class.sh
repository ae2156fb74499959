#!/usr/bin/env bash
# Library:  DuckDB 1.5.6 and 2.0.1
# Expected: what a damaged block raises has a class of its own, or is an IOException, as in 1.5.6; it is a DatabaseError,
#           as PEP 249 says of errors of the database.
# Really:   2.0.1 raises duckdb.Error itself, the base of all others, which neither `except duckdb.IOException` nor
#           `except duckdb.DatabaseError` catches, and without the words "… Error:" before it. Where the file is damaged
#           is found when that block is read (in 1.5.6 too).
# Seen on 30 November 2026:
#   1.5.6 IOException: IO Error: Corrupt database file: computed checksum …
#   2.0.1 Error: Corrupt database file: computed checksum …
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
cd "$work"

for version in 1.5.6 2.0.1; do
  venv/bin/pip install --quiet --no-compile --disable-pip-version-check "duckdb==$version"
  venv/bin/python -I - <<'EOF'
import sys

import duckdb

name = f"file_{duckdb.__version__}.duckdb"
with duckdb.connect(name) as connection:
    connection.execute("CREATE TABLE t AS SELECT hash(range) AS a FROM range(1000000)")
with open(name, "r+b") as file:  # one byte in the middle of the data
    file.seek(4_000_000)
    byte = file.read(1)
    file.seek(4_000_000)
    file.write(bytes([byte[0] ^ 1]))
try:
    with duckdb.connect(name) as connection:
        connection.execute("SELECT sum(a) FROM t").fetchall()
    sys.exit("CHANGED: the damage is not noticed.")
except duckdb.Error as error:
    seen = type(error)
    print(duckdb.__version__, f"{seen.__name__}: {str(error)[:50]}…")
if seen is not (duckdb.IOException if duckdb.__version__.startswith("1.") else duckdb.Error):
    sys.exit("CHANGED: damage has another class.")
EOF
done
