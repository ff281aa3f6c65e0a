"""The other side of `isolation`: a process that answers one call after another, each within limits.

    python -m covseg_core.isolated_process PARENT NICE [MODULE...]    calls in; progress, results and errors out

Messages go through pipes, each after its kind and length; arrays go through a file, in which each says how long it is.
"""

from __future__ import annotations

import importlib
import mmap
import os
import pickle
import resource
import signal
import struct
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from covseg_core.errors import CovsegError

HEAD = struct.Struct("<cQ")
"""What is before each message: its kind and its length in bytes."""
PROGRESS, RESULT, ERROR, FAULT = b"p", b"r", b"e", b"f"
OUT_OF_MEMORY = 77
"""Exit code."""
_ALIGNED = 64
"""Arrays begin at multiples of so many bytes, as NumPy's own do."""
_LOOK = 0.5
"""Seconds between two looks at whether there is still somebody who asks."""


def main() -> None:
    """Answer until nobody asks any more. What the libraries print goes nowhere, so answers have a way of their own."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    signal.signal(signal.SIGTERM, _leave)  # so that what is half made is removed
    threading.Thread(target=_follow, args=(int(sys.argv[1]),), daemon=True).start()
    os.nice(int(sys.argv[2]))
    for module in sys.argv[3:]:  # while nobody waits
        importlib.import_module(module)

    def say(kind: bytes, body: bytes) -> None:
        out.write(HEAD.pack(kind, len(body)) + body)
        out.flush()

    while len(head := sys.stdin.buffer.read(HEAD.size)) == HEAD.size:
        _answer(sys.stdin.buffer.read(HEAD.unpack(head)[1]), say)


def _answer(message: bytes, say: Callable[[bytes, bytes], None]) -> None:
    """Answer one call."""
    memory, seconds, arrays, function, arguments, told = pickle.loads(message)
    more = {"progress": lambda *steps: say(PROGRESS, pickle.dumps(steps))} if told else {}
    _limit(memory, seconds)
    try:
        result = function(*arguments, **more)
        body = _pickled(result, Path(arrays))
    except CovsegError as error:
        _unlimited()
        say(ERROR, pickle.dumps(error))
    except Exception as error:
        if isinstance(error, MemoryError) or "can't start new thread" in str(error):
            os._exit(OUT_OF_MEMORY)
        _unlimited()
        say(FAULT, traceback.format_exc().encode())
    else:
        say(RESULT, body)


def _follow(parent: int) -> None:
    """End with the process that asks, however that ends: what is computed now nobody will read."""
    while os.getppid() == parent:
        time.sleep(_LOOK)
    main = threading.main_thread().ident
    if main is not None:  # to this thread, which may be waiting for something: sent to the process, any may get it
        signal.pthread_kill(main, signal.SIGTERM)


def _leave(*_: object) -> NoReturn:
    raise SystemExit(1)


def _limit(memory: int, seconds: float) -> None:
    """Bytes of address space, and seconds of processor time from now on."""
    resource.setrlimit(resource.RLIMIT_AS, (memory, resource.getrlimit(resource.RLIMIT_AS)[1]))
    used = resource.getrusage(resource.RUSAGE_SELF)
    until = max(1, round(used.ru_utime + used.ru_stime + seconds))
    resource.setrlimit(resource.RLIMIT_CPU, (until, resource.RLIM_INFINITY))
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


def mapped(path: Path) -> list[memoryview]:
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


if __name__ == "__main__":
    main()
