"""HU of one file: decoding, rescaling, padding.

Pixels are unpacked by GDCM (JPEG, JPEG Lossless, JPEG-LS, JPEG 2000), in another process, and by pydicom itself (none,
RLE).
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.pixels import get_decoder

from covseg_core.data.reading.dicom.decoding import TAGS, stored_pixels
from covseg_core.data.reading.quiet import quiet
from covseg_core.errors import ScanError

AIR = -1024
"""HU of padding, and the lowest that a slice can have."""
_TISSUE = (-900, 3071)
"""A padding value between these HU would make holes in the patient, so it is not believed."""


def can_decode(syntax: str) -> bool:
    """Whether pixels of a transfer syntax can be unpacked; "" (a file without one) is taken as not packed."""
    try:
        return not syntax or get_decoder(pydicom.uid.UID(syntax)).is_available
    except NotImplementedError:
        return False


def read_hu(file: Path, shape: tuple[int, int], path: Path) -> np.ndarray:
    """Values of a slice after rescaling.

    Padding becomes `AIR`, as does everything below: scanners fill the corners with values such as -2000 or -3024.

    Parameters
    ----------
    file : one slice
    shape : (rows, columns) that it must have
    path : named in the error

    Returns
    -------
    values : `shape`, float64, or int32 if all are whole [HU]

    Raises
    ------
    ScanError : pixels are missing, damaged or cut short; the slope is 0 or no number
    """
    try:
        with quiet():
            tags = pydicom.dcmread(file, force=True, specific_tags=TAGS)
            stored = stored_pixels(tags, file)
        slope, intercept = (
            _number(tags, name, default) for name, default in (("RescaleSlope", 1), ("RescaleIntercept", 0))
        )
        padding = _padding(tags)
    except Exception:  # whatever decoders meet in a damaged file; their text may quote it
        raise ScanError(path, "a slice with damaged, missing or truncated pixels", "complete DICOM files") from None
    if stored.shape != shape:
        raise ScanError(path, f"a slice with pixels of {_by(stored.shape)}", f"{_by(shape)}, as its header says")
    if not (math.isfinite(slope) and math.isfinite(intercept)) or slope == 0:
        raise ScanError(path, f"a slice with slope {slope:g} and intercept {intercept:g}", "numbers, the slope not 0")
    narrow = stored.dtype.kind in "iu" and stored.dtype.itemsize <= 2
    if narrow and slope.is_integer() and intercept.is_integer() and abs(slope) < 2**12 and abs(intercept) < 2**20:
        values: np.ndarray = stored.astype(np.int32) * np.int32(slope) + np.int32(intercept)
    else:
        values = stored * slope + intercept
    np.maximum(values, AIR, out=values)
    if padding is not None and not _TISSUE[0] < padding[0] * slope + intercept < _TISSUE[1]:
        values[(stored >= padding[0]) & (stored <= padding[1])] = AIR
    return values


def _number(tags: Dataset, name: str, default: float) -> float:
    value = tags.get(name)
    return float(default if value is None or value == "" else value)


def _padding(tags: Dataset) -> tuple[int, int] | None:
    """Lowest and highest stored value of padding; also where the tag's sign is not that of the pixels."""
    value = tags.get("PixelPaddingValue")
    if not isinstance(value, int):
        return None
    limit = tags.get("PixelPaddingRangeLimit")
    ends = [_signed(one, tags) for one in (value, limit if isinstance(limit, int) else value)]
    return min(ends), max(ends)


def _signed(value: int, tags: Dataset) -> int:
    span = 1 << int(tags.BitsAllocated)
    value %= span
    return value - span if tags.PixelRepresentation and value >= span // 2 else value


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, reversed(shape)))
