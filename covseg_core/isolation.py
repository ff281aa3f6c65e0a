"""Work on strangers' files in a process of its own, with limits of memory and time: what one does there costs the file.

In the process of the dashboard it would cost everybody's work. The limits follow from the size of the files and from
the machine. They are limits, no prison: the process may read and write what the user may.

    python -m covseg_core.isolation [MODULE...]    a call in; progress, then its result or its error out
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import importlib
import mmap
import os
import pickle
import resource
import select
import signal
import struct
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, Protocol, TypeVar

import psutil

from covseg_core.errors import Cancelled, CovsegError, ScanError
from covseg_core.paths import python_path
from covseg_core.progress import Progress
from covseg_core.temporary import TemporaryFolder

T = TypeVar("T")

MEMORY = (1400 * 2**20, 12)
"""Bytes of address space: 350 MiB of them are Python and libraries; and so many more for each byte of the files."""
SHARE = 0.6
"""Of the machine's memory, whatever the size of the files."""
SECONDS = (15.0, 0.5e-6)
"""Of processor time, and so many more for each byte of the files."""
_TICK = 0.2
"""Seconds between two looks at whether the work was cancelled."""
_HEAD = struct.Struct("<cQ")
"""What is before each message: its kind and its length in bytes."""
_PROGRESS, _RESULT, _ERROR, _FAULT = b"p", b"r", b"e", b"f"
_OUT_OF_MEMORY = 77
"""Exit code."""
_ALIGNED = 64
"""Arrays begin at multiples of so many bytes, as NumPy's own do."""


class Event(Protocol):
    """A `threading.Event`, or what behaves like one."""

    def is_set(self) -> bool:
        """Whether the work is to be given up."""


class Fault(Exception):
    """Something else than a `CovsegError` was raised in the process: a bug. Its text is the traceback."""


@dataclass(frozen=True)
class Limits:
    """What the process may use."""

    memory: int
    """Bytes of address space."""
    seconds: float
    """Of processor time."""

    @classmethod
    def of(cls, size: int) -> Limits:
        """For files of so many bytes."""
        memory = min(MEMORY[0] + MEMORY[1] * size, most_memory())
        return cls(memory, SECONDS[0] + SECONDS[1] * size)


