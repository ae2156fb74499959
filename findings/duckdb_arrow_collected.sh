#!/usr/bin/env bash
# Library:  DuckDB 1.5.6 and 2.0.1 with pyarrow 21.0.0
# Expected: `execute(query).to_arrow_reader(2048)` hands on rows as they are made, as in 1.5, and `memory_limit` holds:
#           the release notes of 2.0 say that results stream.
# Really:   in 2.0.1 all rows are made before the first one can be read, in memory that `memory_limit` does not count.
#           `sql(query).to_arrow_reader(2048)` streams. (2.0.1 warns of "an extra copy of the rows", not of all at once.)
# Seen on 30 November 2026 (a million rows of 1,000 characters, memory_limit 200 MB; MiB more in memory at the most):
#   1.5.6 execute 94, sql 100
#   2.0.1 execute 1002, sql 35
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
cd "$work"

for version in 1.5.6 2.0.1; do
  venv/bin/pip install --quiet --no-compile --disable-pip-version-check "duckdb==$version" pyarrow==21.0.0
  venv/bin/python -I -W ignore - <<'EOF'
import multiprocessing
import resource
import sys

import duckdb
import pyarrow  # noqa: F401 (its memory is not counted)

QUERY = "SELECT repeat('x', 1000) || range AS text FROM range(1000000)"


def most():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def grown(way, told):
    connection = duckdb.connect(config={"memory_limit": "200MB", "threads": "2"})
    list(getattr(connection, way)("SELECT 1").to_arrow_reader(2048))
    before = most()
    rows = sum(batch.num_rows for batch in getattr(connection, way)(QUERY).to_arrow_reader(2048))
    assert rows == 1_000_000
    told.put(most() - before)


seen = {}
for way in ("execute", "sql"):
    told = multiprocessing.get_context("fork").Queue()
    process = multiprocessing.get_context("fork").Process(target=grown, args=(way, told))
    process.start()
    seen[way] = told.get()
    process.join()
print(duckdb.__version__, ", ".join(f"{way} {mib:.0f}" for way, mib in seen.items()))
if seen["sql"] > 500 or (seen["execute"] > 500) == duckdb.__version__.startswith("1."):
    sys.exit("CHANGED: it is no longer 2.0.1's reader of an executed statement alone that holds all rows.")
EOF
done
