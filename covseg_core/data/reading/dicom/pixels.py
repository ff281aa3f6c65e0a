"""HU of the slices of a series: decoding, rescaling, padding.

Pixels are unpacked by GDCM (JPEG, JPEG Lossless, JPEG-LS, JPEG 2000), in other processes, and by pydicom itself (none,
RLE).
"""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pydicom
from pydicom.pixels import get_decoder

from covseg_core.data.reading.dicom.decoding import TOGETHER, rest, unpacked
from covseg_core.data.reading.dicom.headers import Header
from covseg_core.data.reading.dicom.stored import Stored, is_packed, read_stored
from covseg_core.data.reading.quiet import quiet
from covseg_core.errors import ScanError

AIR = -1024
"""HU of padding, and the lowest that a slice can have."""
_DECODERS = min(4, os.cpu_count() or 1)
"""Processes that unpack at the same time."""
_ENOUGH = 32
"""Slices for which one more process is worth its start."""
_TISSUE = (-900, 3071)
"""A padding value between these HU would make holes in the patient, so it is not believed."""


def can_decode(syntax: str) -> bool:
    """Whether pixels of a transfer syntax can be unpacked; "" (a file without one) is taken as not packed."""
    try:
        return not syntax or get_decoder(pydicom.uid.UID(syntax)).is_available
    except NotImplementedError:
        return False


def read_hu(headers: Sequence[Header], path: Path) -> Iterator[np.ndarray]:
    """Values of slices after rescaling, in their order.

    Padding becomes `AIR`, as does everything below: scanners fill the corners with values such as -2000 or -3024.

    Parameters
    ----------
    headers : of files of a series; each has to have the rows and columns that its header says
    path : named in the error

    Yields
    ------
    values : (rows, columns) float64, or int32 if all are whole [HU]

    Raises
    ------
    ScanError : pixels are missing, damaged or cut short; the slope is 0 or no number
    """
    if not any(is_packed(header.syntax) for header in headers):
        for header in headers:
            yield _hu(_stored([header], path)[0], header, path)
        return
    parts = [headers[start : start + TOGETHER] for start in range(0, len(headers), TOGETHER)]
    decoders = max(1, min(_DECODERS, round(len(headers) / _ENOUGH)))
    waiting: deque[Future[list[np.ndarray]]] = deque()

    def work(part: Sequence[Header]) -> list[np.ndarray]:
        return [_hu(stored, header, path) for stored, header in zip(_stored(part, path), part, strict=True)]

    pool = ThreadPoolExecutor(decoders)
    try:
        for part in parts:
            waiting.append(pool.submit(work, part))
            if len(waiting) > 2 * decoders:  # no more than these are ever in memory
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
        rest()


def _stored(part: Sequence[Header], path: Path) -> list[Stored]:
    packed = [header.path for header in part if is_packed(header.syntax)]
    try:
        found = dict(zip(packed, unpacked(packed) if packed else (), strict=True))
        with quiet():
            return [found.get(header.path) or read_stored(header.path) for header in part]
    except Exception:  # whatever decoders meet in a damaged file; their text may quote it
        raise ScanError(path, "a slice with damaged, missing or truncated pixels", "complete DICOM files") from None


def _hu(stored: Stored, header: Header, path: Path) -> np.ndarray:
    """(rows, columns) float64, or int32 if all are whole [HU]."""
    pixels, slope, intercept, shape = stored.pixels, stored.slope, stored.intercept, (header.rows, header.columns)
    if pixels.shape != shape:
        raise ScanError(path, f"a slice with pixels of {_by(pixels.shape)}", f"{_by(shape)}, as its header says")
    if not (math.isfinite(slope) and math.isfinite(intercept)) or slope == 0:
        raise ScanError(path, f"a slice with slope {slope:g} and intercept {intercept:g}", "numbers, the slope not 0")
    narrow = pixels.dtype.kind in "iu" and pixels.dtype.itemsize <= 2
    if narrow and slope.is_integer() and intercept.is_integer() and abs(slope) < 2**12 and abs(intercept) < 2**20:
        values: np.ndarray = pixels.astype(np.int32)
        values *= np.int32(slope)
        values += np.int32(intercept)
    else:
        values = pixels * slope + intercept
    np.maximum(values, AIR, out=values)
    padding = stored.padding
    ends = [end * slope + intercept for end in padding or ()]
    if padding and max(ends) > AIR and not _TISSUE[0] < ends[0] < _TISSUE[1]:  # else it is air already
        values[(pixels >= padding[0]) & (pixels <= padding[1])] = AIR
    return values


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, reversed(shape)))
