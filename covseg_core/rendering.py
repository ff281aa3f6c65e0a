"""Pictures of slices: grey levels through a window, masks over them in colour, compressed images for a browser.

Planes come in radiological view and stay in it. Resample first (`fit`), colour then (`overlay`): the other way round,
interpolation invents colours that stand for nothing.

>>> plane = np.full((64, 64), -600, np.int16)
>>> mask = np.eye(64, dtype=bool)
>>> picture = overlay(grey(plane, "HU", "lung"), mask, None, "fill", opacity=0.5)
>>> encode(picture)[:3] == JPEG_MAGIC
True
"""

from __future__ import annotations

from typing import Literal, cast

import cv2
import numpy as np

from covseg_core.data.slices.intensity import Scale, to_uint8

Window = Literal["lung", "mediastinum", "full"]
Style = Literal["fill", "contour"]
Colour = tuple[int, int, int]
"""Red, green, blue, 0..255."""

FULL = (-1250.0, 250.0)
"""HU that became 0 and 255 in scans of the scale 0-255."""
WINDOWS: dict[Window, tuple[float, float]] = {"lung": (-1350.0, 150.0), "mediastinum": (-160.0, 240.0), "full": FULL}
"""HU shown as black and as white: centre -600 and width 1500; centre 40 and width 400; what a model sees."""

# Of Okabe and Ito's colours (2008, https://jfly.uni-koeln.de/color), which colour-blind people tell apart, the first
# three are those that stand out from lungs and differ most in grey.
TRUE_POSITIVE: Colour = (86, 180, 233)
FALSE_NEGATIVE: Colour = (213, 94, 0)
FALSE_POSITIVE: Colour = (240, 228, 66)
PREDICTED: Colour = (230, 159, 0)
TRUTH: Colour = (0, 158, 115)
LUNGS: Colour = (204, 121, 167)

LEAST, MOST = 384, 768
"""Longest side of a picture [pixels]: at least, so that contours are thin; at most, so that it is small."""
THUMBNAIL = 192
"""Longest side of a small copy of one."""
CONTOUR = 192
"""Pixels of the longest side for each pixel of a contour's width: browsers shrink pictures."""
JPEG_MAGIC = b"\xff\xd8\xff"
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
    return cast(np.ndarray, to_uint8(plane[np.newaxis], "HU", window_of(window, scale))[0])


def window_of(window: Window, scale: Scale) -> tuple[float, float]:
    """Values as stored that are shown as black and as white.

    >>> window_of("full", "0-255")
    (0.0, 255.0)
    """
    low, high = WINDOWS[window]
    if scale == "0-255":
        low, high = ((end - FULL[0]) * 255 / (FULL[1] - FULL[0]) for end in (low, high))
    return low, high


def overlay(
    grey: np.ndarray, predicted: np.ndarray | None, truth: np.ndarray | None, style: Style, opacity: float
) -> np.ndarray:
    """Masks in colour over a grey plane.

    With both masks: true positive, false negative, false positive. With one: that one. A contour is the rim of each
    coloured area, inside it, so that no pixel has the colour of something it is not.

    Parameters
    ----------
    grey : (Y, X) uint8
    predicted, truth : (Y, X) bool, or None
    opacity : 0 (invisible) to 1

    Returns
    -------
    picture : (Y, X, 3) uint8, RGB
    """
    areas = np.zeros(grey.shape, np.uint8)
    if predicted is not None:
        areas += predicted
    if truth is not None:
        areas += 2 * truth.astype(np.uint8)
    if predicted is not None and truth is not None:
        colours = (FALSE_POSITIVE, FALSE_NEGATIVE, TRUE_POSITIVE)
    else:
        colours = (PREDICTED, TRUTH, TRUE_POSITIVE)
    if style == "contour":
        areas = _rims(areas)
    return _painted(grey, areas, colours, opacity)


def heat(grey: np.ndarray, values: np.ndarray, opacity: float) -> np.ndarray:
    """Values from 0 to 1 as a glow over a grey plane: nothing at 0, dark red, orange, light yellow at 1.

    Parameters
    ----------
    grey : (Y, X) uint8
    values : (Y, X) float, 0..1
    opacity : of the value 1; less in proportion below

    Returns
    -------
    picture : (Y, X, 3) uint8, RGB
    """
    levels = np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)
    glow = cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)
    share = (levels * np.float32(opacity / 255))[..., np.newaxis]
    return np.rint(grey[..., np.newaxis] * (1 - share) + glow * share).astype(np.uint8)


