"""Work on strangers' files in a process of its own, with limits of memory and time: what one does there costs the file.

In the process of the dashboard it would cost everybody's work. The limits follow from the size of the files and from
the machine. They are limits, no prison: the process may read and write what the user may.

What happens on the other side is in `isolated_process`.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import pickle
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar, cast

import psutil

from covseg_core.errors import Cancelled, ScanError
from covseg_core.isolated_process import ERROR, FAULT, HEAD, OUT_OF_MEMORY, PROGRESS, RESULT, mapped
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
        kind, body = b"", b""
        try:
            kind, body = child.ask(function, arguments, limits, folder / "arrays", progress, cancel)
        finally:
            code = child.end()
            if _kept is not None:  # while the answer is on its way
                threading.Thread(target=_renew, name="covseg-isolation", daemon=True).start()
        return cast(T, _understood(kind, body, folder / "arrays", named, code, limits))


class Worker:
    """A process for one call after another, so that what takes long to load is loaded once; for one thread at a time.

    It is started with the first call. One that dies costs the call that it was at: the next has a new process.

    Parameters
    ----------
    modules : imported before the first call
    """

    def __init__(self, *modules: str) -> None:
        self._modules = modules
        self._child: _Child | None = None

    def start(self) -> None:
        """Start the process, so that it is ready sooner."""
        self._child = self._child or _Child(*self._modules, nice=0)

    def call(
        self,
        function: Callable[..., T],
        *arguments: object,
        named: str,
        limits: Limits,
        progress: Progress | None = None,
        cancel: Event | None = None,
    ) -> T:
        """As `isolated`. No call may have smaller limits of memory than one before: the process keeps what it had."""
        self.start()
        assert self._child is not None
        kind, body, code = b"", b"", 0
        with TemporaryFolder() as folder:
            try:
                kind, body = self._child.ask(function, arguments, limits, folder / "arrays", progress, cancel)
            finally:
                if not kind:  # it has died, or nobody waits for its answer any more
                    code = self.end(patience=0.0)
            return cast(T, _understood(kind, body, folder / "arrays", named, code, limits))

    def end(self, patience: float = 1.0) -> int:
        """Let the process end, in so many seconds or by force; returns its exit code."""
        child, self._child = self._child, None
        return child.end(patience) if child else 0


def warm(*modules: str) -> None:
    """From now on a process waits for the next call, which then need not wait for Python and these modules.

    After each call another one is started. Where nobody has called this, as in the command line, none ever waits.
    """
    global _kept
    with _lock:
        _kept = modules
    _renew()


class _Child:
    """One process. With a `nice` of its own, since pages are drawn first."""

    def __init__(self, *modules: str, nice: int = 5) -> None:
        one = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}  # address space
        self.process = subprocess.Popen(
            [sys.executable, "-m", "covseg_core.isolated_process", str(os.getpid()), str(nice), *modules],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **one, "PYTHONPATH": python_path()},
            process_group=0,  # Ctrl-C is for the process that asks
        )

    def ask(
        self,
        function: Callable[..., object],
        arguments: tuple[object, ...],
        limits: Limits,
        arrays: Path,
        progress: Progress | None,
        cancel: Event | None,
    ) -> tuple[bytes, bytes]:
        """Kind and content of the answer to a call; `arrays` is the file for what is large in it."""
        self.send(pickle.dumps((limits.memory, limits.seconds, str(arrays), function, arguments, progress is not None)))
        return self.answer(progress, cancel)

    def send(self, message: bytes) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended; its exit code says why
            self.process.stdin.write(HEAD.pack(PROGRESS, len(message)) + message)
            self.process.stdin.flush()

    def answer(self, progress: Progress | None, cancel: Event | None) -> tuple[bytes, bytes]:
        """Kind and content of the last message; an empty kind if there is none."""
        while True:
            kind, body = self._message(cancel)
            if kind != PROGRESS:
                return kind, body
            if progress is not None:
                progress(*pickle.loads(body))

    def _message(self, cancel: Event | None) -> tuple[bytes, bytes]:
        head = self._read(HEAD.size, cancel)
        if len(head) < HEAD.size:
            return b"", b""
        kind, length = HEAD.unpack(head)
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

    def end(self, patience: float = 1.0) -> int:
        """Let the process end, in so many seconds or by force; returns its exit code."""
        for pipe in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(OSError):
                if pipe is not None:
                    pipe.close()
        for how, seconds in ((None, patience), (signal.SIGTERM, 5 * patience or 2.0), (signal.SIGKILL, None)):
            try:
                if how is not None:
                    self.process.send_signal(how)
                return self.process.wait(seconds)
            except subprocess.TimeoutExpired:
                continue
        return self.process.wait()


_lock = threading.Lock()
_spare: list[_Child] = []
_kept: tuple[str, ...] | None = None
"""What the process that waits has imported; None if none is to wait."""


def _renew() -> None:
    """Start the process that is to wait, unless it does; on a machine that starts none, the next call says so."""
    with _lock, contextlib.suppress(OSError):
        if _spare and _spare[0].process.poll() is not None:
            _spare.pop().end()
        if _kept is not None and not _spare:
            _spare.append(_Child(*_kept))


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
    """Let the process that waits for a call end; none is to wait any more."""
    global _kept
    with _lock:
        _kept = None
        while _spare:
            _spare.pop().end()


def _understood(kind: bytes, body: bytes, arrays: Path, named: str, code: int, limits: Limits) -> object:
    """The result in an answer, or its error; `code` is the exit code where there is no answer."""
    if kind == RESULT:
        return pickle.loads(body, buffers=mapped(arrays))
    if kind == ERROR:
        raise pickle.loads(body)
    if kind == FAULT:
        raise Fault(body.decode())
    raise ScanError(named, _why(code, limits), "a file that says no more than it holds")


def _why(code: int, limits: Limits) -> str:
    """What the end of a process without an answer says."""
    if code == -signal.SIGXCPU:
        return f"takes longer to read than the {limits.seconds:,.0f} s that a file of this size may take"
    if code == OUT_OF_MEMORY:
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
