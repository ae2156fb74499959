"""The pool as both its sides see it: where it listens, what it must have in common with whoever asks, and messages.

A pool is a process that has the worker's imports done, and forks programs of ours on request (engine/attempt/pool.py;
decision 12). One serves all homes of a user, as long as they run the same code with the same interpreter and libraries.
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import socket
import stat
import struct
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from engine.basics.cpu import THREAD_VARIABLES, spin_little
from finetui.start import ROOT

WORKER = "engine.attempt.worker"  # which has what all our programs import
PLACE = "FINETUI_POOL"  # names the directory of the sockets
PACKAGES = ("finetui", "store", "engine", "tui")  # whose code a fork may import
PRIVATE = 0o077  # the umask of all that belongs to a run
LARGEST = 1 << 20  # bytes of a message; the kernel takes less, and says so
# What libraries read as they are imported: a fork cannot read it again. Whatever else differs is put in its place.
_READ_AT_IMPORT = """
ACCELERATE_ AOT ARROW_ BITSANDBYTES_ BLIS_ BNB_ COMPILE_ CUDA_ CUDNN_ CURL_ CXX DATASETS_ ENABLE_
FSSPEC_ GLIBC_ GOMP_ HF_ HUGGINGFACE_ HUGGING_FACE_ INDUCTOR_ JE_ARROW_ KINETO_ KMP_ LC_ LD_ LOGLEVEL MALLOC_ MKL_
NCCL_ NETWORKX_ NPY_ NUMEXPR_ NUMPY_ NVIDIA_ OMP_ OPENBLAS_ PARTITIONER_ PEFT_ PT2_ PYDANTIC_ PYTHON
PYTORCH_ REQUESTS_ SAFETENSORS_ SCIPY_ SSL_ SYMPY_ TOKENIZERS_ TORCH TQDM_ TRANSFORMERS_ TRITON_ USE_
XLA_ HOME LANG TMPDIR TZ XDG_CACHE_HOME
"""
READ_AT_IMPORT = tuple(_READ_AT_IMPORT.split())
# … of these a fork takes the new values: threads are set again, CUDA begins in the fork, and where compiled code is
# kept is read when something is compiled.
SET_ANEW = (*THREAD_VARIABLES, "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "TORCHINDUCTOR_CACHE_DIR")


class Place(NamedTuple):
    """Where the pool for one state of code and libraries is."""

    directory: Path
    key: str

    @property
    def socket(self) -> Path:
        return self.directory / f"{self.key}.sock"

    @property
    def lock(self) -> Path:
        """Held (flock) by the pool for as long as it lives; has the pool's identity as JSON."""
        return self.directory / f"{self.key}.lock"

    @property
    def log(self) -> Path:
        """What the pool printed: why it ended, if it did."""
        return self.directory / f"{self.key}.log"

    def create(self) -> None:
        """Make the directory. Raises OSError, PermissionError if it is not this user's alone."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = self.directory.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
            raise PermissionError(f"{self.directory} is not a directory of this user")
        if stat.S_IMODE(status.st_mode) & 0o077:
            self.directory.chmod(0o700)


def place(worker: str) -> Place:
    """Return where the pool is that has what the module `worker` imports, as code and libraries are now."""
    return Place(directory(), key(worker))


def directory() -> Path:
    """Return where this user's pools are: not in a home, since homes share them, and not in $TMPDIR, which may differ
    from one daemon to the next.
    """
    named = os.environ.get(PLACE)
    return Path(named) if named else Path("/tmp") / f"finetui-{os.getuid()}-pool"


def key(worker: str) -> str:
    """Return a digest of interpreter, installed libraries and our own code, by time and size of their files."""
    digest = hashlib.sha256(f"{sys.executable} {sys.version} {worker}".encode())
    for folder in sorted({path for path in sys.path if path.endswith(("site-packages", "dist-packages"))}):
        with os.scandir(folder) as entries:
            installed = [
                entry for entry in entries if entry.name.endswith((".dist-info", ".egg-info", ".pth"))
            ]
        for entry in sorted(installed, key=lambda entry: entry.name):
            digest.update(f"{entry.path} {entry.stat().st_mtime_ns}".encode())
    for package in PACKAGES:
        for entry in sorted(_modules(f"{ROOT}/{package}"), key=lambda entry: entry.path):
            status = entry.stat()
            digest.update(f"{entry.path} {status.st_mtime_ns} {status.st_size}".encode())
    return digest.hexdigest()[:20]


def _modules(folder: str) -> Iterator[os.DirEntry[str]]:
    """All .py files below a folder, if there is one; a command looks at them each time, so without a Path for each."""
    try:
        scan = os.scandir(folder)
    except FileNotFoundError:
        return
    with scan as entries:
        for entry in entries:
            if entry.name.endswith(".py"):
                yield entry
            elif (
                "." not in entry.name and entry.name != "__pycache__" and entry.is_dir(follow_symlinks=False)
            ):
                yield from _modules(entry.path)


def circumstances(environment: Mapping[str, str]) -> dict[str, Any]:
    """Return what a process has from its parent, or reads as it begins, and what a fork therefore cannot change: it has
    to be the same on both sides. As JSON has it.
    """
    limits: dict[str, tuple[int, ...]] = {
        name: resource.getrlimit(getattr(resource, name)) for name in dir(resource) if name[:7] == "RLIMIT_"
    }
    limits["RLIMIT_DATA"] = limits["RLIMIT_DATA"][1:]  # a daemon limits itself, and nobody else
    seen = {
        **{f"${name}": value for name, value in environment.items() if _is_read_at_import(name)},
        **{f"the {kind} namespace": _link(f"/proc/self/ns/{kind}") for kind in ("mnt", "net", "pid", "user")},
        "the control group": _text("/proc/self/cgroup"),
        "the root directory": list(_identity("/")),
        "the set of cores": sorted(os.sched_getaffinity(0)),
        "the priority (nice)": os.getpriority(os.PRIO_PROCESS, 0),
        "the user": [os.getresuid(), os.getresgid(), sorted(os.getgroups())],
        "the limits (ulimit)": limits,
        "the score for the out-of-memory killer": _text("/proc/self/oom_score_adj"),
    }
    return dict(json.loads(json.dumps(seen)))


def difference(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> str | None:
    """Return the first thing that differs, in words; None if nothing does."""
    different = [name for name in sorted({*ours, *theirs}) if ours.get(name) != theirs.get(name)]
    return different[0] if different else None


def request(
    module: str,
    arguments: Sequence[str],
    environment: Mapping[str, str],
    *,
    folder: str,
    umask: int,
    wait: bool,
    exact: bool = False,
    confirm: bool = False,
) -> dict[str, Any]:
    """Return the request for a program. `wait`: its end is told, too; `exact`: the environment is all that it gets,
    nothing of what imports have set; `confirm`: it begins once whoever asks has said, after the answer, that it may.
    """
    return {
        "module": module,
        "arguments": list(arguments),
        "environment": dict(environment),
        "circumstances": circumstances(spin_little(environment)),  # as every pool has it
        "folder": folder,
        "umask": umask,
        "wait": wait,
        "exact": exact,
        "confirm": confirm,
    }


def connect(place: Place) -> socket.socket | None:
    """Return a connection to the pool; None where none listens. Raises OSError, PermissionError for a stranger."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        connection.connect(str(place.socket))
        check_user(connection)
    except (FileNotFoundError, ConnectionRefusedError):
        connection.close()
        return None
    except OSError:
        connection.close()
        raise
    return connection


