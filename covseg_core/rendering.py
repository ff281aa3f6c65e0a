"""Pictures of slices: grey levels through a window, masks over them, and compressed images for a browser.

Planes come in radiological view and stay in it. Resample first (`fit`), colour then (`overlay`): the other way round,
interpolation invents colours that stand for nothing.
"""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np

from covseg_core.data.intensity import Scale

Window = Literal["lung", "mediastinum", "full"]
Style = Literal["fill", "contour"]

FULL = (-1250.0, 250.0)
"""HU that became 0 and 255 in scans of that scale, and in what a model sees."""
WINDOWS: dict[Window, tuple[float, float]] = {
    "lung": (-1350.0, 150.0),
    "mediastinum": (-160.0, 240.0),
    "full": FULL,
}
"""HU shown as black and as white: centre -600 and width 1500, centre 40 and width 400, and all that a model sees."""

# Okabe and Ito (2008), https://jfly.uni-koeln.de/color: apart for colour-blind people; of their colours these three
# are bright enough for lungs and differ most in grey.
TRUE_POSITIVE = (86, 180, 233)
FALSE_NEGATIVE = (213, 94, 0)
FALSE_POSITIVE = (240, 228, 66)
PREDICTED = (230, 159, 0)
TRUTH = (0, 158, 115)

SIDE = 768
"""Longest side of a picture [pixels]."""
_JPEG = [cv2.IMWRITE_JPEG_QUALITY, 92, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]


def grey(plane: np.ndarray, scale: Scale, window: Window) -> np.ndarray:
    """Grey levels of a plane: `round(255 * (HU - low) / (high - low))`, clipped to 0..255.

    Parameters
    ----------
    plane : (Y, X) values as stored, integers or float32
    scale : values in 0-255 are taken for HU -1250..250, the window they were made with

    Returns
    -------
    grey : (Y, X) uint8
    """
    low, high = WINDOWS[window]
    if scale == "0-255":
        low, high = ((end - FULL[0]) * 255 / (FULL[1] - FULL[0]) for end in (low, high))
    levels = (plane.astype(np.float32) - np.float32(low)) * np.float32(255 / (high - low))
    return np.clip(np.rint(levels), 0, 255).astype(np.uint8)


def overlay(
    grey: np.ndarray, predicted: np.ndarray | None, truth: np.ndarray | None, style: Style, opacity: float
) -> np.ndarray:
    """Masks in colour over a grey plane.

    With both masks: true positive, false negative, false positive. With one: that one. A contour is the rim of each
    coloured area, one pixel wide and inside it, so that no pixel has the colour of something it is not.

    Parameters
    ----------
    grey : (Y, X) uint8
    predicted, truth : (Y, X) bool, or None
    opacity : 0 (invisible) to 1

    Returns
    -------
    picture : (Y, X, 3) uint8, RGB
    """
    areas = _areas(grey.shape, predicted, truth)
    if style == "contour":
        areas = _rims(areas)
    shades = np.arange(256, dtype=np.float32)
    table = np.empty((len(_COLOURS), 256, 3), np.uint8)
    for area, colour in enumerate(_COLOURS):
        share = opacity if area else 0.0
        table[area] = np.rint(shades[:, None] * (1 - share) + np.float32(colour) * share)
    return table[areas, grey]


def heat(grey: np.ndarray, values: np.ndarray, opacity: float) -> np.ndarray:
    """Values from 0 to 1 as a glow over a grey plane: nothing at 0, dark red, orange, light yellow at 1.

    Parameters
    ----------
    grey : (Y, X) uint8
    values : (Y, X) float, 0..1
    opacity : of the value 1

    Returns
    -------
    picture : (Y, X, 3) uint8, RGB
    """
    levels = np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)
    colours = cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO)[..., ::-1].astype(np.float32)
    share = (levels / np.float32(255) * np.float32(opacity))[..., None]
    return np.rint(grey[..., None] * (1 - share) + colours * share).astype(np.uint8)


def fit(plane: np.ndarray, spacing: tuple[float, float], side: int = SIDE) -> np.ndarray:
    """A plane on square pixels, at most `side` long, at least as fine as the smaller spacing where that fits.

    Parameters
    ----------
    plane : (Y, X) or (Y, X, 3) uint8 or float32
    spacing : (y, x) [mm]
    """
    height, width = size(plane.shape[:2], spacing, side)
    if (height, width) == plane.shape[:2]:
        return plane
    shrink = height <= plane.shape[0] and width <= plane.shape[1]
    return cv2.resize(plane, (width, height), interpolation=cv2.INTER_AREA if shrink else cv2.INTER_LINEAR)


def size(shape: tuple[int, ...], spacing: tuple[float, float], side: int = SIDE) -> tuple[int, int]:
    """Height and width of a plane on square pixels."""
    extent = [length * step for length, step in zip(shape, spacing, strict=True)]
    pixel = max(min(spacing), max(extent) / side)
    height, width = (max(1, round(length / pixel)) for length in extent)
    return height, width


def encode(picture: np.ndarray, spacing: tuple[float, float] = (1.0, 1.0)) -> bytes:
    """A picture as the bytes of an image file, on square pixels.

    Parameters
    ----------
    picture : (Y, X) or (Y, X, 3) uint8, RGB
    """
    picture = fit(picture, spacing)
    bgr = np.ascontiguousarray(picture[..., ::-1]) if picture.ndim == 3 else picture
    return cv2.imencode(".jpg", bgr, _JPEG)[1].tobytes()


_COLOURS = ((0, 0, 0), TRUE_POSITIVE, FALSE_NEGATIVE, FALSE_POSITIVE, PREDICTED, TRUTH)


def _areas(shape: tuple[int, ...], predicted: np.ndarray | None, truth: np.ndarray | None) -> np.ndarray:
    """(Y, X) uint8: index of each pixel's colour, 0 for none."""
    if predicted is None and truth is None:
        return np.zeros(shape, np.uint8)
    if truth is None:
        return np.where(predicted, 4, 0).astype(np.uint8)
    if predicted is None:
        return np.where(truth, 5, 0).astype(np.uint8)
    return np.array([[0, 2], [3, 1]], np.uint8)[predicted.astype(np.uint8), truth.astype(np.uint8)]


def _rims(areas: np.ndarray) -> np.ndarray:
    """The areas' pixels that touch, by a side, a pixel of another kind."""
    rim = np.zeros(areas.shape, bool)
    down, across = areas[1:] != areas[:-1], areas[:, 1:] != areas[:, :-1]
    rim[1:] |= down
    rim[:-1] |= down
    rim[:, 1:] |= across
    rim[:, :-1] |= across
    return np.where(rim, areas, 0).astype(np.uint8)
