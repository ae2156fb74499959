#!/usr/bin/env bash
# Library:  DuckDB 1.5.6 with pandas 2.3.3 installed beside it
# Expected: a query with a bound integer touches nothing but DuckDB; pandas is imported by who asks for a data frame.
# Really:   the first bound parameter of a process, whatever its type, imports pandas, if it is installed: most of the
#           time of a short script. The same value written into the statement does not.
# Seen on 28 November 2026 (CPU seconds):
#   1.5.6 written out 0.00, pandas imported: False; bound 0.53, pandas imported: True
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
cd "$work"
venv/bin/pip install --quiet --disable-pip-version-check duckdb==1.5.6 pandas==2.3.3

venv/bin/python -I - <<'EOF'
import sys
import time

import duckdb

connection = duckdb.connect()


def seconds(*query):
    began = time.process_time()
    connection.execute(*query).fetchall()
    return time.process_time() - began


written = seconds("SELECT 1::INTEGER")
before = "pandas" in sys.modules
bound = seconds("SELECT ?::INTEGER", [1])
after = "pandas" in sys.modules
print(
    f"{duckdb.__version__} written out {written:.2f}, pandas imported: {before}; "
    f"bound {bound:.2f}, pandas imported: {after}"
)
if before or not after:
    sys.exit("CHANGED: pandas is not imported by the first bound parameter and by it alone.")
EOF
