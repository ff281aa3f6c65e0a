"""Compressed pixels are unpacked in processes of their own, since GDCM can crash on damaged ones.

A crash there costs the file; here it would cost the dashboard, with everybody's work. The processes are started with
the first such files, one for each thread that asks. One serves all that follow, and ends with this process.

    python -m covseg_core.data.reading.dicom.decoding    paths in, a line each; a line of JSON out, then pixels
"""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np

from covseg_core.data.reading.dicom.stored import Damaged, Stored, read_stored
from covseg_core.paths import python_path

COMMAND = (sys.executable, "-m", "covseg_core.data.reading.dicom.decoding")
PATIENCE = 60.0
"""Seconds for the slices of one request."""
TOGETHER = 8
"""Most slices of a request: their paths have to fit into a pipe."""


def unpacked(files: Sequence[Path]) -> list[Stored]:
    """At most `TOGETHER` slices whose pixels are packed.

    Raises
    ------
    Damaged : the process has failed or crashed on them
    """
    decoder = _take()
    try:
        found = decoder.unpacked(files)
    except Damaged:
        decoder.end()  # what it still has to say is of no use
        raise
    with _lock:
        _idle.append(decoder)
    return found


def start() -> None:
    """Start a process, unless there is one: it takes half a second until it can answer, in which headers are read."""
    with _lock:
        if not _idle:
            _idle.append(_Decoder())


class _Decoder:
    """One process, for one thread at a time."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            COMMAND,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": python_path()},
        )

    def unpacked(self, files: Sequence[Path]) -> list[Stored]:
        process = self.process
        assert process.stdin is not None
        watchdog = threading.Timer(PATIENCE, process.kill)
        watchdog.daemon = True
        watchdog.start()
        try:
            process.stdin.write(b"".join(json.dumps(str(file.absolute())).encode() + b"\n" for file in files))
            process.stdin.flush()
            return [self._answer(file) for file in files]
        except (OSError, ValueError):  # it has crashed
            raise Damaged(files[0]) from None
        finally:
            watchdog.cancel()

    def _answer(self, file: Path) -> Stored:
        answers = self.process.stdout
        assert isinstance(answers, BufferedReader)
        head: dict[str, Any] = json.loads(answers.readline() or b"{}")
        if not head:
            raise Damaged(file)
        pixels = np.empty(head["shape"], head["dtype"])
        if answers.readinto(pixels.reshape(-1).view(np.uint8).data) != pixels.nbytes:
            raise Damaged(file)
        return Stored(pixels, head["slope"], head["intercept"], tuple(head["padding"]) if head["padding"] else None)

    def end(self) -> None:
        """Kill the process if it still runs, and collect it."""
        self.process.kill()
        self.close()

    def close(self) -> None:
        """Let the process end by itself, if it does, and collect it."""
        for pipe in (self.process.stdin, self.process.stdout):
            try:
                if pipe is not None:
                    pipe.close()
            except OSError:  # what was not sent yet
                continue
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


_lock = threading.Lock()
_idle: list[_Decoder] = []


def _take() -> _Decoder:
    """A decoder that nobody uses and that is alive."""
    while True:
        with _lock:
            decoder = _idle.pop() if _idle else None
        if decoder is None:
            return _Decoder()
        if decoder.process.poll() is None:
            return decoder
        decoder.end()


def rest() -> None:
    """Let all processes that nobody uses end but one, which answers the next series without a start."""
    _end(but=1)


@atexit.register
def _end(but: int = 0) -> None:
    """Let the processes end, or collect those that have."""
    with _lock:
        ending, _idle[:] = _idle[but:], _idle[:but]
    for decoder in ending:
        decoder.close()


def main() -> None:
    """Answer until there is nobody who asks. Decoders print what they like, so the answers have a way of their own."""
    answers = os.fdopen(os.dup(1), "wb")
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    for line in sys.stdin.buffer:
        head: dict[str, Any] = {}
        try:
            stored = read_stored(Path(json.loads(line)), unpack=True)
            pixels = np.ascontiguousarray(stored.pixels)
            head = {"shape": pixels.shape, "dtype": pixels.dtype.str, "slope": stored.slope}
            head |= {"intercept": stored.intercept, "padding": stored.padding}
        except Exception:  # whatever decoders meet in a damaged file
            head = {}
        answers.write(json.dumps(head).encode() + b"\n")
        if head:
            answers.write(pixels.data)
        answers.flush()


if __name__ == "__main__":
    main()