def most_memory() -> int:
    """Bytes that a process may take on this machine, whatever it does."""
    return round(SHARE * _machine_memory())


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files of a folder; 0 where nothing is."""
    found = 0
    for file in path.rglob("*") if path.is_dir() else [path]:
        with contextlib.suppress(OSError):  # it is being removed
            found += file.stat().st_size if file.is_file() else 0
    return found


def isolated(
    function: Callable[..., T],
    *arguments: object,
    named: str,
    limits: Limits,
    progress: Progress | None = None,
    cancel: Event | None = None,
) -> T:
    """What `function(*arguments)` returns, computed in another process.

    Parameters
    ----------
    function : of a module; called with `progress` by name where one is given
    arguments : what can be pickled
    named : what errors about limits are about
    limits : of memory and time
    progress : may raise: the process ends then
    cancel : looked at a few times a second

    Returns
    -------
    The result, pickled and read back; its arrays are mapped from a file that has no name any more, and may be changed

    Raises
    ------
    ScanError : more memory or time was needed than allowed, or the process crashed
    CovsegError : raised by the function
    Cancelled : `cancel` was set
    Fault : the function raised something else
    """
    with TemporaryFolder() as folder:
        child = _take()
        try:
            child.send(pickle.dumps((limits, str(folder / "arrays"), function, arguments, progress is not None)))
            kind, body = child.answer(progress, cancel)
        finally:
            code = child.end()
        if kind == _RESULT:
            return pickle.loads(body, buffers=_mapped(folder / "arrays"))
    if kind == _ERROR:
        raise pickle.loads(body)
    if kind == _FAULT:
        raise Fault(body.decode())
    raise ScanError(named, _why(code, limits), "a file that says no more than it holds")


def warm(*modules: str) -> None:
    """Start a process for the next call, which then need not wait for Python and these modules."""
    with _lock:
        if _spare and _spare[0].process.poll() is not None:
            _spare.pop().end()
        if not _spare:
            _spare.append(_Child(*modules))


class _Child:
    """One process, for one call."""

    def __init__(self, *modules: str) -> None:
        one = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}  # address space
        self.process = subprocess.Popen(
            [sys.executable, "-m", "covseg_core.isolation", *modules],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **one, "PYTHONPATH": python_path()},
            process_group=0,  # Ctrl-C is for the process that asks
        )

    def send(self, message: bytes) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended; its exit code says why
            self.process.stdin.write(_HEAD.pack(_PROGRESS, len(message)) + message)
            self.process.stdin.flush()

    def answer(self, progress: Progress | None, cancel: Event | None) -> tuple[bytes, bytes]:
        """Kind and content of the last message; an empty kind if there is none."""
        while True:
            kind, body = self._message(cancel)
            if kind != _PROGRESS:
                return kind, body
            if progress is not None:
                progress(*pickle.loads(body))

    def _message(self, cancel: Event | None) -> tuple[bytes, bytes]:
        head = self._read(_HEAD.size, cancel)
        if len(head) < _HEAD.size:
            return b"", b""
        kind, length = _HEAD.unpack(head)
        body = self._read(length, cancel)
        return (kind, body) if len(body) == length else (b"", b"")

    def _read(self, count: int, cancel: Event | None) -> bytes:
        """So many bytes, fewer if the process ends."""
        assert self.process.stdout is not None
        pipe, found = self.process.stdout.fileno(), bytearray()
        while len(found) < count:
            if cancel is not None and cancel.is_set():
                raise Cancelled
            if select.select([pipe], [], [], _TICK)[0]:
                part = os.read(pipe, min(count - len(found), 2**20))
                if not part:
                    break
                found += part
        return bytes(found)

    def end(self) -> int:
        """Let the process end, by force if it does not; returns its exit code."""
        for pipe in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(OSError):
                if pipe is not None:
                    pipe.close()
        for how, patience in ((None, 1.0), (signal.SIGTERM, 5.0), (signal.SIGKILL, None)):
            try:
                if how is not None:
                    self.process.send_signal(how)
                return self.process.wait(patience)
            except subprocess.TimeoutExpired:
                continue
        return self.process.wait()


_lock = threading.Lock()
_spare: list[_Child] = []


def _take() -> _Child:
    with _lock:
        child = _spare.pop() if _spare else None
    if child is None:
        return _Child()
    if child.process.poll() is None:
        return child
    child.end()
    return _Child()


@atexit.register
def rest() -> None:
    """Let the process that waits for a call end."""
    with _lock:
        while _spare:
            _spare.pop().end()


def _mapped(path: Path) -> list[memoryview]:
    """The arrays that were written there, each of which says how long it is; changes stay in memory."""
    if not path.stat().st_size:
        return []
    with open(path, "rb") as file:
        whole = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))
    found, at = [], 0
    while at < len(whole):
        (length,) = struct.unpack_from("<Q", whole, at)
        found.append(whole[at + _ALIGNED : at + _ALIGNED + length])
        at += _ALIGNED + -(-length // _ALIGNED) * _ALIGNED
    return found


def _why(code: int, limits: Limits) -> str:
    """What the end of a process without an answer says."""
    if code == -signal.SIGXCPU:
        return f"takes longer to read than the {limits.seconds:,.0f} s that a file of this size may take"
    if code == _OUT_OF_MEMORY:
        return f"needs more memory to read than the {limits.memory / 2**20:,.0f} MiB that a file of this size may take"
    if code == -signal.SIGKILL:
        return "reading it was killed, as by a machine without memory"
    return f"reading it ends the process (exit code {code})"


@functools.cache
def _machine_memory() -> int:
    """Bytes that this machine has, or that its control group allows."""
    total = psutil.virtual_memory().total
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):
            total = min(total, int(Path(path).read_text()))
    return total


def main() -> None:
    """Answer one call. What the libraries print goes nowhere, so the answer has a way of its own."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    signal.signal(signal.SIGTERM, _leave)  # so that what is half made is removed
    os.nice(5)  # pages are drawn first
    for module in sys.argv[1:]:  # while nobody waits
        importlib.import_module(module)
    head = sys.stdin.buffer.read(_HEAD.size)
    if len(head) < _HEAD.size:
        return  # nobody asks any more
    message = sys.stdin.buffer.read(_HEAD.unpack(head)[1])
    limits: Limits
    limits, arrays, function, arguments, told = pickle.loads(message)

    def say(kind: bytes, body: bytes) -> None:
        out.write(_HEAD.pack(kind, len(body)) + body)
        out.flush()

    more = {"progress": lambda *steps: say(_PROGRESS, pickle.dumps(steps))} if told else {}
    _limit(limits)
    try:
        result = function(*arguments, **more)
        body = _pickled(result, Path(arrays))
    except CovsegError as error:
        _unlimited()
        say(_ERROR, pickle.dumps(error))
    except Exception as error:
        if isinstance(error, MemoryError) or "can't start new thread" in str(error):
            os._exit(_OUT_OF_MEMORY)
        _unlimited()
        say(_FAULT, traceback.format_exc().encode())
    else:
        say(_RESULT, body)


def _leave(*_: object) -> NoReturn:
    raise SystemExit(1)


def _limit(limits: Limits) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (limits.memory, resource.getrlimit(resource.RLIMIT_AS)[1]))
    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds = max(1, round(used.ru_utime + used.ru_stime + limits.seconds))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _unlimited() -> None:
    """The error must be told."""
    resource.setrlimit(resource.RLIMIT_AS, (resource.getrlimit(resource.RLIMIT_AS)[1],) * 2)


def _pickled(result: object, path: Path) -> bytes:
    """Pickled; the content of its arrays is in the file."""
    buffers: list[pickle.PickleBuffer] = []
    body = pickle.dumps(result, protocol=5, buffer_callback=buffers.append)
    try:
        with open(path, "wb") as file:
            for buffer in buffers:
                raw = buffer.raw()
                file.write(struct.pack("<Q", raw.nbytes).ljust(_ALIGNED, b"\0"))
                file.write(raw)
                file.write(bytes(-raw.nbytes % _ALIGNED))
    except OSError as error:
        raise CovsegError("scan", f"cannot be put on disk ({error.strerror or error})", "room on disk") from None
    return body


if __name__ == "__main__":
    main()
