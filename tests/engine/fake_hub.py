"""The few answers of the hub that data sets need, from files in a directory: `ORG/NAME/FILE`.

A server of our own in place of one that no test can reach; `datasets` and `huggingface_hub` themselves are real.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@contextmanager
def serving(root: Path) -> Iterator[str]:
    """Serve the data sets below a directory; the address for `HF_ENDPOINT`."""

    class Handler(_Handler):
        directory = root

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    directory: Path

    def do_GET(self) -> None:
        parts = unquote(urlsplit(self.path).path).strip("/").split("/")
        match parts:
            case ["datasets", org, name, "resolve", _, *path]:
                self._file(self.directory.joinpath(org, name, *path))
            case ["api", "datasets", org, name, "tree", _, *path]:
                self._tree(self.directory / org / name, path, "recursive=true" in self.path.lower())
            case ["api", "datasets", org, name, *_] if (self.directory / org / name).is_dir():
                self._json(
                    {"id": f"{org}/{name}", "sha": COMMIT, "siblings": [], "tags": [], "private": False}
                )
            case _:
                self._answer(404, b"", {"X-Error-Code": "RepoNotFound"})

    do_HEAD = do_GET  # noqa: N815

    def do_POST(self) -> None:  # paths-info
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        org, name = self.path.split("/")[3:5]
        root = self.directory / org / name
        self._json([_entry(root / path, root) for path in parse_qs(body)["paths"] if (root / path).exists()])

    def _tree(self, root: Path, path: list[str], recursive: bool) -> None:
        folder = root.joinpath(*path)
        if not folder.is_dir():
            return self._answer(404, b"", {"X-Error-Code": "EntryNotFound"})
        found = sorted(folder.rglob("*") if recursive else folder.iterdir())
        return self._json([_entry(each, root) for each in found])

    def _file(self, path: Path) -> None:
        if not path.is_file():
            return self._answer(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
        content = path.read_bytes()
        tag = hashlib.sha256(content).hexdigest()
        return self._answer(200, content, {"ETag": f'"{tag}"', "X-Repo-Commit": COMMIT})

    def _json(self, body: Any) -> None:
        self._answer(200, json.dumps(body).encode(), {"Content-Type": "application/json"})

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


def _entry(path: Path, root: Path) -> dict[str, Any]:
    name = str(path.relative_to(root))
    if path.is_dir():
        return {"type": "directory", "path": name, "oid": COMMIT, "size": 0}
    return {
        "type": "file",
        "path": name,
        "oid": hashlib.sha1(path.read_bytes()).hexdigest(),
        "size": path.stat().st_size,
    }
