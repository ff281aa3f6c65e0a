"""A classical lung mask, without a model: to tell a chest from an abdomen, and for the baselines of an evaluation.

Everything works slice by slice, since stacked scans hold unrelated slices. Two kinds of scan have to be told apart from
their air: with the full field of view, where air surrounds the body, and cropped around the lungs and padded with a
constant, where the lungs touch the padding.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np

from covseg_core.errors import ScanError

if TYPE_CHECKING:
    from covseg_core.data.slices.intensity import Scale

_SIDE = 256
"""Slices are looked at with about this many pixels a side: coarse enough to be fast, fine enough for a lung's edge."""

_AERATED = {"HU": -400, "0-255": 145}
"""Below: lung, gas or air. -400 HU is the usual threshold; 145 is its grey value in the window -1250..250 HU."""

_TISSUE = {"HU": (-970, -550), "0-255": (36, 119)}
"""Aerated lung tissue; gas in the bowel lies below it. Windowed scans are too loosely calibrated for that."""

_WITHIN = 0.7
"""Share of an aerated region that has to lie in the convex hull of the body to be a part of it."""

_REFUSED, _DOUBTFUL = 0.03, 0.15
"""Largest share of a slice's body that is lung tissue: no lungs below the first, only lung bases below the second."""


def lung_mask(volume: np.ndarray, scale: Scale) -> np.ndarray:
    """Lungs by threshold, connected components and closing, as in a textbook.

    Consolidations that reach the pleura are lost where the closing does not bridge them: no substitute for a model.

    Parameters
    ----------
    volume : (Z, Y, X) [HU] or 0..255, any real type
    scale : which of the two

    Returns
    -------
    mask : (Z, Y, X) uint8, 0 and 1
    """
    import cv2

    mask = np.zeros(volume.shape, np.uint8)
    step = _step(volume.shape)
    for z, plane in enumerate(volume):
        lungs = _fill(*regions(plane[::step, ::step], scale))
        mask[z] = cv2.resize(lungs, plane.shape[::-1], interpolation=cv2.INTER_NEAREST_EXACT) if step > 1 else lungs
    return mask


def check_chest(volume: np.ndarray, scale: Scale, path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Make sure that a scan shows lungs.

    Scans in 0..255 are taken to have been windowed as the public data are, -1250 to 250 HU. In another window, fat or
    brain can pass for lung.

    Parameters
    ----------
    volume : (Z, Y, X) [HU] or 0..255, any real type
    scale : which of the two
    path : named in the error

    Returns
    -------
    warnings : one line each; none for a scan of the whole lungs

    Raises
    ------
    ScanError : no slice has a noticeable area of lung tissue, such as in a scan of the abdomen or the head
    """
    shares = lung_shares(volume, scale)
    best = float(shares.max())
    if best < _REFUSED:
        found = f"no lungs found (at most {100 * best:.0f} % of the body in a slice)"
        raise ScanError(path, found, "a CT of the chest")
    if best < _DOUBTFUL:
        found = f"aerated lung fills at most {100 * best:.0f} % of the body in a slice"
        return (f"{found}: only a part of the lungs is in the scan, or little of them is aerated",)
    return ()


def lung_shares(volume: np.ndarray, scale: Scale) -> np.ndarray:
    """Share of the body that is aerated lung tissue, a slice at a time: (Z,) float64, 0..1.

    At most 64 slices are looked at, evenly spread; the others get 0.
    """
    step = _step(volume.shape)
    shares = np.zeros(len(volume))
    for z in np.unique(np.linspace(0, len(volume) - 1, 64).round().astype(int)):
        plane = volume[z, ::step, ::step]
        inside, body = regions(plane, scale)
        low, high = _TISSUE[scale]
        tissue = _open(((plane >= low) & (plane <= high) & (inside > 0)).astype(np.uint8), plane.shape)
        shares[z] = tissue.sum() / max(body.sum(), 0.05 * body.size)
    return shares


def _step(shape: tuple[int, ...]) -> int:
    return max(1, round(max(shape[1:]) / _SIDE))


def regions(plane: np.ndarray, scale: Scale) -> tuple[np.ndarray, np.ndarray]:
    """Aerated regions inside the body, and the body with them; both (Y, X) uint8.

    The body is the convex hull of all tissue that is thicker than the shell of a table: in slices cropped to the lungs
    it can be in pieces. Regions mostly outside of it are air, foam of the table, or the dark corners of a crop.
    """
    import cv2

    padding = _padding(plane)
    aerated = ((plane < _AERATED[scale]) & (padding == 0)).astype(np.uint8)
    tissue = cv2.morphologyEx(1 - (aerated | padding), cv2.MORPH_OPEN, _disk(max(1, round(max(plane.shape) / 85))))
    hull = np.zeros_like(aerated)
    contours, _ = cv2.findContours(tissue, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    large = [contour for contour in contours if cv2.contourArea(contour) >= 0.002 * plane.size]
    if large:
        cv2.fillConvexPoly(hull, cv2.convexHull(np.concatenate(large)), 1)
    number, labels = cv2.connectedComponents(aerated, connectivity=4)
    area = np.bincount(labels.ravel(), minlength=number)
    within = np.bincount(labels[hull > 0], minlength=number)
    inside = within > _WITHIN * area
    inside[0] = False
    regions = inside[labels].astype(np.uint8)
    return regions, (hull & (1 - padding)) | regions


def _padding(plane: np.ndarray) -> np.ndarray:
    """Where the slice's lowest value reaches in from its edge: (Y, X) uint8."""
    import cv2

    lowest = (plane == plane.min()).astype(np.uint8)
    _, labels = cv2.connectedComponents(lowest, connectivity=4)
    edge = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    return np.isin(labels, edge[edge > 0]).astype(np.uint8)


def _open(mask: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Without what is thinner than a rim between gas and tissue."""
    import cv2

    return cv2.morphologyEx(mask, cv2.MORPH_OPEN, _disk(max(1, round(max(shape) / 128))))


def _fill(aerated: np.ndarray, body: np.ndarray) -> np.ndarray:
    """Drop small regions such as the trachea, close over vessels and lesions, fill holes."""
    import cv2

    side = max(aerated.shape)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(aerated, connectivity=4)
    keep = stats[:, cv2.CC_STAT_AREA] >= 0.004 * side * side
    keep[0] = False
    closed = np.zeros_like(aerated)
    radius = max(1, round(side / 24))
    for lung in np.flatnonzero(keep):
        one = cv2.copyMakeBorder((labels == lung).astype(np.uint8), radius, radius, radius, radius, cv2.BORDER_CONSTANT)
        one = cv2.morphologyEx(one, cv2.MORPH_CLOSE, _disk(radius))[radius:-radius, radius:-radius]
        closed |= np.ascontiguousarray(one)
    contours, _ = cv2.findContours(closed, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(closed, contours, -1, 1, cv2.FILLED)
    return closed & body


def _disk(radius: int) -> np.ndarray:
    y, x = np.ogrid[-radius : radius + 1, -radius : radius + 1]
    return (y * y + x * x <= radius * radius).astype(np.uint8)
