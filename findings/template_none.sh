#!/usr/bin/env bash
# Library:  transformers 4.57.6 and 5.23.0, jinja2 3.1.6
# Expected: a message whose content is None is shown to the chat template as it is, in every version, and a template
#           can ask `content is none` (answers that only call tools have no content).
# Really:   5.23.0 removes keys that are None before the template sees the message. So `is none` is now False, printing
#           gives nothing where it gave the word None, and adding with + fails with another error than before.
# Seen on 28 November 2026:
#   4.57.6  content is none       -> 'True'
#   4.57.6  content               -> 'None'
#   4.57.6  role + ': ' + content -> TypeError
#   5.23.0  content is none       -> 'False'
#   5.23.0  content               -> ''
#   5.23.0  role + ': ' + content -> UndefinedError
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
export HF_HOME="$work" HF_HUB_OFFLINE=1 TRANSFORMERS_VERBOSITY=error

for version in 4.57.6 5.23.0; do
  "$work/venv/bin/pip" install --quiet --no-compile --disable-pip-version-check "transformers==$version" jinja2==3.1.6
  "$work/venv/bin/python" -I - <<'EOF' | tee -a "$work/seen"
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast, __version__

tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE(vocab={"a": 0}, merges=[])))
chat = [{"role": "assistant", "content": None}]
for question in ("content is none", "content", "role + ': ' + content"):
    tokenizer.chat_template = (
        "{% for m in messages %}{% set role = m.role %}{% set content = m.content %}{{ " + question + " }}{% endfor %}"
    )
    try:
        answer = repr(tokenizer.apply_chat_template(chat, tokenize=False))
    except Exception as error:
        answer = type(error).__name__
    print(f"{__version__}  {question:21} -> {answer}")
EOF
done
answers=$(sed 's/.*-> //' "$work/seen" | tr '\n' ' ')
if [ "$answers" != "'True' 'None' TypeError 'False' '' UndefinedError " ]; then
  echo "CHANGED: the two versions no longer treat a content of None as described." >&2
  exit 1
fi