def outline(picture: np.ndarray, mask: np.ndarray, colour: Colour) -> np.ndarray:
    """A picture (Y, X, 3) uint8, RGB, with the rim of a mask (Y, X) bool drawn onto it."""
    contours, _ = cv2.findContours(np.ascontiguousarray(mask, np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    drawn = np.ascontiguousarray(picture).copy()
    return cast(np.ndarray, cv2.drawContours(drawn, contours, -1, colour, max(1, round(max(mask.shape) / 256))))


def fit(plane: np.ndarray, spacing: tuple[float, float]) -> np.ndarray:
    """A plane on square pixels, its longest side between `LEAST` and `MOST`; areas are averaged, or linear if enlarged.

    Parameters
    ----------
    plane : (Y, X) or (Y, X, 3), uint8 or float32
    spacing : (y, x) [mm]
    """
    height, width = fitted_shape(plane.shape[:2], spacing)
    if (height, width) == plane.shape[:2]:
        return plane
    smaller = height <= plane.shape[0] and width <= plane.shape[1]
    method = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    return cast(np.ndarray, cv2.resize(np.ascontiguousarray(plane), (width, height), interpolation=method))


def fit_mask(mask: np.ndarray, spacing: tuple[float, float]) -> np.ndarray:
    """A (Y, X) bool mask as `fit` does it: what is at least half covered."""
    if fitted_shape(mask.shape, spacing) == mask.shape:
        return mask
    return cast(np.ndarray, fit(mask.astype(np.float32), spacing) >= 0.5)


def fitted_shape(shape: tuple[int, ...], spacing: tuple[float, float]) -> tuple[int, int]:
    """Height and width of a plane on square pixels: as fine as the finer spacing, within the bounds on the side."""
    extent = [length * step for length, step in zip(shape, spacing, strict=True)]
    pixel = min(max(min(spacing), max(extent) / MOST), max(extent) / LEAST)
    height, width = (max(1, round(length / pixel)) for length in extent)
    return height, width


def encode(picture: np.ndarray, spacing: tuple[float, float] = (1.0, 1.0)) -> bytes:
    """A picture as the bytes of a JPEG file, on square pixels.

    JPEG without subsampled colour is the quickest that keeps thin coloured lines: 0.7 ms and 70 kB for 512 x 512, where
    lossless PNG takes 10 ms and 260 kB, and WebP takes 20 ms and washes them out, halving the resolution of colour.

    Parameters
    ----------
    picture : (Y, X) or (Y, X, 3) uint8, RGB
    spacing : (y, x) [mm]
    """
    picture = fit(picture, spacing)
    if picture.ndim == 3:
        picture = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", np.ascontiguousarray(picture), _JPEG)[1].tobytes()


def thumbnail(picture: np.ndarray) -> bytes:
    """A small copy of a picture (Y, X, 3) uint8, RGB, as the bytes of a JPEG file of a few kB."""
    scale = THUMBNAIL / max(picture.shape[:2])
    size = tuple(max(1, round(scale * side)) for side in picture.shape[1::-1])
    small = cv2.resize(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), size, interpolation=cv2.INTER_AREA)
    return cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 80])[1].tobytes()


def swatch(colour: Colour, side: int = 16) -> bytes:
    """A square of one colour for a legend, as the bytes of a PNG file."""
    return cv2.imencode(".png", np.full((side, side, 3), colour[::-1], np.uint8))[1].tobytes()


def _rims(areas: np.ndarray) -> np.ndarray:
    """The areas' pixels that have one of another kind within the contour's width, counted in steps to a side."""
    width = max(1, round(max(areas.shape) / CONTOUR))
    steps = np.abs(np.arange(-width, width + 1))
    diamond = (steps[:, np.newaxis] + steps <= width).astype(np.uint8)
    changes = cv2.morphologyEx(areas, cv2.MORPH_GRADIENT, diamond)
    return np.where(changes > 0, areas, np.uint8(0))


def _painted(grey: np.ndarray, areas: np.ndarray, colours: tuple[Colour, ...], opacity: float) -> np.ndarray:
    """The grey plane, with area n, from 1, in the nth colour. One look-up a pixel, of four bytes at once."""
    shades = np.arange(256, dtype=np.float32)[:, np.newaxis]
    table = np.zeros((1 + len(colours), 256, 4), np.uint8)
    table[0, :, :3] = shades
    for area, colour in enumerate(colours, start=1):
        table[area, :, :3] = np.rint(shades * (1 - opacity) + np.array(colour, np.float32) * opacity)
    index = areas.astype(np.uint16) * np.uint16(256) + grey
    packed = np.take(table.view(np.uint32).ravel(), index)
    return cast(np.ndarray, cv2.cvtColor(packed.view(np.uint8).reshape(*grey.shape, 4), cv2.COLOR_RGBA2RGB))