def check_user(connection: socket.socket) -> None:
    """Raise PermissionError unless the other side of a connection is a process of this user."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _, user, _ = struct.unpack("3i", credentials)
    if user != os.geteuid():
        raise PermissionError(f"another user ({user}) is at the other end of the pool's socket")


def send(connection: socket.socket, body: Mapping[str, Any], streams: Sequence[int] = ()) -> None:
    """Send a message, with it descriptors for stdin, stdout and stderr. Raises OSError, also if it is too long."""
    socket.send_fds(connection, [json.dumps(body).encode()], list(streams))


def receive(connection: socket.socket, streams: list[int] | None = None) -> dict[str, Any] | None:
    """Receive a message; None if the other side is gone, or says what is none. Raises OSError, TimeoutError.

    Descriptors that came with it are put in `streams`, and are the caller's to close.
    """
    try:
        text, descriptors, _, _ = socket.recv_fds(connection, LARGEST, 3, socket.MSG_CMSG_CLOEXEC)
        held = [] if streams is None else streams
        held.extend(descriptors)
        body = json.loads(text)
    except (ValueError, ConnectionResetError):
        return None
    return body if isinstance(body, dict) else None


def _is_read_at_import(name: str) -> bool:
    return name.startswith(READ_AT_IMPORT) and name not in SET_ANEW


def _identity(path: str) -> tuple[int, int]:
    status = Path(path).stat()
    return status.st_dev, status.st_ino


def _text(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def _link(path: str) -> str:
    try:
        return str(Path(path).readlink())
    except OSError:
        return ""
