"""Predicted masks of a few validation slices, epoch by epoch, as pictures. No Streamlit here."""

from __future__ import annotations

import cv2
import numpy as np

from covseg_core import rendering
from covseg_core.errors import CovsegError
from covseg_core.runs import Run
from covseg_core.runs.previews import read_preview, read_preview_slices
from dashboard.formatting import slice_number

SIDE = 384
"""Of a picture [pixels]."""
AIR, MARGIN = 80, 2
"""Grey value that air does not reach, -780 HU; pixels kept around the body."""
THRESHOLD = 128
"""Of 255: a probability of one half."""


def pictures(run: Run, epoch: int) -> list[tuple[bytes, str]]:
    """Each slice with its prediction after an epoch, as an image file and a caption; raises `CovsegError`."""
    slices = read_preview_slices(run)
    probabilities = read_preview(run, epoch)
    if not len(slices.images) == len(slices.masks) == len(slices.origin) == len(probabilities):
        raise CovsegError(run.previews, "files of different lengths", "as many predictions as slices")
    body, masks = _body(slices.images), slices.masks > 0
    return [
        (
            _picture(image[body], mask[body], probability[body]),
            f"{at.case}, slice {slice_number(at.z)} · {dice(mask, probability)}",
        )
        for image, mask, probability, at in zip(slices.images, masks, probabilities, slices.origin, strict=True)
    ]


def dice(mask: np.ndarray, probability: np.ndarray) -> str:
    """Dice of one slice, in words where there is nothing to find."""
    predicted = probability >= THRESHOLD
    total = int(mask.sum()) + int(predicted.sum())
    return f"Dice {2 * int((mask & predicted).sum()) / total:.2f}" if total else "nothing to find, nothing found"


def _body(images: np.ndarray) -> tuple[slice, slice]:
    """Rows and columns that hold something on any of the slices, so that all are cut alike."""
    there: np.ndarray = images.max(axis=0, initial=0) > AIR
    spans = []
    for axis in (1, 0):
        found = np.flatnonzero(there.any(axis=axis))
        spans.append(slice(max(0, found[0] - MARGIN), found[-1] + 1 + MARGIN) if len(found) else slice(None))
    return spans[0], spans[1]


def _picture(image: np.ndarray, mask: np.ndarray, probability: np.ndarray) -> bytes:
    """Grey slice, areas in the colours of the legend, and a white line around the truth."""
    image, wide_mask, wide_probability = (
        _enlarged(plane) for plane in (image, mask.astype(np.uint8) * 255, probability)
    )
    truth = wide_mask >= THRESHOLD
    picture = rendering.overlay(image, wide_probability >= THRESHOLD, truth, "fill", 0.5)
    rim = rendering.overlay(np.zeros_like(image), None, truth, "contour", 1.0).any(axis=2)
    picture[rim] = 255
    return rendering.encode(picture)


def _enlarged(plane: np.ndarray) -> np.ndarray:
    """Enlarged before it is coloured: a threshold on interpolated probabilities gives smooth outlines."""
    factor = SIDE / max(plane.shape)
    return cv2.resize(plane, None, fx=factor, fy=factor, interpolation=cv2.INTER_LINEAR) if factor > 1 else plane
