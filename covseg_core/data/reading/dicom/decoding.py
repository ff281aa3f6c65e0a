"""Compressed pixels are unpacked in a process of their own, since GDCM can crash on damaged ones.

A crash there costs the file; here it would cost the dashboard, with everybody's work. The process is started with the
first such file, serves all that follow, and ends with this one.

    python -m covseg_core.data.reading.dicom.decoding    paths in, a line each; shape and type as JSON out, pixels
"""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

from covseg_core.paths import python_path

TAGS = (
    "Rows Columns SamplesPerPixel PhotometricInterpretation BitsAllocated BitsStored HighBit PixelRepresentation "
    "NumberOfFrames PixelPaddingValue PixelPaddingRangeLimit RescaleSlope RescaleIntercept PixelData "
    "LossyImageCompression"
).split()
"""All that is read of a slice."""
COMMAND = (sys.executable, "-m", "covseg_core.data.reading.dicom.decoding")
PATIENCE = 60.0
"""Seconds for one slice."""

_lock = threading.Lock()
_process: subprocess.Popen[bytes] | None = None


class Damaged(Exception):
    """The pixels cannot be unpacked."""


def stored_pixels(tags: Dataset, file: Path) -> np.ndarray:
    """Pixels of a slice as they are stored, before rescaling.

    Parameters
    ----------
    tags : `TAGS` of the file
    file : read again by the process, if the pixels are compressed

    Raises
    ------
    Damaged : the process has failed or crashed on them
    Exception : whatever pydicom meets in pixels that are not compressed
    """
    if not hasattr(tags.file_meta, "TransferSyntaxUID"):
        implicit = tags.original_encoding[0]
        tags.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
    syntax = tags.file_meta.TransferSyntaxUID
    if syntax.is_encapsulated and syntax != RLELossless:
        return _unpacked(file)
    return tags.pixel_array


def _unpacked(file: Path) -> np.ndarray:
    global _process
    with _lock:
        if _process is None or _process.poll() is not None:
            _end()
            _process = _start()
        process = _process
        assert process.stdin is not None
        assert process.stdout is not None
        watchdog = threading.Timer(PATIENCE, process.kill)
        watchdog.daemon = True
        watchdog.start()
        try:
            process.stdin.write(json.dumps(str(file.absolute())).encode() + b"\n")
            process.stdin.flush()
            head = json.loads(process.stdout.readline() or b"{}")
            size = head.get("bytes", 0)
            content = process.stdout.read(size) if size else b""
        except (OSError, ValueError):  # it has crashed
            head, size, content = {}, 0, b""
        finally:
            watchdog.cancel()
        if not head:
            process.kill()
            _end()
        if not size or len(content) != size:
            raise Damaged(file)
    return np.frombuffer(content, head["dtype"]).reshape(head["shape"])


def _start() -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        COMMAND,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": python_path()},
    )


@atexit.register
def _end() -> None:
    """Let the process end, or collect the one that has."""
    global _process
    process, _process = _process, None
    if process is None:
        return
    for pipe in (process.stdin, process.stdout):
        try:
            if pipe is not None:
                pipe.close()
        except OSError:  # what was not sent yet
            continue
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def main() -> None:
    """Answer until there is nobody who asks. Decoders print what they like, so the answers have a way of their own."""
    answers = os.fdopen(os.dup(1), "wb")
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    for line in sys.stdin.buffer:
        try:
            pixels = np.ascontiguousarray(pydicom.dcmread(json.loads(line), specific_tags=TAGS, force=True).pixel_array)
            head = {"shape": pixels.shape, "dtype": pixels.dtype.str, "bytes": pixels.nbytes}
            content = pixels.tobytes()
        except Exception:  # whatever decoders meet in a damaged file
            head, content = {"bytes": 0}, b""
        answers.write(json.dumps(head).encode() + b"\n" + content)
        answers.flush()


if __name__ == "__main__":
    main()
