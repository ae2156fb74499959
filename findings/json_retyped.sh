#!/usr/bin/env bash
# Library:  datasets 5.2.0 (the "json" reader of load_dataset)
# Expected: JSON says what is a string, so strings stay strings. A column of strings and numbers raises, or becomes
#           text.
# Really:   one bare number in a column makes numbers of all strings of digits: "007" becomes 7, and the string "null"
#           becomes None. Strings that are all ISO dates become timestamps, also in a column without any number.
# Seen on 28 November 2026:
#   ["007", "42", "null"] -> ['007', '42', 'null']
#   ["007", 42, "null"] -> [7, 42, None]
#   ["2024-07-26", "2024-07-27"] -> [datetime.datetime(2024, 7, 26, 0, 0), datetime.datetime(2024, 7, 27, 0, 0)]
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --no-compile --disable-pip-version-check \
  datasets==5.2.0 pyarrow==26.0.1 pandas==3.1.1
cd "$work"
export HF_HOME="$work" HF_HUB_OFFLINE=1 HF_DATASETS_DISABLE_PROGRESS_BARS=1

venv/bin/python -I -W ignore - <<'EOF'
import json
import sys
from datetime import datetime

from datasets import load_dataset


def read(*answers):
    with open("rows.jsonl", "w") as file:
        for answer in answers:
            file.write(json.dumps({"answer": answer}) + "\n")
    back = list(load_dataset("json", data_files="rows.jsonl", split="train")["answer"])
    print(f"{json.dumps(answers)} -> {back}")
    return back


if read("007", "42", "null") != ["007", "42", "null"]:
    sys.exit("CHANGED: strings of digits are no longer left alone where there is no number.")
if read("007", 42, "null") != [7, 42, None]:
    sys.exit("CHANGED: strings beside a number no longer become numbers and None.")
if read("2024-07-26", "2024-07-27") != [datetime(2024, 7, 26), datetime(2024, 7, 27)]:
    sys.exit("CHANGED: strings that look like dates no longer become timestamps.")
EOF
