"""From stored values to grey levels: which scale a scan is in, and windowing to 0..255.

Radiopaedia's half of the public data comes as 0..255, made from HU with the window [-1250, 250]; windowing the other
half in the same way makes both mean the same.
"""

from __future__ import annotations

import os
from typing import Literal, get_args

import numpy as np

from covseg_core.errors import UnknownScale

Scale = Literal["HU", "0-255"]

_SAMPLES = 500_000
"""Voxels looked at, evenly spaced in every direction."""


def detect_scale(voxels: np.ndarray, path: str | os.PathLike[str] = "scan") -> Scale:
    """Whether a scan is in Hounsfield units or already windowed to 0..255.

    HU: the lowest value lies well below -200 (lung, air, padding), and the rest does not look like a windowed image.
    0-255: no value outside, and something brighter than 100.

    Parameters
    ----------
    voxels : (Z, Y, X) any integer type or float32
    path : named in the error

    Raises
    ------
    UnknownScale : neither fits
    """
    sample = _sample(voxels)
    low, high = float(sample.min()), float(sample.max())
    if low >= -0.5 and 100 < high <= 255.5:
        return "0-255"
    content = sample[sample > low]
    if low < -200 and content.size and not (content.min() >= 0 and 200 <= content.max() <= 255):
        return "HU"
    found = f"values from {low:g} to {high:g}"
    if low >= 0 and 1000 < high <= 5120:
        found += ", perhaps HU + 1024"
    expected = f"HU (lung below -200) or 0 to 255; if it is one of them, say so: scale {' or '.join(get_args(Scale))}"
    raise UnknownScale(path, found, expected)


def to_uint8(voxels: np.ndarray, scale: Scale, window: tuple[float, float] = (-1250.0, 250.0)) -> np.ndarray:
    """Grey levels of a scan: `round(255 * (HU - low) / (high - low))`, clipped to 0..255.

    Padding such as -1024, -2000 or -3024 becomes as dark as air, or 0. Scans in 0-255 are only rounded and clipped.

    Parameters
    ----------
    voxels : (Z, Y, X) any integer type or float32
    window : HU that become 0 and 255

    Returns
    -------
    grey : (Z, Y, X) uint8
    """
    low, high = window if scale == "HU" else (0.0, 255.0)
    if scale == "0-255" and voxels.dtype == np.uint8:
        return voxels
    grey = np.empty(voxels.shape, np.uint8)
    if voxels.dtype == np.int16:
        table = np.roll(_grey(np.arange(-32768, 32768), low, high), 32768)
        for plane, source in zip(grey, voxels, strict=True):
            np.take(table, np.ascontiguousarray(source).view(np.uint16), out=plane, mode="wrap")
    else:
        for plane, source in zip(grey, voxels, strict=True):
            plane[...] = _grey(source, low, high)
    return grey


def _grey(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """The definition, in float64, of one plane or of a table."""
    return np.clip(np.rint((values - np.float64(low)) * 255 / (high - low)), 0, 255).astype(np.uint8)


def _sample(voxels: np.ndarray) -> np.ndarray:
    """About `_SAMPLES` voxels, evenly spaced along each axis, flat."""
    step = max(1, round((voxels.size / _SAMPLES) ** (1 / 3)))
    slices = max(1, min(step, voxels.shape[0] // 8))
    return voxels[::slices, ::step, ::step].ravel()
