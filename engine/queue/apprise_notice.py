"""`… -m finetui.start engine.queue.apprise_notice`: sends one notice, JSON on stdin, by Apprise.

A process of its own, since Apprise and what it imports are heavy. Prints nothing: how it went is its exit code
(engine/queue/notices.py).
"""

from __future__ import annotations

import json
import os
import stat
import sys
from pathlib import Path

from engine.queue.notices import BAD_ADDRESS, NO_APPRISE, NO_FILE, NOT_SENT, OPEN_FILE, URLS


def main() -> int:
    notice = json.load(sys.stdin)
    addresses = os.environ.get(URLS, "").split()
    if notice["urls_file"]:
        path = Path(notice["urls_file"]).expanduser()
        try:
            if stat.S_IMODE(path.stat().st_mode) & 0o077:
                return OPEN_FILE
            lines = [line.strip() for line in path.read_text().splitlines()]
        except (OSError, UnicodeDecodeError):
            return NO_FILE
        addresses += [line for line in lines if line and not line.startswith("#")]
    try:
        import apprise
    except ImportError:
        return NO_APPRISE
    sender = apprise.Apprise()
    known = [sender.add(address) for address in addresses]
    sent = sender.notify(title=notice["title"], body=notice["message"])  # to those that are good
    if not all(known):
        return BAD_ADDRESS
    return 0 if sent else NOT_SENT


if __name__ == "__main__":
    sys.exit(main())
