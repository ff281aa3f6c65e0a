"""What slices look like to a model: how bright lung and tissue are, and how much of the picture is body or padding.

Measured in the same way on the slices that a model was trained on and on those of a new scan, so that the two can be
compared without the training data.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from covseg_core.data.classical_lungs import regions

LOOKED_AT = 24
"""Slices of a scan that are measured, evenly spread."""

_AERATED = 145
"""Grey value below which something is air or lung: -400 HU."""
_LEAST_LUNG = 0.02
"""Share of a slice that has to be lung for it to count."""
_SMOOTH = 9
"""Grey values over which a histogram is averaged before its peak is sought."""


@dataclass(frozen=True)
class Appearance:
    """Of one scan."""

    lung_grey: float | None
    """Most frequent grey value 0..255 in the lungs; None without lungs."""
    tissue_grey: float | None
    """Most frequent grey value of soft tissue; None if there is none."""
    body_share: float
    """Share of the picture, padding aside, that is body: about a half with a full field of view, nearly 1 where it is
    cropped to the lungs."""
    padding_share: float
    """Share of the picture that was filled up with the lowest value."""


def look_at(images: np.ndarray) -> Appearance:
    """Measure the slices of one scan.

    Parameters
    ----------
    images : (N, S, S) uint8, 0..255 for -1250..250 HU; at most `LOOKED_AT` of them are measured
    """
    lung, tissue = np.zeros(256, np.int64), np.zeros(256, np.int64)
    body_shares, padding_shares = [], []
    for z in np.unique(np.linspace(0, len(images) - 1, LOOKED_AT).round().astype(int)):
        image = images[z]
        inside, body = regions(image, "0-255")
        padding = _padding_share(image)
        padding_shares.append(padding)
        if inside.mean() < _LEAST_LUNG:
            continue
        body_shares.append(min(1.0, float(body.mean()) / (1 - padding)))
        lung += np.bincount(image[(inside > 0) & (image < _AERATED)], minlength=256)
        tissue += np.bincount(image[(body > 0) & (image >= _AERATED)], minlength=256)
    tissue[255] = 0  # bone and contrast medium, all in one value
    body_share = float(np.mean(body_shares)) if body_shares else 0.0
    return Appearance(_peak(lung), _peak(tissue), round(body_share, 4), round(float(np.mean(padding_shares)), 4))


def _peak(counts: np.ndarray) -> float | None:
    """The grey value at the top of a smoothed histogram."""
    if not counts.any():
        return None
    return float(np.convolve(counts, np.ones(_SMOOTH), "same").argmax())


def _padding_share(image: np.ndarray) -> float:
    """Share of the pixels that have exactly the lowest value and reach the edge: air of a scanner has noise."""
    lowest = (image == image.min()).astype(np.uint8)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(lowest, connectivity=4)
    edge = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
    return float(stats[edge[edge > 0], cv2.CC_STAT_AREA].sum() / image.size)
