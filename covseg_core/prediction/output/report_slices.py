"""The slices on the page of a prediction: picture, outlines, sides and a scale bar."""

from __future__ import annotations

import base64
from dataclasses import dataclass

import cv2
import numpy as np

from covseg_core.prediction.output.report import Report
from covseg_core.rendering import PREDICTED, TRUE_POSITIVE, encode, fit, fit_mask, fitted_shape, grey

_BARS = (200, 100, 50, 20, 10)
"""Lengths of the scale bar [mm]: the longest below a third of the picture's width."""


@dataclass(frozen=True)
class SlicePicture:
    """A slice as the page shows it."""

    z: int
    jpeg: str
    """The picture, in base64."""
    size: str
    """Of the mask on it, with its unit."""
    bar_mm: int | None
    """Length of the scale bar; None without one."""
    bar_percent: float
    """The same, of the picture's width."""


def draw_slice(report: Report, voxels: np.ndarray, mask: np.ndarray, sides: np.ndarray | None, z: int) -> SlicePicture:
    """Slice z, in radiological view.

    Parameters
    ----------
    voxels, mask, sides : as for `make_sheet`
    """
    spacing = (report.scan.spacing_mm[1], report.scan.spacing_mm[2])
    jpeg = base64.b64encode(encode(paint_slice(report, voxels, mask, sides, z))).decode()
    area = int(np.count_nonzero(mask[z]))
    if report.scan.voxel_ml is None:
        return SlicePicture(z, jpeg, f"{area:,} pixels", None, 0.0)
    width = mask.shape[2] * spacing[1]
    bar = next((length for length in _BARS if length <= width / 3), None)
    size = f"{area * spacing[0] * spacing[1] / 100:.1f} cm\u00b2"
    return SlicePicture(z, jpeg, size, bar, 100 * (bar or 0) / width)


def paint_slice(report: Report, voxels: np.ndarray, mask: np.ndarray, sides: np.ndarray | None, z: int) -> np.ndarray:
    """(Y, X, 3) uint8, RGB, on square pixels: slice z in radiological view, with the rims of lungs and mask."""
    spacing = (report.scan.spacing_mm[1], report.scan.spacing_mm[2])
    picture = fit(grey(voxels[z][::-1, ::-1], report.scan.scale, "lung"), spacing)
    picture = np.ascontiguousarray(np.repeat(picture[..., np.newaxis], 3, axis=2))
    if sides is not None:
        _outline(picture, sides[z] > 0, spacing, TRUE_POSITIVE)
    _outline(picture, mask[z] > 0, spacing, PREDICTED)
    return picture


def _outline(picture: np.ndarray, mask: np.ndarray, spacing: tuple[float, float], colour: tuple[int, int, int]) -> None:
    """Draw the rim of a mask (Y, X) bool, RAS+, onto its picture in radiological view, in place."""
    assert picture.shape[:2] == fitted_shape(mask.shape, spacing)
    fitted = np.ascontiguousarray(fit_mask(mask[::-1, ::-1], spacing)).astype(np.uint8)
    contours, _ = cv2.findContours(fitted, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(picture, contours, -1, colour, max(1, round(max(picture.shape) / 256)))
