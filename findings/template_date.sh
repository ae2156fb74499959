#!/usr/bin/env bash
# Library:  transformers 5.23.0, jinja2 3.1.6
# Expected: one tokenizer and one conversation always give the same tokens, so that training can go on tomorrow
#           where it stopped today. At least a `strftime_now` of one's own can be passed to the template.
# Really:   templates get a `strftime_now` that reads the clock (Llama's and Mistral's templates write the date with
#           it), so the tokens change at midnight. A function passed under that name arrives as text: TypeError.
# Seen on 28 November 2026 (the two time zones are 26 hours apart, so they never have the same date):
#   Today: 28 Nov 2026. user: Hello
#   token ids: 55 24 13 10 34 77 94 2 8 94 49 24
#   a function of one's own: 'str' object is not callable
#   Today: 29 Nov 2026. user: Hello
#   token ids: 55 24 13 10 34 77 94 2 9 94 49 24
#   a function of one's own: 'str' object is not callable
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --no-compile --disable-pip-version-check \
  transformers==5.23.0 tokenizers==0.23.3 jinja2==3.1.6
cd "$work"
export HF_HOME="$work" HF_HUB_OFFLINE=1 TRANSFORMERS_VERBOSITY=error

cat > render.py <<'EOF'
import string
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

characters = {character: i for i, character in enumerate(string.printable)}
tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE(vocab=characters, merges=[])))
tokenizer.chat_template = (
    "Today: {{ strftime_now('%d %b %Y') }}. {% for m in messages %}{{ m.role }}: {{ m.content }}{% endfor %}"
)
chat = [{"role": "user", "content": "Hello"}]
print(tokenizer.apply_chat_template(chat, tokenize=False))
print("token ids:", *tokenizer.apply_chat_template(chat)["input_ids"][:12])
try:
    tokenizer.apply_chat_template(chat, tokenize=False, strftime_now=lambda form: "26 Jul 2024")
    print("a function of one's own is used")
except TypeError as error:
    print("a function of one's own:", error)
EOF
TZ=Etc/GMT+12 venv/bin/python -I render.py > west.txt
TZ=Etc/GMT-14 venv/bin/python -I render.py > east.txt
cat west.txt east.txt
if cmp -s <(sed -n 2p west.txt) <(sed -n 2p east.txt); then
  echo "CHANGED: the tokens of a conversation no longer depend on the date." >&2
  exit 1
fi
if ! grep -q "'str' object is not callable" west.txt; then
  echo "CHANGED: a strftime_now of one's own no longer raises TypeError." >&2
  exit 1
fi
