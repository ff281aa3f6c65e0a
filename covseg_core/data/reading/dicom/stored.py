"""What a file holds of a slice: pixels as they are stored, and the tags that make HU of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

TAGS = (
    "Rows Columns SamplesPerPixel PhotometricInterpretation BitsAllocated BitsStored HighBit PixelRepresentation "
    "NumberOfFrames PixelPaddingValue PixelPaddingRangeLimit RescaleSlope RescaleIntercept PixelData "
    "LossyImageCompression"
).split()
"""All that is read of a slice."""


class Damaged(Exception):
    """The pixels cannot be read."""


@dataclass(frozen=True, eq=False)
class Stored:
    """A slice before rescaling."""

    pixels: np.ndarray
    slope: float
    intercept: float
    padding: tuple[int, int] | None
    """Lowest and highest stored value of padding."""


def read_stored(file: Path, unpack: bool = False) -> Stored:
    """Read a slice.

    Parameters
    ----------
    unpack : whether packed pixels may be unpacked in this process, which may crash of it

    Raises
    ------
    Exception : whatever pydicom and decoders meet in a damaged file; `Damaged` for pixels that are not to be unpacked
    """
    tags = pydicom.dcmread(file, force=True, specific_tags=TAGS)
    if not unpack:
        if not hasattr(tags.file_meta, "TransferSyntaxUID"):
            implicit = tags.original_encoding[0]
            tags.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
        if is_packed(tags.file_meta.TransferSyntaxUID):
            raise Damaged(file)
    pixels = tags.pixel_array
    slope, intercept = (
        _number(tags, name, default) for name, default in (("RescaleSlope", 1), ("RescaleIntercept", 0))
    )
    return Stored(pixels, slope, intercept, _padding(tags))


def is_packed(syntax: str) -> bool:
    """Whether pixels of a transfer syntax are unpacked by a decoder that can crash; "" (a file without one) is not."""
    try:
        uid = UID(syntax)
        return bool(syntax) and uid.is_encapsulated and uid != RLELossless
    except ValueError:  # no transfer syntax at all
        return False


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
